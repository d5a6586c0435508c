//! What a clique is called.

use std::io::Read;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use vmlu_abi::Status;

use super::line::{Endpoint, Listener};
use super::{hub, JOIN};
use crate::error::{Error, Result};

const MAGIC: [u8; 8] = *b"MLUCLIQ3";
const MAKE: &str = "make a clique";
/// Where its ranks meet: on this machine, or at an address.
const ON_MACHINE: u8 = 0;
const ON_NET: u8 = 1;

/// Names a clique: the ranks that have the same one meet. 128 bytes, to be passed on to whoever is to take part. Whoever has them can.
///
/// Bytes 0 to 7 are a mark, 8 to 23 the name of the place where ranks meet, 24 to 39 a secret that lets in, 40 how the place is reached (0:
/// on this machine, 1: over a network), 42 and 43 a port, 44 to 59 an address (IPv6, or IPv4 mapped to it); the rest is zero.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CliqueId([u8; 128]);

pub(super) fn random(call: &'static str) -> Result<[u8; 16]> {
    let mut random = [0; 16];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut random))
        .map_err(|e| Error::system(call, "cannot read /dev/urandom", e))?;
    Ok(random)
}

/// The address at which ranks on other machines find those that are made here: `MLU_COLLECTIVE_ADDRESS`.
fn address() -> Result<Option<IpAddr>> {
    let Some(text) = std::env::var_os("MLU_COLLECTIVE_ADDRESS") else {
        return Ok(None);
    };
    let text = text.to_string_lossy();
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        let text = format!("MLU_COLLECTIVE_ADDRESS={text} is not an IP address of this machine");
        Error::new(MAKE, Status::InvalidArgument, text)
    })
}

impl CliqueId {
    /// A new clique. Its ranks meet at this process, which has to live until they have; they may be in other processes of the machine. If
    /// `MLU_COLLECTIVE_ADDRESS` is set, to an IP address of this machine, they may also be where that address is reached: in other virtual
    /// machines that have chips of the same server. What goes over the network is not encrypted.
    ///
    /// # Errors
    ///
    /// Those of the operating system; `Status::InvalidArgument` if `MLU_COLLECTIVE_ADDRESS` is no address.
    pub fn new() -> Result<Self> {
        let (name, secret) = (random(MAKE)?, random(MAKE)?);
        let failed = |e| Error::system(MAKE, "no socket for ranks to meet at", e);
        let listener = Listener::open(name, address()?).map_err(failed)?;
        let mut bytes = [0; 128];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..24].copy_from_slice(&name);
        bytes[24..40].copy_from_slice(&secret);
        if let Endpoint::Net(address) = listener.endpoint().map_err(failed)? {
            let ip = match address.ip() {
                IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                IpAddr::V6(ip) => ip,
            };
            bytes[40] = ON_NET;
            bytes[42..44].copy_from_slice(&address.port().to_le_bytes());
            bytes[44..60].copy_from_slice(&ip.octets());
        }
        hub::start(listener, secret).map_err(failed)?;
        Ok(Self(bytes))
    }

    /// The bytes, to be passed on.
    pub fn to_bytes(&self) -> [u8; 128] {
        self.0
    }

    /// The identity that was passed on.
    ///
    /// # Errors
    ///
    /// `Status::InvalidArgument` if these bytes are none.
    pub fn from_bytes(bytes: &[u8; 128]) -> Result<Self> {
        let known = bytes[..8] == MAGIC && bytes[40] <= ON_NET;
        let used = if bytes[40] == ON_MACHINE { 41 } else { 60 };
        if !known || bytes[41] != 0 || bytes[used..].iter().any(|b| *b != 0) {
            let text = "these bytes are no clique's identity";
            return Err(Error::new(JOIN, Status::InvalidArgument, text));
        }
        Ok(Self(*bytes))
    }

    /// A number of the bytes, for tables (FNV-1a, 64 bits).
    pub fn hash(&self) -> u64 {
        hash(&self.0)
    }

    pub(super) fn name(&self) -> [u8; 16] {
        part(&self.0, 8)
    }

    pub(super) fn secret(&self) -> [u8; 16] {
        part(&self.0, 24)
    }

    /// Where ranks meet.
    pub(super) fn endpoint(&self) -> Endpoint {
        if self.0[40] == ON_MACHINE {
            return Endpoint::Machine(self.name());
        }
        let ip = Ipv6Addr::from(part(&self.0, 44)).to_canonical();
        let port = u16::from_le_bytes([self.0[42], self.0[43]]);
        Endpoint::Net(SocketAddr::new(ip, port))
    }
}

fn part(bytes: &[u8; 128], at: usize) -> [u8; 16] {
    let mut part = [0; 16];
    part.copy_from_slice(&bytes[at..at + 16]);
    part
}

/// FNV-1a, 64 bits.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    })
}

impl std::fmt::Debug for CliqueId {
    /// Without the bytes, which let in.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CliqueId({:#x})", self.hash())
    }
}
