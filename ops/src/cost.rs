//! What an operator costs: the input of the card's clock.

/// Which peak rate of the card bounds an operator, see `vmlu_abi::model::Rates`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Class {
    /// FP32, and everything that has no rate of its own.
    #[default]
    F32,
    /// FP16 and BF16.
    F16,
    /// INT16.
    I16,
    /// INT8.
    I8,
}

/// Cost of one command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Operations; a multiply-add is two.
    pub operations: u64,
    /// Rate that applies to them.
    pub class: Class,
    /// Bytes read from device memory.
    pub read: u64,
    /// Bytes written to device memory.
    pub written: u64,
}
