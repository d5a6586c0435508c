//! Writes `docs/operators.md` from the table: `cargo run -p vmlu-ops --example operators`.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

use vmlu_abi::tensor::DataType;

use crate::table::{opcode, Info, ABSENT, TABLE};

const HEAD: &str = "# Operators

Generated from `ops/` by `cargo run -p vmlu-ops --example operators`; do not edit.

An operator is a packet whose opcode is in the table and whose body is its descriptor (`docs/hardware.md`, section 7). The runtime checks a
descriptor before it goes into a queue, the firmware checks its own copy again; a refused command writes nothing, and its error
record names the operand, counted from 0 in the order of the descriptor's tensors, and the rule.

## Tensors

What holds for every operand:

- The type is one that the operator takes, the rank is 0 to 8, dimensions and strides beyond the rank are zero, so are `flags` and the
  quantisation fields, but for operators that take quantised tensors (`quantize`, `matmul`, `conv`). Those are of i8, u8 or i16: an element `q`
  stands for `scale · (q - offset)`, with one finite scale above 0 and one offset of the type, or with a table of those of an axis.
- The address is a multiple of the element's size.
- The product of the dimensions (each 0 counted as 1) times the element's size fits in 63 bits, as does the extent in bytes; no element
  lies outside the 64-bit address space, and all lie in one allocation of the context.
- Strides count elements. Inputs may have any; 0 repeats. Outputs may have any, also negative, if by ascending distance each axis
  steps over all that the axes before it reach, so that no two elements share memory.
- An output may be exactly an input (address, dimensions, strides) where the operator says so. Otherwise they must not overlap: their
  byte ranges are apart, or they are column blocks without a common column of one array.
- *Broadcast*: axes are aligned at the last; an axis of 1, or a missing one, repeats.
- An operand that may be absent is absent if all of its bytes are zero.

Errors: for results `r` and exact ones `e`, DIFF1 = Σ|r - e| / Σ|e|, DIFF2 = √(Σ(r - e)² / Σe²), and DIFF3_MAX is the largest |r - e| / |e|. *n ε* means
that all three are at most n · ε, with ε = 2⁻²³ for f32, 2⁻¹⁰ for f16, 2⁻⁷ for bf16, 2⁻⁵² for f64; denormal results may be off by n of the smallest number.
*Of the terms*: of the largest of the result, the operands and 1. Integers are exact. *Speed*: *vector* runs as vector code on hosts that have
it; *scalar* is a fallback, one element at a time.

Results do not depend on the number of threads, nor on the host: the order of every sum is fixed, a fused multiply-add is one where
the operator says so and none elsewhere, and elementary functions are the card's own.

";

/// The document. `source` gives the source text of an operator's module; its documentation becomes part of the document.
pub fn markdown(source: impl Fn(&str) -> String) -> String {
    let mut text = String::from(HEAD);
    text.push_str("## Table\n\n");
    text.push_str("| opcode | operator | computes | types | gradient | operations | error at most | speed |\n");
    text.push_str("| --- | --- | --- | --- | --- | --- | --- | --- |\n");
    for info in TABLE {
        let name = info.name;
        let (error, speed) =
            crate::speed::operator(info.opcode).unwrap_or(("see there", "see there"));
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "| {:#06x} | [`{name}`](#{name}) | {} | {} | {} | {} | {error} | {speed} |",
            info.opcode, info.formula, info.types, info.backward, info.cost
        );
    }
    text.push_str("\nNot served yet:\n\n");
    for (group, names) in ABSENT {
        let _ = writeln!(text, "- {group}: {names}");
    }
    for info in TABLE {
        describe(info, &source(info.name), &mut text);
    }
    text
}

/// The documentation of a module.
fn documentation(source: &str) -> String {
    source
        .lines()
        .map_while(|l| l.strip_prefix("//!"))
        .map(|l| l.strip_prefix(' ').unwrap_or(l))
        .fold(String::new(), |text, line| text + line + "\n")
}

fn describe(info: &Info, source: &str, text: &mut String) {
    let operands: Vec<String> = (info.operands.iter().enumerate())
        .map(|(i, o)| {
            let mark = |c| o.contains(c);
            let name = o.trim_end_matches(['*', '?']);
            let written = if mark('*') { ", written" } else { "" };
            let absent = if mark('?') { ", may be absent" } else { "" };
            format!("{i} `{name}`{written}{absent}")
        })
        .collect();
    let _ = write!(
        text,
        "\n## {}\n\n{}\n\nOperands: {}. Body: {} bytes, {} of a packet.\n\n",
        info.name,
        plain(&documentation(source)),
        operands.join("; "),
        info.body,
        match vmlu_abi::packet::units_for(info.body) {
            Some(units) => format!("{units} units"),
            None => String::from("too long for one"),
        }
    );
    text.push_str("| offset | field | type | meaning |\n| --- | --- | --- | --- |\n");
    for f in info.fields {
        let meaning = plain(f.text).replace('|', "\\|");
        let _ = writeln!(
            text,
            "| {} | `{}` | {} | {meaning} |",
            f.offset, f.name, f.kind
        );
    }
    if info.functions.is_empty() {
        return;
    }
    let measured = rating(info.opcode, 0).is_some();
    text.push_str("\n| number | name | computes |");
    text.push_str(if measured {
        " error of f32; f16, bf16; f64 | speed |\n| --- | --- | --- | --- | --- |\n"
    } else {
        "\n| --- | --- | --- |\n"
    });
    for f in info.functions {
        let meaning = plain(f.text).replace('|', "\\|");
        let rest = rating(info.opcode, f.number).unwrap_or_default();
        let _ = writeln!(text, "| {} | `{}` | {meaning} |{rest}", f.number, f.name);
    }
}

/// The last columns of a function's row.
fn rating(number: u16, function: u32) -> Option<String> {
    use crate::accuracy::{self, Accuracy};
    use crate::{binary, speed, ternary, unary};
    let rate = |of: &dyn Fn(DataType) -> Accuracy, speed: speed::Speed| {
        let [a, b, c] = [DataType::F32, DataType::F16, DataType::F64].map(|t| speed::bound(of(t)));
        let errors = if a == b && b == c {
            a
        } else {
            format!("{a}; {b}; {c}")
        };
        format!(" {errors} | {} |", speed.text())
    };
    match number {
        opcode::UNARY => {
            let f = unary::Function::from_raw(function)?;
            Some(rate(&|t| accuracy::unary(f, t), speed::unary(f)))
        }
        opcode::BINARY => {
            let f = binary::Function::from_raw(function)?;
            Some(rate(&|t| accuracy::binary(f, t), speed::binary(f)))
        }
        opcode::TERNARY => {
            let f = ternary::Function::from_raw(function)?;
            Some(rate(&|t| accuracy::ternary(f, t), speed::Speed::Vector))
        }
        _ => None,
    }
}

/// A doc comment without links into the code.
fn plain(text: &str) -> String {
    text.trim().replace("[`", "`").replace("`]", "`")
}
