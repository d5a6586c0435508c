//! Launches of kernels. The virtual card runs operators, no device code: what programs register is remembered, and launching it is refused with a
//! clear code.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use vmlu_c_abi::queue::Queue;
use vmlu_c_abi::{exports, Failure, Ptr, Result};

use crate::error::run;

/// `cnrtDim3_t`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(missing_docs)]
pub struct Dim3 {
    pub x: u32,
    pub y: u32,
    pub z: u32,
}

/// Kernels that compiled programs have registered: the address of the host's function.
static REGISTERED: Mutex<BTreeMap<usize, usize>> = Mutex::new(BTreeMap::new());

fn registered() -> MutexGuard<'static, BTreeMap<usize, usize>> {
    REGISTERED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Refuses a launch, for the first reason that there is.
pub(crate) fn launch(kernel: Ptr, dim: Dim3, kind: i32, queue: Ptr) -> Result<()> {
    let Dim3 { x, y, z } = dim;
    let most = 65_535;
    let known = [1, 2, 4, 8, 16, 32, 64].contains(&kind);
    if kernel.is_null() || !known || [x, y, z].iter().any(|n| *n == 0 || *n > most) {
        return Err(Failure::INVALID_VALUE);
    }
    Queue::find(queue.addr())?;
    match registered().contains_key(&kernel.addr()) {
        // The module is there, but none that this device runs.
        true => Err(Failure::split(101_315, 101_315)),
        false => Err(Failure::NO_KERNEL),
    }
}

/// Bytes of arguments that a launch may have.
const ARGUMENTS: usize = 64 << 10;

thread_local! {
    /// The launches that the calling thread has configured: shape, kind, queue. Each is for one launch.
    static CONFIGURED: RefCell<Vec<(Dim3, i32, Ptr)>> = const { RefCell::new(Vec::new()) };
}

/// Takes the launch that was configured last; `None` if there is none.
fn configured() -> Option<(Dim3, i32, Ptr)> {
    let last = CONFIGURED.try_with(|launches| launches.borrow_mut().pop());
    last.ok().flatten()
}

exports! { run;
    /// See the header.
    fn bangConfigureCall(dim: Dim3, kind: i32, queue: Ptr) {
        let noted = CONFIGURED.try_with(|launches| launches.borrow_mut().push((dim, kind, queue)));
        noted.map_err(|_| Failure::NOT_PERMITTED)
    }

    /// See the header.
    fn bangSetupArgument(argument: Ptr, size: usize, offset: usize) {
        let fits = offset.checked_add(size).is_some_and(|end| end <= ARGUMENTS);
        let waits = CONFIGURED.try_with(|launches| !launches.borrow().is_empty()).unwrap_or(false);
        match fits && waits && !argument.is_null() {
            true => Ok(()),
            false => Err(Failure::INVALID_VALUE),
        }
    }

    /// See the header.
    fn bangLaunch(kernel: Ptr) {
        let (dim, kind, queue) = configured().ok_or(Failure::INVALID_VALUE)?;
        launch(kernel, dim, kind, queue)
    }

    /// See the header.
    fn cnrtInvokeKernel(kernel: Ptr, dim: Dim3, kind: i32, _args: Ptr, _reserved: usize, queue: Ptr) {
        launch(kernel, dim, kind, queue)
    }
}

/// `__bangRegisterFatBinary`: what a compiled program calls before `main` for each module. The handle is the address of the module.
#[allow(non_snake_case)]
#[unsafe(export_name = "vmlu___bangRegisterFatBinary")]
pub extern "C" fn bangRegisterFatBinary(binary: Ptr) -> Ptr {
    binary
}

/// `__bangUnregisterFatBinary`: forgets the kernels of a module.
#[allow(non_snake_case)]
#[unsafe(export_name = "vmlu___bangUnregisterFatBinary")]
pub extern "C" fn bangUnregisterFatBinary(module: Ptr) {
    registered().retain(|_, of| *of != module.addr());
}

/// `__bangRegisterFunction`: names a kernel of a module.
#[allow(non_snake_case, clippy::too_many_arguments)]
#[unsafe(export_name = "vmlu___bangRegisterFunction")]
pub extern "C" fn bangRegisterFunction(
    module: Ptr,
    host: Ptr,
    _device: Ptr,
    _name: Ptr,
    _limit: i32,
    _task_id: Ptr,
    _task_dim: Ptr,
    _dim: Ptr,
    _kind: Ptr,
    _size: Ptr,
) {
    registered().insert(host.addr(), module.addr());
}

/// `__bangRegisterVar`: names a variable of a module. There is no device code that has one.
#[allow(non_snake_case, clippy::too_many_arguments)]
#[unsafe(export_name = "vmlu___bangRegisterVar")]
pub extern "C" fn bangRegisterVar(
    _module: Ptr,
    _host: Ptr,
    _device: Ptr,
    _name: Ptr,
    _external: i32,
    _size: i32,
    _constant: i32,
    _global: i32,
) {
}
