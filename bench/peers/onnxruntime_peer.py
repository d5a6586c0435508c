"""A peer of `mlu-bench compute`: the same operators in onnxruntime.

Lines on its input, one answer each:
  prepare NUMBER OPERATOR…   `ready`, or `none REASON` where onnxruntime does not have the operator
  run NUMBER COUNT           seconds of so many executions, one after the other

The argument is the number of threads. Matrices lie as mlu-bench has them, maps of convolutions in onnxruntime's own order; filters are
constants, so that it may prepare them, and so are weights of linear layers where mlu-bench has them transposed.
"""

import sys
import time

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

TYPES = {
    "f32": (np.float32, TensorProto.FLOAT),
    "f16": (np.float16, TensorProto.FLOAT16),
    "u8": (np.uint8, TensorProto.UINT8),
    "s8": (np.int8, TensorProto.INT8),
    "s32": (np.int32, TensorProto.INT32),
    "bf16": (None, TensorProto.BFLOAT16),
}


class Missing(Exception):
    """onnxruntime does not have the operator."""


def noise(name, dims):
    """Numbers of usual magnitudes."""
    rng = np.random.default_rng(1)
    dtype = TYPES[name][0]
    if dtype is None:
        raise Missing(f"numpy has no {name}")
    if np.issubdtype(dtype, np.integer):
        info = np.iinfo(dtype)
        return rng.integers(info.min, info.max, dims, dtype=dtype, endpoint=True)
    return (rng.random(dims, dtype=np.float32) / 2 + 0.5).astype(dtype)


class Operation:
    """A model of one node, its operands bound."""

    def __init__(self, threads, op, inputs, constants, out, attributes, domain=""):
        kinds = {np.dtype(t): proto for t, proto in TYPES.values() if t}
        names = [f"x{i}" for i in range(len(inputs))] + [f"c{i}" for i in range(len(constants))]
        out_type, out_dims = out
        graph = helper.make_graph(
            [helper.make_node(op, names, ["y"], domain=domain, **attributes)],
            "peer",
            [helper.make_tensor_value_info(n, kinds[v.dtype], v.shape) for n, v in zip(names, inputs)],
            [helper.make_tensor_value_info("y", TYPES[out_type][1], out_dims)],
            [numpy_helper.from_array(v, n) for n, v in zip(names[len(inputs) :], constants)],
        )
        opsets = [helper.make_opsetid("", 20)] + ([helper.make_opsetid(domain, 1)] if domain else [])
        model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4
        self.session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        self.binding = self.session.io_binding()
        self.inputs = [ort.OrtValue.ortvalue_from_numpy(v) for v in inputs]
        for name, value in zip(names, self.inputs):
            self.binding.bind_ortvalue_input(name, value)
        if TYPES[out_type][0] is None:
            self.binding.bind_output("y")
        else:
            self.out = ort.OrtValue.ortvalue_from_shape_and_type(out_dims, TYPES[out_type][0])
            self.binding.bind_ortvalue_output("y", self.out)

    def run(self, count):
        """Seconds of `count` executions."""
        start = time.perf_counter()
        for _ in range(count):
            self.session.run_with_iobinding(self.binding)
        return time.perf_counter() - start


def prepare(threads, name, words):
    """Makes an operation of a line."""

    def make(op, inputs, constants, out, domain="", **attributes):
        return Operation(threads, op, inputs, constants, out, attributes, domain)

    if name == "matmul":
        a, b, to, m, n, k, form = words
        m, n, k = int(m), int(n), int(k)
        x, w = noise(a, (m, k)), noise(b, (k, n))
        if to == "s32":
            return make("MatMulInteger", [x], [w], (to, (m, n))) if form == "nt" else make("MatMulInteger", [x, w], [], (to, (m, n)))
        if a != "f32":
            raise Missing(f"no {a} products on processors")
        if form == "nt":
            return make("Gemm", [x], [np.ascontiguousarray(w.T)], (to, (m, n)), transB=1)
        return make("MatMul", [x, w], [], (to, (m, n)))
    if name == "conv":
        kind, to, c, o, size, taps, stride, what = words
        c, o, size, taps, stride = (int(v) for v in (c, o, size, taps, stride))
        if what != "forward":
            raise Missing("no gradients")
        end, pad = (size - 1) // stride + 1, taps // 2
        x = noise(kind, (1, c, size, size))
        w = noise("s8" if to == "s32" else kind, (o, c, taps, taps))
        op = "ConvInteger" if to == "s32" else "Conv"
        return make(op, [x], [w], (to, (1, o, end, end)), pads=[pad] * 4, strides=[stride] * 2)
    if name == "attention":
        heads, tokens, width = (int(v) for v in words)
        x = noise("f32", (1, tokens, heads * width))
        out = ("f32", (1, tokens, heads * width))
        return make("MultiHeadAttention", [x, x.copy(), x.copy()], [], out, domain="com.microsoft", num_heads=heads)
    rows, columns = int(words[0]), int(words[1])
    x, same = noise("f32", (rows, columns)), ("f32", (rows, columns))
    if name == "softmax":
        return make("Softmax", [x], [], same, axis=1)
    if name == "layer_norm":
        line = noise("f32", (columns,))
        return make("LayerNormalization", [x], [line, line.copy()], same)
    if name == "gelu":
        return make("Gelu", [x], [], same)
    if name == "add":
        return make("Add", [x, x.copy()], [], same)
    if name == "sum":
        return make("ReduceSum", [x], [np.array([1], dtype=np.int64)], ("f32", (rows, 1)))
    if name == "transpose":
        return make("Transpose", [x], [], ("f32", (columns, rows)))
    if name == "cast":
        return make("Cast", [x], [], (words[2], (rows, columns)), to=TYPES[words[2]][1])
    raise Missing("no such operator")


def main():
    threads, operations = int(sys.argv[1]), {}
    for line in sys.stdin:
        word, number, *rest = line.split()
        if word == "run":
            print(f"{operations[number].run(int(rest[0])):.9f}", flush=True)
            continue
        try:
            operation = prepare(threads, rest[0], rest[1:])
            operation.run(1)
        except Exception as error:  # What it lacks, it says in many ways.
            print("none", str(error).splitlines()[0] if str(error) else type(error).__name__, flush=True)
            continue
        operations[number] = operation
        print("ready", flush=True)


main()
