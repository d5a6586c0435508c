//! The live view in a terminal of its own.

use std::fs::File;
use std::io::{Read, Write};
use std::process::Command;
use std::sync::mpsc::{channel, Receiver};
use std::time::Duration;

use rustix::pty::{grantpt, openpt, ptsname, unlockpt, OpenptFlags};
use rustix::termios::{tcsetwinsize, Winsize};

/// A terminal of 40 rows: the end that shows it, and the end that programs have.
fn terminal() -> (File, File) {
    let screen = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&screen).unwrap();
    unlockpt(&screen).unwrap();
    let name = ptsname(&screen, Vec::new()).unwrap();
    let name = name.to_str().unwrap();
    let terminal = File::options().read(true).write(true).open(name).unwrap();
    let size = Winsize {
        ws_row: 40,
        ws_col: 120,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(&terminal, size).unwrap();
    (File::from(screen), terminal)
}

/// Reads until all of these words were shown.
fn until_shown(shown: &Receiver<Vec<u8>>, words: &[&str]) {
    let mut text = String::new();
    while !words.iter().all(|word| text.contains(word)) {
        match shown.recv_timeout(Duration::from_secs(30)) {
            Ok(bytes) => text += &String::from_utf8_lossy(&bytes),
            Err(error) => panic!("{words:?}: {error}: {text}"),
        }
    }
}

/// Runs `cnmon` in a terminal until these words are shown, and ends it by a key.
fn look(arguments: &[&str], words: &[&str]) {
    let (mut screen, terminal) = terminal();
    let mut child = Command::new(env!("CARGO_BIN_EXE_cnmon"))
        .args(arguments)
        .env("MLU_TRANSPORT", "embedded")
        .env("TERM", "xterm")
        .stdin(terminal.try_clone().unwrap())
        .stdout(terminal.try_clone().unwrap())
        .stderr(terminal.try_clone().unwrap())
        .spawn()
        .unwrap();
    drop(terminal);
    let mut keys = screen.try_clone().unwrap();
    let (sender, shown) = channel();
    let reader = std::thread::spawn(move || {
        let mut room = [0; 4096];
        // It fails once the program has ended.
        while let Ok(length @ 1..) = screen.read(&mut room) {
            if sender.send(room[..length].to_vec()).is_err() {
                return;
            }
        }
    });
    until_shown(&shown, words);
    keys.write_all(b"q").unwrap();
    let status = child.wait().unwrap();
    assert!(status.success(), "{arguments:?}: {status}");
    drop(shown);
    reader.join().unwrap();
}

#[test]
fn it_draws_until_a_key_ends_it() {
    look(
        &["watch", "--interval", "50"],
        &["CNMON", "MLU370-X8", "Processes", "quit"],
    );
}

#[test]
fn a_recording_is_shown_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cards.jsonl");
    let file = file.to_str().unwrap();
    let recorded = Command::new(env!("CARGO_BIN_EXE_cnmon"))
        .args(["record", file, "-n", "2", "-i", "10"])
        .env("MLU_TRANSPORT", "embedded")
        .status();
    assert!(recorded.unwrap().success());
    look(
        &["replay", file, "--watch"],
        &["CNMON", "MLU370-X8", "quit"],
    );
}
