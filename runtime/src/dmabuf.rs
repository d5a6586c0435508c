//! Memory that is shared with other drivers and their programs by file descriptors: dma-bufs, which the kernel has. Only the kernel driver
//! offers them.

use std::ops::Range;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{seek, SeekFrom};
use vmlu_abi::rpc::{ACCESS_READ, ACCESS_WRITE};
use vmlu_abi::Status;

use crate::context::Context;
use crate::error::{Error, Result};
use crate::memory::Buffer;

impl Buffer {
    /// Makes bytes of this memory a dma-buf; both ends are multiples of the page, the last up to the end of the buffer's last page. Whoever
    /// has the descriptor maps it into his process with `mmap`, or a chip maps it ([`Context::import_dmabuf`]). It leads nowhere once the
    /// memory is freed: who touches a mapping then gets SIGBUS.
    ///
    /// # Errors
    ///
    /// `Status::NotSupported` on transports other than the kernel driver, `Status::InvalidArgument` for other ranges, `Status::BadHandle` if
    /// the buffer is itself another context's memory.
    pub fn export_dmabuf(&self, bytes: Range<u64>) -> Result<OwnedFd> {
        let length = bytes.end.saturating_sub(bytes.start);
        let channel = &self.context().channel;
        channel.dmabuf_export(self.address(), bytes.start, length)
    }
}

impl Context {
    /// Maps the memory of a dma-buf, of a chip or of any driver whose memory the card reaches. Commands read it, and write it if `writable`, in
    /// place. Dropping the buffer takes the mapping away. The descriptor may be closed at once.
    ///
    /// # Errors
    ///
    /// `Status::NotSupported` on transports other than the kernel driver, and for a part of a chip's allocation; `Status::BadHandle` if the
    /// descriptor is none or its memory is gone; `Status::NotPermitted` if it is to be written and the descriptor is open for reading only.
    pub fn import_dmabuf(&self, fd: BorrowedFd<'_>, writable: bool) -> Result<Buffer> {
        let length = seek(fd, SeekFrom::End(0)).map_err(|error| {
            let text = format!("the descriptor is no dma-buf: {error}");
            Error::new("import a dma-buf", Status::InvalidArgument, text)
        })?;
        let write = if writable { ACCESS_WRITE } else { 0 };
        Buffer::map(&self.inner, length, |va| {
            let channel = &self.inner.channel;
            channel.dmabuf_import(va, fd, ACCESS_READ | write)
        })
    }
}
