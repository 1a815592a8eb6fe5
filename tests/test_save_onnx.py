"""Graphs as ONNX files: the same graph comes back, other tools compute the same, and hostile files are one error."""

import dataclasses
import json
import math
from fractions import Fraction

import numpy as np
import pytest
from grid import CONV, GRID, eighths, sample

import lrp_ref as lrp
from lrp_ref import layers as L
from lrp_ref.data import digits, digits_cnn, digits_mlp
from lrp_ref.io import from_onnx, load, save
from lrp_ref.loaders import onnx_own, onnx_write

onnx = pytest.importorskip("onnx")
RNG = np.random.default_rng(11)
BOTH = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda dtype: dtype.__name__)
ABSTRACT = {L.Activation, L.Diagonal, L.Layer, L.Linear, L.Wires, L.Near}


def evaluated(path, x):
    """The outputs by onnx's own evaluator, of a file that its checker passes."""
    from onnx.reference import ReferenceEvaluator

    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    return ReferenceEvaluator(model).run(None, x)


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def tupled(value):
    return tuple(map(tupled, value)) if isinstance(value, (list, tuple)) else value


def assert_same_graph(a, b):
    assert type(a) is type(b) is lrp.Graph
    assert (a.inputs, a.outputs, dict(a.aliases), tuple(a.notes)) == (
        b.inputs, b.outputs, dict(b.aliases), tuple(b.notes)
    )  # fmt: skip
    assert [(node.name, type(node.layer), node.inputs) for node in a.nodes] == [
        (node.name, type(node.layer), node.inputs) for node in b.nodes
    ]
    for one, other in zip(a.nodes, b.nodes, strict=True):
        for field in dataclasses.fields(one.layer):
            value, back = getattr(one.layer, field.name), getattr(other.layer, field.name)
            if hasattr(value, "tobytes"):
                assert same(value, back), (one.name, field.name)
            else:
                assert tupled(value) == back, (one.name, field.name)
                assert type(tupled(value)) is type(back)


def again(graph, path, x=None):
    save(graph, path, input=x)
    back = from_onnx(path, canonize=False, check=False)
    assert_same_graph(graph, back)
    return back


def assert_runs_alike(graph, path, x, bound=None):
    back = again(graph, path, x)
    values, read = graph.forward(x), back.forward(x)
    for name, theirs in zip(graph.outputs, evaluated(path, x), strict=True):
        ours = values[name]
        assert same(ours, read[name])
        assert ours.dtype == theirs.dtype
        assert ours.shape == theirs.shape
        tolerance = bound or (1e-6 if ours.dtype == np.float32 else 1e-12)
        assert abs(ours - theirs).max(initial=0) <= tolerance * max(1, abs(ours).max(initial=0))


# --- every layer


def one(layer, *shapes, bound=None):
    return layer, shapes, bound


OTHERS = {
    "clip": one(L.Clip(low=-0.3, high=0.7), (3, 4)),
    "clip-below": one(L.Clip(low=0), (3,)),
    "clip-above": one(L.Clip(high=0.25), (3,)),
    "clip-open": one(L.Clip(), (3,)),
    "relu6": one(L.Clip(low=0, high=6), (2, 3, 3)),
    "prelu": one(L.PReLU([0.1, 0.2, -0.3]), (3, 2, 2)),
    "prelu-scalar": one(L.PReLU(0.1), (3, 2)),
    "prelu-full": one(L.PReLU([[0.1, 0.2], [0.3, 0.4]]), (2, 2)),
    "leaky": one(L.LeakyReLU(), (5,)),
    "elu": one(L.ELU(), (5,)),
    "elu-0.3": one(L.ELU(alpha=0.3), (5,)),
    "selu": one(L.SELU(), (5,)),
    "celu": one(L.CELU(), (5,)),
    "celu-0.3": one(L.CELU(alpha=0.3), (5,)),
    "softplus": one(L.Softplus(), (5,)),
    "softplus-0.7": one(L.Softplus(beta=0.7), (5,)),
    "sigmoid": one(L.Sigmoid(), (5,)),
    "silu": one(L.SiLU(), (5,)),
    "gelu": one(L.GELU(), (5,), bound=1e-6),
    "gelu-tanh": one(L.GELU(approximate="tanh"), (5,), bound=1e-6),
    "tanh": one(L.Tanh(), (5,)),
    "hard-sigmoid": one(L.HardSigmoid(), (5,)),
    "hard-sigmoid-keras": one(L.HardSigmoid(slope=0.2), (5,)),
    "hard-swish": one(L.HardSwish(), (5,)),
    "softmax": one(L.Softmax(), (5,)),
    "softmax-channels": one(L.Softmax(axis=1), (3, 2)),
    "soft-min-pool": one(L.SoftMinPool(), (5,)),
    "soft-min-pool-z": one(L.SoftMinPool(share="z"), (5,)),
    "mul": one(L.Mul(), (3, 2), (3, 1)),
    "resize-0.7": one(L.Resize(scale=1.7), (2, 7)),
    "resize-third": one(L.Resize(scale=Fraction(1, 3), mode="nearest"), (1, 9, 6)),
    "max-pool-ceil-drops-window": one(L.MaxPool(2, stride=(3, 2), padding=1, ceil=True), (1, 5, 3)),
    "adaptive-one": one(L.AdaptiveMaxPool(1), (2, 3, 3)),
    "adaptive-divides": one(L.AdaptiveMaxPool((3, 1)), (2, 6, 4)),
    "adaptive-all": one(L.AdaptiveAvgPool(None), (2, 3, 4)),
    "conv-bias-map": one(L.Conv([[[1.0, 2.0]]], bias=[[1.0, -2.0, 0.5]]), (1, 4)),
    "conv-taps": one(
        L.Conv(eighths(4, 1, 3, 2), eighths(4), padding=1, groups=2, tap_bias=eighths(4, 3, 2)),
        (2, 4, 3),
    ),
    "transposed-taps": one(
        L.ConvTranspose(eighths(2, 2, 3), eighths(4), stride=2, padding=1, groups=2, tap_bias=eighths(4, 3)),
        (2, 4),
    ),
    "transposed-groups-padding": one(
        L.ConvTranspose(eighths(4, 3, 2), eighths(6), output_padding=4, padding=((0, 1),), groups=2),
        (4, 3),
    ),
}  # fmt: skip
CASES = {case.id: one(case.layer, *case.shapes) for case in GRID} | OTHERS


def test_every_layer_is_written_and_tried():
    concrete = {getattr(L, name) for name in L.__all__} - ABSTRACT - {L.Given}
    assert set(onnx_write.EMITTERS) == concrete
    assert {type(layer) for layer, *_ in CASES.values()} == concrete


@BOTH
@pytest.mark.parametrize("case", CASES)
def test_a_layer_comes_back_and_runs_alike(case, dtype, tmp_path):
    layer, shapes, bound = CASES[case]
    names = [f"in{i}" for i in range(len(shapes))]
    x = {name: RNG.normal(size=(2, *shape)).astype(dtype) for name, shape in zip(names, shapes, strict=True)}
    graph = lrp.Graph([lrp.Node("layer", layer.like(x["in0"]), *names)], outputs="layer", inputs=names)
    assert_runs_alike(graph, tmp_path / "a.onnx", x, bound)


NEED_SIZES = ("adaptive", "resize2d-pytorch", "sum-pool2d-ceil-padding")
"""Beginnings of the cases that ONNX has for one size only."""


@pytest.mark.parametrize("case", GRID, ids=lambda case: case.id)
def test_a_file_without_sizes_runs_alike_or_asks_for_them(case, tmp_path):
    x, arrays = sample(case, np.random.default_rng(0), 2), list(case.layer._arrays())
    x = {f"in{i}": a if arrays else a.astype(np.float32) for i, a in enumerate(x)}
    pins = [lrp.Node(f"pin{i}", L.Pad([(0, 0)] * (a.ndim - 1)), f"in{i}") for i, a in enumerate(x.values())]
    nodes = [*pins, lrp.Node("layer", case.layer, *(pin.name for pin in pins))]  # so that the numbers of axes are known
    graph, path = lrp.Graph(nodes, outputs="layer", inputs=list(x)), tmp_path / "a.onnx"
    if case.id.startswith(NEED_SIZES):
        with pytest.raises(lrp.LrpError, match=r'node "layer" .* save with input='):
            save(graph, path)
        return
    again(graph, path)
    (theirs,) = evaluated(path, x)
    ours = graph.forward(x)["layer"]
    if case.id not in ("avg-pool2d-ceil", "avg-pool2d-ceil-drops-window"):  # the evaluator's windows are off there
        assert abs(ours - theirs).max(initial=0) <= 1e-6 * max(1, abs(ours).max(initial=0))


# --- networks


@pytest.mark.parametrize("network", [digits_mlp, digits_cnn], ids=lambda f: f.__name__)
@BOTH
def test_the_shipped_networks(network, dtype, tmp_path):
    x = digits().images[:3].astype(dtype)
    graph, path = network().like(x), tmp_path / "net.onnx"
    assert_runs_alike(graph, path, {"input": x})
    back = load(path, canonize=False, check=True)
    assert_same_graph(graph, back)
    composite = lrp.presets.epsilon_gamma_box(low=0, high=1)
    one, other = (lrp.explain(net, x, composite, target=3) for net in (lrp.canonize(graph), load(path)))
    assert same(one.relevance, other.relevance)
    zero = [lrp.explain(net, x, lrp.Zero(), target=3) for net in (graph, back)]
    assert same(zero[0].relevance, zero[1].relevance)
    assert str(zero[0].ledger) == str(zero[1].ledger)


def names(graph):
    return [node.name for node in graph.nodes]


def strange_graph():
    """Several inputs and outputs, aliases, notes, names like those of arrays, and options of LRP alone."""
    return lrp.Graph(
        [
            lrp.Node("conv.weight", L.Conv(RNG.normal(size=(2, 1, 3, 3)), [0.5, 0.25], padding=1), "a"),
            lrp.Node("conv", L.Conv(RNG.normal(size=(2, 1, 3, 3)), padding=1), "b"),
            lrp.Node("Σ/1:0", L.Add(constant=0.125), "conv.weight", "conv", "conv"),
            lrp.Node("pool", L.MaxPool(2, ties=L.Near(1e-6), frozen_as="average"), "Σ/1:0"),
            lrp.Node("all", L.GlobalMaxPool(ties="shared"), "pool"),
            lrp.Node("flat", L.Flatten(), "all"),
        ],
        outputs=["flat", "pool"],
        inputs=["b", "a"],
        aliases={"/pool/MaxPool_output_0": "pool", "input tensor": "conv"},
        notes=["folded bn1 into conv", "dropped dropout"],
    )


@BOTH
def test_a_graph_comes_back_whole(dtype, tmp_path):
    x = {name: RNG.normal(size=(2, 1, 4, 6)).astype(dtype) for name in "ba"}
    graph = strange_graph().like(x)
    assert_runs_alike(graph, tmp_path / "a.onnx", x)
    back = from_onnx(tmp_path / "a.onnx", canonize=False, check=True)
    assert str(back) == str(graph)
    assert back["/pool/MaxPool_output_0"].name == "pool"
    again(graph, tmp_path / "open.onnx")  # no sizes are needed
    from_onnx(tmp_path / "open.onnx", canonize=False)


def test_a_check_finds_operators_that_compute_something_else(tmp_path):
    path, x = tmp_path / "a.onnx", RNG.normal(size=(2, 3))
    save(lrp.chain(L.Dense(RNG.normal(size=(3, 2))), L.ReLU()), path, input=x)
    model = onnx.load(path)
    model.graph.node[-1].op_type = "Neg"
    onnx.save(model, path)
    for check in (None, True):
        with pytest.raises(lrp.LoadError, match="differs from onnx's reference evaluator"):
            from_onnx(path, check=check)


def test_mixed_dtypes_are_kept_and_cast(tmp_path):
    graph = lrp.Graph(
        [
            lrp.Node("conv", L.Conv(RNG.normal(size=(2, 1, 3)).astype(np.float32)), "input"),
            lrp.Node("bn", L.BatchNorm([1.5, 2.0], [0.1, 0.2]), "conv"),
            lrp.Node("scale", L.Scale(np.float16(0.1) * np.ones(2, np.float16), np.array([1, -2])), "bn"),
        ],
        outputs="scale",
    )
    assert_runs_alike(graph, tmp_path / "a.onnx", {"input": RNG.normal(size=(2, 1, 5))})
    assert [a.data_type for a in onnx.load(tmp_path / "a.onnx").graph.initializer if a.name == "conv.weight"] == [1]


@pytest.mark.parametrize(
    "make", [lambda a: np.asfortranarray(a), lambda a: a.astype(">f8"), lambda a: a[::-1], lambda a: a * [[0, -0.0]]]
)
def test_arrays_of_any_layout(make, tmp_path):
    graph = lrp.chain(L.Dense(make(RNG.normal(size=(3, 2)))))
    save(graph, tmp_path / "a.onnx")
    weight = from_onnx(tmp_path / "a.onnx").nodes[0].layer.weight
    assert weight.tobytes() == graph.nodes[0].layer.weight.astype("<f8").tobytes()


def test_numpy_numbers_and_lists_are_options(tmp_path):
    pool = L.MaxPool([np.int64(2), 2], padding=[[1, 0], [0, 1]])
    graph = lrp.chain(L.LeakyReLU(np.float64(0.1)), pool, L.Clip(low=-math.inf, high=2))
    save(graph, tmp_path / "a.onnx")
    leaky, pool, clip = (node.layer for node in from_onnx(tmp_path / "a.onnx", check=False).nodes)
    assert (leaky.slope, pool.kernel, pool.padding) == (0.1, (2, 2), ((1, 0), (0, 1)))
    assert (clip.low, clip.high) == (-math.inf, 2)


def test_canonized_when_asked(tmp_path):
    save(digits_cnn(), tmp_path / "a.onnx")
    assert "bn1" not in names(load(tmp_path / "a.onnx"))
    assert names(load(tmp_path / "a.onnx", canonize=False)) == names(digits_cnn())


# --- what is refused


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (L.Given(L.Tanh(), np.ones((1, 2))), "lrp_ref.given was called with"),
        (L.Dense(lrp.exact([[1, 2]])), r'node "0.dense" \(Dense\).*weight holds exact rationals.*graph.like'),
        (L.Dense(np.ones((1, 2), np.longdouble)), "weight is float128"),
        (L.LeakyReLU(slope=Fraction(1, 3)), r"slope=Fraction\(1, 3\) has no form"),
        (L.Reshape((0, 2)), "is empty"),
        (type("Mine", (L.ReLU,), {})(), r'node "0.mine" \(Mine\).*no operators are known'),
    ],
    ids=["given", "exact", "longdouble", "fraction", "empty", "own"],
)
def test_what_onnx_has_not_is_refused_by_name(layer, message, tmp_path):
    if "128" in message and np.finfo(np.longdouble).nmant <= 52:
        pytest.skip("longdouble is float64 here")
    with pytest.raises(lrp.UnsupportedOp, match=message):
        save(lrp.chain(layer), tmp_path / "a.onnx", input=None if "empty" not in message else np.ones((1, 0)))
    assert not list(tmp_path.iterdir())


def test_what_needs_an_example_says_so(tmp_path):
    for graph in (digits_mlp(), lrp.chain(L.ReLU())):
        with pytest.raises(lrp.LrpError, match=r'how many axes input "input" has .* save with input='):
            save(graph, tmp_path / "a.onnx")
    pool = lrp.chain(CONV[0].layer, L.AdaptiveAvgPool(2))
    with pytest.raises(lrp.LrpError, match=r'node "1.adaptiveavgpool" .* save with input='):
        save(pool, tmp_path / "a.onnx")


@pytest.mark.parametrize(
    "name", ["", "a\nb", "\x1b[31m", "\ud800", "a\u202eb", "a" * 3000], ids=lambda name: ascii(name[:9])
)
def test_names_that_a_file_cannot_hold(name, tmp_path):
    node = lrp.Node("b", L.Dense([[1.0]]), "input")
    with pytest.raises(lrp.LrpError, match="rename"):
        save(lrp.Graph([lrp.Node(name, node.layer, "input")], name), tmp_path / "a.onnx")
    with pytest.raises(lrp.LrpError, match="rename"):
        save(lrp.Graph([node], "b", aliases={name: "b"}), tmp_path / "a.onnx")


def test_an_output_twice(tmp_path):
    with pytest.raises(lrp.LrpError, match="named twice"):
        save(lrp.Graph([lrp.Node("b", L.Dense([[1.0]]), "input")], ["b", "b"]), tmp_path / "a.onnx")


def test_files_of_any_other_kind_and_folders_that_are_not_there(tmp_path):
    with pytest.raises(lrp.LrpError, match=r"ends in \.onnx"):
        save(digits_cnn(), tmp_path / "a.npz")
    with pytest.raises(FileNotFoundError):
        save(digits_cnn(), tmp_path / "no" / "a.onnx")


def test_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_write, "MOST_BYTES", 1000)
    with pytest.raises(lrp.LrpError, match="a file of ONNX holds no more"):
        save(digits_cnn(), tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


def test_saving_is_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "a.onnx"
    save(digits_cnn(), path)
    before = path.read_bytes()
    assert [file.name for file in tmp_path.iterdir()] == ["a.onnx"]

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        save(lrp.chain(L.Dense([[1.0]])), path)
    assert [file.name for file in tmp_path.iterdir()] == ["a.onnx"]
    assert path.read_bytes() == before
    monkeypatch.undo()
    graph = from_onnx(path, canonize=False)
    save(graph, path)  # whose arrays are still mapped from the file that is replaced
    assert_same_graph(graph, from_onnx(path, canonize=False))
    assert_same_graph(graph, digits_cnn())


# --- hostile files


def small(path):
    save(lrp.chain(L.Conv(RNG.normal(size=(2, 1, 3)), [1.0, 2.0], padding=1), L.MaxPool(2)), path)
    return onnx.load(path)


def tampered(path, change, which=onnx_write.LAYER):
    """The file with one piece of JSON changed: by a function of the object, or replaced by a text."""
    model = small(path)
    entries = [*model.metadata_props, *(entry for node in model.graph.node for entry in node.metadata_props)]
    entry = next(entry for entry in entries if entry.key == which)
    if callable(change):
        said = json.loads(entry.value)
        change(said)
        entry.value = json.dumps(said)
    else:
        entry.value = change
    onnx.save(model, path)


def put(*place):
    """A change: the last of `place` is put where the others lead."""
    *keys, last, value = place

    def change(said):
        for key in keys:
            said = said[key]
        said[last] = value

    return change


def drop(key):
    return lambda said: said.pop(key)


LAYERS = {
    "unknown-class": put("layer", "Convolution"),
    "long-class": put("layer", "Conv" * 10_000),
    "long-option": put("options", "Conv" * 10_000, 1),
    "long-input": put("inputs", ["Conv" * 10_000]),
    "abstract-class": put("layer", "Linear"),
    "given": put("layer", "Given"),
    "no-layer": put("layer", "Near"),
    "dunder": put("layer", "__class__"),
    "class-of-wrong-type": put("layer", ["Conv"]),
    "no-class": drop("layer"),
    "no-options": drop("options"),
    "options-of-wrong-type": put("options", []),
    "unknown-option": put("options", "__init__", 1),
    "array-as-option": put("options", "weight", 1.0),
    "no-array": put("arrays", {}),
    "missing-initializer": put("arrays", "weight", ["nothing", [2, 1, 3], "C"]),
    "array-of-wrong-kind": put("arrays", "weight", "0.conv.weight"),
    "array-unknown": put("arrays", "stride", ["0.conv.weight", [2, 1, 3], "C"]),
    "array-of-wrong-shape": put("arrays", "weight", ["0.conv.weight", [2, 1, 4], "C"]),
    "array-of-free-shape": put("arrays", "weight", ["0.conv.weight", [-1, 1.5], "C"]),
    "array-of-four-axes-less": put("arrays", "weight", ["0.conv.weight", [6], "C"]),
    "array-of-huge-shape": put("arrays", "weight", ["0.conv.weight", [2**62, 2**62, 0], "C"]),
    "array-of-no-order": put("arrays", "weight", ["0.conv.weight", [2, 1, 3]]),
    "array-of-other-order": put("arrays", "weight", ["0.conv.weight", [2, 1, 3], ["C"]]),
    "text": put("options", "groups", "1"),
    "truth": put("options", "groups", True),
    "float": put("options", "groups", 1.0),
    "nothing": put("options", "groups", None),
    "zero": put("options", "groups", 0),
    "negative-groups": put("options", "groups", -1),
    "negative": put("options", "padding", [[-1, 1]]),
    "huge": put("options", "padding", [[2**40, 2**40]]),
    "large": put("options", "padding", [[2**30, 0]]),
    "object": put("options", "padding", {"Near": 1}),
    "three": put("options", "padding", [[1, 1, 1]]),
    "deep": put("options", "padding", [[[[[1]]]]]),
    "reads-nothing-known": put("inputs", ["nothing"]),
    "reads-too-much": put("inputs", ["input", "input"]),
    "reads-itself": put("inputs", ["0.conv"]),
    "reads-a-number": put("inputs", [0]),
    "reads-text": put("inputs", "input"),
    "no-json": "{",
    "list": "[]",
    "nan": put("options", "groups", math.nan),
    "nested": "[" * 200_000,
    "nested-objects": '{"layer":' * 200_000,
    "digits": '{"layer": ' + "9" * 100_000 + "}",
}
GRAPHS = {
    "format": put("format", 2),
    "no-format": drop("format"),
    "inputs": put("inputs", ["other"]),
    "inputs-of-wrong-type": put("inputs", 3),
    "outputs": put("outputs", ["0.conv"]),
    "outputs-nested": put("outputs", [["1.maxpool"]]),
    "alias-of-nothing": put("aliases", {"a": "nothing"}),
    "alias-of-list": put("aliases", {"a": ["0.conv"]}),
    "alias-that-is-a-node": put("aliases", {"0.conv": "1.maxpool"}),
    "alias-that-moves-the-cursor": put("aliases", {"\x1b[2J": "0.conv"}),
    "aliases-of-wrong-type": put("aliases", [["a", "0.conv"]]),
    "notes": put("notes", [1]),
    "no-notes": drop("notes"),
    "nested": "[" * 200_000,
}


@pytest.mark.parametrize("check", [False, None])
@pytest.mark.parametrize("change", LAYERS)
def test_hostile_layers(change, check, tmp_path):
    tampered(tmp_path / "a.onnx", LAYERS[change])
    with pytest.raises(lrp.LoadError, match=r"a\.onnx: ") as error:
        from_onnx(tmp_path / "a.onnx", check=check)
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize("change", GRAPHS)
def test_hostile_graphs(change, tmp_path):
    tampered(tmp_path / "a.onnx", GRAPHS[change], onnx_write.GRAPH)
    with pytest.raises(lrp.LoadError, match=r"a\.onnx: ") as error:
        from_onnx(tmp_path / "a.onnx", check=False)
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    ("layer", "options"),
    [
        ("LeakyReLU", {"slope": "0.1"}),
        ("LeakyReLU", {"slope": {"Fraction": [1, 0]}}),
        ("CELU", {"alpha": 0}),
        ("Clip", {"low": 2, "high": 1}),
        ("GELU", {"approximate": "exact"}),
        ("Reshape", {"shape": [2**31]}),
        ("Transpose", {"axes": [1, 0]}),
        ("Slice", {"axis": 0}),
        ("Slice", {"axis": 1, "step": 0}),
        ("Resize", {"scale": {"Fraction": [1, 0]}}),
        ("Resize", {"scale": {"Fraction": ["1", "3"]}}),
        ("Resize", {"size": 2, "mode": "cubic"}),
        ("MaxPool", {"kernel": [2, 2.5]}),
        ("MaxPool", {"kernel": 2, "ties": {"Near": "x"}}),
        ("MaxPool", {"kernel": 2, "ties": {"near": 1}}),
        ("MaxPool", {"kernel": 2, "ties": "both"}),
        ("AdaptiveAvgPool", {}),
        ("Dense", {}),
        ("Identity", {"weight": None}),
    ],
    ids=str,
)
def test_hostile_options(layer, options, tmp_path):
    tampered(tmp_path / "a.onnx", lambda said: said.update(layer=layer, options=options, arrays={}))
    with pytest.raises(lrp.LoadError):
        from_onnx(tmp_path / "a.onnx", check=False)


def test_what_a_file_of_another_shape_would_cost_is_not_paid(tmp_path):
    """JSON that names a layer with far larger outputs than the operators have."""
    for options in ({"layer": "Pad", "options": {"padding": [[0, 0], [0, 2**25]]}},
                    {"layer": "Upsample", "options": {"factor": 2**20}}):  # fmt: skip
        path = tmp_path / "a.onnx"
        save(lrp.chain(L.Pad([(0, 0), (0, 1)])), path, input=np.ones((1, 2, 3)))
        model = onnx.load(path)
        entry = model.graph.node[-1].metadata_props[0]
        entry.value = json.dumps(json.loads(entry.value) | options)
        onnx.save(model, path)
        with pytest.raises(lrp.LoadError, match="and its operators"):
            from_onnx(path)


def test_operators_of_no_node(tmp_path):
    model = small(tmp_path / "a.onnx")
    model.graph.node.add(op_type="Relu", name="x", input=["1.maxpool"], output=["y"])
    onnx.save(model, tmp_path / "a.onnx")
    with pytest.raises(lrp.LoadError, match="changed after lrp_ref wrote it"):
        from_onnx(tmp_path / "a.onnx")


@pytest.mark.parametrize("forget", ["producer", "metadata"])
def test_files_of_others_are_read_by_their_operators(forget, tmp_path):
    model = small(tmp_path / "a.onnx")
    if forget == "producer":
        model.producer_name = "other"
    else:
        del model.metadata_props[:]
    onnx.save(model, tmp_path / "a.onnx")
    graph = from_onnx(tmp_path / "a.onnx", input=np.zeros((1, 1, 6)))
    assert [node.kind for node in graph.nodes] == ["Conv", "MaxPool"]


def test_the_classes_that_a_file_may_name():
    assert set(onnx_own.KINDS) == {kind.__name__ for kind in onnx_write.EMITTERS}
    for kind in onnx_write.EMITTERS:
        options, arrays = onnx_write.option_types(kind)
        assert {*options, *arrays} == {field.name for field in dataclasses.fields(kind) if field.init}
