//! Structures that cross a boundary: fixed layout, no implicit padding, every bit pattern valid.

/// A type whose bytes may be sent to, or taken from, another side.
///
/// # Safety
///
/// The type has no padding, no pointer and no invalid bit pattern. Implement it through `wire!`, which checks the padding.
pub unsafe trait Wire: Copy + 'static {
    /// The value whose bytes are all zero.
    fn zeroed() -> Self {
        // SAFETY: every bit pattern is valid for a `Wire` type.
        unsafe { core::mem::zeroed() }
    }

    /// The bytes of the value, as they stand on the wire.
    fn as_bytes(&self) -> &[u8] {
        // SAFETY: a `Wire` type has no padding, so each of its bytes is initialised.
        unsafe {
            core::slice::from_raw_parts(
                core::ptr::from_ref(self).cast::<u8>(),
                core::mem::size_of::<Self>(),
            )
        }
    }

    /// Takes a value from the first bytes of `bytes`; `None` when there are too few. Longer input is the caller's to judge.
    fn read_from(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < core::mem::size_of::<Self>() {
            return None;
        }
        // SAFETY: the source is long enough, the read is unaligned, and every bit pattern is valid.
        Some(unsafe { core::ptr::read_unaligned(bytes.as_ptr().cast::<Self>()) })
    }

    /// Writes the value over the first bytes of `bytes`; `false`, and nothing written, when there are too few.
    fn write_to(&self, bytes: &mut [u8]) -> bool {
        match bytes.get_mut(..core::mem::size_of::<Self>()) {
            Some(to) => {
                to.copy_from_slice(self.as_bytes());
                true
            }
            None => false,
        }
    }
}

macro_rules! wire_primitive {
    ($($t:ty),*) => { $(
        // SAFETY: a primitive number has no padding and no invalid bit pattern.
        unsafe impl Wire for $t {}
    )* };
}
wire_primitive!(u8, u16, u32, u64, i8, i16, i32, i64, f32, f64, ());

// SAFETY: an array of `Wire` elements has no padding between them and no invalid bit pattern.
unsafe impl<T: Wire, const N: usize> Wire for [T; N] {}

/// Defines a structure of the wire: its size and each field's offset stand in the definition and are checked at compile time, as is
/// that no implicit padding exists.
macro_rules! wire {
    ($( $(#[$m:meta])* pub struct $name:ident : $size:literal { $( $(#[$fm:meta])* pub $f:ident : $t:ty = $off:literal ),* $(,)? } )*) => { $(
        $(#[$m])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub struct $name { $( $(#[$fm])* pub $f: $t ),* }

        const _: () = {
            const fn is_wire<T: Wire>() {}
            $( is_wire::<$t>(); assert!(core::mem::offset_of!($name, $f) == $off); )*
            assert!(core::mem::size_of::<$name>() == $size);
            assert!(0 $( + core::mem::size_of::<$t>() )* == $size);
        };

        // SAFETY: each field is `Wire`, and the sizes of the fields add up to that of the structure, so there is no padding.
        unsafe impl Wire for $name {}
    )* };
}
