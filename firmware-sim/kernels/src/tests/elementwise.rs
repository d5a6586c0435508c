use proptest::prelude::*;
use vmlu_abi::tensor::DataType;
use vmlu_abi::Wire;
use vmlu_ops::tensor::{is_float, FLOATS};
use vmlu_ops::{affine, cast, fill, sgd};

use super::cases;
use super::tensors::{expect_only, Rng, Tensor};
use crate::testing::Arena;

pub(super) const NUMBERS: [DataType; 12] = [
    DataType::F32,
    DataType::F16,
    DataType::Bf16,
    DataType::F64,
    DataType::I8,
    DataType::I16,
    DataType::I32,
    DataType::I64,
    DataType::U8,
    DataType::U16,
    DataType::U32,
    DataType::U64,
];

/// Cuts a whole number to a type.
pub(super) fn wrap(dtype: DataType, value: i128) -> i128 {
    match dtype {
        DataType::I8 => (value as i8).into(),
        DataType::I16 => (value as i16).into(),
        DataType::I32 => (value as i32).into(),
        DataType::I64 => (value as i64).into(),
        DataType::U8 => (value as u8).into(),
        DataType::U16 => (value as u16).into(),
        DataType::U32 => (value as u32).into(),
        _ => (value as u64).into(),
    }
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn affine_cast_and_fill_match_their_definitions(seed: u64) {
        let (mut rng, mut arena) = (Rng::new(seed), Arena::new(1 << 19));
        let dims = rng.dims(0..=4);
        let dtype = rng.pick(&NUMBERS);
        let x = Tensor::random_broadcast(&mut rng, &mut arena, dtype, &dims);
        let out = Tensor::random(&mut rng, &mut arena, dtype, &dims);
        let whole = !is_float(dtype);
        let mut scalar = || if whole { (rng.value() * 4.0).round() } else { rng.value() };
        let (alpha, beta) = (scalar(), scalar());
        let before = arena.snapshot();
        arena.run(&affine::Affine { x: x.desc(), out: out.desc(), alpha, beta }).unwrap();
        expect_only(&arena, before, &[&out]);
        for i in out.indices() {
            let v = x.get_broadcast(&arena, &i);
            if whole {
                let exact = x.get_whole(&arena, &x.broadcast(&i)) * alpha as i128 + beta as i128;
                prop_assert_eq!(out.get_whole(&arena, &i), wrap(dtype, exact));
            } else {
                out.expect(&arena, &i, v * alpha + beta, 4.0 * f64::from(f32::EPSILON) * (1.0 + (v * alpha).abs()));
            }
        }

        let to = rng.pick(&DataType::ALL);
        let cast_out = Tensor::random(&mut rng, &mut arena, to, &dims);
        let before = arena.snapshot();
        arena.run(&cast::Cast { x: x.desc(), out: cast_out.desc(), ..Wire::zeroed() }).unwrap();
        expect_only(&arena, before, &[&cast_out]);
        for i in cast_out.indices() {
            let v = x.get_broadcast(&arena, &i);
            if is_float(to) {
                let overflows = to == DataType::F16 && v.abs() >= 65520.0;
                cast_out.expect(&arena, &i, if overflows { v * f64::INFINITY } else { v }, 0.0);
            } else if to == DataType::Bool {
                prop_assert_eq!(cast_out.get_whole(&arena, &i), i128::from(v != 0.0));
            } else if is_float(dtype) {
                let unsigned = matches!(to, DataType::U8 | DataType::U16 | DataType::U32 | DataType::U64);
                let want = if unsigned { v.max(0.0) as i128 } else { v as i128 };
                prop_assert_eq!(cast_out.get_whole(&arena, &i), want);
            } else {
                let exact = x.get_whole(&arena, &x.broadcast(&i));
                prop_assert_eq!(cast_out.get_whole(&arena, &i), wrap(to, exact));
            }
        }

        let bits = rng.next() >> (64 - 8 * to.size());
        let before = arena.snapshot();
        arena.run(&fill::Fill { out: cast_out.desc(), bits }).unwrap();
        expect_only(&arena, before, &[&cast_out]);
        for i in cast_out.indices() {
            let got: Vec<u8> = arena.get(cast_out.element(&i), to.size());
            prop_assert_eq!(&got[..], &bits.to_le_bytes()[..to.size()]);
        }
    }

    #[test]
    fn sgd_matches_its_definition(seed: u64) {
        let (mut rng, mut arena) = (Rng::new(seed), Arena::new(1 << 19));
        let dims = rng.dims(0..=3);
        let dtype = rng.pick(&FLOATS);
        let [w, g, v] = [(); 3].map(|()| Tensor::random(&mut rng, &mut arena, dtype, &dims));
        let momentum = rng.below(2) == 0;
        let flags = rng.below(8) as u32 & if momentum { sgd::FLAGS } else { sgd::FLAG_MAXIMIZE };
        let scalar = |rng: &mut Rng| (rng.value() + 2.0) / 8.0;
        let desc = sgd::Sgd {
            weight: w.desc(),
            gradient: g.desc(),
            velocity: if momentum { v.desc() } else { Wire::zeroed() },
            rate: scalar(&mut rng),
            momentum: if momentum { scalar(&mut rng) } else { 0.0 },
            dampening: if momentum { scalar(&mut rng) } else { 0.0 },
            weight_decay: rng.pick(&[0.0, 0.25]),
            flags,
            reserved: 0,
        };
        let old: Vec<[f64; 3]> = w.indices().iter()
            .map(|i| [&w, &g, &v].map(|t| t.get(&arena, i)))
            .collect();
        let before = arena.snapshot();
        arena.run(&desc).unwrap();
        if momentum {
            expect_only(&arena, before, &[&w, &v]);
        } else {
            expect_only(&arena, before, &[&w]);
        }
        for (i, [w0, g0, v0]) in w.indices().iter().zip(old) {
            let sign = if flags & sgd::FLAG_MAXIMIZE != 0 { -1.0 } else { 1.0 };
            let mut d = sign * g0 + desc.weight_decay * w0;
            if momentum {
                let first = flags & sgd::FLAG_FIRST != 0;
                let v1 = if first { d } else { desc.momentum * v0 + (1.0 - desc.dampening) * d };
                v.expect(&arena, i, v1, 1e-6);
                d = if flags & sgd::FLAG_NESTEROV != 0 { d + desc.momentum * v1 } else { v1 };
            }
            w.expect(&arena, i, w0 - desc.rate * d, 1e-6);
        }
    }
}
