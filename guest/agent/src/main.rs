//! Runs commands in the guest for xtask. Protocol: see the library of this package.

#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustix::process::{kill_process_group, Pid, Signal};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;
use vmlu_agent::{Exec, Frame, Kind, PORT};

type Port = Arc<Mutex<File>>;
type Commands = Arc<Mutex<HashMap<u32, Running>>>;

/// What the agent keeps of a running command.
struct Running {
    group: Pid,
    stdin: Sender<Vec<u8>>,
    terminal: Option<File>,
}

fn main() {
    if let Err(error) = serve() {
        eprintln!("vmlu-agent: {error}");
        std::process::exit(1);
    }
}

fn serve() -> io::Result<()> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(find_port()?)?;
    let mut input = UntilConnected(file.try_clone()?);
    let port: Port = Arc::new(Mutex::new(file));
    let commands: Commands = Arc::default();
    send(&port, Frame::new(Kind::Hello, 0, "vmlu-agent 1"))?;
    loop {
        let frame = Frame::read(&mut input)?;
        match frame.kind {
            Kind::Exec => {
                if let Err(error) = start(&port, &commands, frame.id, &frame.payload) {
                    send(&port, Frame::new(Kind::Failed, frame.id, error.to_string()))?;
                }
            }
            Kind::Stdin => {
                if let Some(command) = commands.lock().unwrap().get(&frame.id) {
                    let _ = command.stdin.send(frame.payload);
                }
            }
            Kind::Signal => {
                let signal = frame
                    .payload
                    .first()
                    .and_then(|number| Signal::from_named_raw(i32::from(*number)));
                if let (Some(command), Some(signal)) =
                    (commands.lock().unwrap().get(&frame.id), signal)
                {
                    let _ = kill_process_group(command.group, signal);
                }
            }
            Kind::Resize => {
                let commands = commands.lock().unwrap();
                let terminal = commands
                    .get(&frame.id)
                    .and_then(|command| command.terminal.as_ref());
                if let (Some(terminal), &[r0, r1, c0, c1]) = (terminal, frame.payload.as_slice()) {
                    let _ = resize(
                        terminal,
                        u16::from_le_bytes([r0, r1]),
                        u16::from_le_bytes([c0, c1]),
                    );
                }
            }
            other => eprintln!("vmlu-agent: a frame {other:?} from the host makes no sense"),
        }
    }
}

/// The character device of the agent's port, found without udev.
fn find_port() -> io::Result<String> {
    for _ in 0..500 {
        if let Ok(entries) = fs::read_dir("/sys/class/virtio-ports") {
            for entry in entries.flatten() {
                let name = fs::read_to_string(entry.path().join("name")).unwrap_or_default();
                if name.trim() == PORT {
                    return Ok(format!("/dev/{}", entry.file_name().to_string_lossy()));
                }
            }
        }
        thread::sleep(Duration::from_millis(10));
    }
    Err(io::Error::new(
        io::ErrorKind::NotFound,
        format!("no virtio-serial port named {PORT}"),
    ))
}

/// A port reads as ended while nobody is connected on the host's side; this waits instead.
struct UntilConnected(File);

impl Read for UntilConnected {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(buffer)? {
                0 => thread::sleep(Duration::from_millis(20)),
                n => return Ok(n),
            }
        }
    }
}

fn send(port: &Port, frame: Frame) -> io::Result<()> {
    frame.write(&mut *port.lock().unwrap())
}

fn resize(terminal: &File, rows: u16, columns: u16) -> io::Result<()> {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    Ok(rustix::termios::tcsetwinsize(terminal, size)?)
}

fn start(port: &Port, commands: &Commands, id: u32, payload: &[u8]) -> io::Result<()> {
    let exec = Exec::decode(payload)?;
    let (program, arguments) = exec
        .argv
        .split_first()
        .ok_or_else(|| io::Error::other("no program named"))?;
    let mut command;
    let mut terminal = None;
    if let Some((rows, columns)) = exec.tty {
        let (master, slave) = open_terminal(rows, columns)?;
        command = Command::new("setsid");
        command
            .args(["--ctty", "--wait"])
            .arg(program)
            .args(arguments);
        command
            .stdin(slave.try_clone()?)
            .stdout(slave.try_clone()?)
            .stderr(slave);
        terminal = Some(master);
    } else {
        command = Command::new(program);
        command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
    }
    command.envs(exec.env).current_dir("/root").process_group(0);
    let mut child = command
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("{program}: {error}")))?;
    drop(command); // closes our copies of the terminal's other end

    let (ended, all_ended) = mpsc::channel::<()>();
    let input: Option<Box<dyn Write + Send>> = match &terminal {
        Some(master) => {
            forward(port, id, Kind::Stdout, master.try_clone()?, ended);
            Some(Box::new(master.try_clone()?))
        }
        None => {
            if let Some(stdout) = child.stdout.take() {
                forward(port, id, Kind::Stdout, stdout, ended.clone());
            }
            if let Some(stderr) = child.stderr.take() {
                forward(port, id, Kind::Stderr, stderr, ended);
            }
            child
                .stdin
                .take()
                .map(|pipe| Box::new(pipe) as Box<dyn Write + Send>)
        }
    };
    let running = Running {
        group: Pid::from_child(&child),
        stdin: feed(input),
        terminal,
    };
    commands.lock().unwrap().insert(id, running);
    let (port, commands) = (port.clone(), commands.clone());
    thread::spawn(move || {
        let code = wait(&mut child);
        // A background process may hold the pipes open for ever: what it writes later is lost.
        while all_ended.recv_timeout(Duration::from_millis(500)) == Ok(()) {}
        commands.lock().unwrap().remove(&id);
        let _ = send(&port, Frame::new(Kind::Exit, id, code.to_le_bytes()));
    });
    Ok(())
}

fn open_terminal(rows: u16, columns: u16) -> io::Result<(File, File)> {
    let master =
        rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    rustix::pty::grantpt(&master)?;
    rustix::pty::unlockpt(&master)?;
    let name = rustix::pty::ptsname(&master, Vec::new())?
        .into_string()
        .map_err(io::Error::other)?;
    let no_ctty = rustix::fs::OFlags::NOCTTY.bits() as i32;
    let slave = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(no_ctty)
        .open(name)?;
    let master = File::from(master);
    resize(&master, rows, columns)?;
    Ok((master, slave))
}

/// Sends what can be read from `from` as frames; drops `ended` at its end.
fn forward(
    port: &Port,
    id: u32,
    kind: Kind,
    mut from: impl Read + Send + 'static,
    ended: Sender<()>,
) {
    let port = port.clone();
    thread::spawn(move || {
        let mut buffer = vec![0; 32 << 10];
        // A terminal whose last user closed it reads as EIO.
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if send(&port, Frame::new(kind, id, &buffer[..count])).is_err() {
                break;
            }
        }
        drop(ended);
    });
}

/// A queue in front of a command's input, so that a command that does not read blocks nobody else.
fn feed(input: Option<Box<dyn Write + Send>>) -> Sender<Vec<u8>> {
    let (sender, receiver) = mpsc::channel::<Vec<u8>>();
    thread::spawn(move || {
        let Some(mut input) = input else { return };
        for bytes in receiver {
            if bytes.is_empty()
                || input
                    .write_all(&bytes)
                    .and_then(|()| input.flush())
                    .is_err()
            {
                break;
            }
        }
    });
    sender
}

fn wait(child: &mut Child) -> i32 {
    match child.wait() {
        Ok(status) => status
            .code()
            .unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
        Err(_) => 255,
    }
}
