//! Where addresses stand in the bodies of packets: by the layouts of `abi::packet` and of the operators' descriptors.

use std::mem::offset_of;

use vmlu_abi::packet::{op, range, Copy, CopyStrided, Fill, WriteInline};
use vmlu_abi::tensor::TensorDesc;
use vmlu_ops::combine::{Combine, MAX_PARTS};
use vmlu_ops::{parameters, table, Descriptor};

/// Offsets of the address fields in the body of an opcode; `None` if the opcode cannot be part of a graph, or nothing is known of its body.
pub(super) fn address_fields(opcode: u16) -> Option<Vec<usize>> {
    Some(match opcode {
        op::NOP | op::NOTIFY => Vec::new(),
        op::COPY => vec![offset_of!(Copy, dst), offset_of!(Copy, src)],
        op::COPY_STRIDED => vec![offset_of!(CopyStrided, dst), offset_of!(CopyStrided, src)],
        op::FILL => vec![offset_of!(Fill, dst)],
        op::WRITE => vec![offset_of!(WriteInline, dst)],
        Combine::OPCODE => {
            let list = |first: usize| (0..MAX_PARTS).map(move |i| first + i * size_of::<u64>());
            let outputs = list(offset_of!(Combine, outputs));
            list(offset_of!(Combine, inputs)).chain(outputs).collect()
        }
        _ if !(range::OPERATOR.0..=range::OPERATOR.1).contains(&opcode) => return None,
        _ => operator_fields(table::find(opcode)?),
    })
}

/// Address fields of an operator: those of its tensors, and fields that are named for what they are.
fn operator_fields(info: &table::Info) -> Vec<usize> {
    let mut fields = Vec::new();
    for field in info.fields {
        for i in 0..tensors(field.kind) {
            let tensor = field.offset + i * size_of::<TensorDesc>();
            fields.push(tensor + offset_of!(TensorDesc, address));
            fields.push(tensor + offset_of!(TensorDesc, scales));
        }
        if field.kind == PARTS {
            for part in 0..parameters::MAX_PARTS {
                let part = field.offset + part * size_of::<parameters::Part>();
                fields.extend(parameters::ADDRESSES.map(|a| part + a));
            }
        }
        if field.kind == "u64" && (field.name == "workspace" || field.name.ends_with("address")) {
            fields.push(field.offset);
        }
    }
    fields
}

/// The type of a field that holds an optimiser's parameters.
const PARTS: &str = "[Part; 64]";

/// How many tensors a field of this type holds.
fn tensors(kind: &str) -> usize {
    if kind == "TensorDesc" {
        return 1;
    }
    let list = kind.strip_prefix("[TensorDesc;");
    list.and_then(|rest| rest.trim_end_matches(']').trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_where_the_layouts_say() {
        let matmul = address_fields(vmlu_ops::matmul::Matmul::OPCODE).unwrap();
        assert_eq!(matmul, [0, 24, 160, 184, 320, 344, 480, 504]);
        assert_eq!(address_fields(op::COPY), Some(vec![0, 8]));
        assert_eq!(address_fields(op::WAIT), None);
        assert_eq!(address_fields(0x3fff), None);
        assert_eq!(tensors("[TensorDesc; 16]"), 16);
        let adam = address_fields(vmlu_ops::adam::Adam::OPCODE).unwrap();
        assert_eq!(adam.len(), 64 * 6 + 2);
        assert_eq!(adam[..7], [0, 8, 16, 24, 32, 40, 56]);
    }

    #[test]
    fn every_operator_has_its_tensors_found() {
        for info in table::TABLE {
            let fields = address_fields(info.opcode).unwrap();
            assert!(!fields.is_empty(), "{} has no addresses", info.name);
            assert!(fields.iter().all(|f| f + 8 <= info.body), "{}", info.name);
        }
    }
}
