//! Status codes, xids and the error record: one table for all transports. See `docs/hardware.md`, section 11.

use super::Wire;

macro_rules! statuses {
    ($( $(#[$m:meta])* $name:ident = $value:literal, $errno:literal, $cnrt:literal, $text:literal; )*) => {
        /// How a request ended. The number is what RPC responses, status pages, notifiers and error records carry.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u32)]
        pub enum Status { $( $(#[$m])* $name = $value ),* }

        impl Status {
            /// All codes.
            pub const ALL: &'static [Self] = &[ $( Self::$name ),* ];

            /// The status that a number names, if it names one.
            pub const fn from_raw(value: u32) -> Option<Self> {
                match value { $( $value => Some(Self::$name), )* _ => None }
            }

            /// The number.
            pub const fn raw(self) -> u32 { self as u32 }

            /// The name, as error texts print it.
            pub const fn name(self) -> &'static str {
                match self { $( Self::$name => stringify!($name) ),* }
            }

            /// One sentence for people.
            pub const fn text(self) -> &'static str {
                match self { $( Self::$name => $text ),* }
            }

            /// The positive errno (Linux, x86-64) with which an ioctl reports it; 0 for `Ok`.
            pub const fn errno(self) -> i32 {
                match self { $( Self::$name => $errno ),* }
            }

            /// The `cnrtRet_t` value with which the C runtime reports it.
            pub const fn cnrt(self) -> i32 {
                match self { $( Self::$name => $cnrt ),* }
            }
        }
    };
}

statuses! {
    /// It worked.
    Ok = 0, 0, 0, "success";
    /// Not there yet; ask again.
    NotReady = 1, 11, 1, "the work is not finished yet";
    /// An argument is out of its range.
    InvalidArgument = 2, 22, 100006, "an argument is out of its range";
    /// Padding, a reserved field or an unknown flag is not zero.
    ReservedNotZero = 3, 22, 100006, "a reserved field or an unknown flag is not zero";
    /// The function number of a message is unknown.
    UnknownFunction = 4, 95, 100050, "the function is unknown to the firmware";
    /// The version of a message or packet is not served.
    VersionMismatch = 5, 71, 100009, "the interface version is not supported";
    /// A message is shorter or longer than its function demands.
    BadLength = 6, 22, 100006, "a message has the wrong length";
    /// The handle names nothing, or something of somebody else.
    BadHandle = 7, 2, 100014, "the handle names nothing that belongs to this context";
    /// Device memory is used up.
    OutOfDeviceMemory = 8, 12, 100100, "the device memory is used up";
    /// Host memory, or the budget of it, is used up.
    OutOfHostMemory = 9, 12, 100010, "the host memory is used up";
    /// A table of the card is full.
    OutOfResources = 10, 28, 100053, "a table of the card is full";
    /// The range is not in the context's address space, or not with this access.
    AddressFault = 11, 14, 100006, "the address range is not mapped in this context";
    /// The range overlaps another that is mapped.
    AddressInUse = 12, 17, 100006, "the address range overlaps an existing mapping";
    /// The range is still used by work in flight.
    Busy = 13, 16, 632014, "the object is in use";
    /// The caller may not do this.
    NotPermitted = 14, 1, 100051, "the caller may not do this";
    /// The card or this build has no such thing.
    NotSupported = 15, 95, 100050, "not supported by this card";
    /// The time limit passed.
    Timeout = 16, 110, 100052, "the time limit passed";
    /// The card is not in the state that the request needs.
    BadState = 17, 77, 100015, "the card is not in the state that the request needs";

    /// Packet: unknown opcode.
    UnknownOpcode = 32, 22, 100006, "the packet's opcode is unknown";
    /// Packet: the body is shorter than the opcode's.
    TruncatedBody = 33, 22, 100006, "the packet's body is truncated";
    /// Packet: an operand breaks a rule of its operator.
    BadOperand = 34, 22, 100006, "an operand breaks a rule of its operator";
    /// Packet: an operand is outside the context's memory or crosses allocations.
    OperandFault = 35, 14, 100006, "an operand lies outside the context's allocations";
    /// Packet: an index read from memory is out of range.
    IndexOutOfRange = 36, 14, 632006, "an index is out of range";

    /// Command: the operator failed inside the card.
    KernelPanic = 48, 5, 100132, "the operator failed inside the card";
    /// Command: stopped by the watchdog.
    Watchdog = 49, 110, 632006, "the watchdog stopped the command";
    /// Command: uncorrectable memory error.
    EccUncorrected = 50, 5, 632006, "an uncorrectable memory error hit the command";
    /// Command: not run, because an earlier one of its queue failed.
    Cancelled = 51, 125, 632006, "cancelled after an earlier error of its queue";
    /// Command: not run, because a queue that it waited for failed.
    Dependency = 52, 125, 632006, "a queue that the command waited for failed";
    /// A fault that was asked for through fault injection.
    Injected = 53, 5, 632006, "an injected fault";
    /// Command: the link to the memory that it uses is down.
    LinkDown = 54, 67, 632006, "the link to a peer's memory is down";
    /// Command: the chip stopped because of heat; it works again after a reset.
    Overheated = 55, 5, 632006, "the chip stopped because it is too hot";

    /// Queue: the ring or doorbell is damaged; the queue is stopped for good.
    FramingError = 64, 84, 100060, "the queue's ring or doorbell is damaged";
    /// Queue: destroyed.
    QueueDestroyed = 65, 43, 100060, "the queue was destroyed";
    /// Context: stopped or closed.
    ContextStopped = 66, 125, 632006, "the context was stopped";
    /// Card: reset under the caller.
    DeviceReset = 67, 125, 632006, "the card was reset";
    /// Card: gone.
    DeviceLost = 68, 19, 632006, "the card is lost";

    /// Image: too short or too long.
    ImageLength = 80, 8, 100003, "the firmware image has a wrong length";
    /// Image: wrong magic.
    ImageMagic = 81, 8, 100003, "the firmware image has a wrong magic";
    /// Image: an interface version that the card does not serve.
    ImageVersion = 82, 8, 100009, "the firmware image speaks an unsupported interface version";
    /// Image: the digest does not match.
    ImageDigest = 83, 74, 100003, "the firmware image is damaged: its digest does not match";
    /// Image: made for other models.
    ImageModel = 84, 8, 100009, "the firmware image does not support this card model";

    /// Capture: the call cannot become part of a graph. These codes come from the runtime, never from the card.
    CaptureUnsupported = 96, 95, 100360, "the call cannot be captured in a graph";
    /// Capture: an earlier error spoiled it.
    CaptureInvalidated = 97, 22, 100361, "an earlier error spoiled the capture";
    /// Capture: a wait would join two captures.
    CaptureMerged = 98, 22, 100363, "the wait would join two captures";
    /// Capture: a queue that joined it was not joined back to the queue that began it.
    CaptureUnjoined = 99, 22, 100364, "a queue of the capture was not joined back to the first one";
    /// Capture: a wait for work outside of it, or from outside for work in it.
    CaptureIsolation = 100, 22, 100365, "captured work cannot wait for work outside of the capture, nor the other way round";
    /// Capture: ended on another queue than the one that began it.
    CaptureUnmatched = 101, 22, 100366, "the capture was begun on another queue";
    /// Graph: an update does not fit the graph.
    GraphUpdate = 102, 22, 100400, "the graph cannot be updated to the new one";

    /// Internal error of the firmware: a bug.
    Internal = 255, 5, 999991, "internal error of the firmware";
}

/// Exceptional events as operators know them (names and numbers of the vendor's driver).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Xid {
    /// Software notice: a rejected packet.
    Software = 1,
    /// Board controller.
    Mcu = 2,
    /// Uncorrectable memory error.
    Ecc = 3,
    /// RPC failure.
    Rpc = 4,
    /// Illegal access by a command.
    IllegalAccess = 5,
    /// CRC error.
    Crc = 6,
    /// MLU-Link.
    MluLink = 7,
    /// Memory.
    Memory = 8,
    /// Over-temperature.
    OverTemperature = 9,
    /// A command hung or the card halted.
    Halt = 10,
}

impl Xid {
    /// The xid that a raw number names, if it names one.
    pub const fn from_raw(value: u32) -> Option<Self> {
        Some(match value {
            1 => Self::Software,
            2 => Self::Mcu,
            3 => Self::Ecc,
            4 => Self::Rpc,
            5 => Self::IllegalAccess,
            6 => Self::Crc,
            7 => Self::MluLink,
            8 => Self::Memory,
            9 => Self::OverTemperature,
            10 => Self::Halt,
            _ => return None,
        })
    }
}

impl Status {
    /// The xid under which a queue error of this kind is logged.
    pub const fn xid(self) -> Xid {
        match self {
            Self::OperandFault | Self::AddressFault | Self::IndexOutOfRange => Xid::IllegalAccess,
            Self::EccUncorrected => Xid::Ecc,
            Self::LinkDown => Xid::MluLink,
            Self::Overheated => Xid::OverTemperature,
            Self::Watchdog | Self::KernelPanic => Xid::Halt,
            _ => Xid::Software,
        }
    }
}

/// Bytes of [`ErrorRecord::rule`].
pub const RULE_TEXT: usize = 128;

wire! {
    /// What a queue's owner reads after an error.
    pub struct ErrorRecord : 224 {
        /// A [`Status`] code; 0 if the queue has no error.
        pub status: u32 = 0,
        /// An [`Xid`].
        pub xid: u32 = 4,
        /// Context handle.
        pub context: u64 = 8,
        /// Queue handle.
        pub queue: u64 = 16,
        /// Timeline value that the failed packet had: the first packet of a queue has 1.
        pub value: u64 = 24,
        /// Position of the packet in units since the queue was made.
        pub offset: u64 = 32,
        /// The packet's correlation.
        pub correlation: u64 = 40,
        /// The packet's opcode.
        pub opcode: u16 = 48,
        /// Index of the operand at fault, counted as the operator documents; 0xffff if none.
        pub operand: u16 = 50,
        /// Zero.
        pub reserved: u32 = 52,
        /// Address at fault; 0 if none.
        pub address: u64 = 56,
        /// Start of the allocation nearest to `address`; 0 if there is none.
        pub nearest: u64 = 64,
        /// Bytes of that allocation.
        pub nearest_length: u64 = 72,
        /// Device clock, ns.
        pub device_ns: u64 = 80,
        /// Zero.
        pub reserved1: u64 = 88,
        /// The rule that was broken: UTF-8, zero-padded.
        pub rule: [u8; 128] = 96,
    }
}

/// [`ErrorRecord::operand`] when no operand is at fault.
pub const NO_OPERAND: u16 = 0xffff;

#[cfg(test)]
mod tests {
    use super::Status;

    #[test]
    fn numbers_are_unique_and_come_back() {
        for (i, s) in Status::ALL.iter().enumerate() {
            assert_eq!(Status::from_raw(s.raw()), Some(*s));
            assert!(Status::ALL[..i].iter().all(|o| o.raw() != s.raw()));
            assert!(
                *s == Status::Ok || (s.errno() > 0 && s.cnrt() != 0 && !s.text().is_empty()),
                "{s:?}"
            );
        }
    }
}
