//! How a call begins and ends, and what C hands in. A value of the types here only comes from a C caller, as an argument of an exported
//! function, whose contract is C's: a pointer is null, or good for what the header says.

use std::ffi::{c_char, CStr};
use std::panic::{catch_unwind, AssertUnwindSafe};

use crate::codes::{finish, Code, Outcome};
use crate::types::Plain;
use crate::versions::Versioned;

/// Runs the body of a call: no panic crosses to C.
pub(crate) fn guard(body: impl FnOnce() -> Outcome) -> i32 {
    // What a panic may leave half done is behind locks.
    finish(catch_unwind(AssertUnwindSafe(body)).unwrap_or(Err(Code::Unknown)))
}

/// Functions that C calls, which the header describes.
macro_rules! exports {
    ($( fn $name:ident( $($argument:ident : $type:ty),* $(,)? ) $body:block )*) => { $(
        /// See the header.
        #[allow(non_snake_case)]
        #[unsafe(export_name = concat!("vmlu_", stringify!($name)))]
        pub extern "C" fn $name($($argument: $type),*) -> i32 {
            $crate::call::guard(|| $body)
        }
    )* };
}

/// Functions of the header for what the card does not have: they tell bad arguments from that.
macro_rules! not_there {
    ($( fn $name:ident($info:ty $(, $extra:ident : $type:ty)*); )*) => { $(
        /// See the header.
        #[allow(non_snake_case)]
        #[unsafe(export_name = concat!("vmlu_", stringify!($name)))]
        pub extern "C" fn $name(info: $crate::call::Out<$info>, $($extra: $type,)* device: i32) -> i32 {
            $crate::call::guard(|| {
                let library = $crate::library::library()?;
                info.check()?;
                $( let _ = $extra; )*
                library.card(device)?;
                Err($crate::codes::Code::NotSupported)
            })
        }
    )* };
}

/// A place for a `T`, or for several: null, or valid for being written, and read where it is versioned.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Out<T>(*mut T);

impl<T: Plain> Out<T> {
    /// A place, for tests.
    #[cfg(test)]
    pub(crate) fn to(place: &mut T) -> Self {
        Self(place)
    }

    /// No place, for tests.
    #[cfg(test)]
    pub(crate) fn null() -> Self {
        Self(std::ptr::null_mut())
    }

    pub(crate) fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// Fails if it is null.
    pub(crate) fn check(self) -> Outcome {
        if self.is_null() {
            Err(Code::InvalidArgument)
        } else {
            Ok(())
        }
    }

    /// Writes a value.
    pub(crate) fn put(self, value: T) -> Outcome {
        self.check()?;
        // SAFETY: not null, and then valid for being written, by the contract of the type.
        unsafe { self.0.write_unaligned(value) };
        Ok(())
    }

    /// Reads what stands there.
    pub(crate) fn get(self) -> Outcome<T> {
        self.check()?;
        // SAFETY: not null, and then valid for being read, by the contract of the type; plain data of any bits is a value that is only
        // looked at as numbers.
        Ok(unsafe { self.0.read_unaligned() })
    }

    /// The place of an element of an array that has it.
    pub(crate) fn at(self, index: usize) -> Self {
        Self(self.0.wrapping_add(index))
    }
}

impl<T: Versioned> Out<T> {
    /// The version that the caller has set.
    pub(crate) fn version(self) -> Outcome<i32> {
        self.check()?;
        // SAFETY: not null, and then it begins with the version, by the contract of the type.
        let version = unsafe { self.0.cast::<i32>().read_unaligned() };
        match T::bytes(version) {
            Some(_) => Ok(version),
            None => Err(Code::UnsupportedApiVersion),
        }
    }

    /// Fills the structure as the caller's version has it: `make` makes the newest, of which the first bytes are written.
    pub(crate) fn fill(self, make: impl FnOnce(&mut T) -> Outcome) -> Outcome {
        let version = self.version()?;
        let mut value = T::zeroed();
        make(&mut value)?;
        self.write(version, &value);
        Ok(())
    }

    /// Writes a structure as a version has it; the version itself stays.
    fn write(self, version: i32, value: &T) {
        let head = size_of::<i32>();
        let bytes = T::bytes(version).unwrap_or(head);
        // SAFETY: the place has as many bytes as its version has, by the contract of the type; a `T` has no fewer.
        unsafe {
            let from = std::ptr::from_ref(value).cast::<u8>();
            std::ptr::copy_nonoverlapping(
                from.add(head),
                self.0.cast::<u8>().add(head),
                bytes - head,
            );
        }
    }
}

/// Fills an array for which the caller says in `count` how many elements it has, and sets `count` to how many there are. The first element
/// says the version.
pub(crate) fn fill_list<T: Versioned>(count: Out<u32>, array: Out<T>, items: &[T]) -> Outcome {
    let room = count.get()? as usize;
    let version = match room {
        0 => None,
        _ => Some(array.version()?),
    };
    count.put(items.len() as u32)?;
    if items.len() > room {
        return Err(Code::InsufficientSpace);
    }
    if let Some(version) = version {
        for (index, item) in items.iter().enumerate() {
            let place = array.at(index);
            place.write(version, item);
            // The elements behind the first have no version yet.
            // SAFETY: an element of the caller's array, which begins with the version.
            unsafe { place.0.cast::<i32>().write_unaligned(version) };
        }
    }
    Ok(())
}

/// A text that ends with a zero byte, or null.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Text(*const c_char);

impl Text {
    /// A text that lives for ever.
    pub(crate) fn of(text: &'static CStr) -> Self {
        Self(crate::codes::forever(text))
    }

    /// The text.
    pub(crate) fn get(self) -> Outcome<String> {
        if self.0.is_null() {
            return Err(Code::InvalidArgument);
        }
        // SAFETY: not null, and then a text, by the contract of the type.
        let text = unsafe { CStr::from_ptr(self.0) };
        Ok(text.to_string_lossy().into_owned())
    }
}

/// Writes a text into an array of bytes, with a zero byte behind it.
pub(crate) fn put_text(place: &mut [u8], text: &str) {
    let room = place.len().saturating_sub(1);
    let length = text.len().min(room);
    place[..length].copy_from_slice(&text.as_bytes()[..length]);
    place[length..].fill(0);
}
