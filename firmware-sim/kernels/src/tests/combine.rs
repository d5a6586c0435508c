use half::{bf16, f16};
use proptest::prelude::*;
use vmlu_abi::tensor::DataType;
use vmlu_abi::Wire;
use vmlu_ops::combine::{Combine, Function, MAX_PARTS};

use super::cases;
use super::tensors::Rng;
use crate::testing::Arena;

fn combine(inputs: &[u64], outputs: &[u64], count: u64, dtype: DataType, f: Function) -> Combine {
    let place = |addresses: &[u64]| {
        let mut all = [0; MAX_PARTS];
        all[..addresses.len()].copy_from_slice(addresses);
        all
    };
    Combine {
        inputs: place(inputs),
        outputs: place(outputs),
        count,
        dtype: dtype as u32,
        function: f.raw(),
        input_count: inputs.len() as u32,
        output_count: outputs.len() as u32,
        reserved: 0,
    }
}

fn fold(f: Function, values: &[f64]) -> f64 {
    let all = values.iter().copied();
    match f {
        Function::Sum => all.sum(),
        Function::Product => all.product(),
        Function::Max => all.fold(f64::NEG_INFINITY, f64::max),
        Function::Min => all.fold(f64::INFINITY, f64::min),
        Function::Average => all.sum::<f64>() / values.len() as f64,
    }
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn each_output_is_the_combination(seed: u64, threads in 1..3_usize) {
        let mut rng = Rng::new(seed);
        let (ins, outs) = (1 + rng.below(16) as usize, 1 + rng.below(16) as usize);
        let count = [0, 1, 5, 1024, 1025, 70_000][rng.below(6) as usize];
        let mut arena = Arena::new(34 << 20);
        arena.threads = threads;
        arena.shuffle = seed;
        let f = rng.pick(Function::ALL);
        let in_place = rng.below(2) == 0;
        let outputs: Vec<u64> = (0..outs).map(|_| arena.reserve(count * 4)).collect();

        // Integers are exact.
        let values: Vec<Vec<i32>> = (0..ins).map(|_| (0..count).map(|_| rng.next() as i32).collect()).collect();
        let mut inputs: Vec<u64> = values.iter().map(|v| arena.put(v)).collect();
        let expected: Vec<i32> = (0..count)
            .map(|i| {
                let all = values.iter().map(|v| v[i]);
                match f {
                    Function::Sum => all.fold(0, i32::wrapping_add),
                    Function::Product => all.fold(1, i32::wrapping_mul),
                    Function::Max => all.max().unwrap(),
                    Function::Min => all.min().unwrap(),
                    Function::Average => all.fold(0, i32::wrapping_add).wrapping_div(ins as i32),
                }
            })
            .collect();
        let places = if in_place { &inputs[..outs.min(ins)] } else { &outputs[..] }.to_vec();
        arena.run(&combine(&inputs, &places, count as u64, DataType::I32, f)).unwrap();
        for out in &places {
            prop_assert!(arena.get::<i32>(*out, count) == expected);
        }

        // Half precision: rounded once.
        inputs.truncate(0);
        let halves: Vec<Vec<bf16>> = (0..ins).map(|_| (0..count).map(|_| bf16::from_f64(rng.value())).collect()).collect();
        for v in &halves {
            inputs.push(arena.put(&v.iter().map(|h| h.to_bits()).collect::<Vec<u16>>()));
        }
        arena.run(&combine(&inputs, &outputs, count as u64, DataType::Bf16, f)).unwrap();
        let out = arena.get::<u16>(outputs[outs - 1], count);
        for i in 0..count {
            let all: Vec<f64> = halves.iter().map(|v| v[i].to_f64()).collect();
            let (exact, got) = (fold(f, &all), bf16::from_bits(out[i]).to_f64());
            prop_assert!((exact - got).abs() <= 4e-3 * exact.abs() + 1e-6, "{exact} {got}");
        }
    }
}

/// The order is that of the inputs, whatever they are.
#[test]
fn the_order_is_fixed() {
    let mut arena = Arena::new(1 << 16);
    let inputs: Vec<u64> = [1e8_f32, 1.0, -1e8, 1.0].map(|v| arena.put(&[v])).to_vec();
    let out = arena.reserve(4);
    let run = |inputs: &[u64]| {
        arena
            .run(&combine(inputs, &[out], 1, DataType::F32, Function::Sum))
            .unwrap();
        arena.get::<f32>(out, 1)[0]
    };
    assert_eq!(run(&inputs), 1.0);
    assert_eq!(run(&[inputs[0], inputs[2], inputs[1], inputs[3]]), 2.0);
    let half: Vec<u64> = [1.0_f32, 2048.0, -2048.0]
        .map(|v| arena.put(&[f16::from_f32(v).to_bits()]))
        .to_vec();
    arena
        .run(&combine(&half, &[out], 1, DataType::F16, Function::Sum))
        .unwrap();
    assert_eq!(
        f16::from_bits(arena.get::<u16>(out, 1)[0]).to_f32(),
        1.0,
        "one rounding"
    );
}

#[test]
fn what_is_refused() {
    let mut arena = Arena::new(1 << 16);
    let a = arena.put(&[1_u32; 64]);
    let good = combine(&[a, a + 64], &[a + 128], 16, DataType::F32, Function::Sum);
    let before = arena.snapshot();
    let mut bad = [good; 10];
    bad[0].input_count = 0;
    bad[1].output_count = 17;
    bad[2].inputs[5] = a;
    bad[3].dtype = DataType::Bool as u32;
    bad[4].dtype = 0x1_0001;
    bad[5].function = 5;
    bad[6].reserved = 1;
    bad[7].outputs[0] = a + 4;
    bad[8].inputs[1] = a + 2;
    bad[9].count = u64::MAX / 4;
    for (i, bad) in bad.iter().enumerate() {
        assert!(arena.run(bad).is_err(), "{i}");
    }
    let twice = combine(&[a], &[a + 128, a + 132], 16, DataType::F32, Function::Sum);
    let text = arena.run(&twice).unwrap_err().rule;
    assert_eq!(text, "combine: out overlaps another output");
    assert!(before == arena.snapshot());
    arena.run(&good).unwrap();
    assert!(good.as_bytes().len() == 288 && before != arena.snapshot());
}
