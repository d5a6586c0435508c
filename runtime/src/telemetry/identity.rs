//! How chips are told apart: by the serial number of the board and the index of the chip on it, which both ends of a link have.

/// A number that tells a chip from all others.
pub fn chip_number(serial: u64, chip: u32) -> u64 {
    serial << 4 | u64::from(chip & 0xf)
}

/// The UUID of a chip, 8-4-4-4-12 hexadecimal digits.
pub fn chip_uuid(serial: u64, chip: u32) -> String {
    let text = format!("{serial:016x}");
    format!(
        "{}-{}-{}-0000-{:012x}",
        &text[..8],
        &text[8..12],
        &text[12..],
        chip & 0xff
    )
}
