//! `libvmlu.so`: the C interface that `include/vmlu.h` declares and describes. Thin over the Rust runtime.
//!
//! No panic crosses to C; a handle that is none and device memory that is not the card's are errors. Host pointers are taken as C gives
//! them.

mod card;
mod error;

use std::ffi::{c_char, c_void};

use runtime::operators::BinaryFunction;
use runtime::{Error, Result, Status};

use error::{guard, invalid};

/// Functions that the header offers, by their numbers there.
const BINARY: [BinaryFunction; 6] = [
    BinaryFunction::Add,
    BinaryFunction::Sub,
    BinaryFunction::Mul,
    BinaryFunction::Div,
    BinaryFunction::Max,
    BinaryFunction::Min,
];

/// Opens a chip; see the header.
///
/// # Safety
///
/// `card` is null or a place for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmlu_open(device: u32, card: *mut *mut c_void) -> u32 {
    const CALL: &str = "vmlu_open";
    guard(CALL, || {
        if card.is_null() {
            return Err(invalid(CALL, "the place for the card is null"));
        }
        let handle = card::open(device)?;
        // SAFETY: not null, and then a place for a pointer, by this function's contract.
        unsafe { card.write(std::ptr::without_provenance_mut(handle)) };
        Ok(())
    })
}

/// Closes a card; see the header.
#[unsafe(no_mangle)]
pub extern "C" fn vmlu_close(card: *mut c_void) -> u32 {
    const CALL: &str = "vmlu_close";
    guard(CALL, || {
        if card.is_null() {
            Ok(())
        } else {
            card::close(CALL, card.addr())
        }
    })
}

/// Allocates device memory; see the header.
///
/// # Safety
///
/// `memory` is null or a place for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmlu_alloc(
    card: *mut c_void,
    bytes: usize,
    memory: *mut *mut c_void,
) -> u32 {
    const CALL: &str = "vmlu_alloc";
    guard(CALL, || {
        if memory.is_null() {
            return Err(invalid(CALL, "the place for the memory's pointer is null"));
        }
        let address = card::find(CALL, card.addr())?.alloc(CALL, bytes)?;
        // SAFETY: not null, and then a place for a pointer, by this function's contract.
        unsafe { memory.write(std::ptr::without_provenance_mut(address as usize)) };
        Ok(())
    })
}

/// Frees device memory; see the header.
#[unsafe(no_mangle)]
pub extern "C" fn vmlu_free(card: *mut c_void, memory: *mut c_void) -> u32 {
    const CALL: &str = "vmlu_free";
    guard(CALL, || {
        let card = card::find(CALL, card.addr())?;
        if memory.is_null() {
            Ok(())
        } else {
            card.free(CALL, memory.addr() as u64)
        }
    })
}

/// Copies to the device; see the header.
///
/// # Safety
///
/// `host` is null or names `bytes` bytes that nobody writes meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmlu_copy_to_device(
    card: *mut c_void,
    device: *mut c_void,
    host: *const c_void,
    bytes: usize,
) -> u32 {
    const CALL: &str = "vmlu_copy_to_device";
    guard(CALL, || {
        let card = card::find(CALL, card.addr())?;
        if check_host(CALL, host, device, bytes)? {
            // SAFETY: not null and of a possible length; `bytes` bytes that nobody writes, by this function's contract.
            let from = unsafe { std::slice::from_raw_parts(host.cast::<u8>(), bytes) };
            card.write(CALL, device.addr() as u64, from)?;
        }
        Ok(())
    })
}

/// Copies from the device; see the header.
///
/// # Safety
///
/// `host` is null or names `bytes` bytes that nobody else uses meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmlu_copy_to_host(
    card: *mut c_void,
    host: *mut c_void,
    device: *const c_void,
    bytes: usize,
) -> u32 {
    const CALL: &str = "vmlu_copy_to_host";
    guard(CALL, || {
        let card = card::find(CALL, card.addr())?;
        if check_host(CALL, host, device, bytes)? {
            // SAFETY: not null and of a possible length; `bytes` bytes that nobody else uses, by this function's contract. They are
            // written before they are read.
            let to = unsafe { std::slice::from_raw_parts_mut(host.cast::<u8>(), bytes) };
            card.read(CALL, to, device.addr() as u64)?;
        }
        Ok(())
    })
}

/// Whether there is anything to copy; fails if a pointer is null then.
fn check_host(
    call: &'static str,
    host: *const c_void,
    device: *const c_void,
    bytes: usize,
) -> Result<bool> {
    match (bytes, host.is_null(), device.is_null()) {
        (0, ..) => Ok(false),
        (_, true, _) => Err(invalid(call, "the host memory is null")),
        (_, _, true) => Err(Error::new(
            call,
            Status::AddressFault,
            "the device memory is null; vmlu_alloc gives some",
        )),
        _ if isize::try_from(bytes).is_err() => Err(invalid(
            call,
            format!("{bytes} bytes are more than any host memory has"),
        )),
        _ => Ok(true),
    }
}

/// Queues a matrix product; see the header.
#[unsafe(no_mangle)]
pub extern "C" fn vmlu_matmul_f32(
    card: *mut c_void,
    m: usize,
    n: usize,
    k: usize,
    a: *const c_void,
    b: *const c_void,
    c: *mut c_void,
) -> u32 {
    const CALL: &str = "vmlu_matmul_f32";
    guard(CALL, || {
        let operands = [a, b, c.cast_const()].map(|p| p.addr() as u64);
        card::find(CALL, card.addr())?.matmul(CALL, [m, n, k], operands)
    })
}

/// Queues an elementwise operator; see the header.
#[unsafe(no_mangle)]
pub extern "C" fn vmlu_binary_f32(
    card: *mut c_void,
    op: u32,
    count: usize,
    a: *const c_void,
    b: *const c_void,
    out: *mut c_void,
) -> u32 {
    const CALL: &str = "vmlu_binary_f32";
    guard(CALL, || {
        let card = card::find(CALL, card.addr())?;
        let function = *BINARY.get(op as usize).ok_or_else(|| {
            invalid(
                CALL,
                format!(
                    "operator {op} is none of vmlu_binary_op, 0 to {}",
                    BINARY.len() - 1
                ),
            )
        })?;
        card.binary(
            CALL,
            function,
            count,
            [a, b, out.cast_const()].map(|p| p.addr() as u64),
        )
    })
}

/// Waits for all that was queued; see the header.
#[unsafe(no_mangle)]
pub extern "C" fn vmlu_wait(card: *mut c_void) -> u32 {
    const CALL: &str = "vmlu_wait";
    guard(CALL, || card::find(CALL, card.addr())?.wait())
}

/// The text of this thread's last failure; see the header.
#[unsafe(no_mangle)]
pub extern "C" fn vmlu_error_text() -> *const c_char {
    error::text()
}
