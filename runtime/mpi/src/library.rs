//! OpenMPI's C interface, loaded when it is asked for: who has no MPI needs none.
//!
//! Handles are pointers to objects of the library, as in its `mpi.h`; other implementations of MPI have other handles, and are refused.
//! What ULFM adds to MPI (failures of processes as errors) is used where the library has it.

use std::ffi::{c_char, c_int, c_void};
use std::mem::ManuallyDrop;
use std::ptr::null_mut;

use libloading::os::unix::{Library, Symbol, RTLD_GLOBAL, RTLD_NOW};
use vmlu::PinnedBuffer;

/// Names of the library, in the order in which they are tried; `MLU_MPI_LIBRARY` goes before.
const NAMES: [&str; 2] = ["libmpi.so.40", "libmpi.so"];
const SUCCESS: c_int = 0;
const THREAD_FUNNELED: c_int = 1;
const COMM_TYPE_SHARED: c_int = 0;
const ANY: c_int = -1;
/// The attribute with the largest tag.
const TAG_UB: c_int = 0;
/// The largest tag that every MPI has.
const LEAST_TAGS: c_int = 32767;
/// Bytes of a message that says what has failed.
const NEWS: usize = 512;
/// Room for MPI's account of a transfer, which has 24 bytes in OpenMPI.
#[repr(C, align(8))]
struct Account([u8; 64]);
const MAX_ERROR_STRING: usize = 256;
/// Most bytes of a host's name, with the zero behind it.
const MAX_NAME: usize = 256;
/// Bytes of it that ranks tell each other.
const NAME: usize = 64;

type Handle = *mut c_void;

macro_rules! functions {
    ($($field:ident = $name:literal ($($arg:ty),*);)*) => {
        struct Functions { $($field: unsafe extern "C" fn($($arg),*) -> c_int,)* }

        impl Functions {
            fn load(library: &Library) -> Result<Self, String> {
                $(
                    // SAFETY: the function of this name has this signature: the MPI standard says so, with OpenMPI's handles.
                    let $field = unsafe {
                        library.get::<unsafe extern "C" fn($($arg),*) -> c_int>($name.as_bytes())
                    };
                    let $field = $field.map_err(|e| e.to_string())?;
                )*
                Ok(Self { $($field: *$field,)* })
            }
        }
    };
}

functions! {
    init_thread = "MPI_Init_thread" (*mut c_int, *mut c_void, c_int, *mut c_int);
    finalize = "MPI_Finalize" ();
    comm_rank = "MPI_Comm_rank" (Handle, *mut c_int);
    comm_size = "MPI_Comm_size" (Handle, *mut c_int);
    comm_dup = "MPI_Comm_dup" (Handle, *mut Handle);
    comm_split_type = "MPI_Comm_split_type" (Handle, c_int, c_int, Handle, *mut Handle);
    comm_set_errhandler = "MPI_Comm_set_errhandler" (Handle, Handle);
    comm_group = "MPI_Comm_group" (Handle, *mut Handle);
    group_size = "MPI_Group_size" (Handle, *mut c_int);
    group_translate_ranks = "MPI_Group_translate_ranks" (Handle, c_int, *const c_int, Handle, *mut c_int);
    allgather = "MPI_Allgather" (*const c_void, c_int, Handle, *mut c_void, c_int, Handle, Handle);
    allreduce = "MPI_Allreduce" (*const c_void, *mut c_void, c_int, Handle, Handle, Handle);
    isend = "MPI_Isend" (*const c_void, c_int, Handle, c_int, c_int, Handle, *mut Handle);
    irecv = "MPI_Irecv" (*mut c_void, c_int, Handle, c_int, c_int, Handle, *mut Handle);
    iprobe = "MPI_Iprobe" (c_int, c_int, Handle, *mut c_int, *mut c_void);
    recv = "MPI_Recv" (*mut c_void, c_int, Handle, c_int, c_int, Handle, *mut c_void);
    get_count = "MPI_Get_count" (*const c_void, Handle, *mut c_int);
    comm_get_attr = "MPI_Comm_get_attr" (Handle, c_int, *mut c_void, *mut c_int);
    test = "MPI_Test" (*mut Handle, *mut c_int, *mut c_void);
    get_processor_name = "MPI_Get_processor_name" (*mut c_char, *mut c_int);
    error_string = "MPI_Error_string" (c_int, *mut c_char, *mut c_int);
}

/// What ULFM adds.
struct Failures {
    revoke: unsafe extern "C" fn(Handle) -> c_int,
    ack: unsafe extern "C" fn(Handle) -> c_int,
    get_acked: unsafe extern "C" fn(Handle, *mut Handle) -> c_int,
}

impl Failures {
    fn load(library: &Library) -> Option<Self> {
        // SAFETY: the functions of these names have these signatures: ULFM's specification says so, with OpenMPI's handles.
        unsafe {
            Some(Self {
                revoke: *library.get(b"MPIX_Comm_revoke").ok()?,
                ack: *library.get(b"MPIX_Comm_failure_ack").ok()?,
                get_acked: *library.get(b"MPIX_Comm_failure_get_acked").ok()?,
            })
        }
    }
}

/// MPI, started. It stays with the thread that started it (it is not `Send`), and is started once in a process.
pub(crate) struct Mpi {
    /// Never unloaded: what it registers at the process's end must stay.
    library: ManuallyDrop<Library>,
    functions: Functions,
    failures: Option<Failures>,
    byte: Handle,
    /// This rank alone.
    alone: Handle,
    /// The same ranks, for these transfers alone; what is revoked.
    comm: Handle,
    /// Once more, for what they tell each other then.
    news: Handle,
    tags: u32,
    rank: u32,
    size: u32,
}

/// A host, as MPI sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The first rank of each rank's host.
    pub(crate) first: Vec<u32>,
    /// The name of each rank's host.
    pub(crate) names: Vec<String>,
}

/// A transfer that MPI has begun.
pub(crate) struct Request {
    handle: Handle,
    /// What it reads or writes.
    memory: Option<PinnedBuffer>,
    /// Bytes that have to come.
    due: Option<usize>,
}

impl Drop for Request {
    fn drop(&mut self) {
        // MPI may still use the memory of a transfer that has not ended.
        std::mem::forget(self.memory.take());
    }
}

fn open() -> Result<Library, String> {
    let asked = std::env::var("MLU_MPI_LIBRARY").ok();
    let names = asked.iter().map(String::as_str).chain(NAMES);
    let mut failed = String::new();
    for name in names {
        // SAFETY: MPI's constructors are meant to run in any process; its symbols are global because it loads parts that need them.
        match unsafe { Library::open(Some(name), RTLD_NOW | RTLD_GLOBAL) } {
            Ok(library) => return Ok(library),
            Err(error) => failed = error.to_string(),
        }
    }
    Err(format!(
        "no MPI is found: install OpenMPI, or name its libmpi.so in MLU_MPI_LIBRARY ({failed})"
    ))
}

/// The address of a predefined object.
fn object(library: &Library, name: &str) -> Result<Handle, String> {
    // SAFETY: only the address is taken.
    let symbol: Result<Symbol<Handle>, _> = unsafe { library.get(name.as_bytes()) };
    symbol
        .map(|symbol| symbol.into_raw())
        .map_err(|error| format!("this MPI is not OpenMPI: {error}"))
}

impl Mpi {
    /// Loads and starts MPI. All ranks do.
    pub(crate) fn start() -> Result<Self, String> {
        let library = ManuallyDrop::new(open()?);
        let functions = Functions::load(&library)?;
        let failures = Failures::load(&library);
        let predefined = |name| object(&library, name);
        let world = predefined("ompi_mpi_comm_world")?;
        let byte = predefined("ompi_mpi_byte")?;
        let errors = predefined("ompi_mpi_errors_return")?;
        let alone = predefined("ompi_mpi_comm_self")?;
        let mut mpi = Self {
            library,
            functions,
            failures,
            byte,
            alone,
            comm: world,
            news: world,
            tags: 0,
            rank: 0,
            size: 0,
        };
        let (mut provided, mut rank, mut size) = (0, 0, 0);
        let (mut own, mut news) = (null_mut(), null_mut());
        let (mut tags, mut known): (*const c_int, c_int) = (null_mut(), 0);
        // SAFETY: the pointers are of locals that live over the calls; null is allowed for the arguments of `main`; the handles are of
        // predefined objects.
        unsafe {
            let f = &mpi.functions;
            mpi.check((f.init_thread)(
                null_mut(),
                null_mut(),
                THREAD_FUNNELED,
                &mut provided,
            ))?;
            mpi.check((f.comm_set_errhandler)(world, errors))?;
            mpi.check((f.comm_dup)(world, &mut own))?;
            mpi.check((f.comm_set_errhandler)(own, errors))?;
            mpi.check((f.comm_dup)(world, &mut news))?;
            mpi.check((f.comm_set_errhandler)(news, errors))?;
            mpi.check((f.comm_get_attr)(
                world,
                TAG_UB,
                (&raw mut tags).cast(),
                &mut known,
            ))?;
            mpi.check((f.comm_rank)(own, &mut rank))?;
            mpi.check((f.comm_size)(own, &mut size))?;
        }
        if provided < THREAD_FUNNELED {
            return Err("this MPI takes no calls from a process with threads".to_owned());
        }
        // SAFETY: of this attribute MPI gives the address of an int that it keeps, or leaves null.
        let tags = unsafe { tags.as_ref() }.filter(|_| known != 0);
        let tags = tags.copied().unwrap_or(LEAST_TAGS);
        mpi.tags = tags.max(LEAST_TAGS) as u32;
        (mpi.comm, mpi.news) = (own, news);
        (mpi.rank, mpi.size) = (rank as u32, size as u32);
        Ok(mpi)
    }

    pub(crate) fn rank(&self) -> u32 {
        self.rank
    }

    pub(crate) fn size(&self) -> u32 {
        self.size
    }

    /// The largest tag.
    pub(crate) fn tags(&self) -> u32 {
        self.tags
    }

    /// Which ranks share a host, and what the hosts are called. All ranks ask.
    pub(crate) fn hosts(&self) -> Result<Seen, String> {
        let f = &self.functions;
        let size = self.size as usize;
        let mut near = null_mut();
        let mut first = self.rank as i32;
        let mut name = [0u8; MAX_NAME];
        let mut length = 0;
        let mut firsts = vec![0i32; size];
        let mut names = vec![0u8; NAME * size];
        let info = self.predefined("ompi_mpi_info_null")?;
        let (int, least) = (
            self.predefined("ompi_mpi_int")?,
            self.predefined("ompi_mpi_op_min")?,
        );
        let own = first;
        // SAFETY: handles are of live objects; buffers are as long as the counts and types say, a name's as long as
        // the standard demands, and live over the calls.
        unsafe {
            self.check((f.comm_split_type)(
                self.comm,
                COMM_TYPE_SHARED,
                0,
                info,
                &mut near,
            ))?;
            self.check((f.allreduce)(
                (&raw const own).cast(),
                (&raw mut first).cast(),
                1,
                int,
                least,
                near,
            ))?;
            self.check((f.allgather)(
                (&raw const first).cast(),
                1,
                int,
                firsts.as_mut_ptr().cast(),
                1,
                int,
                self.comm,
            ))?;
            self.check((f.get_processor_name)(
                name.as_mut_ptr().cast(),
                &mut length,
            ))?;
            self.check((f.allgather)(
                name.as_ptr().cast(),
                NAME as c_int,
                self.byte,
                names.as_mut_ptr().cast(),
                NAME as c_int,
                self.byte,
                self.comm,
            ))?;
        }
        let text = |bytes: &[u8]| {
            let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
            String::from_utf8_lossy(&bytes[..end]).into_owned()
        };
        Ok(Seen {
            first: firsts.into_iter().map(|first| first as u32).collect(),
            names: names.chunks(NAME).map(text).collect(),
        })
    }

    fn predefined(&self, name: &str) -> Result<Handle, String> {
        object(&self.library, name)
    }

    /// Begins to send the first `bytes` of the memory.
    pub(crate) fn send(
        &self,
        memory: &PinnedBuffer,
        bytes: usize,
        to: u32,
        tag: i32,
    ) -> Result<Request, String> {
        self.begin(memory, bytes, None, |handle| {
            // SAFETY: the range lies in the memory, which the request keeps until the transfer has ended, or for good.
            unsafe {
                (self.functions.isend)(
                    memory.as_ptr().cast(),
                    bytes as c_int,
                    self.byte,
                    to as c_int,
                    tag,
                    self.comm,
                    handle,
                )
            }
        })
    }

    /// Begins to receive the first `bytes` of the memory.
    pub(crate) fn receive(
        &self,
        memory: &PinnedBuffer,
        bytes: usize,
        from: u32,
        tag: i32,
    ) -> Result<Request, String> {
        self.begin(memory, bytes, Some(bytes), |handle| {
            // SAFETY: as in `send`; nobody has references to pinned memory.
            unsafe {
                (self.functions.irecv)(
                    memory.as_ptr().cast(),
                    bytes as c_int,
                    self.byte,
                    from as c_int,
                    tag,
                    self.comm,
                    handle,
                )
            }
        })
    }

    fn begin(
        &self,
        memory: &PinnedBuffer,
        bytes: usize,
        due: Option<usize>,
        begin: impl FnOnce(*mut Handle) -> c_int,
    ) -> Result<Request, String> {
        assert!(
            bytes <= memory.len() && c_int::try_from(bytes).is_ok(),
            "a transfer lies in its memory"
        );
        let mut handle = null_mut();
        self.check(begin(&mut handle))?;
        Ok(Request {
            handle,
            memory: Some(memory.clone()),
            due,
        })
    }

    /// Whether a transfer has ended.
    pub(crate) fn test(&self, request: &mut Request) -> Result<bool, String> {
        let mut done = 0;
        let mut account = Account([0; 64]);
        let at: *mut Account = &mut account;
        // SAFETY: the handle is of a transfer that was begun and not seen to end; the account has the room and alignment that OpenMPI's takes.
        let code = unsafe { (self.functions.test)(&mut request.handle, &mut done, at.cast()) };
        self.check(code)?;
        if done == 0 {
            return Ok(false);
        }
        drop(request.memory.take());
        if let Some(due) = request.due {
            let mut came = 0;
            // SAFETY: MPI has filled the account when the transfer ended.
            let code = unsafe { (self.functions.get_count)(at.cast(), self.byte, &mut came) };
            self.check(code)?;
            if usize::try_from(came) != Ok(due) {
                return Err(format!(
                    "{came} bytes came where {due} are due: ranks disagree"
                ));
            }
        }
        Ok(true)
    }

    /// Lets MPI do what it does besides: among it, tell the others that this rank lives.
    pub(crate) fn progress(&self) {
        let mut found = 0;
        // With itself a rank has no failures that would end the call at once.
        // SAFETY: the handle is predefined; null says that the status is not wanted.
        let code = unsafe { (self.functions.iprobe)(ANY, ANY, self.alone, &mut found, null_mut()) };
        if let Err(error) = self.check(code) {
            tracing::debug!("MPI does not look for messages: {error}");
        }
    }

    /// Tells all other ranks that are there why nothing goes on.
    pub(crate) fn tell(&self, text: &str) {
        let mut end = text.len().min(NEWS);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let mut bytes = [0u8; NEWS];
        bytes[..end].copy_from_slice(&text.as_bytes()[..end]);
        // Nothing says when ranks have it: the memory stays for good. It happens once.
        let bytes: &'static [u8; NEWS] = Box::leak(Box::new(bytes));
        let failed = self.failed();
        for rank in (0..self.size).filter(|rank| *rank != self.rank && !failed.contains(rank)) {
            let mut handle = null_mut();
            // SAFETY: the bytes are never freed or written again.
            let code = unsafe {
                (self.functions.isend)(
                    bytes.as_ptr().cast(),
                    NEWS as c_int,
                    self.byte,
                    rank as c_int,
                    0,
                    self.news,
                    &mut handle,
                )
            };
            if let Err(error) = self.check(code) {
                tracing::debug!("rank {rank} is not told: {error}");
            }
        }
    }

    /// What another rank has told, if one has.
    pub(crate) fn told(&self) -> Option<String> {
        let failed = self.failed();
        let others = (0..self.size).filter(|rank| *rank != self.rank && !failed.contains(rank));
        for rank in others {
            let (mut found, mut bytes) = (0, [0u8; NEWS]);
            // SAFETY: null says that the account is not wanted; what is received has the length of the buffer, or MPI refuses it.
            let code = unsafe {
                let f = &self.functions;
                let code = (f.iprobe)(rank as c_int, 0, self.news, &mut found, null_mut());
                if code != SUCCESS || found == 0 {
                    continue;
                }
                (f.recv)(
                    bytes.as_mut_ptr().cast(),
                    NEWS as c_int,
                    self.byte,
                    rank as c_int,
                    0,
                    self.news,
                    null_mut(),
                )
            };
            if self.check(code).is_ok() {
                let end = bytes.iter().position(|b| *b == 0).unwrap_or(NEWS);
                return Some(String::from_utf8_lossy(&bytes[..end]).into_owned());
            }
        }
        None
    }

    /// Ends what the ranks have begun with each other, at all of them: an error of one is one of all.
    pub(crate) fn revoke(&self) {
        if let Some(failures) = &self.failures {
            // SAFETY: the handle is of this rank's communicator.
            let code = unsafe { (failures.revoke)(self.comm) };
            if let Err(error) = self.check(code) {
                tracing::debug!("MPI does not revoke: {error}");
            }
        }
    }

    /// Ranks that MPI knows to have failed.
    pub(crate) fn failed(&self) -> Vec<u32> {
        let Some(failures) = &self.failures else {
            return Vec::new();
        };
        let f = &self.functions;
        let (mut all, mut failed, mut count) = (null_mut(), null_mut(), 0);
        // SAFETY: handles are of live objects, and pointers of locals.
        let asked = unsafe {
            self.check((failures.ack)(self.comm))
                .and_then(|()| self.check((failures.get_acked)(self.comm, &mut failed)))
                .and_then(|()| self.check((f.group_size)(failed, &mut count)))
                .and_then(|()| self.check((f.comm_group)(self.comm, &mut all)))
        };
        if asked.is_err() || count <= 0 {
            return Vec::new();
        }
        let theirs: Vec<c_int> = (0..count).collect();
        let mut ranks = vec![-1; theirs.len()];
        // SAFETY: both arrays have `count` elements.
        let code = unsafe {
            (f.group_translate_ranks)(failed, count, theirs.as_ptr(), all, ranks.as_mut_ptr())
        };
        if self.check(code).is_err() {
            return Vec::new();
        }
        let ranks = ranks
            .into_iter()
            .filter_map(|rank| u32::try_from(rank).ok());
        ranks.filter(|rank| *rank < self.size).collect()
    }

    /// Ends MPI. All ranks do.
    pub(crate) fn finish(self) {
        // SAFETY: no transfer is under way, and nothing of MPI is used any more.
        let code = unsafe { (self.functions.finalize)() };
        if let Err(error) = self.check(code) {
            tracing::debug!("MPI does not end: {error}");
        }
    }

    fn check(&self, code: c_int) -> Result<(), String> {
        if code == SUCCESS {
            return Ok(());
        }
        let mut text = [0u8; MAX_ERROR_STRING + 1];
        let mut length = 0;
        // SAFETY: the text has the room that the standard demands, MPI_MAX_ERROR_STRING.
        unsafe { (self.functions.error_string)(code, text.as_mut_ptr().cast(), &mut length) };
        let text = &text[..(length.max(0) as usize).min(MAX_ERROR_STRING)];
        Err(String::from_utf8_lossy(text).into_owned())
    }
}
