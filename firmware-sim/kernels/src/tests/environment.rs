//! Threads, cancellation, refusals and aliasing.

use std::sync::atomic::Ordering;

use vmlu_abi::status::NO_OPERAND;
use vmlu_abi::tensor::DataType::{F32, I32};
use vmlu_abi::{Status, Wire};
use vmlu_ops::tensor::{contiguous, strided};
use vmlu_ops::{binary, cross_entropy, matmul, reduce, sgd, softmax, unary, Descriptor};

use super::tensors::Rng;
use crate::testing::{Arena, BASE};

/// Commands large enough to be split, all writing to a region of their own.
struct Program {
    arena: Arena,
    matmul: matmul::Matmul,
    add: binary::Binary,
    sums: [reduce::Reduce; 3],
    softmax: softmax::Softmax,
    loss: cross_entropy::CrossEntropy,
}

fn program() -> Program {
    let mut arena = Arena::new(32 << 20);
    let mut rng = Rng::new(99);
    let noise: Vec<f32> = (0..1 << 20).map(|_| rng.value() as f32).collect();
    let (a, b) = (arena.put(&noise), arena.put(&noise));
    let labels: Vec<i32> = (0..1024).map(|i| i % 512).collect();
    let labels = arena.put(&labels);
    let mut out = |elements: usize| arena.reserve(4 * elements);
    let square = |at| contiguous(F32, at, &[1024, 1024]);
    let sum = |at, dims: &[u64], axes| reduce::Reduce {
        x: square(a),
        out: contiguous(F32, at, dims),
        function: 0,
        axes,
        ..vmlu_abi::Wire::zeroed()
    };
    let program = (
        matmul::Matmul {
            a: contiguous(F32, a, &[500, 700]),
            b: contiguous(F32, b, &[700, 300]),
            out: contiguous(F32, out(150_000), &[500, 300]),
            alpha: 1.0,
            ..Wire::zeroed()
        },
        binary::Binary {
            a: square(a),
            b: square(b),
            out: square(out(1 << 20)),
            ..Wire::zeroed()
        },
        [
            sum(out(1024), &[1024], 1),
            sum(out(1024), &[1024], 2),
            sum(out(1), &[], 3),
        ],
        softmax::Softmax {
            x: square(a),
            out: square(out(1 << 20)),
            function: 1,
            axis: 0,
        },
        cross_entropy::CrossEntropy {
            logits: contiguous(F32, a, &[1024, 512]),
            labels: contiguous(I32, labels, &[1024]),
            loss: contiguous(F32, out(1024), &[1024]),
            ..Wire::zeroed()
        },
    );
    Program {
        matmul: program.0,
        add: program.1,
        sums: program.2,
        softmax: program.3,
        loss: program.4,
        arena,
    }
}

impl Program {
    fn run(&self) -> Vec<u8> {
        self.arena.run(&self.matmul).unwrap();
        self.arena.run(&self.add).unwrap();
        for sum in &self.sums {
            self.arena.run(sum).unwrap();
        }
        self.arena.run(&self.softmax).unwrap();
        self.arena.run(&self.loss).unwrap();
        self.arena.snapshot()
    }
}

#[test]
fn results_do_not_depend_on_threads_or_order() {
    let mut program = program();
    let alone = program.run();
    for (threads, shuffle) in [(1, 5), (2, 0), (2, 17), (3, 23)] {
        program.arena.threads = threads;
        program.arena.shuffle = shuffle;
        assert!(alone == program.run(), "{threads} threads, order {shuffle}");
    }
}

#[test]
fn a_cancelled_command_stops_soon() {
    let mut program = program();
    program.arena.threads = 2;
    fn stop<D: Descriptor>(arena: &Arena, desc: &D) {
        arena.checks.store(0, Ordering::Relaxed);
        arena.patience.store(u64::MAX, Ordering::Relaxed);
        arena.run(desc).unwrap();
        let all = arena.checks.load(Ordering::Relaxed);
        assert!(
            all > 4,
            "{} looks at its flag {all} times only",
            D::INFO.name
        );
        for patience in [0, 1, all / 2] {
            arena.checks.store(0, Ordering::Relaxed);
            arena.patience.store(patience, Ordering::Relaxed);
            let fault = arena.run(desc).unwrap_err();
            assert_eq!(
                (fault.status, fault.operand),
                (Status::Cancelled, NO_OPERAND)
            );
            // After the flag rose, each task looks once and returns.
            let after = arena.checks.load(Ordering::Relaxed) - patience;
            assert!(
                after <= 300,
                "{}: {after} looks after the flag rose",
                D::INFO.name
            );
        }
    }
    let arena = &program.arena;
    stop(arena, &program.matmul);
    stop(arena, &program.add);
    stop(arena, &program.sums[0]);
    stop(arena, &program.sums[1]);
    stop(arena, &program.sums[2]);
    stop(arena, &program.softmax);
    stop(arena, &program.loss);
}

/// A guest can ask for more work than will ever end: broadcasting makes it without memory. It must stop when told to.
#[test]
fn endless_work_can_be_cancelled() {
    let mut arena = Arena::new(4096);
    arena.threads = 2;
    let (x, out) = (arena.put(&[1.0f32]), arena.reserve(64));
    let desc = reduce::Reduce {
        x: strided(F32, x, &[1 << 30, 1 << 30], &[0, 0]),
        out: contiguous(F32, out, &[]),
        function: 0,
        axes: 3,
        ..vmlu_abi::Wire::zeroed()
    };
    arena.patience.store(1000, Ordering::Relaxed);
    assert_eq!(arena.run(&desc).unwrap_err().status, Status::Cancelled);
    let desc = matmul::Matmul {
        a: strided(F32, x, &[2, 1 << 40], &[0, 0]),
        b: strided(F32, x, &[1 << 40, 2], &[0, 0]),
        out: contiguous(F32, out, &[2, 2]),
        alpha: 1.0,
        ..Wire::zeroed()
    };
    arena.patience.store(1000, Ordering::Relaxed);
    assert_eq!(arena.run(&desc).unwrap_err().status, Status::Cancelled);
    let desc = softmax::Softmax {
        x: strided(F32, x, &[1 << 40, 0], &[0, 0]),
        out: strided(F32, out, &[1 << 40, 0], &[1, 1]),
        function: 0,
        axis: 1,
    };
    arena.patience.store(u64::MAX, Ordering::Relaxed);
    arena.run(&desc).unwrap();
}

#[test]
fn every_refusal_names_operand_and_rule_and_writes_nothing() {
    let mut arena = Arena::new(1 << 16);
    let (a, b, out) = (
        arena.put(&[1.0f32; 64]),
        arena.put(&[1.0f32; 64]),
        arena.reserve(256),
    );
    let good = matmul::Matmul {
        a: contiguous(F32, a, &[4, 8]),
        b: contiguous(F32, b, &[8, 4]),
        out: contiguous(F32, out, &[4, 4]),
        alpha: 1.0,
        ..Wire::zeroed()
    };
    let before = arena.snapshot();
    let refused = |desc: &matmul::Matmul, status: Status, operand: u16, rule: &str| {
        let fault = arena.run(desc).unwrap_err();
        assert_eq!(
            (fault.status, fault.operand, &fault.rule[..]),
            (status, operand, rule)
        );
        assert!(before == arena.snapshot());
    };
    let b10 = matmul::Matmul {
        b: contiguous(F32, b, &[6, 4]),
        ..good
    };
    refused(
        &b10,
        Status::BadOperand,
        1,
        "matmul: b.dims[0] is 6, but a.dims[1] is 8",
    );
    let far = matmul::Matmul {
        out: contiguous(F32, BASE + (1 << 16), &[4, 4]),
        ..good
    };
    refused(&far, Status::OperandFault, 2, "outside the arena");
    let before_start = matmul::Matmul {
        a: strided(F32, BASE, &[4, 8], &[-8, 1]),
        ..good
    };
    refused(&before_start, Status::OperandFault, 0, "outside the arena");

    let kernel = crate::find(matmul::Matmul::OPCODE).unwrap();
    let short = (kernel.run)(&good.as_bytes()[..600], &arena).unwrap_err();
    assert_eq!(short.status, Status::TruncatedBody);
    assert_eq!(
        short.rule,
        "matmul: the body has 600 bytes, the operator defines 664"
    );
    assert!(before == arena.snapshot());
    arena.run(&good).unwrap();
    assert_eq!(arena.get::<f32>(out, 16), [8.0; 16]);
}

#[test]
fn kernels_and_table_agree() {
    let table = vmlu_ops::table::TABLE;
    assert_eq!(crate::KERNELS.len(), table.len());
    for info in table {
        let kernel = crate::find(info.opcode).expect(info.name);
        assert_eq!((kernel.name, kernel.body), (info.name, info.body));
        let fault = (kernel.run)(&vec![0; info.body], &Arena::new(64)).unwrap_err();
        assert_eq!(fault.status, Status::BadOperand);
        let prefix = format!("{}: ", info.name);
        assert!(fault.rule.starts_with(&prefix), "{}", fault.rule);
    }
    assert!(crate::find(0x3fff).is_none());
}

#[test]
fn elementwise_operators_run_in_place() {
    let mut arena = Arena::new(1 << 20);
    let values: Vec<f32> = (0..100_000).map(|i| i as f32 - 50_000.0).collect();
    let x = arena.put(&values);
    let tensor = contiguous(F32, x, &[100_000]);
    let double = binary::Binary {
        a: tensor,
        b: tensor,
        out: tensor,
        ..Wire::zeroed()
    };
    arena.threads = 2;
    arena.run(&double).unwrap();
    let relu = unary::Unary {
        x: tensor,
        out: tensor,
        function: unary::Function::Relu.raw(),
        ..vmlu_abi::Wire::zeroed()
    };
    arena.run(&relu).unwrap();
    let got: Vec<f32> = arena.get(x, 100_000);
    assert!(got
        .iter()
        .zip(&values)
        .all(|(g, v)| *g == (2.0 * v).max(0.0)));

    // Columns of one matrix, side by side.
    let left = strided(F32, x, &[100, 50], &[100, 1]);
    let right = strided(F32, x + 200, &[100, 50], &[100, 1]);
    let copy = unary::Unary {
        x: left,
        out: right,
        ..Wire::zeroed()
    };
    arena.run(&copy).unwrap();
    let shifted = unary::Unary {
        out: strided(F32, x + 196, &[100, 50], &[100, 1]),
        ..copy
    };
    let fault = arena.run(&shifted).unwrap_err();
    assert_eq!(fault.rule, "unary: out overlaps x, but is not exactly it");
    let step = sgd::Sgd {
        weight: tensor,
        gradient: tensor,
        ..Wire::zeroed()
    };
    let fault = arena.run(&step).unwrap_err();
    assert_eq!(
        (fault.operand, &fault.rule[..]),
        (0, "sgd: weight overlaps gradient, but must not")
    );
}
