//! Random numbers, permutations and dropout against their definitions, one element at a time, and against statistics.

use proptest::prelude::*;
use vmlu_abi::tensor::DataType::{self, Bool, F32, F64, I32, I64, U64, U8};
use vmlu_abi::Wire;
use vmlu_ops::dropout::{self, Dropout};
use vmlu_ops::permutation::{Permutation, BLOCKS};
use vmlu_ops::random::{Function as F, Random};
use vmlu_ops::tensor::{contiguous, is_float, FLOATS, INDICES};

use super::cases;
use super::tensors::{expect_only, Rng, Tensor};
use crate::testing::Arena;

/// Word `number` of a generator, straight from the paper.
fn word(seed: u64, offset: u64, stream: u64, number: u64) -> u32 {
    let block = offset.wrapping_add(number / 4);
    let half = |v: u64, upper: bool| (v >> if upper { 32 } else { 0 }) & 0xffff_ffff;
    let mut c = [
        half(block, false),
        half(block, true),
        half(stream, false),
        half(stream, true),
    ];
    let mut k = [half(seed, false), half(seed, true)];
    for _ in 0..10 {
        let (a, b) = (0xd251_1f53 * c[0], 0xcd9e_8d57 * c[2]);
        c = [
            half(b, true) ^ c[1] ^ k[0],
            half(b, false),
            half(a, true) ^ c[3] ^ k[1],
            half(a, false),
        ];
        k = [
            half(k[0] + 0x9e37_79b9, false),
            half(k[1] + 0xbb67_ae85, false),
        ];
    }
    c[(number % 4) as usize] as u32
}

/// What element `i` must be, from a function that gives words.
fn want(f: F, dtype: DataType, i: u64, p: &Random, words: &dyn Fn(u64) -> u32) -> f64 {
    let pair = |i: u64| u64::from(words(2 * i)) | u64::from(words(2 * i + 1)) << 32;
    let wide = dtype == F64;
    let v = |i: u64| match wide {
        true => ((pair(i) >> 12) as f64 + 0.5) / 2f64.powi(52),
        false => (f64::from(words(i)) + 0.5) / 2f64.powi(32),
    };
    let digits = match dtype {
        DataType::F16 => 11,
        DataType::Bf16 => 8,
        _ => 24,
    };
    let (a, b) = (p.alpha, p.beta);
    let normal = || {
        let (first, second) = (i & !1, i | 1);
        let r = (-2.0 * v(first).ln()).sqrt();
        let (s, c) = (std::f64::consts::TAU * v(second)).sin_cos();
        a + b * r * if i & 1 == 0 { c } else { s }
    };
    match f {
        F::Uniform if wide => (pair(i) >> 11) as f64 / 2f64.powi(53) * (b - a) + a,
        F::Uniform => f64::from(words(i) >> (32 - digits)) / 2f64.powi(digits) * (b - a) + a,
        F::Bernoulli => f64::from(u8::from(f64::from(words(i)) / 2f64.powi(32) < a)),
        F::Normal => normal(),
        F::LogNormal => normal().exp(),
        F::Exponential => -v(i).ln() / a,
        F::Cauchy => a + b * (std::f64::consts::PI * (v(i) - 0.5)).tan(),
        F::Geometric => ((f64::from(words(i)) + 0.5) / 2f64.powi(32)).ln(),
        F::Integers | F::Bits => f64::NAN,
    }
}

/// A source: directly, or from memory.
fn state(rng: &mut Rng, arena: &mut Arena, seed: u64, offset: u64) -> Option<u64> {
    (rng.below(2) == 0).then(|| arena.put(&[seed, offset]))
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn every_number_is_that_of_its_definition(seed: u64) {
        let (mut rng, mut arena) = (Rng::new(seed), Arena::new(1 << 20));
        let f = rng.pick(F::ALL);
        let types: Vec<DataType> = DataType::ALL.into_iter().filter(|t| f.gives(*t)).collect();
        let dtype = rng.pick(&types);
        let dims = rng.dims(0..=4);
        let out = Tensor::random(&mut rng, &mut arena, dtype, &dims);
        let (key, offset, stream) = (rng.next(), rng.next(), rng.next());
        let mut desc = Random { out: out.desc(), stream, function: f.raw(), ..Wire::zeroed() };
        let state = state(&mut rng, &mut arena, key, offset);
        match state {
            Some(at) => desc.state = contiguous(U64, at, &[2]),
            None => (desc.seed, desc.offset) = (key, offset),
        }
        (desc.alpha, desc.beta) = match f {
            F::Uniform => rng.pick(&[(0.0, 1.0), (-2.0, 6.0), (3.0, 3.0), (1.0, 1.001)]),
            F::Normal | F::LogNormal => rng.pick(&[(0.0, 1.0), (0.5, 0.25), (1.0, 0.0)]),
            F::Bernoulli => (rng.pick(&[0.0, 0.3, 0.5, 1.0]), 0.0),
            F::Exponential => (rng.pick(&[1.0, 4.0]), 0.0),
            F::Cauchy => (0.5, 2.0),
            F::Geometric => (rng.pick(&[0.5, 0.125, 0.9]), 0.0),
            F::Integers | F::Bits => (0.0, 0.0),
        };
        if f == F::Integers {
            let unsigned = matches!(dtype, DataType::U8 | DataType::U16 | DataType::U32 | U64);
            (desc.low, desc.high) = match dtype {
                I64 => rng.pick(&[(-5, 5), (i64::MIN, i64::MAX), (0, 1)]),
                U64 => rng.pick(&[(0, i64::MAX), (3, 4)]),
                _ if unsigned => (2, 200),
                _ => rng.pick(&[(-5, 5), (-100, 27), (7, 8)]),
            };
        }
        let probability = (f == F::Bernoulli && rng.below(2) == 0).then(|| {
            let dtype = rng.pick(&FLOATS);
            Tensor::random_broadcast(&mut rng, &mut arena, dtype, &dims)
        });
        if let Some(p) = &probability {
            (desc.probability, desc.alpha) = (p.desc(), 0.0);
        }
        arena.threads = 2;
        let before = arena.snapshot();
        arena.run(&desc).unwrap();
        let words = |n: u64| word(key, offset, stream, n);
        let each = f.words(dtype);
        if let Some(at) = state {
            let next = offset.wrapping_add((out.indices().len() as u64 * each).div_ceil(4));
            prop_assert_eq!(arena.get::<u64>(at, 2), [key, next]);
            arena.set(at, &[key, offset]);
        }
        expect_only(&arena, before, &[&out]);
        for (i, index) in out.indices().iter().enumerate() {
            let i = i as u64;
            if let Some(p) = &probability {
                desc.alpha = p.get_broadcast(&arena, index);
            }
            if matches!(f, F::Integers | F::Bits) {
                let drawn = u128::from(words(2 * i)) | u128::from(words(2 * i + 1)) << 32;
                let size = 8 * dtype.size() as u32;
                let span = (i128::from(desc.high) - i128::from(desc.low)) as u128;
                let whole = i128::from(desc.low) + ((drawn * span) >> 64) as i128;
                if is_float(dtype) {
                    prop_assert_eq!(out.get(&arena, index), whole as f64);
                } else {
                    let mask = (1i128 << size) - 1;
                    let whole = if f == F::Bits { drawn as i128 } else { whole };
                    prop_assert_eq!(out.get_whole(&arena, index) & mask, whole & mask);
                }
                continue;
            }
            let value = want(f, dtype, i, &desc, &words);
            let got = out.get(&arena, index);
            match f {
                F::Geometric => {
                    // How many failures fit; a logarithm's last bit may decide at a whole number.
                    let trials = value / (-desc.alpha).ln_1p();
                    let near = (trials - trials.round()).abs() < 1e-9;
                    let kept = match dtype {
                        DataType::I8 => f64::from(trials.ceil() as i64 as i8),
                        DataType::U8 => f64::from(trials.ceil() as i64 as u8),
                        _ => trials.ceil().max(1.0),
                    };
                    prop_assert!(near || (got - kept).abs() <= kept.abs() * out.epsilon());
                }
                F::Uniform => {
                    let inside = got >= desc.alpha - out.epsilon().abs() * 4.0 && (got < desc.beta || desc.alpha == desc.beta);
                    let close = (got - value).abs() <= value.abs() * out.epsilon();
                    // What is rounded up to the end is the start.
                    prop_assert!(inside && (close || got == desc.alpha), "{} for {}", got, value);
                }
                F::Bernoulli => prop_assert_eq!(got, value),
                F::Cauchy => out.expect(&arena, index, value, 1e-9 * (1.0 + value * value)),
                _ => out.expect(&arena, index, value, 1e-11 * (1.0 + value.abs())),
            }
        }
    }

    #[test]
    fn dropout_keeps_what_its_words_say(seed: u64) {
        let (mut rng, mut arena) = (Rng::new(seed), Arena::new(1 << 19));
        let dims = rng.dims(0..=4);
        let dtype = rng.pick(&FLOATS);
        let x = Tensor::random(&mut rng, &mut arena, dtype, &dims);
        let in_place = rng.below(3) == 0;
        let fresh = Tensor::random(&mut rng, &mut arena, dtype, &dims);
        let out = if in_place { &x } else { &fresh };
        let kind = rng.pick(&[Bool, U8]);
        let mask = Tensor::random(&mut rng, &mut arena, kind, &dims);
        let back = Tensor::random(&mut rng, &mut arena, dtype, &dims);
        let inputs: Vec<f64> = x.indices().iter().map(|i| x.get(&arena, i)).collect();
        let (key, offset, stream, p) = (rng.next(), rng.next(), rng.next(), rng.pick(&[0.0, 0.1, 0.5, 1.0]));
        let mut desc = Dropout { x: x.desc(), mask: mask.desc(), out: out.desc(), stream, p, ..Wire::zeroed() };
        let state = state(&mut rng, &mut arena, key, offset);
        match state {
            Some(at) => desc.state = contiguous(U64, at, &[2]),
            None => (desc.seed, desc.offset) = (key, offset),
        }
        let before = arena.snapshot();
        arena.run(&desc).unwrap();
        if let Some(at) = state {
            let next = offset.wrapping_add((inputs.len() as u64).div_ceil(4));
            prop_assert_eq!(arena.get::<u64>(at, 2), [key, next]);
            arena.set(at, &[key, offset]);
        }
        expect_only(&arena, before, &[out, &mask]);
        let apply = Dropout {
            x: out.desc(),
            mask: mask.desc(),
            out: back.desc(),
            p,
            function: dropout::Function::Apply.raw(),
            ..Wire::zeroed()
        };
        arena.run(&apply).unwrap();
        let scale = if p < 1.0 { 1.0 / (1.0 - p) } else { 0.0 };
        for ((i, index), v) in x.indices().iter().enumerate().zip(inputs) {
            let kept = f64::from(word(key, offset, stream, i as u64)) / 2f64.powi(32) >= p;
            prop_assert_eq!(mask.get_whole(&arena, index), i128::from(kept));
            let factor = if kept { scale } else { 0.0 };
            let near = 1e-6 * v.abs() * scale;
            out.expect(&arena, index, v * factor, near);
            let once = out.get(&arena, index);
            back.expect(&arena, index, once * factor, 1e-6 * once.abs() * scale);
        }
    }
}

/// The network as `ops` describes it.
fn permuted(words: &dyn Fn(u64) -> u32, n: u64, i: u64) -> u64 {
    let key = |k: u64| u64::from(words(2 * k)) | u64::from(words(2 * k + 1)) << 32;
    let mix = |mut v: u64| {
        v ^= v >> 32;
        v = v.wrapping_mul(0xd6e8_feb8_6659_fd93);
        v ^= v >> 32;
        v = v.wrapping_mul(0xd6e8_feb8_6659_fd93);
        v ^ v >> 32
    };
    let mut bits = 1;
    while bits < 64 && (n - 1) >> bits != 0 {
        bits += 1;
    }
    let low = bits - bits / 2;
    let mut x = i;
    loop {
        let (mut l, mut r) = (x >> low, x % (1 << low));
        for k in 0..24 {
            if k % 2 == 0 {
                l ^= mix(r ^ key(k)) % (1 << (bits - low));
            } else {
                r ^= mix(l ^ key(k)) % (1 << low);
            }
        }
        x = l << low | r;
        if x < 2 && key(24) & 1 != 0 {
            x = 1 - x;
        }
        if x < n {
            return x;
        }
    }
}

#[test]
fn permutations_are_permutations_and_those_of_the_definition() {
    let mut rng = Rng::new(3);
    for n in (0..40).chain([63, 64, 65, 1000, 5000, 40_000]) {
        let mut arena = Arena::new(1 << 20);
        arena.threads = 2;
        let dtype = rng.pick(&INDICES);
        let out = Tensor::random(&mut rng, &mut arena, dtype, &[n]);
        let (key, offset, stream) = (rng.next(), rng.next(), rng.next());
        let at = arena.put(&[key, offset]);
        let desc = Permutation {
            out: out.desc(),
            state: contiguous(U64, at, &[2]),
            stream,
            ..Wire::zeroed()
        };
        let before = arena.snapshot();
        arena.run(&desc).unwrap();
        assert_eq!(arena.get::<u64>(at, 2), [key, offset.wrapping_add(BLOCKS)]);
        arena.set(at, &[key, offset]);
        expect_only(&arena, before, &[&out]);
        let words = |w: u64| word(key, offset, stream, w);
        let mut seen = vec![false; n as usize];
        for (i, index) in out.indices().iter().enumerate() {
            let v = out.get_whole(&arena, index) as u64;
            assert!(!std::mem::replace(&mut seen[v as usize], true));
            if n < 100 || i % 997 == 0 {
                assert_eq!(v, permuted(&words, n, i as u64), "{i} of {n}");
            }
        }
    }
}

/// All orders of four elements are equally likely, by Pearson's test, as are those of eight numbers' first three.
#[test]
fn permutations_are_equally_likely() {
    for (n, shown, kinds) in [(4u64, 4, 24), (8, 3, 336), (16, 2, 240)] {
        let rounds = 300 * kinds;
        let mut arena = Arena::new(4096);
        let out = arena.reserve(8 * n as usize);
        let mut counts = std::collections::HashMap::new();
        for seed in 0..rounds {
            let desc = Permutation {
                out: contiguous(I64, out, &[n]),
                seed,
                ..Wire::zeroed()
            };
            arena.run(&desc).unwrap();
            *counts.entry(arena.get::<i64>(out, shown)).or_insert(0u32) += 1;
        }
        assert_eq!(counts.len(), kinds as usize);
        let chi: f64 = counts
            .values()
            .map(|c| (f64::from(*c) - 300.0).powi(2) / 300.0)
            .sum();
        // Mean kinds - 1, variance twice that: five deviations.
        let free = kinds as f64 - 1.0;
        assert!(
            (chi - free).abs() < 5.0 * (2.0 * free).sqrt(),
            "{n}: {chi} of {free}"
        );
    }
}

#[test]
fn moments_are_those_of_the_distributions() {
    const N: usize = 200_000;
    let mut arena = Arena::new(8 * N + 4096);
    let out = arena.reserve(8 * N);
    arena.threads = 2;
    for dtype in [F32, F64] {
        for (f, alpha, beta, mean, variance) in [
            (F::Uniform, -1.0, 3.0, 1.0, 16.0 / 12.0),
            (F::Normal, 2.0, 3.0, 2.0, 9.0),
            (F::Bernoulli, 0.3, 0.0, 0.3, 0.21),
            (F::Exponential, 0.5, 0.0, 2.0, 4.0),
            (F::Geometric, 0.25, 0.0, 4.0, 12.0),
            (
                F::LogNormal,
                0.0,
                0.5,
                0.125f64.exp(),
                0.25f64.exp() * 0.25f64.exp_m1(),
            ),
        ] {
            let desc = Random {
                out: contiguous(dtype, out, &[N as u64]),
                seed: 42,
                alpha,
                beta,
                function: f.raw(),
                ..Wire::zeroed()
            };
            arena.run(&desc).unwrap();
            let values: Vec<f64> = match dtype {
                F32 => arena
                    .get::<f32>(out, N)
                    .into_iter()
                    .map(f64::from)
                    .collect(),
                _ => arena.get(out, N),
            };
            let n = N as f64;
            let found = values.iter().sum::<f64>() / n;
            assert!(
                (found - mean).abs() < 5.0 * (variance / n).sqrt(),
                "{f:?}: mean {found}"
            );
            let found = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
            assert!(
                (found / variance - 1.0).abs() < 0.05,
                "{f:?}: variance {found}"
            );
        }
    }
}

#[test]
fn numbers_do_not_depend_on_threads_or_order() {
    const N: u64 = 300_000;
    let mut arena = Arena::new(8 << 20);
    let out = arena.reserve(4 * N as usize);
    let mut run = |threads, shuffle| {
        (arena.threads, arena.shuffle) = (threads, shuffle);
        let normal = Random {
            out: contiguous(F32, out, &[3, N / 3]),
            seed: 1,
            beta: 1.0,
            function: F::Normal.raw(),
            ..Wire::zeroed()
        };
        arena.run(&normal).unwrap();
        let numbers: Vec<u32> = arena.get(out, N as usize);
        let order = Permutation {
            out: contiguous(I32, out, &[N]),
            seed: 1,
            ..Wire::zeroed()
        };
        arena.run(&order).unwrap();
        (numbers, arena.get::<u32>(out, N as usize))
    };
    let alone = run(1, 0);
    assert!(alone == run(2, 0) && alone == run(3, 77));
}
