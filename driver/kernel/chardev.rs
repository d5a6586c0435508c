// SPDX-License-Identifier: GPL-2.0

//! Character devices: a range of minors with one set of file operations, and nodes with names and
//! modes chosen at run time.
//!
//! `kernel::miscdevice` has neither run-time names nor modes nor more than one minor a
//! registration.

use core::marker::PhantomData;

use kernel::{
    bindings, device,
    error::{from_err_ptr, to_result},
    fs::File,
    mm::virt::VmaNew,
    prelude::*,
    seq_file::SeqFile,
    str::CString,
    sync::{poll::PollTable, Arc},
    types::{ForeignOwnable, Opaque},
    uaccess::{UserPtr, UserSlice, UserSliceWriter},
};

use super::attributes::Group;

/// What [`FileOperations::poll`] returns.
pub(crate) mod ready {
    use kernel::bindings;

    /// Reading gives something.
    pub(crate) const READ: u32 = bindings::POLLIN | bindings::POLLRDNORM;
    /// Nothing comes any more.
    pub(crate) const DEAD: u32 = bindings::POLLERR | bindings::POLLHUP;
}

/// Bits of a minor in a device number (`MINORBITS`).
const MINOR_BITS: u32 = 20;

/// What an open file does.
pub(crate) trait FileOperations: Sized + 'static {
    /// What belongs to an open file.
    type Ptr: ForeignOwnable + Send + Sync;

    /// Opens the device with this minor, counted from the first of the range.
    fn open(minor: u32, file: &File) -> Result<Self::Ptr>;

    /// Answers an ioctl.
    fn ioctl(
        this: <Self::Ptr as ForeignOwnable>::Borrowed<'_>,
        command: u32,
        argument: usize,
    ) -> Result<isize>;

    /// Reads; returns the bytes that were written to `_to`.
    fn read(
        _this: <Self::Ptr as ForeignOwnable>::Borrowed<'_>,
        _file: &File,
        _to: UserSliceWriter,
    ) -> Result<usize> {
        Err(EINVAL)
    }

    /// Enters the caller into the queues of those who wait for the file in `_table`, then says what
    /// it is ready for: `POLL*` of `bindings`.
    fn poll(
        _this: <Self::Ptr as ForeignOwnable>::Borrowed<'_>,
        _file: &File,
        _table: PollTable<'_>,
    ) -> u32 {
        0
    }

    /// Tells what `/proc/PID/fdinfo` says of the file beside what it says of all.
    fn show_fdinfo(_this: <Self::Ptr as ForeignOwnable>::Borrowed<'_>, _to: &SeqFile) {}

    /// Maps a piece of the file.
    fn mmap(_this: <Self::Ptr as ForeignOwnable>::Borrowed<'_>, _vma: &VmaNew) -> Result {
        Err(ENODEV)
    }

    /// The last reference to the open file is gone: no call is in progress, and no mapping is left.
    fn release(this: Self::Ptr) {
        drop(this);
    }
}

/// A range of minors on which files of type `T` can be opened.
///
/// # Invariants
///
/// `cdev` is registered on `count` minors from `first` on, which are reserved.
pub(crate) struct CharDevice<T: FileOperations> {
    cdev: *mut bindings::cdev,
    first: bindings::dev_t,
    count: u32,
    _files: PhantomData<fn(T)>,
}

// SAFETY: The registration belongs to no thread.
unsafe impl<T: FileOperations> Send for CharDevice<T> {}
// SAFETY: There are no methods that change anything.
unsafe impl<T: FileOperations> Sync for CharDevice<T> {}

impl<T: FileOperations> CharDevice<T> {
    /// Registers `count` minors under a major of their own. An open file keeps the module loaded.
    pub(crate) fn register(name: &'static CStr, count: u32) -> Result<Self> {
        let mut first = 0;
        // SAFETY: `first` can be written; the name is static.
        to_result(unsafe {
            bindings::alloc_chrdev_region(&mut first, 0, count, name.as_char_ptr())
        })?;
        // SAFETY: May be called at any time.
        let cdev = unsafe { bindings::cdev_alloc() };
        let result = if cdev.is_null() {
            Err(ENOMEM)
        } else {
            // SAFETY: `cdev` is fresh; the operations are static, and the module stays while a file
            // is open.
            to_result(unsafe {
                (*cdev).owner = crate::this_module().as_ptr();
                (*cdev).ops = Self::OPERATIONS;
                bindings::cdev_add(cdev, first, count)
            })
        };
        if let Err(e) = result {
            // SAFETY: `cdev` is null or was allocated above; the range was reserved above.
            unsafe {
                if !cdev.is_null() {
                    bindings::cdev_del(cdev);
                }
                bindings::unregister_chrdev_region(first, count);
            }
            return Err(e);
        }
        // INVARIANT: Registered above.
        Ok(Self {
            cdev,
            first,
            count,
            _files: PhantomData,
        })
    }

    /// First device number of the range.
    pub(crate) fn first(&self) -> DeviceNumber {
        DeviceNumber(self.first)
    }

    const OPERATIONS: &'static bindings::file_operations = &bindings::file_operations {
        owner: crate::this_module().as_ptr(),
        open: Some(Self::open),
        release: Some(Self::release),
        unlocked_ioctl: Some(Self::ioctl),
        read: Some(Self::read),
        poll: Some(Self::poll),
        mmap: Some(Self::mmap),
        show_fdinfo: Some(Self::show_fdinfo),
        // Where nobody asks for an address, one that is aligned for large pages as the offset is.
        get_unmapped_area: Some(bindings::thp_get_unmapped_area),
        llseek: Some(bindings::noop_llseek),
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// Called by the VFS, with the inode of a device of this range and a file that is being opened.
    unsafe extern "C" fn open(inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        // SAFETY: The inode is that of a device in the range.
        let minor = unsafe { (*inode).i_rdev } & ((1 << MINOR_BITS) - 1);
        // SAFETY: `file` is valid during the call, and is not seen by another thread yet.
        let result = T::open(minor, unsafe { File::from_raw_file(file) });
        match result {
            Ok(this) => {
                // SAFETY: The private data of a file belongs to its operations.
                unsafe { (*file).private_data = this.into_foreign() };
                0
            }
            Err(e) => e.to_errno(),
        }
    }

    /// # Safety
    ///
    /// Called by the VFS, once, with a file that [`Self::open`] has opened, after its last use.
    unsafe extern "C" fn release(_inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        // SAFETY: `open` has set the private data; nobody uses it any more.
        T::release(unsafe { T::Ptr::from_foreign((*file).private_data) });
        0
    }

    /// # Safety
    ///
    /// Called by the VFS, with a file that [`Self::open`] has opened.
    unsafe extern "C" fn ioctl(
        file: *mut bindings::file,
        command: c_uint,
        argument: c_ulong,
    ) -> c_long {
        // SAFETY: `open` has set the private data, and `release` is not called during this call.
        let this = unsafe { T::Ptr::borrow((*file).private_data) };
        match T::ioctl(this, command, argument) {
            Ok(value) => value as c_long,
            Err(e) => e.to_errno() as c_long,
        }
    }

    /// # Safety
    ///
    /// Called by the VFS, with a file that [`Self::open`] has opened and a buffer of user space.
    unsafe extern "C" fn read(
        file: *mut bindings::file,
        to: *mut c_char,
        length: usize,
        _position: *mut bindings::loff_t,
    ) -> isize {
        // SAFETY: As in `ioctl`.
        let this = unsafe { T::Ptr::borrow((*file).private_data) };
        let to = UserSlice::new(UserPtr::from_ptr(to.cast()), length).writer();
        // SAFETY: `file` is valid during the call; its position is not used.
        match T::read(this, unsafe { File::from_raw_file(file) }, to) {
            Ok(length) => length as isize,
            Err(e) => e.to_errno() as isize,
        }
    }

    /// # Safety
    ///
    /// Called by the VFS, with a file that [`Self::open`] has opened and the table of this poll.
    unsafe extern "C" fn poll(
        file: *mut bindings::file,
        table: *mut bindings::poll_table_struct,
    ) -> bindings::__poll_t {
        // SAFETY: As in `ioctl`.
        let this = unsafe { T::Ptr::borrow((*file).private_data) };
        // SAFETY: `file` is valid during the call, and so is `table`, or null.
        unsafe { T::poll(this, File::from_raw_file(file), PollTable::from_raw(table)) }
    }

    /// # Safety
    ///
    /// Called by procfs, with a file that [`Self::open`] has opened and the output of this thread.
    unsafe extern "C" fn show_fdinfo(to: *mut bindings::seq_file, file: *mut bindings::file) {
        // SAFETY: As in `ioctl`; the output is this thread's.
        unsafe { T::show_fdinfo(T::Ptr::borrow((*file).private_data), SeqFile::from_raw(to)) };
    }

    /// # Safety
    ///
    /// Called by mm, with a file that [`Self::open`] has opened and a VMA that is being set up.
    unsafe extern "C" fn mmap(
        file: *mut bindings::file,
        vma: *mut bindings::vm_area_struct,
    ) -> c_int {
        // SAFETY: As in `ioctl`.
        let this = unsafe { T::Ptr::borrow((*file).private_data) };
        // SAFETY: `vma` is being set up.
        match T::mmap(this, unsafe { VmaNew::from_raw(vma) }) {
            Ok(()) => 0,
            Err(e) => e.to_errno(),
        }
    }
}

impl<T: FileOperations> Drop for CharDevice<T> {
    fn drop(&mut self) {
        // SAFETY: Registered by the type invariant; open files hold the module, so there are none.
        unsafe {
            bindings::cdev_del(self.cdev);
            bindings::unregister_chrdev_region(self.first, self.count);
        }
    }
}

/// A device number.
#[derive(Clone, Copy)]
pub(crate) struct DeviceNumber(bindings::dev_t);

impl DeviceNumber {
    /// The number `minor` further on; within the range that it comes from.
    pub(crate) fn plus(self, minor: u32) -> Self {
        Self(self.0 + minor)
    }

    /// Major and minor.
    pub(crate) fn parts(self) -> (u32, u32) {
        (self.0 >> MINOR_BITS, self.0 & ((1 << MINOR_BITS) - 1))
    }
}

/// A class of devices, `/sys/class/NAME`, whose nodes everybody may open.
#[pin_data(PinnedDrop)]
pub(crate) struct Class {
    #[pin]
    class: Opaque<bindings::class>,
}

// SAFETY: A registered class may be used from any thread.
unsafe impl Send for Class {}
// SAFETY: As above; the driver core locks.
unsafe impl Sync for Class {}

impl Class {
    /// Registers the class.
    pub(crate) fn register(name: &'static CStr) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            class <- Opaque::try_ffi_init(move |slot: *mut bindings::class| {
                // SAFETY: `slot` is valid for writes; the memory is pinned until the class is
                // unregistered.
                unsafe {
                    slot.write(pin_init::zeroed());
                    (*slot).name = name.as_char_ptr();
                    (*slot).devnode = Some(Self::devnode);
                    to_result(bindings::class_register(slot))
                }
            }),
        })
    }

    /// Gives nodes mode 0666: whoever may open the file gets a context of his own, and nothing of
    /// others.
    ///
    /// # Safety
    ///
    /// Called by devtmpfs; `mode` is null or valid for writes.
    unsafe extern "C" fn devnode(
        _dev: *const bindings::device,
        mode: *mut bindings::umode_t,
    ) -> *mut c_char {
        if !mode.is_null() {
            // SAFETY: The caller gives null or a place to write.
            unsafe { *mode = 0o666 };
        }
        core::ptr::null_mut()
    }
}

#[pinned_drop]
impl PinnedDrop for Class {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: Registered in `register`.
        unsafe { bindings::class_unregister(self.class.get()) };
    }
}

/// A device node, made and removed by devtmpfs, and its attributes.
///
/// # Invariants
///
/// `number` names a device of `class`.
pub(crate) struct Node<T: 'static = ()> {
    class: Arc<Class>,
    number: DeviceNumber,
    /// Stays until the device is gone.
    _group: Option<Group<T>>,
}

impl<T> Node<T> {
    /// Makes the device and its node.
    pub(crate) fn new(
        class: &Arc<Class>,
        parent: Option<&device::Device>,
        number: DeviceNumber,
        name: kernel::fmt::Arguments<'_>,
        group: Option<Group<T>>,
    ) -> Result<Self> {
        let name = CString::try_from_fmt(name)?;
        let parent = parent.map_or(core::ptr::null_mut(), |p| {
            core::ptr::from_ref(p).cast_mut().cast::<bindings::device>()
        });
        let (list, data) = group
            .as_ref()
            .map_or((core::ptr::null(), core::ptr::null_mut()), |group| {
                (group.list(), group.data())
            });
        // SAFETY: Class and parent are valid; the format takes one string; the groups are null or
        // stay as long as the device, and so does the data that their attributes use.
        from_err_ptr(unsafe {
            bindings::device_create_with_groups(
                class.class.get(),
                parent,
                number.0,
                data,
                list.cast_mut(),
                c"%s".as_char_ptr(),
                name.as_char_ptr(),
            )
        })?;
        // INVARIANT: Made above.
        Ok(Self {
            class: class.clone(),
            number,
            _group: group,
        })
    }
}

impl<T> Drop for Node<T> {
    fn drop(&mut self) {
        // SAFETY: Made in `new`; the class is registered as long as it is referenced.
        unsafe { bindings::device_destroy(self.class.class.get(), self.number.0) };
    }
}
