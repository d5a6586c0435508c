//! Compiling one body for several instruction sets.
//!
//! All versions give the same bits: a body says where a fused multiply-add is meant (`mul_add`, which is exact on every host), and nothing
//! reorders sums.

/// Defines functions whose body is compiled for the plain instruction set, AVX2 with FMA, and AVX-512, and chosen at run time.
macro_rules! multiversion {
    ($( $(#[$m:meta])* $vis:vis fn $name:ident $(<$($g:ident : $bound:path),+>)? ($($a:ident : $t:ty),* $(,)?) $body:block )*) => { $(
        $(#[$m])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name $(<$($g: $bound),+>)? ($($a: $t),*) {
            #[inline(always)]
            fn plain $(<$($g: $bound),+>)? ($($a: $t),*) $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma,f16c")]
                fn v3 $(<$($g: $bound),+>)? ($($a: $t),*) {
                    plain$(::<$($g),+>)?($($a),*)
                }
                #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
                fn v4 $(<$($g: $bound),+>)? ($($a: $t),*) {
                    plain$(::<$($g),+>)?($($a),*)
                }
                match $crate::simd::level() {
                    // SAFETY: `level` has found these instructions.
                    $crate::simd::Level::V4 => return unsafe { v4$(::<$($g),+>)?($($a),*) },
                    // SAFETY: `level` has found these instructions.
                    $crate::simd::Level::V3 => return unsafe { v3$(::<$($g),+>)?($($a),*) },
                    $crate::simd::Level::Plain => {}
                }
            }
            plain$(::<$($g),+>)?($($a),*)
        }
    )* };
}
pub(crate) use multiversion;

/// Instruction sets, by the x86-64 levels of the System V ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// What the program is compiled for.
    Plain,
    /// AVX2 and FMA.
    V3,
    /// AVX-512 F, BW, DQ, VL.
    V4,
}

/// What this host has.
#[inline]
pub fn level() -> Level {
    #[cfg(target_arch = "x86_64")]
    {
        let v3 = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        if v3
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
        {
            return Level::V4;
        }
        if v3 {
            return Level::V3;
        }
    }
    Level::Plain
}

/// Whether this host sums products of bytes in one instruction.
#[inline]
pub fn has_vnni() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        level() == Level::V4 && is_x86_feature_detected!("avx512vnni")
    }
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Whether this host multiplies bf16.
#[inline]
pub fn has_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        level() == Level::V4 && is_x86_feature_detected!("avx512bf16")
    }
    #[cfg(not(target_arch = "x86_64"))]
    false
}
