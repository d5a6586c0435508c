//! A command in the guest with our standard streams: an interactive terminal, or plain streams handed through.

use std::io::{self, IsTerminal, Read, Write};
use std::thread;
use std::time::Duration;

use anyhow::{bail, Result};
use rustix::termios::{tcgetattr, tcgetwinsize, tcsetattr, OptionalActions, Termios};
use vmlu_agent::Exec;

use super::agent::{Event, Input};
use super::Vm;

/// Runs `argv` in the guest with our streams and returns its exit code. `tty`: with a terminal there, ours made raw.
pub fn attach(vm: &Vm, argv: Vec<String>, tty: bool) -> Result<i32> {
    let mut exec = Exec {
        argv,
        ..Exec::default()
    };
    let raw = tty.then(Raw::enter).transpose()?;
    if tty {
        exec.tty = Some(size());
        exec.env.push((
            "TERM".into(),
            std::env::var("TERM").unwrap_or_else(|_| "xterm".into()),
        ));
    }
    let running = vm.start_exec(&exec)?;
    let input = running.sender();
    if tty || !io::stdin().is_terminal() {
        forward_input(input.clone());
    } else {
        input.input(&[])?;
    }
    let mut shown = exec.tty;
    let code = loop {
        match running.next(Duration::from_millis(250))? {
            Some(Event::Stdout(bytes)) => write(io::stdout().lock(), &bytes)?,
            Some(Event::Stderr(bytes)) => write(io::stderr().lock(), &bytes)?,
            Some(Event::Exit(code)) => break code,
            Some(Event::Failed(why)) => {
                drop(raw);
                bail!("the guest cannot start it: {why}");
            }
            None => {}
        }
        if shown.is_some() && shown != Some(size()) {
            shown = Some(size());
            let (rows, columns) = size();
            input.resize(rows, columns)?;
        }
    };
    drop(raw);
    Ok(code)
}

fn write(mut to: impl Write, bytes: &[u8]) -> Result<()> {
    to.write_all(bytes)?;
    Ok(to.flush()?)
}

fn forward_input(input: Input) {
    thread::spawn(move || {
        let mut buffer = vec![0; 16 << 10];
        loop {
            let count = io::stdin().read(&mut buffer).unwrap_or(0);
            if input.input(&buffer[..count]).is_err() || count == 0 {
                break;
            }
        }
    });
}

fn size() -> (u16, u16) {
    tcgetwinsize(io::stdout()).map_or((25, 80), |size| (size.ws_row, size.ws_col))
}

/// Our terminal in raw mode, until it is dropped.
struct Raw(Termios);

impl Raw {
    fn enter() -> Result<Raw> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Flush, &raw)?;
        Ok(Raw(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}
