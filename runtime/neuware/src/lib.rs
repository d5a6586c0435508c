//! `libvmlu_neuware.so`: the functions of all C libraries with the vendor's names, in one, so that a process has one state however many of
//! them it loads. It exports each function as `vmlu_` and its name; `libcnrt.so` and the others, which `cargo xtask install` makes, have the
//! names themselves and lead here.
//!
//! A library joins by being named here: what it exports comes along.

use vmlu_cncl as _;
use vmlu_cndev as _;
use vmlu_cndrv as _;
use vmlu_cnrt as _;
