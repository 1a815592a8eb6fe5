"""ONNX files as graphs, against onnx's own reference evaluator: every operator in each of its forms."""

import warnings
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="needs onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402
from onnx_models import ALL, CASES, MAPS, NEWEST, ROWS, STATISTICS, Case, build, ints, n, numbers  # noqa: E402

import lrp_ref as lrp  # noqa: E402
from lrp_ref import layers  # noqa: E402
from lrp_ref.errors import LoadError, UnsupportedOp  # noqa: E402
from lrp_ref.loaders.onnx import OPERATORS, from_onnx  # noqa: E402
from lrp_ref.loaders.onnx_operators import supported  # noqa: E402

DOCS = Path(__file__).resolve().parent.parent / "lrp_ref" / "loaders" / "operators.md"
RUNS = [(case, opset, dtype) for case in CASES for opset in case.opsets for dtype in case.dtypes]


@pytest.fixture
def read(tmp_path):
    """Save a model, and read it."""

    def read(model, *, check=True, canonize=False, input=None):
        path = tmp_path / "model.onnx"
        onnx.save(model, path)
        return from_onnx(path, check=check, canonize=canonize, input=input)

    return read


def evaluated(model, x):
    with warnings.catch_warnings(action="ignore"):
        return ReferenceEvaluator(model).run(None, x)


def close(ours, theirs, bound):
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype
    assert abs(ours - theirs).max() <= bound * abs(theirs).max()


def kinds(graph):
    return " ".join(node.kind for node in graph.nodes)


def names(graph):
    return [node.name for node in graph.nodes]


# --- every operator ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("case", "opset", "dtype"), RUNS, ids=lambda part: str(part))
def test_every_operator_in_each_form(read, case, opset, dtype):
    graph = read(case.model(opset, dtype))
    assert kinds(graph) == case.kinds
    assert graph.notes == ()
    read(case.model(opset, dtype), canonize=True)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_operator_compared_by_hand(read, case):
    """Once more without the loader's own check, on numbers of another seed, as the file is."""
    opset = case.opsets[-1]
    model = case.model(opset, case.dtypes[-1])
    x = np.random.default_rng(5).normal(size=case.shape).astype(case.dtypes[-1])
    graph = read(model, check=False)
    values = graph.forward(x)
    half = case.name == "Cast to half"  # which is not rounded: the network is read in float32
    for name, theirs in zip(graph.outputs, evaluated(model, {"x": x}), strict=True):
        theirs = theirs.astype(x.dtype) if half else theirs
        close(values[name], theirs, 1e-3 if half else 1e-5 if x.dtype == "float32" else 1e-7)


def test_every_operator_has_a_case_and_stands_in_the_documentation():
    assert set().union(*(case.operators for case in CASES)) >= set(OPERATORS)
    assert {opset for case in CASES for opset in case.opsets} >= set(ALL)
    listed = supported()
    assert list(listed) == sorted(OPERATORS)
    read_as = {kind: set() for kind in OPERATORS}
    for case in CASES:
        for kind in case.operators & set(OPERATORS):
            read_as[kind] |= set(case.kinds.split())
    for kind, words in listed.items():
        for word in words:
            assert hasattr(layers, word), word
            assert word in read_as[kind], f"no case reads {kind} as {word}"
    lines = [line for line in DOCS.read_text().splitlines() if line.startswith("| `")]
    assert lines == [f"| `{kind}` | {', '.join(f'`{word}`' for word in words)} |" for kind, words in listed.items()]


def test_a_check_that_finds_a_difference_refuses(read, monkeypatch):
    def twice(reader, operator):
        reader.add(operator, layers.Scale(weight=1.001), reader.data(operator))

    monkeypatch.setitem(OPERATORS, "Neg", twice)
    with pytest.raises(LoadError, match=r"differs from onnx's reference evaluator's by .* of the greatest"):
        read(build([n("Neg", "x")]))
    with pytest.raises(LoadError, match="differs"):
        read(build([n("Neg", "x")]), check=None)
    assert kinds(read(build([n("Neg", "x")]), check=False)) == "Scale"


def test_max_pool_same_lower_which_the_evaluator_reads_wrongly(read):
    options = {"kernel_shape": [3, 2], "strides": [2, 2]}
    ours = read(build([n("MaxPool", "x", auto_pad="SAME_LOWER", **options)]), check=False)
    x = np.random.default_rng(0).normal(size=MAPS)
    explicit = build([n("MaxPool", "x", pads=[1, 1, 0, 0], **options)])
    close(ours.forward(x)["maxpool"], evaluated(explicit, {"x": x})[0], 0)


def test_transposed_convolution_in_groups_which_the_evaluator_cannot_run(read):
    """By the parts that it consists of; read with a note, and refused where the check was asked for."""
    w = numbers(3, 2, 3, 3)
    model = build([n("ConvTranspose", "x w", group=3, strides=[2, 1])], {"w": w})
    graph = read(model, check=None)
    assert "not checked: onnx's reference evaluator cannot run it" in graph.notes[0]
    with pytest.raises(LoadError, match="cannot run it"):
        read(model)
    x = np.random.default_rng(0).normal(size=MAPS)
    parts = [
        evaluated(build([n("ConvTranspose", "x w", strides=[2, 1])], {"w": w[i : i + 1]}), {"x": x[:, i : i + 1]})[0]
        for i in range(3)
    ]
    close(graph.forward(x)["convtranspose"], np.concatenate(parts, axis=1), 1e-7)


@pytest.mark.parametrize("opset", [17, NEWEST])
@pytest.mark.parametrize(("shape", "kind"), [((2, 3, 9), "1-D"), ((2, 3, 4, 3, 5), "3-D")])
def test_global_max_pool_of_other_dimensions_which_the_evaluator_reads_wrongly(read, opset, shape, kind):
    model = build([n("GlobalMaxPool", "x")], inputs={"x": ("N", *shape[1:])}, opset=opset)
    x = np.random.default_rng(0).normal(size=shape)
    axes = tuple(range(2, len(shape)))
    close(read(model).forward(x)["globalmaxpool"], x.max(axis=axes, keepdims=True), 0)


# --- parameters ----------------------------------------------------------------------------------------------------


def test_epsilon_is_read_as_the_decimal_that_was_meant(read):
    model = build([n("BatchNormalization", "x s b m v", epsilon=1e-5)], STATISTICS, dtype="float64")
    layer = read(model)["batchnormalization"].layer
    s, b, m, v = (STATISTICS[name].astype(float) for name in "sbmv")
    assert float(np.float32(1e-5)) != 1e-5
    assert (layer.scale == s / (v + 1e-5) ** 0.5).all()
    assert (layer.shift == b - layer.scale * m).all()


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_half_weights_are_read_in_float32(read, kind):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    dtype = np.dtype(getattr(ml_dtypes, kind, kind))
    small, large = numbers(4, 3, 3, 2).astype(dtype), numbers(4, 300).astype(dtype)
    for value, node, shape in ((small, n("Conv", "x w"), MAPS), (large, n("Gemm", "x w", transB=1), (2, 300))):
        model = build([node], inputs={"x": ("N", *shape[1:])})
        model.graph.initializer.append(numpy_helper.from_array(value, "w"))
        for declared in (TensorProto.FLOAT, TensorProto.FLOAT16):
            model.graph.input[0].type.tensor_type.elem_type = declared
            weight = read(model).nodes[0].layer.weight
            assert weight.dtype == "float32"
            assert (np.sort(weight.reshape(-1)) == np.sort(value.astype("float32").reshape(-1))).all()


def test_every_way_to_hold_a_tensor(read, tmp_path):
    """In the message (small and large), as typed numbers, in a file beside it; all the same numbers."""
    w = numbers(30, 40)
    x = np.random.default_rng(0).normal(size=(2, 30)).astype("float32")
    expected = x @ w
    raw = build([n("Gemm", "x w")], {"w": w}, inputs={"x": ("N", 30)})
    typed = build([n("Gemm", "x w")], inputs={"x": ("N", 30)})
    typed.graph.initializer.append(helper.make_tensor("w", TensorProto.FLOAT, w.shape, w.reshape(-1).tolist()))
    constant = build(
        [n("Constant", "", "w", value=numpy_helper.from_array(w)), n("Gemm", "x w")], inputs={"x": ("N", 30)}
    )
    for model in (raw, typed, constant):
        assert abs(read(model).forward(x)["gemm"] - expected).max() <= 1e-5
    folder = tmp_path / "beside"
    folder.mkdir()
    onnx.save(raw, folder / "m.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert (folder / "weights.bin").stat().st_size == w.nbytes
    graph = from_onnx(folder / "m.onnx", check=True)
    assert abs(graph.forward(x)["gemm"] - expected).max() <= 1e-5
    base = graph["gemm"].layer.weight
    while base.base is not None and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap), "the weights are mapped, not copied"


def test_initializers_that_are_inputs_too_as_old_files_have_them(read):
    model = build([n("Gemm", "x w")], {"w": numbers(5, 4)}, inputs={"x": ("N", 5), "w": (5, 4)})
    graph = read(model)
    assert graph.inputs == ("x",)


# --- names ---------------------------------------------------------------------------------------------------------


def test_names_come_from_paths_of_nodes(read):
    c = {"w": numbers(3, 3, 1, 1)}
    nodes = [
        n("Conv", "x w", "a", name="/layer1/layer1.0/conv1/Conv"),
        n("Relu", "a", "b", name="/layer1/layer1.0/relu/Relu"),
        n("Conv", "b w", "c", name="/layer1/layer1.0/conv2/Conv"),
        n("Add", "c x", "d", name="/layer1/layer1.0/Add"),
        n("Relu", "d", "e", name="/layer1/layer1.0/relu/Relu_1"),
        n("GlobalAveragePool", "e", "y"),
    ]
    graph = read(build(nodes, c))
    block = ["layer1.0.conv1", "layer1.0.relu", "layer1.0.conv2", "layer1.0.add", "layer1.0.relu_1"]
    assert names(graph) == [*block, "globalaveragepool"]
    assert graph["d"] is graph["layer1.0.add"]


def test_names_come_from_initializers(read):
    constants = {"features.0.weight": numbers(3, 3, 1, 1), "features.0.bias": numbers(3), "head.kernel": numbers(7, 2)}
    nodes = [
        n("Conv", "x features.0.weight features.0.bias", "a", name="node_conv2d"),
        n("MatMul", "a head.kernel", name="node_matmul"),
    ]
    assert names(read(build(nodes, constants))) == ["features.0", "head"]


def test_names_come_from_torchs_metadata(read):
    nodes = [
        n("Relu", "x", "a", name="node_relu"),
        n("Relu", "a", "b", name="node_relu_1"),
        n("Add", "a b", name="node_add"),
    ]
    scopes = [
        "['', 'layer1', 'layer1.0', 'layer1.0.relu', 'relu']",
        "print('no list')",
        "['', 'layer1', 'layer1.0', 'add']",
    ]
    for node, scope in zip(nodes, scopes, strict=True):
        entry = node.metadata_props.add()
        entry.key, entry.value = "pkg.torch.onnx.name_scopes", scope
    assert names(read(build(nodes))) == ["layer1.0.relu", "relu_1", "layer1.0.add"]


def test_names_that_occur_twice_are_numbered(read):
    nodes = [
        n("Relu", "x", "a", name="r"),
        n("Relu", "a", "b", name="r"),
        n("Relu", "b", "c"),
        n("Relu", "c", "y", name="x"),
    ]
    graph = read(build(nodes))
    assert names(graph) == ["r", "r_1", "relu", "x_1"]


def test_tensor_names_answer(read):
    nodes = [n("Conv", "x w", "act", name="/c/Conv"), n("Relu", "act", "out", name="/r/Relu"), n("Flatten", "out")]
    graph = read(build(nodes, {"w": numbers(3, 3, 1, 1)}), canonize=True)
    assert names(graph) == ["c", "r", "flatten"]
    assert [graph[alias].name for alias in ("act", "out", "y")] == ["c", "r", "flatten"]
    rules = lrp.Composite([(lrp.named("act"), lrp.Epsilon(epsilon=1e-6))])
    x = np.random.default_rng(0).normal(size=MAPS)
    e = lrp.explain(graph, x, rules, target=0)
    assert (e.at("act") == e.at("c")).all()
    assert (e.at("out") == e.at("r")).all()


def test_without_canonization_every_node_stays(read):
    nodes = [
        n("Conv", "x w", "c"),
        n("BatchNormalization", "c s b m v", "d"),
        n("Dropout", "d", "e"),
        n("Softmax", "e", axis=1),
    ]
    model = build(nodes, {"w": numbers(3, 3, 1, 1)} | STATISTICS)
    assert kinds(read(model)) == "Conv BatchNorm Dropout Softmax"
    assert kinds(read(model, canonize=True)) == "Conv"


# --- inputs, outputs and sizes -------------------------------------------------------------------------------------


def test_several_inputs_and_outputs(read):
    nodes = [n("Add", "b a", "s"), n("Relu", "s", "p"), n("Sub", "a b", "q")]
    model = build(nodes, inputs={"a": ("N", 4), "b": ("N", 4)}, outputs="q p")
    graph = read(model)
    assert graph.inputs == ("a", "b")
    assert graph.outputs == ("sub", "relu")
    x = {name: numbers(3, 4, seed=i) for i, name in enumerate("ab")}
    values = graph.forward(x)
    for name, theirs in zip(graph.outputs, evaluated(model, x), strict=True):
        close(values[name], theirs, 0)


def test_an_input_that_is_an_output_and_what_no_output_needs(read):
    nodes = [n("Relu", "x"), n("LSTM", "x w r", "nowhere")]
    graph = read(build(nodes, {"w": numbers(1), "r": numbers(1)}, outputs="y x"))
    assert graph.outputs == ("relu", "identity")


@pytest.mark.parametrize("batch", ["N", 1, 2])
def test_any_batch_whether_the_file_fixes_it_or_not(read, batch):
    nodes = [n("Conv", "x w", "c"), n("Flatten", "c", "f"), n("Gemm", "f k")]
    graph = read(build(nodes, {"w": numbers(2, 3, 6, 7), "k": numbers(2, 5)}, inputs={"x": (batch, *MAPS[1:])}))
    assert graph.forward(numbers(4, *MAPS[1:]))[graph.outputs[0]].shape == (4, 5)


def test_open_sizes_are_those_of_the_input_given(read):
    model = build(
        [n("Conv", "x w", auto_pad="SAME_UPPER", strides=[2, 2])],
        {"w": numbers(2, 3, 3, 3)},
        inputs={"x": ("N", 3, "H", "W")},
    )
    for check in (True, False, None):
        with pytest.raises(LoadError, match=r'the shape of "x" is not known.*: give input='):
            read(model, check=check)
    graph = read(model, input=numbers(*MAPS))
    assert graph["conv"].layer.padding == ((0, 1), (1, 1))
    with pytest.raises(LoadError, match=r'input "x" has the shape'):
        read(build([n("Relu", "x")]), input=numbers(2, 3, 8, 8))
    assert kinds(read(build([n("Relu", "x")], inputs={"x": ("N", 3, "H", "W")}), check=None)) == "ReLU"
    with pytest.raises(LoadError, match=r"open sizes .*: give input=, or check=False"):
        read(build([n("Relu", "x")], inputs={"x": ("N", 3, "H", "W")}), check=True)


def test_large_models_are_not_checked_unless_asked(read, monkeypatch):
    asked = []
    monkeypatch.setattr("lrp_ref.loaders.onnx.verify", lambda *arguments: asked.append(arguments))
    for shape, check, expected in (
        ((3, 8, 8), None, 1),
        ((3, 300, 300), None, 0),
        ((3, 300, 300), True, 1),
        ((3, 8, 8), False, 0),
    ):
        asked.clear()
        read(build([n("Relu", "x")], inputs={"x": ("N", *shape)}), check=check)
        assert len(asked) == expected


# --- refusals ------------------------------------------------------------------------------------------------------

BRANCH = helper.make_graph(
    [n("Relu", "x", "o")], "branch", [], [helper.make_tensor_value_info("o", TensorProto.FLOAT, None)]
)
LN = {"s": numbers(7), "b": numbers(7)}
LSTM = {"w": numbers(1, 12, 7), "r": numbers(1, 12, 3)}
IDX = {"c": np.array(True), "i": ints(0, 2), "z": ints(1, -1), "mixed": ints(3, -1), "p": ints(1, 0, 0, 0, 0, 0, 0, 0)}
REFUSED = {  # name: nodes, constants, the error, what its words must hold
    "attention": (
        [n("MatMul", "x x", name="/attn/MatMul")],
        {},
        UnsupportedOp,
        r'node "/attn/MatMul" \(MatMul\): a product of two tensors',
    ),
    "LayerNormalization": (
        [n("LayerNormalization", "x s b", name="ln")],
        LN,
        UnsupportedOp,
        r'node "ln" \(LayerNormalization\): no layer',
    ),
    "LSTM": (
        [n("Squeeze", "x", "t"), n("LSTM", "t w r", "y", name="rnn", hidden_size=3)],
        LSTM,
        UnsupportedOp,
        r'node "rnn" \(LSTM\): no layer',
    ),
    "Tile over the batch": (
        [n("Tile", "x r", name="tile")],
        {"r": ints(2, 1, 1, 1)},
        UnsupportedOp,
        r'node "tile" \(Tile\): it repeats the batch',
    ),
    "Tile none": ([n("Tile", "x r")], {"r": ints(1, 0, 1, 1)}, LoadError, r"\[1, 0, 1, 1\] times, need a number >= 1"),
    "Tile short": ([n("Tile", "x r")], {"r": ints(1, 2)}, LoadError, "of 4 axes"),
    "Tile huge": ([n("Tile", "x r")], {"r": ints(1, 1, 2**40, 1)}, LoadError, "more than 16384|elements"),
    "If": (
        [n("If", "c", name="if", then_branch=BRANCH, else_branch=BRANCH)],
        IDX,
        UnsupportedOp,
        r'node "if" \(If\): loops, branches',
    ),
    "domain": (
        [helper.make_node("Fancy", ["x"], ["y"], name="f", domain="com.x")],
        {},
        UnsupportedOp,
        r'node "f" \(com.x.Fancy\): only operators',
    ),
    "unknown": ([n("Fancy", "x", name="f")], {}, LoadError, r'node "f" \(Fancy\) is none by onnx\'s definition'),
    "training batch norm": (
        [n("BatchNormalization", "x s b m v", "y a c", name="bn", training_mode=1)],
        STATISTICS,
        LoadError,
        r'node "bn" .*training mode: export',
    ),
    "training dropout": (
        [n("Dropout", "x r t", name="d")],
        {"r": np.float32(0.5), "t": np.array(True)},
        LoadError,
        r'node "d" .*training mode: export',
    ),
    "mask": ([n("Dropout", "x", "y m", name="d")], {}, UnsupportedOp, r'node "d" .*its mask is used'),
    "Reshape": (
        [n("Reshape", "x z", name="r")],
        {"z": ints(6, -1)},
        UnsupportedOp,
        r'node "r" \(Reshape\): .*mix the batch',
    ),
    "Reshape to a number of samples": (
        [n("Reshape", "x z", name="r")],
        {"z": ints(7919, -1)},
        UnsupportedOp,
        "fixes the batch",
    ),
    "Transpose": (
        [n("Transpose", "x", name="t", perm=[1, 0, 2, 3])],
        {},
        LoadError,
        r'node "t" \(Transpose\): .*batch',
    ),
    "Transpose all": ([n("Transpose", "x", name="t")], {}, LoadError, r'node "t" \(Transpose\): .*batch'),
    "Flatten 0": (
        [n("Flatten", "x", name="f", axis=0)],
        {},
        UnsupportedOp,
        r'node "f" \(Flatten\): axis 0 would mix the batch',
    ),
    "Flatten 2": (
        [n("Flatten", "x", name="f", axis=2)],
        {},
        UnsupportedOp,
        r'node "f" \(Flatten\): axis 2 would mix the batch',
    ),
    "Concat": ([n("Concat", "x x", name="c", axis=0)], {}, LoadError, r'node "c" \(Concat\): .*batch'),
    "Softmax": ([n("Softmax", "x", name="s", axis=0)], {}, LoadError, r'node "s" \(Softmax\): .*batch'),
    "Slice": ([n("Slice", "x i j", name="s")], {"i": ints(1), "j": ints(2)}, LoadError, r'node "s" \(Slice\): .*batch'),
    "Gather": ([n("Gather", "x i", name="g", axis=0)], {"i": ints(0)}, LoadError, r'node "g" \(Gather\): .*batch'),
    "Gather apart": (
        [n("Gather", "x i", name="g", axis=1)],
        IDX,
        UnsupportedOp,
        r'node "g" \(Gather\): indices that are no run',
    ),
    "ReduceMean": ([n("ReduceMean", "x", name="m")], {}, LoadError, r'node "m" \(ReduceMean\): .*batch'),
    "Pad": ([n("Pad", "x p", name="p")], IDX, UnsupportedOp, r'node "p" \(Pad\): it pads the batch'),
    "Pad by ones": (
        [n("Pad", "x p v", name="p")],
        {"p": ints(*[0] * 7, 1), "v": np.float32(1)},
        UnsupportedOp,
        "padding by other than 0",
    ),
    "Pad mode": (
        [n("Pad", "x p", name="p", mode="reflect")],
        {"p": ints(*[0] * 7, 1)},
        UnsupportedOp,
        "only padding by a constant",
    ),
    "Squeeze": ([n("Squeeze", "x z", name="s")], {"z": ints(0)}, LoadError, r'node "s" \(Squeeze\): .*batch'),
    "Gemm": (
        [n("Flatten", "x", "f"), n("Gemm", "f w", name="g", transA=1)],
        {"w": numbers(2, 3)},
        UnsupportedOp,
        "transA would mix the batch",
    ),
    "Gemm C": (
        [n("Flatten", "x", "f"), n("Gemm", "f w c", name="g")],
        {"w": numbers(126, 3), "c": numbers(2, 1)},
        UnsupportedOp,
        "is no bias of 3 outputs",
    ),
    "a constant with a batch": (
        [n("Mul", "x c", name="m")],
        {"c": numbers(2, 1, 1, 1)},
        UnsupportedOp,
        r'node "m" .*batch axis',
    ),
    "more axes": (
        [n("Mul", "x c", name="m")],
        {"c": numbers(1, 1, 1, 1, 1)},
        UnsupportedOp,
        r'node "m" .*more axes than the data',
    ),
    "Div": (
        [n("Div", "x x", name="d")],
        {},
        UnsupportedOp,
        r'node "d" \(Div\): a division by what depends on the data',
    ),
    "Div by 0": ([n("Div", "x c", name="d")], {"c": np.float32(0)}, LoadError, r'node "d" \(Div\) divides by 0'),
    "Clip": (
        [n("Clip", "x l h", name="c")],
        {"l": np.float32(1), "h": np.float32(0)},
        LoadError,
        r'node "c" \(Clip\): .*above',
    ),
    "Selu": ([n("Selu", "x", name="s", alpha=1.0)], {}, UnsupportedOp, r'node "s" \(Selu\): alpha is not'),
    "Resize": (
        [n("Resize", "x - c", name="r", mode="cubic")],
        {"c": np.ones(4, "float32")},
        UnsupportedOp,
        "mode 'cubic'",
    ),
    "Resize channels": (
        [n("Resize", "x - c", name="r")],
        {"c": np.array([1, 2, 1, 1], "float32")},
        UnsupportedOp,
        "batch or the channels",
    ),
    "indices": ([n("MaxPool", "x", "y i", name="p", kernel_shape=[2, 2])], {}, UnsupportedOp, "the indices, is used"),
    "integers": (
        [n("Cast", "x", "i", to=TensorProto.INT64), n("Cast", "i", to=TensorProto.FLOAT)],
        {},
        UnsupportedOp,
        "no float",
    ),
    "a constant output": (
        [n("Relu", "x", "z"), n("Constant", "", "y", value_float=1.0)],
        {},
        LoadError,
        "does not depend on an input",
    ),
    "the batch's size as a number": (
        [n("Shape", "x", "s", end=1), n("Cast", "s", "f", to=TensorProto.FLOAT), n("Div", "x f", name="d")],
        {},
        UnsupportedOp,
        r'node "d" \(Div\): its input 1 depends on the size of the batch',
    ),
    "the batch's size as an end": (
        [n("Shape", "x", "s", end=1), n("Slice", "x z s a", name="s")],
        {"z": ints(0), "a": ints(1)},
        UnsupportedOp,
        r'node "s" \(Slice\): its input 2 depends on the size of the batch',
    ),
}


@pytest.mark.parametrize("check", [None, False])
@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_refused_in_words(read, tmp_path, name, check):
    nodes, constants, error, words = REFUSED[name]
    model = build(nodes, constants, domains=("com.x",) if name == "domain" else ())
    with pytest.raises(error, match=words) as caught:
        read(model, check=check)
    assert type(caught.value) is error
    assert str(caught.value).startswith(f"{tmp_path / 'model.onnx'}: ")
    assert str(caught.value).isprintable()
    assert error is not UnsupportedOp or any(
        word in str(caught.value) for word in ("rewrite", "cut the file", "write them out")
    )


def test_loop_is_refused(read):
    body = helper.make_graph(
        [n("Identity", "c", "d"), n("Identity", "v", "o")],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, ()),
            helper.make_tensor_value_info("c", TensorProto.BOOL, ()),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("d", TensorProto.BOOL, ()),
            helper.make_tensor_value_info("o", TensorProto.FLOAT, None),
        ],
    )
    model = build([n("Loop", "m c x", name="loop", body=body)], {"m": np.int64(3), "c": np.array(True)})
    with pytest.raises(
        UnsupportedOp, match=r'node "loop" \(Loop\): loops, branches and other subgraphs cannot be read'
    ):
        read(model)


@pytest.mark.parametrize("opset", [1, 10, NEWEST + 1])
def test_other_opsets_are_refused(read, opset):
    with pytest.raises(LoadError, match=rf"opset {opset}; this reads 11 to {NEWEST}"):
        read(build([n("Relu", "x")], opset=opset))


def test_softmax_over_several_axes_at_once_is_refused(read):
    with pytest.raises(UnsupportedOp, match="several axes at once"):
        read(Case("s", "", [n("Softmax", "x")]).model(11))


def test_squeezing_all_axes_of_a_batch_of_one_is_refused(read):
    with pytest.raises(LoadError, match=r"Squeeze.*batch"):
        read(build([n("Squeeze", "x")], inputs={"x": (1, 3, 1)}))
    assert kinds(read(build([n("Squeeze", "x")], inputs={"x": ("N", 3, 1)}))) == "Squeeze"


def test_gelu_is_not_seen_where_it_is_not(read):
    """Another constant, another factor, another tensor: Erf has no layer."""
    constants = {"root": np.float32(2**0.5), "one": np.float32(1), "half": np.float32(0.5), "two": np.float32(2)}
    for change in ({"root": np.float32(1.5)}, {"one": np.float32(1.1)}, {"half": np.float32(0.6)}, {"other": True}):
        nodes = [n("Div", "x root", "a"), n("Erf", "a", "e"), n("Add", "e one", "p")]
        nodes += [n("Relu", "x", "r"), n("Mul", "r p" if "other" in change else "x p", "q"), n("Mul", "q half")]
        with pytest.raises(UnsupportedOp, match=r"Erf.*no layer"):
            read(
                build(
                    nodes, constants | {k: v for k, v in change.items() if k != "other"}, inputs={"x": ("N", *ROWS[1:])}
                )
            )
