//! Text that stays in its column.

use std::fmt::Display;

/// Column of the colon between a key and its value.
const COLON: usize = 35;

/// Adds a line with a key and its value.
pub(crate) fn key(out: &mut String, level: usize, key: &str, value: &str) {
    let key = indented(level, key);
    *out += &format!("{key:<COLON$}: {value}\n");
}

/// Adds the line above the keys of a section.
pub(crate) fn head(out: &mut String, level: usize, key: &str) {
    *out += &format!("{:<COLON$}:\n", indented(level, key));
}

fn indented(level: usize, key: &str) -> String {
    format!("{}{key}", "    ".repeat(level))
}

/// What stands where a value is not known.
pub(crate) const UNKNOWN: &str = "N/A";

/// A value, or what stands for none.
pub(crate) fn or_unknown<T: Display>(value: Option<T>) -> String {
    value.map_or(UNKNOWN.into(), |v| v.to_string())
}

/// A quantity in whole units.
pub(crate) fn whole(value: f64) -> i64 {
    value.round() as i64
}

/// Text of somebody else's making without what would move a terminal's cursor.
pub(crate) fn harmless(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

/// The first `width` characters.
pub(crate) fn cut(text: &str, width: usize) -> String {
    text.chars().take(width).collect()
}

/// Text of at most `width` characters: of a longer one the end, which tells programs in long paths apart.
pub(crate) fn cut_front(text: &str, width: usize) -> String {
    let length = text.chars().count();
    if length <= width {
        return text.into();
    }
    let dots = width.min(3);
    ".".repeat(dots)
        + &text
            .chars()
            .skip(length - (width - dots))
            .collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_to_their_column() {
        assert_eq!(cut_front("python", 6), "python");
        assert_eq!(cut_front("/usr/bin/python", 9), "...python");
        assert_eq!(cut_front("python", 2), "..");
        assert_eq!(cut("MLU370-X8", 6), "MLU370");
        assert_eq!(harmless("a\x1b[2Jb\n"), "a?[2Jb?");
    }
}
