//! The protocol between xtask (host) and the agent (guest).
//!
//! A stream of frames in both directions over one virtio-serial port:
//! `length u32 | kind u8 | id u32 | payload`, little endian; `length` counts what follows it.
//! `id` names a running command; the host chooses it. Frames of several commands interleave.

#![forbid(unsafe_code)]

use std::io::{self, Read, Write};

/// Name of the virtio-serial port in the guest (`/sys/class/virtio-ports/*/name`).
pub const PORT: &str = "vmlu.agent";

/// Largest payload that a well-behaved side sends.
pub const MAX_PAYLOAD: usize = 1 << 20;

/// What a frame means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Host: start a command, payload is [`Exec`].
    Exec = 1,
    /// Host: bytes for its standard input; empty means end of input.
    Stdin = 2,
    /// Host: one byte, the signal for its process group.
    Signal = 3,
    /// Host: rows and columns (u16 each) of its terminal.
    Resize = 4,
    /// Guest: the agent is up; payload is a text for people.
    Hello = 16,
    /// Guest: bytes of standard output (of the terminal, if it has one).
    Stdout = 17,
    /// Guest: bytes of standard error.
    Stderr = 18,
    /// Guest: the command ended; payload is an i32, 128 + signal if it was killed.
    Exit = 19,
    /// Guest: the command could not be started; payload is the reason.
    Failed = 20,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Kind> {
        use Kind::*;
        [
            Exec, Stdin, Signal, Resize, Hello, Stdout, Stderr, Exit, Failed,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What it means.
    pub kind: Kind,
    /// Which command it belongs to.
    pub id: u32,
    /// Its bytes.
    pub payload: Vec<u8>,
}

impl Frame {
    /// A frame of these parts.
    pub fn new(kind: Kind, id: u32, payload: impl Into<Vec<u8>>) -> Frame {
        Frame {
            kind,
            id,
            payload: payload.into(),
        }
    }

    /// Writes the frame with one `write_all`.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let length = u32::try_from(self.payload.len() + 5).map_err(io::Error::other)?;
        let mut bytes = Vec::with_capacity(self.payload.len() + 9);
        bytes.extend(length.to_le_bytes());
        bytes.push(self.kind as u8);
        bytes.extend(self.id.to_le_bytes());
        bytes.extend(&self.payload);
        to.write_all(&bytes)?;
        to.flush()
    }

    /// Reads one frame; end of the stream is an error of kind `UnexpectedEof`.
    pub fn read(from: &mut impl Read) -> io::Result<Frame> {
        let mut length = [0; 4];
        from.read_exact(&mut length)?;
        let length = u32::from_le_bytes(length) as usize;
        if !(5..=MAX_PAYLOAD + 5).contains(&length) {
            return Err(invalid(format!("frame of {length} bytes")));
        }
        let mut body = vec![0; length];
        from.read_exact(&mut body)?;
        let kind =
            Kind::from_byte(body[0]).ok_or_else(|| invalid(format!("frame kind {}", body[0])))?;
        let id = u32::from_le_bytes([body[1], body[2], body[3], body[4]]);
        body.drain(..5);
        Ok(Frame {
            kind,
            id,
            payload: body,
        })
    }
}

/// A command to start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exec {
    /// Rows and columns of a terminal, if it shall have one.
    pub tty: Option<(u16, u16)>,
    /// Environment on top of the agent's own.
    pub env: Vec<(String, String)>,
    /// Program and arguments.
    pub argv: Vec<String>,
}

impl Exec {
    /// The payload of an [`Kind::Exec`] frame.
    pub fn encode(&self) -> Vec<u8> {
        let (rows, columns) = self.tty.unwrap_or((0, 0));
        let mut bytes = vec![u8::from(self.tty.is_some())];
        for number in [rows, columns, self.env.len() as u16, self.argv.len() as u16] {
            bytes.extend(number.to_le_bytes());
        }
        let pairs = self.env.iter().flat_map(|(name, value)| [name, value]);
        for text in pairs.chain(&self.argv) {
            bytes.extend(text.as_bytes());
            bytes.push(0);
        }
        bytes
    }

    /// Reads the payload of an [`Kind::Exec`] frame.
    pub fn decode(bytes: &[u8]) -> io::Result<Exec> {
        let short = || invalid("short Exec frame".into());
        let (head, rest) = bytes.split_at_checked(9).ok_or_else(short)?;
        let number = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
        let mut texts = rest
            .split(|byte| *byte == 0)
            .map(|text| String::from_utf8_lossy(text).into_owned());
        let mut next = || texts.next().ok_or_else(short);
        let mut exec = Exec {
            tty: (head[0] == 1).then(|| (number(1), number(3))),
            ..Exec::default()
        };
        for _ in 0..number(5) {
            exec.env.push((next()?, next()?));
        }
        for _ in 0..number(7) {
            exec.argv.push(next()?);
        }
        Ok(exec)
    }
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_the_wire() {
        let frames = [
            Frame::new(Kind::Hello, 0, "hi"),
            Frame::new(Kind::Exit, 7, 3i32.to_le_bytes()),
        ];
        let mut bytes = Vec::new();
        for frame in &frames {
            frame.write(&mut bytes).unwrap();
        }
        let mut from = bytes.as_slice();
        assert_eq!(Frame::read(&mut from).unwrap(), frames[0]);
        assert_eq!(Frame::read(&mut from).unwrap(), frames[1]);
        assert_eq!(
            Frame::read(&mut from).unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
    }

    #[test]
    fn damaged_frames_are_refused() {
        assert!(Frame::read(&mut [4u8, 0, 0, 0, 1, 0, 0, 0].as_slice()).is_err());
        assert!(Frame::read(&mut [255u8; 16].as_slice()).is_err());
        assert!(Frame::read(&mut [5u8, 0, 0, 0, 99, 0, 0, 0, 0].as_slice()).is_err());
        assert!(Exec::decode(&[1, 2]).is_err());
        assert!(Exec::decode(&[0, 0, 0, 0, 0, 0, 0, 9, 0, b'a', 0]).is_err());
    }

    #[test]
    fn commands_survive_the_wire() {
        let exec = Exec {
            tty: Some((25, 80)),
            env: vec![("A".into(), "1".into())],
            argv: vec!["sh".into(), "-c".into(), "".into()],
        };
        assert_eq!(Exec::decode(&exec.encode()).unwrap(), exec);
    }
}
