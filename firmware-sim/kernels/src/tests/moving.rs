//! Data movement: concat, split, pad, take, put, ranges and triangles.

use proptest::prelude::*;
use vmlu_abi::tensor::DataType::{self, Bool, F16, F32, F64, I32, I64, I8, U16};
use vmlu_abi::tensor::TensorDesc;
use vmlu_abi::{Status, Wire};
use vmlu_ops::tensor::{absent, contiguous, is_float, strided, transposed, INDICES};
use vmlu_ops::{concat, pad, put, range, take, unary};

use super::cases;
use super::tensors::{expect_only, indices, Rng, Tensor};
use crate::testing::Arena;

const TYPES: [DataType; 8] = [F32, F16, F64, I8, I32, I64, U16, Bool];

/// The bits of an element.
fn bits(t: &Tensor, arena: &Arena, index: &[u64]) -> Vec<u8> {
    arena.get(t.element(index), t.dtype.size())
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn concat_and_split(seed: u64) {
        let (mut rng, mut arena) = (Rng::new(seed), Arena::new(1 << 19));
        let dtype = rng.pick(&TYPES);
        let mut dims = rng.dims(1..=4);
        let axis = rng.below(dims.len() as u64) as usize;
        let count = 1 + rng.below(5) as usize;
        let lengths: Vec<u64> = (0..count).map(|_| rng.below(4)).collect();
        let parts: Vec<Tensor> = lengths.iter().map(|l| {
            dims[axis] = *l;
            Tensor::random(&mut rng, &mut arena, dtype, &dims)
        }).collect();
        dims[axis] = lengths.iter().sum();
        let whole = Tensor::random(&mut rng, &mut arena, dtype, &dims);
        let f = rng.pick(concat::Function::ALL);
        let mut descs = [absent(); 16];
        for (d, p) in descs.iter_mut().zip(&parts) {
            *d = p.desc();
        }
        let desc = concat::Concat {
            whole: whole.desc(), parts: descs, count: count as u32, axis: axis as u32, function: f.raw(), reserved: 0,
        };
        let before = arena.snapshot();
        arena.run(&desc).unwrap();
        if f == concat::Function::Concat {
            expect_only(&arena, before, &[&whole]);
        } else {
            expect_only(&arena, before, &parts.iter().collect::<Vec<_>>());
        }
        let mut start = 0;
        for (part, length) in parts.iter().zip(&lengths) {
            for mut i in part.indices() {
                let own = bits(part, &arena, &i);
                i[axis] += start;
                prop_assert_eq!(own, bits(&whole, &arena, &i));
            }
            start += length;
        }
    }

    #[test]
    fn pad_matches_its_definition(seed: u64) {
        let (mut rng, mut arena) = (Rng::new(seed), Arena::new(1 << 19));
        let dtype = rng.pick(&TYPES);
        let f = rng.pick(pad::Function::ALL);
        let dims: Vec<u64> = rng.dims(0..=3).iter().map(|d| *d.max(&1)).collect();
        let (mut before_, mut out_dims) = ([0i64; 8], vec![]);
        for (i, d) in dims.iter().enumerate() {
            let most = match f {
                pad::Function::Reflect => d - 1,
                pad::Function::Symmetric => *d,
                _ => 9,
            } as i64;
            let border = |rng: &mut Rng| rng.below(most as u64 + 3) as i64 - 2;
            let (a, b) = (border(&mut rng), border(&mut rng));
            before_[i] = a;
            out_dims.push((*d as i64 + a + b).max(0) as u64);
            if *d as i64 + a + b < 0 {
                before_[i] = 0;
                *out_dims.last_mut().unwrap() = *d;
            }
        }
        let x = Tensor::random(&mut rng, &mut arena, dtype, &dims);
        let out = Tensor::random(&mut rng, &mut arena, dtype, &out_dims);
        let outside = if f == pad::Function::Constant { rng.next() >> (64 - 8 * dtype.size()) } else { 0 };
        let desc = pad::Pad { x: x.desc(), out: out.desc(), before: before_, bits: outside, function: f.raw(), reserved: 0 };
        let before = arena.snapshot();
        arena.run(&desc).unwrap();
        expect_only(&arena, before, &[&out]);
        for o in out.indices() {
            let from: Option<Vec<u64>> = o.iter().enumerate().map(|(i, p)| {
                let (n, mut p) = (dims[i] as i64, *p as i64 - before_[i]);
                let inside = |p: i64| (0..n).contains(&p).then_some(p as u64);
                match f {
                    pad::Function::Constant => inside(p),
                    pad::Function::Edge => Some(p.clamp(0, n - 1) as u64),
                    pad::Function::Wrap => { while p < 0 { p += n; } Some((p % n) as u64) }
                    pad::Function::Reflect => {
                        p = p.abs();
                        inside(if p >= n { 2 * n - 2 - p } else { p })
                    }
                    pad::Function::Symmetric => {
                        p = if p < 0 { -p - 1 } else { p };
                        inside(if p >= n { 2 * n - 1 - p } else { p })
                    }
                }
            }).collect();
            let want = match &from {
                Some(i) => bits(&x, &arena, i),
                None => outside.to_le_bytes()[..dtype.size()].to_vec(),
            };
            prop_assert_eq!(bits(&out, &arena, &o), want, "{:?} of {:?}", o, desc);
        }
    }

    #[test]
    fn take_and_put(seed: u64) {
        let (mut rng, mut arena) = (Rng::new(seed), Arena::new(1 << 19));
        let dtype = rng.pick(&TYPES);
        let x_dims: Vec<u64> = rng.dims(1..=4).iter().map(|d| *d.max(&1)).collect();
        // Some axes of x are indexed; the others map to axes of the positions in any order, among others.
        let count = 1 + rng.below(x_dims.len() as u64) as usize;
        let mut order: Vec<usize> = (0..x_dims.len()).collect();
        for i in (1..order.len()).rev() {
            order.swap(i, rng.below(i as u64 + 1) as usize);
        }
        let (indexed, mapped) = order.split_at(count);
        let mut dims: Vec<u64> = mapped.iter().map(|a| x_dims[*a] - rng.below(2) * u64::from(x_dims[*a] > 1)).collect();
        for _ in 0..rng.below(3) {
            dims.push(1 + rng.below(5));
        }
        let mut place: Vec<usize> = (0..dims.len()).collect();
        for i in (1..place.len()).rev() {
            place.swap(i, rng.below(i as u64 + 1) as usize);
        }
        let dims: Vec<u64> = { let mut d = vec![0; dims.len()]; for (i, p) in place.iter().enumerate() { d[*p] = dims[i]; } d };
        let (mut axes, mut map) = ([take::NONE; 8], [take::NONE; 8]);
        for (k, a) in indexed.iter().enumerate() {
            axes[k] = *a as u8;
        }
        for (i, a) in mapped.iter().enumerate() {
            map[*a] = place[i] as u8;
        }
        let wrap = rng.below(2) == 0;
        let mut descs = [absent(); 8];
        let tensors: Vec<Tensor> = indexed.iter().enumerate().map(|(k, a)| {
            let kind = rng.pick(&INDICES);
            let t = Tensor::random_broadcast(&mut rng, &mut arena, kind, &dims);
            for i in t.indices() {
                let n = x_dims[*a] as i64;
                let v = rng.below(n as u64) as i64 - if wrap && rng.below(2) == 0 { n } else { 0 };
                // `set` takes five times the value.
                let at = t.element(&i);
                if kind == I32 { arena.set(at, &[v as i32]) } else { arena.set(at, &[v]) }
            }
            descs[k] = t.desc();
            t
        }).collect();
        let x = Tensor::random(&mut rng, &mut arena, dtype, &x_dims);
        let from = |arena: &Arena, p: &[u64]| -> Vec<u64> {
            let mut at = vec![0; x_dims.len()];
            for (t, a) in tensors.iter().zip(indexed) {
                let v = t.get_whole(arena, &t.broadcast(p));
                at[*a] = (if v < 0 { v + i128::from(x_dims[*a]) } else { v }) as u64;
            }
            for (i, a) in mapped.iter().enumerate() {
                at[*a] = p[place[i]];
            }
            at
        };
        let flags = u32::from(wrap);
        let out = Tensor::random(&mut rng, &mut arena, dtype, &dims);
        let desc = take::Take { x: x.desc(), out: out.desc(), indices: descs, axes, map, flags, reserved: 0 };
        let before = arena.snapshot();
        arena.run(&desc).unwrap();
        expect_only(&arena, before, &[&out]);
        for p in out.indices() {
            prop_assert_eq!(bits(&out, &arena, &p), bits(&x, &arena, &from(&arena, &p)));
        }

        let f = if dtype == Bool { put::Function::Set } else { rng.pick(put::Function::ALL) };
        let source = Tensor::random_broadcast(&mut rng, &mut arena, dtype, &dims);
        let skip = rng.below(2) == 0;
        let mut all = [0; 8];
        all[..dims.len()].copy_from_slice(&dims);
        let desc = put::Put {
            x: source.desc(), out: x.desc(), indices: descs, axes, map, dims: all, rank: dims.len() as u32,
            skip: i64::from(skip), flags: flags | if skip { put::FLAG_SKIP } else { 0 }, function: f.raw(), reserved: 0,
        };
        // The same, one position after the other, on values.
        let mut model: std::collections::HashMap<Vec<u64>, f64> = indices(&x_dims).into_iter().map(|i| { let v = x.get(&arena, &i); (i, v) }).collect();
        let round = |v: f64| match dtype {
            F32 => f64::from(v as f32),
            F16 => f64::from(half::f16::from_f64(v)),
            F64 => v,
            I8 => f64::from(v as i64 as i8),
            U16 => f64::from(v as i64 as u16),
            I32 => f64::from(v as i64 as i32),
            _ => v,
        };
        for p in indices(&dims) {
            if skip && tensors[0].get_whole(&arena, &tensors[0].broadcast(&p)) == 1 {
                continue;
            }
            let v = source.get_broadcast(&arena, &p);
            let old = model.get_mut(&from(&arena, &p)).unwrap();
            *old = round(match f {
                put::Function::Set => v,
                put::Function::Add => *old + v,
                put::Function::Mul => *old * v,
                put::Function::Max => old.max(v),
                put::Function::Min => old.min(v),
            });
        }
        let before = arena.snapshot();
        arena.run(&desc).unwrap();
        expect_only(&arena, before, &[&x]);
        for (i, want) in &model {
            let got = x.get(&arena, i);
            // Whole products of many factors leave f64.
            prop_assert!(got == *want || (!is_float(dtype) && want.abs() > 1e15), "{:?}: {} is not {}", i, got, want);
        }
    }

    #[test]
    fn ranges_and_triangles(seed: u64) {
        let (mut rng, mut arena) = (Rng::new(seed), Arena::new(1 << 19));
        let f = rng.pick(range::Function::ALL);
        let dtype = rng.pick(&[F32, F16, F64, I8, I32, I64]);
        let line = matches!(f, range::Function::Arange | range::Function::Linspace);
        let dims = if line { vec![rng.below(40)] } else { rng.dims(2..=4) };
        let out = Tensor::random(&mut rng, &mut arena, dtype, &dims);
        let x = Tensor::random(&mut rng, &mut arena, dtype, &dims);
        let triangle = matches!(f, range::Function::Tril | range::Function::Triu);
        let whole = !is_float(dtype) || !line;
        let mut scalar = || if whole { (rng.value() * 3.0).round() + 0.0 } else { rng.value() };
        let (alpha, beta) = (scalar(), if line { scalar() } else { 0.0 });
        let desc = range::Range {
            out: out.desc(), x: if triangle { x.desc() } else { absent() }, alpha, beta, function: f.raw(), reserved: 0,
        };
        let before = arena.snapshot();
        arena.run(&desc).unwrap();
        expect_only(&arena, before, &[&out]);
        for i in out.indices() {
            let n = dims.len();
            let d = if line { 0 } else { i[n - 1] as i64 - i[n - 2] as i64 };
            let keep = |k: bool| if k { x.get(&arena, &i) } else { 0.0 };
            let want = match f {
                range::Function::Arange => alpha + i[0] as f64 * beta,
                range::Function::Linspace if dims[0] == 1 => alpha,
                range::Function::Linspace => alpha + (beta - alpha) * i[0] as f64 / (dims[0] - 1) as f64,
                range::Function::Eye => f64::from(u8::from(d == alpha as i64)),
                range::Function::Tril => keep(d <= alpha as i64),
                range::Function::Triu => keep(d >= alpha as i64),
            };
            if is_float(dtype) {
                out.expect(&arena, &i, want, 1e-14 * (alpha.abs() + beta.abs()));
            } else if dtype == I8 || f == range::Function::Linspace {
                let near = (out.get(&arena, &i) - f64::from(want as i64 as i8)).abs();
                prop_assert!(near <= f64::from(u8::from(f == range::Function::Linspace)));
            } else {
                prop_assert_eq!(out.get(&arena, &i), want);
            }
        }
    }
}

#[test]
fn large_transposes_in_blocks() {
    let mut arena = Arena::new(8 << 20);
    for dtype in [I8, U16, F32, F64] {
        let bytes: Vec<u8> = (0..300 * 260 * 3 * 8u32)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect();
        let x = arena.put(&bytes);
        let out = arena.reserve(bytes.len());
        let from = contiguous(dtype, x, &[3, 300, 260]);
        for (i, j) in [(1, 2), (0, 2), (0, 1)] {
            let turned = transposed(from, i, j);
            let dims = &turned.dims[..3];
            let desc = unary::Unary {
                x: turned,
                out: contiguous(dtype, out, dims),
                ..Wire::zeroed()
            };
            arena.threads = 2;
            arena.run(&desc).unwrap();
            let of = |d: &TensorDesc| Tensor {
                dtype,
                dims: d.dims[..3].to_vec(),
                strides: d.strides[..3].to_vec(),
                address: d.address,
            };
            let (a, b) = (of(&desc.x), of(&desc.out));
            for p in [
                [0, 0, 0],
                [dims[0] - 1, dims[1] - 1, dims[2] - 1],
                [1, 1, 1],
                [2, 2, 2],
            ] {
                assert_eq!(bits(&a, &arena, &p), bits(&b, &arena, &p));
            }
            // All of it: the same bytes in all.
            let sum = |t: u64| {
                arena
                    .get::<u8>(t, 300 * 260 * 3 * dtype.size())
                    .iter()
                    .map(|b| u64::from(*b))
                    .sum::<u64>()
            };
            assert_eq!(sum(x), sum(out));
        }
        arena = Arena::new(8 << 20);
    }
}

#[test]
fn bad_indices_write_nothing() {
    let mut arena = Arena::new(4096);
    let x = arena.put(&[1.0f32, 2.0, 3.0]);
    let out = arena.reserve(16);
    let index = arena.put(&[0i64, 2, 3, -1]);
    let mut indices = [absent(); 8];
    indices[0] = contiguous(I64, index, &[4]);
    let mut axes = [take::NONE; 8];
    axes[0] = 0;
    let desc = take::Take {
        x: contiguous(F32, x, &[3]),
        out: contiguous(F32, out, &[4]),
        indices,
        axes,
        map: [take::NONE; 8],
        flags: take::FLAG_WRAP,
        reserved: 0,
    };
    let before = arena.snapshot();
    let fault = arena.run(&desc).unwrap_err();
    assert_eq!((fault.status, fault.operand), (Status::IndexOutOfRange, 2));
    assert_eq!(
        fault.rule,
        "take: index 0 has 3, but its axis has 3 elements"
    );
    assert!(before == arena.snapshot());
    let desc = put::Put {
        x: strided(F32, x, &[4], &[0]),
        out: contiguous(F32, out, &[3]),
        indices,
        axes,
        map: [take::NONE; 8],
        dims: [4, 0, 0, 0, 0, 0, 0, 0],
        rank: 1,
        ..Wire::zeroed()
    };
    let fault = arena.run(&desc).unwrap_err();
    assert_eq!((fault.status, fault.operand), (Status::IndexOutOfRange, 2));
    assert!(before == arena.snapshot());
}

/// The gradient of an embedding, on several cores: the same as on one.
#[test]
fn large_puts_do_not_depend_on_threads() {
    let mut arena = Arena::new(16 << 20);
    let mut rng = Rng::new(8);
    let values: Vec<f32> = (0..512 * 512).map(|_| rng.value() as f32).collect();
    let rows: Vec<i32> = (0..512).map(|_| rng.below(7) as i32).collect();
    let x = arena.put(&values);
    let index = arena.put(&rows);
    let out = arena.reserve(4 * 7 * 512);
    let mut indices = [absent(); 8];
    indices[0] = strided(I32, index, &[512, 1], &[1, 1]);
    let (mut axes, mut map) = ([take::NONE; 8], [take::NONE; 8]);
    (axes[0], map[1]) = (0, 1);
    let desc = put::Put {
        x: contiguous(F32, x, &[512, 512]),
        out: contiguous(F32, out, &[7, 512]),
        indices,
        axes,
        map,
        dims: [512, 512, 0, 0, 0, 0, 0, 0],
        rank: 2,
        function: put::Function::Add.raw(),
        ..Wire::zeroed()
    };
    let mut results = vec![];
    for threads in [1, 3] {
        arena.threads = threads;
        arena.set(out, &[0f32; 7 * 512]);
        arena.run(&desc).unwrap();
        results.push(arena.get::<f32>(out, 7 * 512));
    }
    assert!(results[0] == results[1]);
    let want: f64 = (0..512)
        .filter(|r| rows[*r] == 3)
        .map(|r| f64::from(values[r * 512 + 5]))
        .sum();
    assert!((f64::from(results[0][3 * 512 + 5]) - want).abs() < 1e-4);
}
