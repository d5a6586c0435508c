//! Optimisers over many parameters against plain loops in f64.

use proptest::prelude::*;
use vmlu_abi::tensor::DataType::{self, Bf16, F16, F32, F64};
use vmlu_abi::{Status, Wire};
use vmlu_ops::parameters::{Part, FLAG_MAXIMIZE, MAX_PARTS, SCALE, SKIP};
use vmlu_ops::tensor::FLOATS;
use vmlu_ops::{adagrad, adam, fused_sgd, lamb, rmsprop, Descriptor};

use super::cases;
use super::tensors::{expect_only, Rng, Tensor};
use crate::testing::Arena;

/// What a command works on.
struct Model {
    parts: [Part; MAX_PARTS],
    /// Weights, gradients, states and copies.
    tensors: Vec<[Option<Tensor>; 6]>,
    dtype: DataType,
    gradient_type: DataType,
    copy_type: u32,
    scale: f64,
    scale_address: u64,
    skip_address: u64,
    flags: u32,
}

impl Model {
    fn random(rng: &mut Rng, arena: &mut Arena, states: usize, flags: u32) -> Self {
        let dtype = rng.pick(&FLOATS);
        let partner = |rng: &mut Rng| match dtype {
            F64 => F64,
            _ => rng.pick(&[F32, F16, Bf16]),
        };
        let gradient_type = partner(rng);
        let copy = (rng.below(2) == 0).then(|| partner(rng));
        let mut parts = [Part::zeroed(); MAX_PARTS];
        let mut tensors = Vec::new();
        let long = rng.below(8) == 0;
        for part in &mut parts[..1 + rng.below(if long { 3 } else { 8 }) as usize] {
            let count = rng.below(if long { 40_000 } else { 60 });
            let mut vector = |dtype: DataType, positive: bool| {
                let at = arena.reserve(count as usize * dtype.size() + 8);
                let t = Tensor {
                    dtype,
                    dims: vec![count],
                    strides: vec![1],
                    address: at,
                };
                for i in 0..count {
                    let v = rng.value();
                    t.set(arena, &[i], if positive { v.abs() + 0.125 } else { v });
                }
                t
            };
            let weight = vector(dtype, false);
            let gradient = vector(gradient_type, false);
            // Second moments are not negative, and not below the square of the first.
            let state = [0, 1, 2].map(|k| (k < states).then(|| vector(dtype, true)));
            let copy = copy.map(|t| vector(t, false));
            let at = |t: &Option<Tensor>| t.as_ref().map_or(0, |t| t.address);
            *part = Part {
                weight: weight.address,
                gradient: gradient.address,
                states: state.each_ref().map(at),
                copy: at(&copy),
                count,
            };
            let [a, b, c] = state;
            tensors.push([Some(weight), Some(gradient), a, b, c, copy]);
        }
        let scale = rng.pick(&[1.0, 4.0]);
        Self {
            parts,
            tensors,
            dtype,
            gradient_type,
            copy_type: copy.map_or(0, |t| t as u32),
            scale,
            scale_address: if scale == 1.0 {
                0
            } else {
                arena.put(&[scale as f32])
            },
            skip_address: if rng.below(2) == 0 {
                0
            } else {
                arena.put(&[0f32])
            },
            flags: flags | (rng.below(2) as u32 * FLAG_MAXIMIZE),
        }
    }

    /// All elements before: weight, gradient as the formulas take it, states.
    fn before(&self, arena: &Arena) -> Vec<Vec<[f64; 5]>> {
        let sign = if self.flags & FLAG_MAXIMIZE != 0 {
            -1.0
        } else {
            1.0
        };
        let of = |tensors: &[Option<Tensor>; 6]| {
            let count = tensors[0].as_ref().map_or(0, |t| t.dims[0]);
            let get = |k: usize, i| tensors[k].as_ref().map_or(0.0, |t| t.get(arena, &[i]));
            let element = |i| {
                [
                    get(0, i),
                    sign * get(1, i) / self.scale,
                    get(2, i),
                    get(3, i),
                    get(4, i),
                ]
            };
            (0..count).map(element).collect()
        };
        self.tensors.iter().map(of).collect()
    }

    /// Runs it and compares all with `want(parameter, element)`: weight, gradient (not looked at), states.
    fn check<D: Descriptor>(
        &self,
        arena: &mut Arena,
        desc: &D,
        relative: f64,
        want: impl Fn(&[[f64; 5]], [f64; 5]) -> [f64; 5],
    ) {
        let before = arena.snapshot();
        let values = self.before(arena);
        // Told to skip, it does nothing.
        if self.skip_address != 0 {
            arena.set(self.skip_address, &[1f32]);
            let still = arena.snapshot();
            arena.run(desc).unwrap();
            assert!(still == arena.snapshot());
            arena.set(self.skip_address, &[0f32]);
        }
        arena.threads = 2;
        arena.run(desc).unwrap();
        let written = |t: &[Option<Tensor>; 6]| {
            let all = [0, 2, 3, 4, 5].map(|k| t[k].clone());
            all.into_iter().flatten().collect::<Vec<_>>()
        };
        let written: Vec<Tensor> = self.tensors.iter().flat_map(written).collect();
        let written: Vec<&Tensor> = written.iter().collect();
        if written.iter().map(|t| t.dims[0]).sum::<u64>() < 2000 {
            expect_only(arena, before, &written);
        }
        let near = |t: &Tensor, i: u64, want: f64, terms: f64| {
            let unit = if self.dtype == F64 { 1e-13 } else { 1e-6 };
            t.expect(arena, &[i], want, unit * relative * (want.abs() + terms));
        };
        for (tensors, values) in self.tensors.iter().zip(&values) {
            let every = if values.len() > 1000 { 379 } else { 1 };
            for (i, old) in values.iter().enumerate().step_by(every) {
                let new = want(values, *old);
                let i = i as u64;
                let terms = old.iter().fold(1.0, |m: f64, v| m.max(v.abs()));
                for k in [0, 2, 3, 4] {
                    if let Some(t) = &tensors[k] {
                        near(t, i, new[k], terms);
                    }
                }
                if let Some(t) = &tensors[5] {
                    near(t, i, new[0], terms);
                }
            }
        }
    }
}

/// Fills a descriptor with a model and the scalars that an optimiser has.
macro_rules! describe {
    ($t:ty, $m:expr, $($field:ident: $value:expr),* $(,)?) => {
        <$t>::clone(&{
            let mut desc = <$t>::zeroed();
            desc.parts = $m.parts;
            desc.count = $m.tensors.len() as u32;
            desc.dtype = $m.dtype as u32;
            desc.gradient_type = $m.gradient_type as u32;
            desc.copy_type = $m.copy_type;
            desc.scale_address = $m.scale_address;
            desc.skip_address = $m.skip_address;
            desc.flags = $m.flags;
            $( desc.$field = $value; )*
            desc
        })
    };
}

/// Rounds as a type does.
fn round(dtype: DataType, v: f64) -> f64 {
    match dtype {
        F16 => half::f16::from_f64(v).to_f64(),
        Bf16 => half::bf16::from_f64(v).to_f64(),
        F32 => f64::from(v as f32),
        _ => v,
    }
}

proptest! {
    #![proptest_config(cases(120))]

    #[test]
    fn sgd_matches_its_formula(seed: u64) {
        let (mut rng, mut arena) = (Rng::new(seed), Arena::new(8 << 20));
        let momentum = rng.pick(&[0.0, 0.75]);
        let (mut flags, mut dampening) = (0, 0.0);
        if momentum != 0.0 {
            flags = rng.pick(&[0, fused_sgd::FLAG_NESTEROV, fused_sgd::FLAG_FIRST, 6]);
            dampening = rng.pick(&[0.0, 0.25]);
        }
        let model = Model::random(&mut rng, &mut arena, usize::from(momentum != 0.0), flags);
        let (rate, decay) = (0.125, rng.pick(&[0.0, 0.5]));
        let desc = describe!(fused_sgd::FusedSgd, model,
            rate: rate, momentum: momentum, dampening: dampening, weight_decay: decay);
        model.check(&mut arena, &desc, 4.0, |_, [w, g, v, ..]| {
            let mut d = decay * w + g;
            let mut v = v;
            if momentum != 0.0 {
                v = if flags & fused_sgd::FLAG_FIRST != 0 { d } else { momentum * v + (1.0 - dampening) * d };
                d = if flags & fused_sgd::FLAG_NESTEROV != 0 { momentum * v + d } else { v };
            }
            [w - rate * d, 0.0, v, 0.0, 0.0]
        });
    }

    #[test]
    fn adam_matches_its_formula(seed: u64) {
        let (mut rng, mut arena) = (Rng::new(seed), Arena::new(8 << 20));
        let flags = rng.pick(&[0, adam::FLAG_DECOUPLED, adam::FLAG_AMSGRAD, 6]);
        let largest = flags & adam::FLAG_AMSGRAD != 0;
        let model = Model::random(&mut rng, &mut arena, if largest { 3 } else { 2 }, flags);
        let (rate, beta1, beta2, eps) = (0.01, 0.9, 0.99, 1e-6);
        let (decay, step) = (rng.pick(&[0.0, 0.25]), 1 + rng.below(20));
        let desc = describe!(adam::Adam, model,
            rate: rate, beta1: beta1, beta2: beta2, eps: eps, weight_decay: decay, step: step);
        model.check(&mut arena, &desc, 8.0, |_, [w, g, m, v, x]| {
            let (mut w, mut g) = (w, g);
            if flags & adam::FLAG_DECOUPLED != 0 {
                w *= 1.0 - rate * decay;
            } else {
                g += decay * w;
            }
            let m = beta1 * m + (1.0 - beta1) * g;
            let v = beta2 * v + (1.0 - beta2) * g * g;
            let x = if largest { x.max(v) } else { 0.0 };
            let power = |b: f64| 1.0 - b.powi(step as i32);
            let d = (if largest { x } else { v }).sqrt() / power(beta2).sqrt() + eps;
            [w - rate / power(beta1) * m / d, 0.0, m, v, x]
        });
    }

    #[test]
    fn lamb_matches_its_formula(seed: u64) {
        let (mut rng, mut arena) = (Rng::new(seed), Arena::new(8 << 20));
        let flags = rng.pick(&[0, lamb::FLAG_UNCORRECTED]);
        let model = Model::random(&mut rng, &mut arena, 2, flags);
        let (rate, beta1, beta2, eps) = (0.01, 0.9, 0.99, 1e-6);
        let (decay, step) = (rng.pick(&[0.0, 0.25]), 1 + rng.below(20));
        let desc = describe!(lamb::Lamb, model,
            rate: rate, beta1: beta1, beta2: beta2, eps: eps, weight_decay: decay, step: step);
        let dtype = model.dtype;
        let direction = |[w, g, m, v, _]: [f64; 5]| {
            let power = |b: f64| if flags == 0 { 1.0 - b.powi(step as i32) } else { 1.0 };
            let m = round(dtype, beta1 * m + (1.0 - beta1) * g);
            let v = round(dtype, beta2 * v + (1.0 - beta2) * g * g);
            (decay * w + m / power(beta1) / (v.sqrt() / power(beta2).sqrt() + eps), m, v)
        };
        // A moment next to a rounding boundary may fall on either side.
        let slack = if matches!(dtype, F16 | Bf16) { 2000.0 } else { 16.0 };
        model.check(&mut arena, &desc, slack, |all, old| {
            let norm = |f: &dyn Fn(&[f64; 5]) -> f64| all.iter().map(|v| f(v).powi(2)).sum::<f64>().sqrt();
            let (w, u) = (norm(&|v| v[0]), norm(&|v| direction(*v).0));
            let trust = if w > 0.0 && u > 0.0 { w / u } else { 1.0 };
            let (u, m, v) = direction(old);
            [old[0] - rate * trust * u, 0.0, m, v, 0.0]
        });
    }

    #[test]
    fn adagrad_matches_its_formula(seed: u64) {
        let (mut rng, mut arena) = (Rng::new(seed), Arena::new(8 << 20));
        let model = Model::random(&mut rng, &mut arena, 1, 0);
        let (rate, fade, eps) = (0.1, 0.01, 1e-8);
        let (decay, step) = (rng.pick(&[0.0, 0.25]), 1 + rng.below(20));
        let desc = describe!(adagrad::Adagrad, model,
            rate: rate, rate_decay: fade, eps: eps, weight_decay: decay, step: step);
        model.check(&mut arena, &desc, 8.0, |_, [w, g, s, ..]| {
            let g = decay * w + g;
            let s = s + g * g;
            [w - rate / (1.0 + (step - 1) as f64 * fade) * g / (s.sqrt() + eps), 0.0, s, 0.0, 0.0]
        });
    }

    #[test]
    fn rmsprop_matches_its_formula(seed: u64) {
        let (mut rng, mut arena) = (Rng::new(seed), Arena::new(8 << 20));
        let centred = rng.below(2) == 0;
        let momentum = rng.pick(&[0.0, 0.75]);
        let states = 1 + usize::from(centred) + usize::from(momentum != 0.0);
        let flags = if centred { rmsprop::FLAG_CENTRED } else { 0 };
        let model = Model::random(&mut rng, &mut arena, states, flags);
        if centred {
            // A variance that is not near 0.
            for t in &model.tensors {
                for i in 0..t[0].as_ref().unwrap().dims[0] {
                    t[2].as_ref().unwrap().set(&mut arena, &[i], 9.0);
                }
            }
        }
        let (rate, alpha, eps, decay) = (0.01, 0.9, 1e-6, rng.pick(&[0.0, 0.25]));
        let desc = describe!(rmsprop::Rmsprop, model,
            rate: rate, alpha: alpha, momentum: momentum, eps: eps, weight_decay: decay);
        model.check(&mut arena, &desc, 8.0, |_, [w, g, s, a, b]| {
            let g = decay * w + g;
            let s = alpha * s + (1.0 - alpha) * g * g;
            let (mut a, mut v) = if centred { (a, b) } else { (0.0, a) };
            let mut d = s.sqrt() + eps;
            if centred {
                a = alpha * a + (1.0 - alpha) * g;
                d = (s - a * a).sqrt() + eps;
            }
            let mut u = g / d;
            if momentum != 0.0 {
                v = momentum * v + u;
                u = v;
            }
            let states = match (centred, momentum != 0.0) {
                (true, true) => [s, a, v],
                (true, false) => [s, a, 0.0],
                (false, true) => [s, v, 0.0],
                (false, false) => [s, 0.0, 0.0],
            };
            [w - rate * u, 0.0, states[0], states[1], states[2]]
        });
    }
}

#[test]
fn what_cannot_be_reached_is_named_and_nothing_is_written() {
    let mut arena = Arena::new(1 << 14);
    let x = arena.reserve(1 << 12);
    let mut desc = adam::Adam {
        count: 2,
        dtype: F32 as u32,
        gradient_type: F32 as u32,
        step: 1,
        ..Wire::zeroed()
    };
    for i in 0..2 {
        let at = x + 512 * i;
        desc.parts[i as usize] = Part {
            weight: at,
            gradient: at + 64,
            states: [at + 128, at + 192, 0],
            copy: 0,
            count: 16,
        };
    }
    arena.run(&desc).unwrap();
    let before = arena.snapshot();
    let fault = |change: &dyn Fn(&mut adam::Adam)| {
        let mut bad = desc;
        change(&mut bad);
        let fault = arena.run(&bad).unwrap_err();
        assert!(before == arena.snapshot());
        (fault.status, fault.operand)
    };
    let far = 0x1234_0000;
    assert_eq!(
        fault(&|d| d.parts[1].gradient = far),
        (Status::OperandFault, 7)
    );
    assert_eq!(
        fault(&|d| d.parts[1].states[1] = far),
        (Status::OperandFault, 9)
    );
    assert_eq!(fault(&|d| d.parts[1].count = 1 << 40).0, Status::BadOperand);
    assert_eq!(
        fault(&|d| d.scale_address = far),
        (Status::OperandFault, SCALE)
    );
    assert_eq!(
        fault(&|d| d.skip_address = far),
        (Status::OperandFault, SKIP)
    );
    // The second weights lie in the first states.
    assert_eq!(
        fault(&|d| d.parts[1].weight = x + 160),
        (Status::BadOperand, 6)
    );
}
