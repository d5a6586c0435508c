//! Secrets that name things to other contexts: whoever knows one may use what it names.

use rustix::rand::{getrandom, GetRandomFlags};
use vmlu_abi::Status;

/// A secret: random, so that it cannot be guessed.
pub type Secret = [u8; 16];

/// A fresh one.
pub fn fresh() -> Result<Secret, Status> {
    let mut secret = Secret::default();
    let mut filled = 0;
    while filled < secret.len() {
        match getrandom(&mut secret[filled..], GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return Err(Status::OutOfHostMemory),
        }
    }
    Ok(secret)
}
