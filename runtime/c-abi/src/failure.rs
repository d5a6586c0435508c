//! Why a call failed, in the numbers of both interfaces: `CNresult` of libcndrv and `cnrtRet_t` of libcnrt. Most are the same; where they are
//! not, each function documents its own.

use vmlu::Status;

/// Result of what the libraries share.
pub type Result<T> = std::result::Result<T, Failure>;

/// Why a call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// As `CNresult` has it.
    pub cn: i32,
    /// As `cnrtRet_t` has it.
    pub cnrt: i32,
}

/// The numbers that `cnrtRet_t` has besides success.
pub const CNRT: [i32; 39] = [
    1, 100_002, 100_004, 100_005, 100_006, 100_007, 100_010, 100_014, 100_015, 100_050, 100_051,
    100_060, 100_100, 100_128, 100_132, 100_133, 100_301, 100_302, 100_303, 100_360, 100_361,
    100_362, 100_363, 100_364, 100_365, 100_366, 100_400, 101_312, 101_315, 632_002, 632_006,
    632_009, 632_013, 632_014, 632_015, 632_017, 632_019, 632_020, 632_100,
];

/// `cnrtErrorCndrvFuncCall`: what `cnrtRet_t` has for a failure that only `CNresult` has a number for.
const CNDRV_CALL: i32 = 632_015;
/// `cnrtErrorUnknown`.
const CNRT_UNKNOWN: i32 = 999_991;

impl Failure {
    /// The work is not done yet.
    pub const NOT_READY: Self = Self::new(1);
    /// Nothing can be used in this process: it was forked from one that used it.
    pub const NOT_INITIALIZED: Self = Self::new(100_002);
    /// The card is gone, or was reset under the process.
    pub const DEINITIALIZED: Self = Self::split(100_003, 632_006);
    /// There is no device.
    pub const NO_DEVICE: Self = Self::new(100_004);
    /// There is no such device.
    pub const INVALID_DEVICE: Self = Self::new(100_005);
    /// An argument is out of its range.
    pub const INVALID_VALUE: Self = Self::new(100_006);
    /// The system refused something.
    pub const OPERATING_SYSTEM: Self = Self::new(100_007);
    /// Host memory is used up.
    pub const HOST_MEMORY: Self = Self::new(100_010);
    /// A host address is wrong.
    pub const HOST_ADDRESS: Self = Self::split(100_011, 100_006);
    /// A file is not there.
    pub const FILE_NOT_FOUND: Self = Self::split(100_012, 100_006);
    /// A handle names nothing.
    pub const INVALID_HANDLE: Self = Self::new(100_014);
    /// Something is in the wrong state.
    pub const ILLEGAL_STATE: Self = Self::new(100_015);
    /// The card has no such thing.
    pub const NOT_SUPPORTED: Self = Self::new(100_050);
    /// The caller may not do it.
    pub const NOT_PERMITTED: Self = Self::new(100_051);
    /// A handle names no queue.
    pub const INVALID_QUEUE: Self = Self::split(100_060, 100_014);
    /// There is no room for another queue.
    pub const NO_QUEUE: Self = Self::new(100_061);
    /// A handle names no notifier.
    pub const INVALID_NOTIFIER: Self = Self::split(100_080, 100_014);
    /// There is no room for another notifier.
    pub const NO_NOTIFIER: Self = Self::new(100_081);
    /// Device memory is used up.
    pub const DEVICE_MEMORY: Self = Self::new(100_100);
    /// A device address is wrong.
    pub const DEVICE_ADDRESS: Self = Self::split(100_102, 100_006);
    /// There is no context, or a handle names none.
    pub const INVALID_CONTEXT: Self = Self::split(100_201, 632_019);
    /// There is no room for another context.
    pub const NO_CONTEXT: Self = Self::split(100_202, 632_019);
    /// Nothing has that name.
    pub const NOT_FOUND: Self = Self::new(100_301);
    /// A handle names no kernel.
    pub const INVALID_KERNEL: Self = Self::new(100_302);
    /// No kernel was registered: there is no device code here.
    pub const NO_KERNEL: Self = Self::new(101_312);
    /// Bytes are no module that this device can run.
    pub const INVALID_IMAGE: Self = Self::split(101_313, 101_315);
    /// A call cannot be made while a queue is captured.
    pub const CAPTURE_UNSUPPORTED: Self = Self::new(100_360);
    /// A capture is ended by another thread than it was begun by.
    pub const CAPTURE_THREAD: Self = Self::new(100_362);
    /// An executable graph cannot become the given one.
    pub const TOPO_UPDATE: Self = Self::new(100_400);
    /// A device is in use, so its flags are not changed any more.
    pub const ACTIVE: Self = Self::split(100_201, 632_002);
    /// There is no such attribute.
    pub const NO_ATTRIBUTE: Self = Self::split(100_006, 632_009);
    /// A copy has a direction that there is not, or that its addresses do not have.
    pub const DIRECTION: Self = Self::split(100_102, 632_013);
    /// An address is no device symbol.
    pub const INVALID_SYMBOL: Self = Self::split(100_301, 632_100);
    /// A bug of this project.
    pub const UNKNOWN: Self = Self {
        cn: 200_000,
        cnrt: CNRT_UNKNOWN,
    };

    /// A failure with the number that `CNresult` has for it.
    pub const fn new(cn: i32) -> Self {
        Self::split(cn, cn)
    }

    /// A failure for which the two have different numbers.
    pub const fn split(cn: i32, cnrt: i32) -> Self {
        let mut i = 0;
        while i < CNRT.len() {
            if CNRT[i] == cnrt {
                return Self { cn, cnrt };
            }
            i += 1;
        }
        let cnrt = match cnrt {
            CNRT_UNKNOWN => CNRT_UNKNOWN,
            _ => CNDRV_CALL,
        };
        Self { cn, cnrt }
    }

    /// The failure that a status of the card or the runtime is.
    pub const fn of(status: Status) -> Self {
        let cn = match status {
            Status::Ok | Status::Internal => 200_000,
            Status::NotReady => 1,
            Status::InvalidArgument
            | Status::ReservedNotZero
            | Status::BadLength
            | Status::AddressInUse
            | Status::UnknownOpcode
            | Status::TruncatedBody => 100_006,
            Status::UnknownFunction | Status::NotSupported => 100_050,
            Status::VersionMismatch | Status::ImageVersion | Status::ImageModel => 100_009,
            Status::BadHandle => 100_014,
            Status::OutOfDeviceMemory => 100_100,
            Status::OutOfHostMemory => 100_010,
            Status::OutOfResources => 100_053,
            Status::AddressFault => 100_102,
            Status::Busy | Status::NotPermitted => 100_051,
            Status::Timeout => 100_052,
            Status::BadState => 100_015,
            Status::BadOperand => 100_127,
            Status::OperandFault => 100_131,
            Status::IndexOutOfRange => 100_135,
            Status::KernelPanic => 100_132,
            Status::Watchdog => 100_121,
            Status::EccUncorrected => 100_016,
            Status::Cancelled
            | Status::Dependency
            | Status::Injected
            | Status::LinkDown
            | Status::Overheated => 100_200,
            Status::FramingError | Status::QueueDestroyed => 100_060,
            Status::ContextStopped => 100_201,
            Status::DeviceReset
            | Status::DeviceLost
            | Status::ImageLength
            | Status::ImageMagic
            | Status::ImageDigest => 100_003,
            Status::CaptureUnsupported
            | Status::CaptureInvalidated
            | Status::CaptureMerged
            | Status::CaptureUnjoined
            | Status::CaptureIsolation
            | Status::CaptureUnmatched
            | Status::GraphUpdate => status.cnrt(),
        };
        Self::split(cn, status.cnrt())
    }
}

impl From<vmlu::Error> for Failure {
    fn from(error: vmlu::Error) -> Self {
        let failure = Self::of(error.status());
        crate::call::explain(&error);
        failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_a_number_in_both() {
        for status in Status::ALL.iter().filter(|s| **s != Status::Ok) {
            let failure = Failure::of(*status);
            assert!(failure.cn > 0, "{status:?}");
            let known = CNRT.contains(&failure.cnrt) || failure.cnrt == CNRT_UNKNOWN;
            assert!(known, "{status:?}: {}", failure.cnrt);
        }
    }

    #[test]
    fn numbers_that_both_have_are_the_same() {
        assert_eq!(
            Failure::NOT_SUPPORTED,
            Failure {
                cn: 100_050,
                cnrt: 100_050
            }
        );
        assert_eq!(
            Failure::NO_QUEUE,
            Failure {
                cn: 100_061,
                cnrt: CNDRV_CALL
            }
        );
        assert_eq!(Failure::of(Status::OutOfDeviceMemory).cnrt, 100_100);
        assert_eq!(Failure::of(Status::DeviceLost), Failure::DEINITIALIZED);
    }
}
