//! Local servers of the tests.

use std::path::Path;

use vmlu::abi::model::MLU370_X8;
use vmlu_device::local::{Options, Quota};

/// A server at a path, with so many chips, in which faults may be injected.
pub fn options(path: &Path, chips: u32) -> Options {
    Options {
        topology: None,
        path: path.to_owned(),
        mode: 0o600,
        chips,
        model: &MLU370_X8,
        serials: vec![u64::from(MLU370_X8.board_id) << 56 | 0x22_0000_0001],
        inject: true,
        quota: Quota::default(),
    }
}
