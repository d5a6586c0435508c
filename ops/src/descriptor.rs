//! How descriptors are defined: the layout rules of `vmlu_abi`'s structures, for structures of this crate.

/// Defines descriptors: size and offsets stand in the definition and are checked at compile time, as is that no padding exists.
macro_rules! descriptor {
    ($( $(#[$m:meta])* pub struct $name:ident : $size:literal { $( $(#[doc = $doc:literal])* pub $f:ident : $t:ty = $off:literal ),* $(,)? } )*) => { $(
        $(#[$m])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub struct $name { $( $(#[doc = $doc])* pub $f: $t ),* }

        const _: () = {
            const fn is_wire<T: vmlu_abi::Wire>() {}
            $( is_wire::<$t>(); assert!(core::mem::offset_of!($name, $f) == $off); )*
            assert!(core::mem::size_of::<$name>() == $size);
            assert!(0 $( + core::mem::size_of::<$t>() )* == $size);
        };

        impl $name {
            /// The fields, for `docs/operators.md`.
            pub const FIELDS: &'static [$crate::table::Field] = &[ $( $crate::table::Field {
                name: stringify!($f),
                kind: stringify!($t),
                offset: $off,
                text: concat!($($doc),*),
            } ),* ];
        }

        // SAFETY: each field is `Wire`, and the sizes of the fields add up to that of the structure, so there is no padding.
        unsafe impl vmlu_abi::Wire for $name {}
    )* };
}

/// Defines the numbered functions of an operator family. The numbers stand in descriptors and never change.
macro_rules! functions {
    ($(#[$m:meta])* pub enum $name:ident { $( $(#[doc = $doc:literal])* $v:ident = $n:literal, $text:literal; )* }) => {
        $(#[$m])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u32)]
        pub enum $name { $( $(#[doc = $doc])* $v = $n ),* }

        impl $name {
            /// All functions.
            pub const ALL: &'static [Self] = &[ $( Self::$v ),* ];
            /// The same, for `docs/operators.md`.
            pub const ROWS: &'static [$crate::table::Function] = &[ $( $crate::table::Function {
                number: $n,
                name: $text,
                text: concat!($($doc),*),
            } ),* ];

            /// The function that a number names, if it names one.
            pub const fn from_raw(value: u32) -> Option<Self> {
                match value { $( $n => Some(Self::$v), )* _ => None }
            }

            /// The number.
            pub const fn raw(self) -> u32 { self as u32 }

            /// The name, as rules and tables print it.
            pub const fn name(self) -> &'static str {
                match self { $( Self::$v => $text ),* }
            }
        }
    };
}
