//! Strided copies: boxes of rows, in two or three dimensions.

use vmlu_abi::packet::CopyStrided;
use vmlu_abi::Status;

use super::command::Command;
use super::copy::{contiguous, moved, piece, CHUNK, DST, SRC};
use crate::kernels::env::{Access, Env, Fault};

/// What a row costs besides its bytes, in bytes copied: between two looks at the cancel flag come [`CHUNK`] of both together.
const ROW_COST: u64 = 256;
/// Bytes of a row above which it is a copy of its own.
const LARGE_ROW: u64 = 64 << 10;

/// One side of the copy.
#[derive(Clone, Copy)]
struct Side {
    operand: u16,
    address: u64,
    pitch: u64,
    slice: u64,
}

/// A box whose rows that lie behind one another on both sides are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rows {
    width: u64,
    height: u64,
    depth: u64,
}

impl Side {
    /// Bytes from the first row's first to the last row's last; `None` if they leave the address space.
    fn span(&self, rows: &Rows) -> Option<u64> {
        let last_slice = (rows.depth - 1).checked_mul(self.slice)?;
        let last_row = (rows.height - 1).checked_mul(self.pitch)?;
        let span = last_slice.checked_add(last_row)?.checked_add(rows.width)?;
        self.address.checked_add(span).map(|_| span)
    }

    fn fault(&self, text: &str) -> Fault {
        let text = format!(
            "strided copy: {:#x}, pitch {:#x}, slice {:#x}: {text}",
            self.address, self.pitch, self.slice
        );
        Fault::operand(Status::BadOperand, self.operand, self.address, text)
    }
}

/// [`vmlu_abi::packet::op::COPY_STRIDED`]; its device time.
pub fn copy(env: &Command<'_>, copy: &CopyStrided) -> Result<u64, Fault> {
    let rows = Rows {
        width: copy.width,
        height: copy.height,
        depth: copy.depth,
    };
    if rows.width == 0 || rows.height == 0 || rows.depth == 0 {
        return Ok(env.queue.core.hardware.model.launch_ns);
    }
    let to = Side {
        operand: DST,
        address: copy.dst,
        pitch: copy.dst_pitch,
        slice: copy.dst_slice,
    };
    let from = Side {
        operand: SRC,
        address: copy.src,
        pitch: copy.src_pitch,
        slice: copy.src_slice,
    };
    // So every byte is written once, and there are at most as many as the allocation has.
    if rows.height > 1 && to.pitch < rows.width {
        return Err(to.fault("rows overlap where they are written"));
    }
    let slice = match rows.height {
        1 => Some(rows.width),
        height => height.checked_mul(to.pitch),
    };
    if rows.depth > 1 && slice.is_none_or(|s| to.slice < s) {
        return Err(to.fault("slices overlap where they are written"));
    }
    let beyond = "the box leaves the address space";
    let to_span = to.span(&rows).ok_or_else(|| to.fault(beyond))?;
    let from_span = from.span(&rows).ok_or_else(|| from.fault(beyond))?;
    let src = env.segment(SRC, from.address, from_span, Access::Read)?;
    let dst = env.segment(DST, to.address, to_span, Access::Write)?;

    let (rows, to, from) = merged(rows, to, from);
    let mut budget = 0;
    for z in 0..rows.depth {
        for y in 0..rows.height {
            // Within the spans, which were checked.
            let at = |side: &Side| side.address + z * side.slice + y * side.pitch;
            let (write, read) = (at(&to), at(&from));
            if rows.width > LARGE_ROW {
                contiguous(env, &dst, write, &src, read, rows.width)?;
                continue;
            }
            if budget < rows.width + ROW_COST {
                env.check()?;
                budget = CHUNK;
            }
            budget -= rows.width + ROW_COST;
            let mut done = 0;
            while done < rows.width {
                let from = piece(&src, SRC, read + done, rows.width - done)?;
                let to = piece(&dst, DST, write + done, from.len() as u64)?;
                to.copy_bytes(&from.slice(0, to.len()).unwrap_or(from));
                done += to.len() as u64;
            }
        }
    }
    Ok(moved(
        env,
        &src,
        &dst,
        rows.width * rows.height * rows.depth,
    ))
}

/// Makes one row of rows that lie behind one another on both sides, and one slice of such slices.
fn merged(mut rows: Rows, mut to: Side, mut from: Side) -> (Rows, Side, Side) {
    let dense = |rows: &Rows, side: &Side| rows.height == 1 || side.pitch == rows.width;
    if dense(&rows, &to) && dense(&rows, &from) {
        // The product is the span of a slice, so it does not overflow.
        rows = Rows {
            width: rows.width * rows.height,
            height: rows.depth,
            depth: 1,
        };
        (to.pitch, from.pitch) = (to.slice, from.slice);
        if dense(&rows, &to) && dense(&rows, &from) {
            rows = Rows {
                width: rows.width * rows.height,
                height: 1,
                depth: 1,
            };
        }
    }
    (rows, to, from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(pitch: u64, slice: u64) -> Side {
        Side {
            operand: DST,
            address: 0,
            pitch,
            slice,
        }
    }

    #[test]
    fn rows_that_lie_behind_one_another_are_one() {
        let rows = Rows {
            width: 8,
            height: 4,
            depth: 3,
        };
        let of = |width, height, depth| Rows {
            width,
            height,
            depth,
        };
        for (to, from, expected) in [
            (side(8, 32), side(8, 32), of(96, 1, 1)),
            (side(8, 64), side(8, 32), of(32, 3, 1)),
            (side(16, 64), side(8, 32), of(8, 4, 3)),
            (side(8, 32), side(0, 32), of(8, 4, 3)),
        ] {
            assert_eq!(merged(rows, to, from).0, expected);
        }
        let line = of(8, 1, 5);
        assert_eq!(merged(line, side(0, 8), side(77, 8)).0, of(40, 1, 1));
        assert_eq!(merged(line, side(0, 8), side(77, 0)).0, of(8, 5, 1));
    }

    #[test]
    fn spans_are_checked() {
        let rows = Rows {
            width: 8,
            height: 4,
            depth: 3,
        };
        assert_eq!(side(16, 100).span(&rows), Some(2 * 100 + 3 * 16 + 8));
        for bad in [
            side(u64::MAX, 0),
            side(0, u64::MAX / 2 + 1),
            side(1 << 62, 1 << 63),
        ] {
            assert_eq!(bad.span(&rows), None);
        }
        let high = Side {
            address: u64::MAX - 100,
            ..side(16, 100)
        };
        assert_eq!(high.span(&rows), None);
    }
}
