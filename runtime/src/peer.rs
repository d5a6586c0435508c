//! Memory of other contexts, on the same chip or another, in this process or another.

use vmlu_abi::link::PeerPath;
use vmlu_abi::rpc::{MemoryImport, MemoryToken, Peer, PeerWay, ACCESS_READ, ACCESS_WRITE};
use vmlu_abi::{Status, Wire};

use crate::context::Context;
use crate::error::{Error, Result};
use crate::memory::Buffer;
use crate::transport::Transport;

/// Names an allocation of device memory to others: whoever has the bytes may map it, in any process that uses the same cards. It leads
/// nowhere once the memory is freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MemoryHandle([u8; size_of::<MemoryToken>()]);

impl MemoryHandle {
    /// Bytes of a handle.
    pub const SIZE: usize = size_of::<MemoryToken>();

    /// The bytes, to be passed on.
    pub fn to_bytes(self) -> [u8; Self::SIZE] {
        self.0
    }

    /// The handle that was passed on.
    pub fn from_bytes(bytes: [u8; Self::SIZE]) -> Self {
        Self(bytes)
    }

    fn token(&self) -> MemoryToken {
        MemoryToken::read_from(&self.0).unwrap_or_else(MemoryToken::zeroed)
    }

    /// Bytes of the allocation, as its owner says.
    pub fn length(&self) -> u64 {
        self.token().length
    }
}

impl Buffer {
    /// A handle with which other contexts can map this memory; the same one each time.
    ///
    /// # Errors
    ///
    /// `Status::InvalidArgument` if the buffer is itself another context's memory.
    pub fn export(&self) -> Result<MemoryHandle> {
        if let Some(handle) = self.exported().get() {
            return Ok(*handle);
        }
        let token = self.context().channel.memory_export(self.address())?;
        let mut bytes = [0; MemoryHandle::SIZE];
        bytes.copy_from_slice(token.as_bytes());
        Ok(*self.exported().get_or_init(|| MemoryHandle(bytes)))
    }
}

impl Context {
    /// Maps memory of another context of this process at the address that it has there, so that one pointer names it in both; otherwise as
    /// [`Context::import_memory`], writable. No two contexts of a process give out the same addresses.
    ///
    /// # Errors
    ///
    /// As [`Context::import_memory`].
    pub fn mirror(&self, buffer: &Buffer) -> Result<Buffer> {
        self.map_at(buffer, buffer.address(), true)
    }

    /// As [`Context::mirror`], at an address that the caller has chosen, such as one of a [`Reservation`], and read-only if wanted. The buffer
    /// may be of this context, too: then it is at two addresses.
    ///
    /// [`Reservation`]: crate::memory::Reservation
    ///
    /// # Errors
    ///
    /// As [`Context::import_memory`]; `Status::AddressInUse` if something of the context is there.
    pub fn map_at(&self, buffer: &Buffer, address: u64, writable: bool) -> Result<Buffer> {
        let handle = buffer.export()?;
        let write = if writable { ACCESS_WRITE } else { 0 };
        Buffer::map_at(&self.inner, address, handle.length(), |va| {
            self.inner.channel.memory_import(&MemoryImport {
                va,
                access: ACCESS_READ | write,
                flags: 0,
                token: handle.token(),
            })
        })
    }

    /// Maps memory of another context. Commands read it, and write it if `writable`, in place; over MLU-Link or PCIe if it is on another
    /// chip. Dropping the buffer takes the mapping away; the memory is its owner's, and commands that use it fail with
    /// `Status::OperandFault` once the owner has freed it.
    ///
    /// # Errors
    ///
    /// `Status::BadHandle` if the handle leads to nothing, `Status::NotSupported` if this chip has no way to the owner's.
    pub fn import_memory(&self, handle: &MemoryHandle, writable: bool) -> Result<Buffer> {
        let token = handle.token();
        if token.length == 0 {
            let text = "the handle names no memory".to_owned();
            return Err(Error::new("import memory", Status::BadHandle, text));
        }
        let write = if writable { ACCESS_WRITE } else { 0 };
        Buffer::map(&self.inner, token.length, |va| {
            self.inner.channel.memory_import(&MemoryImport {
                va,
                access: ACCESS_READ | write,
                flags: 0,
                token,
            })
        })
    }
}

/// How a chip reaches another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// By what.
    pub path: PeerPath,
    /// Bytes/s in one direction.
    pub rate: u64,
}

/// How chip `from` of a transport reaches chip `to`.
pub fn way(transport: &dyn Transport, from: u32, to: u32) -> Result<Way> {
    let peer = transport.info(to)?.info;
    let PeerWay { path, rate, .. } = transport.peer_path(
        from,
        &Peer {
            serial: peer.serial,
            chip: peer.chip,
            reserved: 0,
        },
    )?;
    let path = match path {
        1 => PeerPath::Same,
        2 => PeerPath::Link,
        3 => PeerPath::Pcie,
        _ => PeerPath::None,
    };
    Ok(Way { path, rate })
}
