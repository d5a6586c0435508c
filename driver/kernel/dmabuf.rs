// SPDX-License-Identifier: GPL-2.0

//! Buffers that drivers share by file descriptors, which the kernel crate does not know:
//! `include/linux/dma-buf.h`.

use core::{ffi::c_int, marker::PhantomData, ptr::NonNull};

use kernel::{
    bindings,
    device::{Bound, Device},
    error::from_err_ptr,
    fs::{file::flags, File},
    mm::virt::VmaNew,
    prelude::*,
    scatterlist::SGTable,
    sync::{
        aref::ARef,
        atomic::{AtomicFlag, Relaxed},
        Arc, ArcBorrow,
    },
};

use super::{dma, pages::Charge, vma::FileMapping};

/// A buffer, whichever driver it is of.
///
/// Dropping it may be the end of the buffer: under no lock that its driver takes then.
///
/// # Invariants
///
/// The pointer is valid, and this value owns a reference of its file.
pub(crate) struct DmaBuf(NonNull<bindings::dma_buf>);

// SAFETY: A buffer belongs to no thread.
unsafe impl Send for DmaBuf {}
// SAFETY: What is read here does not change; the rest has locks of its own.
unsafe impl Sync for DmaBuf {}

impl DmaBuf {
    /// The buffer behind a descriptor of the calling process: `EBADF` if it names nothing, `EINVAL`
    /// if it is something else.
    pub(crate) fn from_fd(fd: i32) -> Result<Self> {
        // SAFETY: Any number may be asked for.
        let buffer = from_err_ptr(unsafe { bindings::dma_buf_get(fd) })?;
        // INVARIANT: The call succeeded, so that it gave a reference.
        NonNull::new(buffer).map(Self).ok_or(EBADF)
    }

    /// Shares `object`, `length` bytes, whole pages. The module stays loaded while the buffer is
    /// there.
    pub(crate) fn export<T: Exporter>(object: Arc<T>, length: usize) -> Result<Self> {
        let object = Arc::into_raw(object);
        let wanted = bindings::dma_buf_export_info {
            exp_name: T::NAME.as_char_ptr(),
            owner: crate::this_module().as_ptr(),
            ops: Operations::<T>::TABLE,
            size: length,
            flags: flags::O_RDWR as c_int,
            priv_: object.cast_mut().cast(),
            ..Default::default()
        };
        // SAFETY: The structure is complete; name and operations are static. The buffer takes the
        // reference over, and `release` gives it back.
        let made = from_err_ptr(unsafe { bindings::dma_buf_export(&wanted) });
        match made.map(NonNull::new) {
            // INVARIANT: A new buffer comes with its first reference.
            Ok(Some(buffer)) => Ok(Self(buffer)),
            failed => {
                // SAFETY: It came from `into_raw` above, and a buffer that was not made has not
                // taken it.
                drop(unsafe { Arc::from_raw(object) });
                Err(failed.err().unwrap_or(ENOMEM))
            }
        }
    }

    /// The object that is shared, if it is a `T` of this module.
    pub(crate) fn exported<T: Exporter>(&self) -> Option<ArcBorrow<'_, T>> {
        // SAFETY: Valid by the type invariant. Only `export` makes buffers with these operations,
        // of a `T`, whose reference they hold.
        unsafe {
            let buffer = self.0.as_ref();
            core::ptr::eq(buffer.ops, Operations::<T>::TABLE)
                .then(|| ArcBorrow::from_raw(buffer.priv_.cast_const().cast()))
        }
    }

    /// Bytes.
    pub(crate) fn len(&self) -> usize {
        // SAFETY: Valid by the type invariant; the size does not change.
        unsafe { self.0.as_ref() }.size
    }

    /// The open file.
    pub(crate) fn file(&self) -> &File {
        // SAFETY: The buffer's file is open by the type invariant, and nobody is in the middle of a
        // call that moves its position, for it has none that matters.
        unsafe { File::from_raw_file(self.0.as_ref().file) }
    }

    /// A further reference of the open file.
    pub(crate) fn to_file(&self) -> ARef<File> {
        self.file().into()
    }

    /// Whether the file was opened for writing.
    pub(crate) fn is_writable(&self) -> bool {
        self.file().flags() & flags::O_ACCMODE == flags::O_RDWR
    }

    /// The places where it is mapped.
    pub(crate) fn mappings(&self) -> FileMapping {
        FileMapping::new(self.file())
    }
}

impl Drop for DmaBuf {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the reference is ours.
        unsafe { bindings::dma_buf_put(self.0.as_ptr()) };
    }
}

/// What this module shares. Other devices cannot be attached to it.
pub(crate) trait Exporter: Send + Sync + 'static {
    /// Name of the exporter.
    const NAME: &'static CStr;

    /// Maps a part of it, from the VMA's offset on; that it lies within was checked.
    fn mmap(this: ArcBorrow<'_, Self>, vma: &VmaNew) -> Result;

    /// The buffer is gone: nobody has it open or mapped.
    fn release(this: Arc<Self>);
}

struct Operations<T>(PhantomData<T>);

impl<T: Exporter> Operations<T> {
    const TABLE: &'static bindings::dma_buf_ops = &bindings::dma_buf_ops {
        attach: Some(Self::attach),
        map_dma_buf: Some(Self::map),
        unmap_dma_buf: Some(Self::unmap),
        mmap: Some(Self::mmap),
        release: Some(Self::release),
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// The kernel calls it, for a buffer of [`DmaBuf::export`] with a `T`.
    unsafe extern "C" fn attach(
        _buffer: *mut bindings::dma_buf,
        _attachment: *mut bindings::dma_buf_attachment,
    ) -> c_int {
        EOPNOTSUPP.to_errno()
    }

    /// Nobody comes here, for nobody is attached; but there must be one.
    ///
    /// # Safety
    ///
    /// The kernel calls it, for a buffer of [`DmaBuf::export`] with a `T`.
    unsafe extern "C" fn map(
        _attachment: *mut bindings::dma_buf_attachment,
        _direction: bindings::dma_data_direction,
    ) -> *mut bindings::sg_table {
        EOPNOTSUPP.to_ptr()
    }

    /// # Safety
    ///
    /// The kernel calls it, for a buffer of [`DmaBuf::export`] with a `T`.
    unsafe extern "C" fn unmap(
        _attachment: *mut bindings::dma_buf_attachment,
        _table: *mut bindings::sg_table,
        _direction: bindings::dma_data_direction,
    ) {
    }

    /// # Safety
    ///
    /// The kernel calls it, for a buffer of [`DmaBuf::export`] with a `T`, with a VMA that is being
    /// set up.
    unsafe extern "C" fn mmap(
        buffer: *mut bindings::dma_buf,
        vma: *mut bindings::vm_area_struct,
    ) -> c_int {
        // SAFETY: The buffer is one of `DmaBuf::export`, and holds a reference of a `T` as long as
        // it is there; the VMA is being set up.
        let (this, vma) = unsafe {
            let this = ArcBorrow::<T>::from_raw((*buffer).priv_.cast_const().cast());
            (this, VmaNew::from_raw(vma))
        };
        match T::mmap(this, vma) {
            Ok(()) => 0,
            Err(e) => e.to_errno(),
        }
    }

    /// # Safety
    ///
    /// The kernel calls it, for a buffer of [`DmaBuf::export`] with a `T`, when nobody
    /// has it any more.
    unsafe extern "C" fn release(buffer: *mut bindings::dma_buf) {
        // SAFETY: As in `mmap`; nobody uses the reference any more.
        T::release(unsafe { Arc::from_raw((*buffer).priv_.cast_const().cast()) });
    }
}

/// The memory of a buffer of another driver, while it is mapped for a device.
struct Attachment {
    attachment: *mut bindings::dma_buf_attachment,
    table: *mut bindings::sg_table,
}

/// A buffer of another driver that a device uses.
///
/// # Invariants
///
/// While `mapped` is set, the buffer is attached to the device that was given to [`Self::map`], and
/// mapped for it in `direction`, as `attachment` says.
pub(crate) struct ImportedBuffer {
    // In this order: the buffer is given up before its share is given back.
    buffer: DmaBuf,
    attachment: Option<Attachment>,
    direction: dma::Direction,
    mapped: AtomicFlag,
    _charge: Charge,
}

// SAFETY: The pointers belong to no thread.
unsafe impl Send for ImportedBuffer {}
// SAFETY: The fields do not change but for `mapped`, which is atomic.
unsafe impl Sync for ImportedBuffer {}

impl ImportedBuffer {
    /// A buffer that is not mapped yet; `written` says whether the device is to write it.
    pub(crate) fn new(buffer: DmaBuf, written: bool) -> Result<Self> {
        let charge = Charge::new(buffer.len())?;
        let direction = if written {
            bindings::dma_data_direction::DMA_BIDIRECTIONAL
        } else {
            bindings::dma_data_direction::DMA_TO_DEVICE
        };
        Ok(Self {
            buffer,
            attachment: None,
            direction,
            mapped: AtomicFlag::new(false),
            _charge: charge,
        })
    }

    /// Maps the memory for the device, where it then stays. The errors are those of its driver;
    /// `EINVAL`: it is not all there.
    pub(crate) fn map(&mut self, dev: &Device<Bound>) -> Result {
        let raw = core::ptr::from_ref(dev).cast_mut().cast();
        let buffer = self.buffer.0.as_ptr();
        // SAFETY: Buffer and device are valid. Without operations of its own the attachment keeps
        // the memory where it is.
        let attachment = from_err_ptr(unsafe { bindings::dma_buf_attach(buffer, raw) })?;
        // SAFETY: The buffer is attached, and its lock is not held.
        let table = from_err_ptr(unsafe {
            bindings::dma_buf_map_attachment_unlocked(attachment, self.direction)
        });
        let table = match table {
            Ok(table) => table,
            Err(e) => {
                // SAFETY: Attached above, and not mapped.
                unsafe { bindings::dma_buf_detach(buffer, attachment) };
                return Err(e);
            }
        };
        // INVARIANT: Attached and mapped above.
        self.attachment = Some(Attachment { attachment, table });
        self.mapped.store(true, Relaxed);
        let found: u64 = self.dma_pieces().map(|(_, length)| length).sum();
        if found != self.buffer.len() as u64 {
            self.unmap(dev);
            return Err(EINVAL);
        }
        Ok(())
    }

    /// Ends the device's mapping. The device must not use the memory any more. Doing it again does
    /// nothing.
    pub(crate) fn unmap(&self, _dev: &Device<Bound>) {
        let attached = self.attachment.as_ref();
        if let Some(attached) = attached.filter(|_| self.mapped.xchg(false, Relaxed)) {
            // SAFETY: By the type invariant it is attached and mapped so, of which this is the end.
            // The buffer's lock is not held.
            unsafe {
                bindings::dma_buf_unmap_attachment_unlocked(
                    attached.attachment,
                    attached.table,
                    self.direction,
                );
                bindings::dma_buf_detach(self.buffer.0.as_ptr(), attached.attachment);
            }
        }
    }

    /// Device address and bytes of each piece, in order; none while it is not mapped.
    pub(crate) fn dma_pieces(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let attached = self.attachment.as_ref();
        let table = attached
            .filter(|_| self.mapped.load(Relaxed))
            .map(|attached| {
                // SAFETY: By the type invariant it is mapped. The callers use the pieces before
                // they unmap it.
                unsafe { SGTable::from_raw(attached.table) }
            });
        let entries = table.into_iter().flat_map(SGTable::iter);
        entries.map(|entry| (entry.dma_address(), entry.dma_len()))
    }
}

impl Drop for ImportedBuffer {
    fn drop(&mut self) {
        if self.mapped.load(Relaxed) {
            pr_err!(
                "BUG: {} bytes of a shared buffer were given up while mapped; they are leaked\n",
                self.buffer.len()
            );
            core::mem::forget(self.buffer.to_file());
        }
    }
}
