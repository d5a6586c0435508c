//! Speed of some kernels on this host: `cargo run --release -p vmlu-firmware --features testing --example kernels`; with the argument `large` only
//! those of operands that do not fit the caches.

use vmlu_abi::tensor::DataType::{self, Bf16, F16, F32, F64, I32, I8};
use vmlu_abi::Wire;
use vmlu_kernels::testing::Arena;
use vmlu_ops::tensor::{contiguous, transposed};
use vmlu_ops::{binary, cast, cross_entropy, matmul, norm, reduce, softmax, unary, Descriptor};

/// Seconds: of this thread's processor time where it works alone, so that a busy host does not spoil the figure.
fn now(arena: &Arena) -> f64 {
    let clock = match arena.threads {
        1 => rustix::time::ClockId::ThreadCPUTime,
        _ => rustix::time::ClockId::Monotonic,
    };
    let time = rustix::time::clock_gettime(clock);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Median seconds of a run.
fn time<D: Descriptor>(arena: &Arena, desc: &D) -> f64 {
    let mut times: Vec<f64> = (0..9)
        .map(|_| {
            let start = now(arena);
            let mut runs = 0;
            while runs == 0 || now(arena) - start < 0.02 {
                arena.run(desc).expect("the kernel runs");
                runs += 1;
            }
            (now(arena) - start) / f64::from(runs)
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn main() {
    let mut arena = Arena::new(256 << 20);
    let addresses: [u64; 3] = std::array::from_fn(|_| arena.reserve(64 << 20));
    let noise: Vec<f32> = (0..16u32 << 20)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 23) as f32 - 1.0)
        .collect();
    arena.set(addresses[0], &noise);
    arena.set(addresses[1], &noise);
    let [a, b, c] = addresses;
    if std::env::args().nth(1).as_deref() == Some("large") {
        return large(&mut arena, addresses);
    }
    for threads in [1, 2] {
        arena.threads = threads;
        let product = |dtype: DataType, out, m: u64, n: u64, k: u64, nt: bool| {
            let right = match nt {
                true => transposed(contiguous(dtype, b, &[n, k]), 0, 1),
                false => contiguous(dtype, b, &[k, n]),
            };
            let desc = matmul::Matmul {
                a: contiguous(dtype, a, &[m, k]),
                b: right,
                out: contiguous(out, c, &[m, n]),
                alpha: 1.0,
                ..Wire::zeroed()
            };
            let rate = 2.0 * (m * n * k) as f64 / time(&arena, &desc) / 1e9;
            let form = if nt { "nt" } else { "nn" };
            println!("{threads}T matmul {dtype:?} {m}x{n}x{k} {form}: {rate:.1} Gop/s");
        };
        for size in [64, 256, 1024, 2048] {
            product(F32, F32, size, size, size, false);
        }
        product(F32, F32, 1024, 1024, 1024, true);
        product(F32, F32, 16, 2048, 2048, true);
        product(F64, F64, 1024, 1024, 1024, false);
        product(Bf16, F32, 1024, 1024, 1024, false);
        product(F16, F16, 1024, 1024, 1024, false);
        product(I8, I32, 1024, 1024, 1024, false);

        let tiny = |at| contiguous(F32, at, &[4, 4]);
        let add = binary::Binary {
            a: tiny(a),
            b: tiny(b),
            out: tiny(c),
            ..Wire::zeroed()
        };
        let desc = matmul::Matmul {
            a: tiny(a),
            b: tiny(b),
            out: tiny(c),
            alpha: 1.0,
            ..Wire::zeroed()
        };
        println!("{threads}T add 4x4: {:.2} us", time(&arena, &add) * 1e6);
        println!(
            "{threads}T matmul 4x4x4: {:.2} us",
            time(&arena, &desc) * 1e6
        );

        let dims = [2048u64, 1024];
        let x = contiguous(F32, a, &dims);
        let out = contiguous(F32, c, &dims);
        let elements = (dims[0] * dims[1]) as f64;
        let report = |name: &str, seconds: f64| {
            println!(
                "{threads}T {name} 2048x1024: {:.2} Gelements/s",
                elements / seconds / 1e9
            );
        };
        let unary = |function: unary::Function| unary::Unary {
            x,
            out,
            function: function.raw(),
            ..vmlu_abi::Wire::zeroed()
        };
        for f in [
            unary::Function::Copy,
            unary::Function::Exp,
            unary::Function::Tanh,
        ] {
            report(f.name(), time(&arena, &unary(f)));
        }
        let turned = unary::Unary {
            x: transposed(contiguous(F32, a, &[1024, 2048]), 0, 1),
            ..unary(unary::Function::Copy)
        };
        report("copy of a transpose", time(&arena, &turned));
        let add = binary::Binary {
            a: x,
            b: contiguous(F32, b, &dims),
            out,
            function: binary::Function::Add.raw(),
            ..vmlu_abi::Wire::zeroed()
        };
        report("add", time(&arena, &add));
        for (axes, name, shape) in [
            (1, "sum of columns", vec![1024u64]),
            (2, "sum of rows", vec![2048]),
            (3, "sum", vec![]),
        ] {
            let desc = reduce::Reduce {
                x,
                out: contiguous(F32, c, &shape),
                function: 0,
                axes,
                ..vmlu_abi::Wire::zeroed()
            };
            report(name, time(&arena, &desc));
        }
        let desc = softmax::Softmax {
            x,
            out,
            function: 0,
            axis: 1,
        };
        report("softmax", time(&arena, &desc));
        let labels = vec![3i32; 2048];
        arena.set(b, &labels);
        let desc = cross_entropy::CrossEntropy {
            logits: x,
            labels: contiguous(I32, b, &[2048]),
            loss: contiguous(F32, c, &[2048]),
            ..Wire::zeroed()
        };
        report("cross_entropy", time(&arena, &desc));
        arena.set(b, &noise[..1 << 10]);
    }
    large(&mut arena, addresses);
}

/// Operators whose operands do not fit the caches, beside a loop of the same threads that only adds.
fn large(arena: &mut Arena, [a, b, c]: [u64; 3]) {
    const N: u64 = 16 << 20;
    let dims = [4096, 4096];
    let (x, y) = (contiguous(F32, a, &dims), contiguous(F32, b, &dims));
    let out = contiguous(F32, c, &dims);
    for threads in [1usize, 2] {
        arena.threads = threads;
        let floor = stream(threads);
        println!("{threads}T 64 MiB, sums of two arrays in a plain loop: {floor:.1} GB/s");
        let report = |name: &str, bytes: u64, seconds: f64| {
            let rate = bytes as f64 / seconds / 1e9;
            println!(
                "{threads}T 64 MiB {name}: {rate:.1} GB/s, {:.0} % of that",
                100.0 * rate / floor
            );
        };
        let unary = |function: unary::Function| unary::Unary {
            x,
            out,
            function: function.raw(),
            ..Wire::zeroed()
        };
        for f in [
            unary::Function::Copy,
            unary::Function::Gelu,
            unary::Function::GeluTanh,
            unary::Function::Silu,
            unary::Function::Log,
            unary::Function::Sin,
        ] {
            report(f.name(), 8 * N, time(arena, &unary(f)));
        }
        let turned = unary::Unary {
            x: transposed(x, 0, 1),
            ..unary(unary::Function::Copy)
        };
        report("transpose", 8 * N, time(arena, &turned));
        let add = binary::Binary {
            a: x,
            b: y,
            out,
            ..Wire::zeroed()
        };
        report("add f32", 12 * N, time(arena, &add));
        let half = |dtype, at| contiguous(dtype, at, &[2 * N]);
        for dtype in [Bf16, F16] {
            let add = binary::Binary {
                a: half(dtype, a),
                b: half(dtype, b),
                out: half(dtype, c),
                ..Wire::zeroed()
            };
            report(&format!("add {dtype:?}"), 12 * N, time(arena, &add));
            let cast = |x, out| cast::Cast {
                x,
                out,
                ..Wire::zeroed()
            };
            let short = contiguous(dtype, c, &dims);
            report(
                &format!("cast f32 to {dtype:?}"),
                6 * N,
                time(arena, &cast(x, short)),
            );
            let short = contiguous(dtype, a, &dims);
            report(
                &format!("cast {dtype:?} to f32"),
                6 * N,
                time(arena, &cast(short, out)),
            );
        }
        for (axes, name, shape) in [
            (1, "sum of columns", vec![4096u64]),
            (2, "sum of rows", vec![4096]),
        ] {
            let desc = reduce::Reduce {
                x,
                out: contiguous(F32, c, &shape),
                axes,
                ..Wire::zeroed()
            };
            report(name, 4 * N, time(arena, &desc));
        }
        for axis in [1, 0] {
            let desc = softmax::Softmax {
                x,
                out,
                function: 0,
                axis,
            };
            report(
                &format!("softmax of axis {axis}"),
                8 * N,
                time(arena, &desc),
            );
        }
        let desc = norm::Norm {
            x,
            weight: contiguous(F32, b, &[4096]),
            bias: contiguous(F32, b + 16384, &[4096]),
            out,
            axes: 2,
            eps: 1e-5,
            ..Wire::zeroed()
        };
        report("layer norm", 8 * N, time(arena, &desc));
    }
}

/// GB/s of `a = b + c` over 64 MiB each, plain stores, best of nine.
fn stream(threads: usize) -> f64 {
    let n = 16usize << 20;
    let (mut a, b, c) = (vec![0f32; n], vec![1f32; n], vec![2f32; n]);
    let mut best = f64::INFINITY;
    for _ in 0..9 {
        let start = std::time::Instant::now();
        std::thread::scope(|s| {
            let part = n.div_ceil(threads);
            for ((a, b), c) in a.chunks_mut(part).zip(b.chunks(part)).zip(c.chunks(part)) {
                s.spawn(move || {
                    for ((a, b), c) in a.iter_mut().zip(b).zip(c) {
                        *a = b + c;
                    }
                });
            }
        });
        best = best.min(start.elapsed().as_secs_f64());
        std::hint::black_box(&a);
    }
    12.0 * n as f64 / best / 1e9
}
