//! Speed of matrix operators on this host: `cargo run --release -p vmlu-firmware --features testing --example matrix [filter]`.

use vmlu_abi::tensor::DataType::{self, Bf16, F16, F32, F64, I16, I32, I8, U8};
use vmlu_abi::Wire;
use vmlu_kernels::testing::Arena;
use vmlu_ops::tensor::{contiguous, transposed};
use vmlu_ops::{matmul, Descriptor};

fn time<D: Descriptor>(arena: &Arena, desc: &D) -> f64 {
    arena.run(desc).unwrap();
    let mut times: Vec<f64> = (0..9)
        .map(|_| {
            let start = std::time::Instant::now();
            let mut runs = 0;
            while runs == 0 || start.elapsed().as_secs_f64() < 0.01 {
                arena.run(desc).expect("the kernel runs");
                runs += 1;
            }
            start.elapsed().as_secs_f64() / f64::from(runs)
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn main() {
    let filter = std::env::args().nth(1).unwrap_or_default();
    let mut arena = Arena::new(320 << 20);
    let addresses: [u64; 3] = std::array::from_fn(|_| arena.reserve(100 << 20));
    let [a, b, c] = addresses;
    for threads in [1, 2] {
        arena.threads = threads;
        for (ta, tb, to) in [
            (F32, F32, F32),
            (Bf16, Bf16, F32),
            (F16, F16, F32),
            (U8, I8, I32),
            (I8, I8, I32),
            (F64, F64, F64),
            (I16, I16, I32),
        ] {
            for x in [a, b] {
                match ta {
                    F32 => arena.set(
                        x,
                        &(0..16u32 << 20)
                            .map(|i| {
                                (i.wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 23) as f32 - 1.0
                            })
                            .collect::<Vec<f32>>(),
                    ),
                    Bf16 | F16 => arena.set(
                        x,
                        &(0..16u32 << 20)
                            .map(|i| {
                                let v = (i.wrapping_mul(2_654_435_761) >> 8) as f32
                                    / (1 << 23) as f32
                                    - 1.0;
                                if ta == Bf16 {
                                    half::bf16::from_f32(v).to_bits()
                                } else {
                                    half::f16::from_f32(v).to_bits()
                                }
                            })
                            .collect::<Vec<u16>>(),
                    ),
                    F64 => arena.set(x, &(0..8u32 << 20).map(|i| i as f64).collect::<Vec<f64>>()),
                    _ => arena.set(
                        x,
                        &(0..16u32 << 20)
                            .map(|i| i.wrapping_mul(2_654_435_761))
                            .collect::<Vec<u32>>(),
                    ),
                }
            }
            let product = |m: u64, n: u64, k: u64, nt: bool| {
                let right = match nt {
                    true => transposed(contiguous(tb, b, &[n, k]), 0, 1),
                    false => contiguous(tb, b, &[k, n]),
                };
                let desc = matmul::Matmul {
                    a: contiguous(ta, a, &[m, k]),
                    b: right,
                    out: contiguous(to, c, &[m, n]),
                    alpha: 1.0,
                    ..Wire::zeroed()
                };
                2.0 * (m * n * k) as f64 / time(&arena, &desc) / 1e9
            };
            let name = format!("{threads}T {ta:?}x{tb:?}");
            if !name.contains(&filter) {
                continue;
            }
            print!("{name:12}");
            for s in [64, 256, 512, 1024, 2048] {
                print!(
                    " {s}: {:.0}/{:.0}",
                    product(s, s, s, false),
                    product(s, s, s, true)
                );
            }
            for m in [1, 4, 16] {
                let d: DataType = ta;
                if d == F64 {
                    continue;
                }
                print!(
                    " m{m}: {:.1}/{:.1}",
                    product(m, 4096, 4096, false),
                    product(m, 4096, 4096, true)
                );
            }
            println!();
        }
    }
}
