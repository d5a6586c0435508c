//! What is measured.

use vmlu::abi::tensor::{DataType, TensorDesc};
use vmlu::abi::Wire;
use vmlu::ops::tensor::{absent, contiguous, strided, transposed};
use vmlu::ops::{
    attention, binary, cast, conv, conv_backward_data, conv_backward_filter, matmul, norm, reduce,
    softmax, unary, Descriptor,
};
use vmlu::{Buffer, Context, Queue, Result};

use super::peaks;

/// What the processor can do at best.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Floor {
    /// f32 fused multiply-adds.
    Fma,
    /// bf16 products.
    Bf16,
    /// Byte products.
    Vnni,
    /// Copies of 64 MiB, bytes read and written.
    Stream,
    /// Reads of 64, 32 and 16 MiB.
    Read64,
    /// See `Read64`.
    Read32,
    /// See `Read64`.
    Read16,
}

impl Floor {
    /// All of them, by their numbers.
    pub const ALL: [Self; 7] = [
        Self::Fma,
        Self::Bf16,
        Self::Vnni,
        Self::Stream,
        Self::Read64,
        Self::Read32,
        Self::Read16,
    ];

    /// How rows call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fma => "f32 fused multiply-adds in registers",
            Self::Bf16 => "bf16 products in registers",
            Self::Vnni => "byte products in registers",
            Self::Stream => "copy of 64 MiB, read and written",
            Self::Read64 => "read of 64 MiB",
            Self::Read32 => "read of 32 MiB",
            Self::Read16 => "read of 16 MiB",
        }
    }

    /// Unit of rates.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Fma | Self::Bf16 | Self::Vnni => "Gop/s",
            _ => "GB/s",
        }
    }

    /// Measures it with some threads.
    pub fn measure(self, threads: usize) -> f64 {
        match self {
            Self::Fma => peaks::rate(peaks::Kind::F32, threads),
            Self::Bf16 => peaks::rate(peaks::Kind::Bf16, threads),
            Self::Vnni => peaks::rate(peaks::Kind::Bytes, threads),
            Self::Stream => peaks::copy(64 << 20, threads),
            Self::Read64 => peaks::read(64 << 20, threads),
            Self::Read32 => peaks::read(32 << 20, threads),
            Self::Read16 => peaks::read(16 << 20, threads),
        }
    }
}

/// Enqueues a command.
type Submit = Box<dyn Fn(&Queue) -> Result<u64>>;

/// A figure.
pub struct Figure {
    /// How its row is called.
    pub name: String,
    /// Operations or bytes of a command.
    pub work: f64,
    /// What bounds it.
    pub floor: Floor,
    /// What also bounds it, and the bytes that it reads.
    pub bandwidth: Option<(Floor, f64)>,
    /// A figure that takes the floor's place.
    pub like: Option<String>,
    /// Share of the floor that is the goal.
    pub share: Option<f64>,
    /// The operator in the words of the programs in `bench/peers/`.
    pub peer: Option<String>,
    /// What the first peer that has the operator reaches is a goal too.
    pub beat: bool,
    /// The command.
    pub submit: Submit,
}

impl Figure {
    /// Whether nothing but memory bounds it.
    pub fn is_of_memory(&self) -> bool {
        matches!(self.floor, Floor::Stream | Floor::Read64)
    }
}

fn figure<D: Descriptor + 'static>(name: String, work: f64, floor: Floor, desc: D) -> Figure {
    Figure {
        name,
        work,
        floor,
        bandwidth: None,
        like: None,
        share: None,
        peer: None,
        beat: false,
        submit: Box::new(move |queue| queue.submit(&desc)),
    }
}

/// Operands: numbers of magnitudes that are usual, so that nothing depends on rare values.
pub struct Memory {
    inputs: Vec<(DataType, [u64; 2])>,
    out: u64,
    _keep: Vec<Buffer>,
}

/// Bytes of an operand.
const ROOM: u64 = 64 << 20;

impl Memory {
    /// Fills memory.
    pub fn new(context: &Context, queue: &Queue) -> Result<Self> {
        use DataType::{Bf16, F16, F32, I8};
        let (mut keep, mut inputs) = (Vec::new(), Vec::new());
        for dtype in [F32, F16, Bf16, I8] {
            // A power of two is no distance of rows in caches; random mantissas between a half and one.
            let words: Vec<u8> = (0..1u32 << 18)
                .flat_map(|i| {
                    let noise = i.wrapping_mul(2_654_435_761) ^ i >> 7;
                    match dtype {
                        F32 => 0x3f00_0000 | noise >> 9,
                        F16 => 0x3800_3800 | noise & 0x83ff_83ff,
                        Bf16 => 0x3f00_3f00 | noise & 0x807f_807f,
                        _ => noise,
                    }
                    .to_le_bytes()
                })
                .collect();
            let mut both = [0; 2];
            for address in &mut both {
                let buffer = context.alloc(ROOM)?;
                *address = buffer.address();
                for at in (0..ROOM).step_by(words.len()) {
                    queue.write(&buffer, at, &words)?;
                }
                keep.push(buffer);
            }
            inputs.push((dtype, both));
        }
        let out = context.alloc(ROOM + (8 << 20))?;
        queue.sync()?;
        let address = out.address();
        keep.push(out);
        Ok(Self {
            inputs,
            out: address,
            _keep: keep,
        })
    }

    fn of(&self, dtype: DataType) -> [u64; 2] {
        let like = if dtype == DataType::U8 {
            DataType::I8
        } else {
            dtype
        };
        let found = self.inputs.iter().find(|(d, _)| *d == like);
        found.map_or([0; 2], |(_, both)| *both)
    }
}

/// How figures name types, what bounds them, and the goal of squares.
fn kinds() -> [(&'static str, DataType, DataType, DataType, Floor, f64); 5] {
    use DataType::{Bf16, F16, F32, I32, I8, U8};
    [
        ("f32", F32, F32, F32, Floor::Fma, 0.9),
        ("f16", F16, F16, F32, Floor::Fma, 0.88),
        ("bf16", Bf16, Bf16, F32, Floor::Bf16, 0.88),
        ("u8·s8", U8, I8, I32, Floor::Vnni, 0.88),
        ("s8·s8", I8, I8, I32, Floor::Vnni, 0.88),
    ]
}

/// How the programs in `bench/peers/` call a type.
fn peer_type(dtype: DataType) -> &'static str {
    match dtype {
        DataType::F32 => "f32",
        DataType::F16 => "f16",
        DataType::Bf16 => "bf16",
        DataType::U8 => "u8",
        DataType::I8 => "s8",
        _ => "s32",
    }
}

/// All figures.
pub fn all(memory: &Memory) -> Vec<Figure> {
    let mut figures = Vec::new();
    products(memory, &mut figures);
    convolutions(memory, &mut figures);
    attentions(memory, &mut figures);
    streams(memory, &mut figures);
    figures
}

fn product(a: TensorDesc, b: TensorDesc, out: TensorDesc) -> matmul::Matmul {
    matmul::Matmul {
        a,
        b,
        out,
        alpha: 1.0,
        ..Wire::zeroed()
    }
}

fn products(memory: &Memory, figures: &mut Vec<Figure>) {
    for (name, ta, tb, to, floor, share) in kinds() {
        let ([a, _], [_, b]) = (memory.of(ta), memory.of(tb));
        let desc = |m: u64, n: u64, k: u64, along: bool| {
            let right = match along {
                true => transposed(contiguous(tb, b, &[n, k]), 0, 1),
                false => contiguous(tb, b, &[k, n]),
            };
            product(
                contiguous(ta, a, &[m, k]),
                right,
                contiguous(to, memory.out, &[m, n]),
            )
        };
        let words = |m: u64, n: u64, k: u64, form: &str| {
            let [a, b, out] = [ta, tb, to].map(peer_type);
            format!("matmul {a} {b} {out} {m} {n} {k} {form}")
        };
        for n in [256u64, 512, 1024, 2048] {
            let work = 2.0 * (n * n * n) as f64;
            figures.push(Figure {
                share: Some(share),
                peer: Some(words(n, n, n, "nn")),
                beat: true,
                ..figure(
                    format!("{name} matmul {n}"),
                    work,
                    floor,
                    desc(n, n, n, false),
                )
            });
        }
        const SIDE: u64 = 4096;
        let bytes = (SIDE * SIDE) as usize * tb.size();
        let read = match tb.size() {
            4 => Floor::Read64,
            2 => Floor::Read32,
            _ => Floor::Read16,
        };
        for m in [1, 2, 4, 8, 16] {
            for (along, layout, form) in [(false, "[K, N]", "nn"), (true, "[N, K]", "nt")] {
                let work = 2.0 * (m * SIDE * SIDE) as f64;
                let title = format!("{name} matmul {m}×4096×4096 {layout}");
                figures.push(Figure {
                    share: Some(0.9),
                    bandwidth: Some((read, bytes as f64)),
                    peer: Some(words(m, SIDE, SIDE, form)),
                    beat: true,
                    ..figure(title, work, floor, desc(m, SIDE, SIDE, along))
                });
            }
        }
    }
}

/// Layers of ResNet-50: channels, filters, size of the input, taps, stride.
const LAYERS: [[u64; 5]; 7] = [
    [64, 64, 56, 3, 1],
    [128, 128, 28, 3, 1],
    [256, 256, 14, 3, 1],
    [512, 512, 7, 3, 1],
    [128, 128, 56, 3, 2],
    [64, 256, 56, 1, 1],
    [512, 2048, 7, 1, 1],
];

/// A map in channels-last order.
fn map(dtype: DataType, address: u64, [n, c, h, w]: [u64; 4]) -> TensorDesc {
    let strides = [h * w * c, 1, w * c, c].map(|s| s as i64);
    strided(dtype, address, &[n, c, h, w], &strides)
}

fn convolutions(memory: &Memory, figures: &mut Vec<Figure>) {
    for [c, o, size, taps, stride] in LAYERS {
        let pad = (taps / 2) as u32;
        let to_size = (size - 1) / stride + 1;
        let work = 2.0 * (o * to_size * to_size * c * taps * taps) as f64;
        let name = format!("conv {c}→{o} {size}×{size} {taps}×{taps}/{stride}");
        let slide = |s: u64| [s as u32, s as u32, 0];
        let words = |from: DataType, to: DataType, what: &str| {
            let (from, to) = (peer_type(from), peer_type(to));
            format!("conv {from} {to} {c} {o} {size} {taps} {stride} {what}")
        };
        let beside = |peer: String, figure: Figure| Figure {
            peer: Some(peer),
            beat: true,
            ..figure
        };
        let (x, y, w) = (
            [1, c, size, size],
            [1, o, to_size, to_size],
            [o, c, taps, taps],
        );
        let padding = [pad, pad, pad, pad, 0, 0];
        for (kind, t, to, floor) in [
            ("f32", DataType::F32, DataType::F32, Floor::Fma),
            ("s8", DataType::I8, DataType::I32, Floor::Vnni),
        ] {
            let [from, filter] = memory.of(t);
            let forward = conv::Conv {
                x: map(t, from, x),
                w: map(t, filter, w),
                out: map(to, memory.out, y),
                bias: absent(),
                alpha: 1.0,
                beta: 0.0,
                stride: slide(stride),
                dilation: slide(1),
                padding,
                groups: 1,
                activation: 0,
            };
            let title = format!("{kind} {name} forward");
            let peer = words(t, to, "forward");
            figures.push(beside(peer, figure(title, work, floor, forward)));
        }
        let t = DataType::F32;
        let [from, filter] = memory.of(t);
        let data = conv_backward_data::ConvBackwardData {
            dy: map(t, from, y),
            w: map(t, filter, w),
            dx: map(t, memory.out, x),
            bias: absent(),
            alpha: 1.0,
            beta: 0.0,
            stride: slide(stride),
            dilation: slide(1),
            padding,
            groups: 1,
            activation: 0,
        };
        let title = format!("f32 {name} backward data");
        let peer = words(t, t, "data");
        figures.push(beside(peer, figure(title, work, Floor::Fma, data)));
        let weights = conv_backward_filter::ConvBackwardFilter {
            x: map(t, from, x),
            dy: map(t, filter, y),
            dw: map(t, memory.out, w),
            alpha: 1.0,
            beta: 0.0,
            stride: slide(stride),
            dilation: slide(1),
            padding,
            groups: 1,
            reserved: 0,
        };
        let title = format!("f32 {name} backward filter");
        let peer = words(t, t, "filter");
        figures.push(beside(peer, figure(title, work, Floor::Fma, weights)));
    }
}

fn attentions(memory: &Memory, figures: &mut Vec<Figure>) {
    let dims = [1u64, 32, 2048, 128];
    for (name, t, floor) in [
        ("f32", DataType::F32, Floor::Fma),
        ("bf16", DataType::Bf16, Floor::Bf16),
    ] {
        let [q, k] = memory.of(t);
        let desc = attention::Attention {
            q: contiguous(t, q, &dims),
            k: contiguous(t, k, &dims),
            v: contiguous(t, q, &dims),
            out: contiguous(t, memory.out, &dims),
            scale: 0.01,
            ..Wire::zeroed()
        };
        let work = 4.0 * 32.0 * 2048.0 * 2048.0 * 128.0;
        figures.push(Figure {
            like: Some(format!("{name} matmul 2048")),
            share: Some(0.8),
            peer: (t == DataType::F32).then(|| "attention 32 2048 128".to_owned()),
            ..figure(format!("{name} attention 32×2048×128"), work, floor, desc)
        });
    }
}

/// Operators that memory bounds, on 64 MiB.
fn streams(memory: &Memory, figures: &mut Vec<Figure>) {
    use DataType::{Bf16, F32};
    let [a, b] = memory.of(F32);
    let dims = [4096u64, 4096];
    let (x, y) = (contiguous(F32, a, &dims), contiguous(F32, b, &dims));
    let out = contiguous(F32, memory.out, &dims);
    let bytes = ROOM as f64;
    let mut push = |words: &str, figure: Figure| {
        let peer = words.replacen(' ', " 4096 4096 ", 1);
        figures.push(Figure {
            share: Some(0.9),
            peer: Some(peer.trim().to_owned()),
            ..figure
        });
    };
    let plain = |function: unary::Function, x: TensorDesc| unary::Unary {
        x,
        out,
        function: function.raw(),
        ..Wire::zeroed()
    };
    let name = |n: &str| format!("{n} 64 MiB f32");
    let normal = softmax::Softmax {
        x,
        out,
        function: 0,
        axis: 1,
    };
    push(
        "softmax ",
        figure(name("softmax"), 2.0 * bytes, Floor::Stream, normal),
    );
    let normalised = norm::Norm {
        x,
        weight: contiguous(F32, b, &[4096]),
        bias: contiguous(F32, b + 16384, &[4096]),
        out,
        axes: 2,
        eps: 1e-5,
        ..Wire::zeroed()
    };
    push(
        "layer_norm ",
        figure(name("layer norm"), 2.0 * bytes, Floor::Stream, normalised),
    );
    let gelu = plain(unary::Function::Gelu, x);
    push(
        "gelu ",
        figure(name("gelu"), 2.0 * bytes, Floor::Stream, gelu),
    );
    let add = binary::Binary {
        a: x,
        b: y,
        out,
        function: binary::Function::Add.raw(),
        ..Wire::zeroed()
    };
    push("add ", figure(name("add"), 3.0 * bytes, Floor::Stream, add));
    let sum = reduce::Reduce {
        x,
        out: contiguous(F32, memory.out, &[4096]),
        function: 0,
        axes: 2,
        ..Wire::zeroed()
    };
    push(
        "sum ",
        figure(name("sum of rows"), bytes, Floor::Read64, sum),
    );
    let turn = plain(unary::Function::Copy, transposed(x, 0, 1));
    push(
        "transpose ",
        figure(name("transpose"), 2.0 * bytes, Floor::Stream, turn),
    );
    let narrow = cast::Cast {
        x,
        out: contiguous(Bf16, memory.out, &dims),
        ..Wire::zeroed()
    };
    push(
        "cast bf16",
        figure(name("cast to bf16"), 1.5 * bytes, Floor::Stream, narrow),
    );
}
