"""Canonization: each step leaves the forward pass as it is, with == in exact arithmetic, and says what it did."""

import math

import numpy as np
import pytest
from checks import check_adjoint, check_books, check_conserves
from hypothesis import given, settings
from hypothesis import strategies as st

import lrp_ref as lrp
from lrp_ref import Graph, Node, ShapeError, chain, fractions
from lrp_ref import layers as L
from lrp_ref.arrays import floats, is_exact
from lrp_ref.canonize import (
    ThresholdReLU,
    average_pooled,
    batch_norm_folded,
    batch_norm_moved,
    canonize,
    identity_dropped,
    linear_joined,
    output_stripped,
    scale_folded,
)


def eighths(*shape, seed=0):
    """Dyadic numbers of both signs, none of them 0."""
    rng = np.random.default_rng([seed, *shape])
    return rng.choice([-1, 1], shape) * rng.integers(1, 9, shape) / 8


def norm(channels, seed=0):
    """A batch norm with scales of both signs, and 0 in channel 1."""
    scale = eighths(channels, seed=seed + 1)
    scale[:3] = [-0.5, 0, 1.5][:channels]
    return L.BatchNorm(scale, eighths(channels, seed=seed + 2))


def outputs(graph, x):
    values = graph.forward(x)
    return [values[name] for name in graph.outputs]


def unchanged(graph, *shapes, step=canonize, **switches):
    """The graph after the step: equal outputs for inputs of all shapes, nothing left to do, notes of changes."""
    done = step(graph, **switches)
    for shape in shapes:
        x = eighths(2, *shape)
        exact = lrp.exact(x)
        wanted = outputs(graph, exact)
        for got, want in zip(outputs(step(graph.like(exact), **switches), exact), wanted, strict=True):
            assert fractions(got).tolist() == fractions(want).tolist()
        for got, want in zip(outputs(done, x), wanted, strict=True):
            assert abs(got - floats(want)).max() <= 1e-12 * abs(floats(want)).max()
    assert step(done, **switches) is done
    assert (done is graph) == (done.notes == graph.notes)
    assert len(done.nodes) + len(done.notes) >= len(graph.nodes)
    return done


def kinds(graph):
    return [node.kind for node in graph.nodes]


# --- folding


K = eighths
LINEAR = {  # id: layer, shapes of inputs, its channels in and out
    "1d": (L.Conv(K(3, 4, 3), K(3)), [(4, 5), (4, 8)], 4, 3),
    "1d padded, strided, no bias": (L.Conv(K(3, 4, 3), stride=2, padding=((2, 1),)), [(4, 5), (4, 8)], 4, 3),
    "2d": (L.Conv(K(3, 2, 2, 3), K(3)), [(2, 4, 4)], 2, 3),
    "2d padded": (L.Conv(K(3, 2, 3, 3), K(3), padding=1), [(2, 3, 4), (2, 5, 5), (2, 1, 1)], 2, 3),
    "2d padded more than the kernel": (L.Conv(K(2, 2, 2, 2), K(2), padding=(3, 0)), [(2, 2, 3)], 2, 2),
    "2d groups": (L.Conv(K(6, 2, 3, 2), K(6), padding=(1, 0), groups=2), [(4, 3, 4), (4, 4, 2)], 4, 6),
    "2d depthwise": (L.Conv(K(4, 1, 3, 3), padding=1, stride=2, groups=4), [(4, 3, 4), (4, 6, 6)], 4, 4),
    "2d dilated": (L.Conv(K(2, 3, 2, 2), K(2), padding=2, dilation=2), [(3, 3, 3), (3, 4, 2)], 3, 2),
    "3d": (L.Conv(K(2, 3, 2, 2, 2), padding=1, stride=(1, 2, 2)), [(3, 2, 3, 2)], 3, 2),
    "transposed 1d": (L.ConvTranspose(K(4, 3, 3), K(3), stride=2), [(4, 2), (4, 3)], 4, 3),
    "transposed 2d": (
        L.ConvTranspose(K(4, 3, 3, 2), K(6), stride=(2, 3), padding=1, output_padding=(1, 2), groups=2),
        [(4, 2, 3), (4, 3, 2)],
        4,
        6,
    ),
    "transposed 2d, one tap": (L.ConvTranspose(K(3, 2, 1, 1), padding=1), [(3, 3, 4)], 3, 2),
    "transposed 3d": (L.ConvTranspose(K(2, 3, 2, 1, 2), stride=2, output_padding=(1, 0, 0)), [(2, 2, 2, 1)], 2, 3),
    "dense": (L.Dense(K(4, 3), K(3)), [(4,)], 4, 3),
    "dense, no bias": (L.Dense(K(4, 3)), [(4,)], 4, 3),
}
every = pytest.mark.parametrize(("layer", "shapes", "inputs", "outputs"), LINEAR.values(), ids=LINEAR)


@every
def test_folded_into_the_layer_that_it_follows(layer, shapes, inputs, outputs, exact):
    for after in (norm(outputs), L.Scale(eighths(outputs)), L.Scale(-0.5, eighths(outputs)), L.Scale(0.0, 0.25)):
        graph = unchanged(chain(layer, after), *shapes)
        assert kinds(graph) == [type(layer).__name__]
        (name, source), kind = (node.name for node in reversed(chain(layer, after).nodes)), type(after).__name__
        assert graph.notes == (f"{name} folded into {source}",)
        assert graph.aliases == {name: source}, kind
        assert graph[name] is graph[source]


@every
def test_folded_into_the_layer_that_follows(layer, shapes, inputs, outputs, exact):
    for before in (norm(inputs), L.Scale(eighths(inputs)), L.Scale(-0.5, eighths(inputs)), L.Scale(2.0, 0.25)):
        graph = unchanged(chain(before, layer), *shapes)
        assert kinds(graph) == [type(layer).__name__]
        assert graph.aliases == {}
        moving = isinstance(layer, L.ConvTranspose) or (isinstance(layer, L.Conv) and layer.window.padding[0] != (0, 0))
        shifts = not isinstance(before, L.Scale) or before.bias is not None
        assert (getattr(graph.nodes[0].layer, "tap_bias", None) is not None) == (moving and shifts)


@every
def test_folded_from_both_sides_and_one_after_the_other(layer, shapes, inputs, outputs, exact):
    around = [norm(inputs), L.Scale(eighths(inputs), 0.5), layer, L.Scale(0.5), norm(outputs, 3), norm(outputs, 5)]
    graph = unchanged(chain(*around), *shapes)
    assert len(graph.nodes) == 1
    assert sorted(graph.notes) == sorted(
        f"{node.name} folded into 2.{type(layer).__name__.lower()}"
        for node in chain(*around).nodes
        if node.name[0] != "2"
    )


def test_one_network_meets_inputs_of_two_sizes():
    conv = L.Conv(eighths(2, 3, 3, 3), eighths(2), padding=1)
    graph = unchanged(chain(norm(3), conv), (3, 2, 2), (3, 6, 5))
    (node,) = graph.nodes
    for size in ((2, 2), (6, 5)):
        frozen = node.layer.frozen(eighths(1, 3, *size))
        assert frozen.tap_bias is None
        assert frozen.bias.shape == (2, *size)
    inside = frozen.bias[:, 1:-1, 1:-1]
    assert (inside == inside[:, :1, :1]).all()
    assert (frozen.bias[:, 0, 0] != inside[:, 0, 0]).all()


def test_batch_norm_goes_into_all_its_readers_or_into_none():
    a, b = L.Conv(eighths(2, 3, 3), padding=1), L.Conv(eighths(2, 3, 1), eighths(2))
    both = Graph([Node("bn", norm(3), "input"), Node("a", a, "bn"), Node("b", b, "bn")], ("a", "b"))
    assert kinds(unchanged(both, (3, 5))) == ["Conv", "Conv"]
    assert canonize(both).notes == ("bn folded into a, b",)
    residual = Graph(
        [Node("bn", norm(3), "input"), Node("a", L.Conv(eighths(3, 3, 1)), "bn"), Node("sum", L.Add(), "a", "bn")],
        "sum",
    )
    assert unchanged(residual, (3, 5)) is residual
    assert unchanged(Graph(both.nodes, ("a", "bn")), (3, 5)).notes == ()
    assert unchanged(Graph(both.nodes[:1], "bn"), (3, 5)).notes == ()


def test_a_layer_that_others_read_keeps_its_value():
    conv, bn = Node("conv", L.Conv(eighths(3, 2, 1)), "input"), Node("bn", norm(3), "conv")
    read = Graph([conv, bn, Node("sum", L.Add(), "conv", "bn")], "sum")
    assert unchanged(read, (2, 4)) is read
    output = Graph([conv, bn], ("conv", "bn"))
    assert unchanged(output, (2, 4)) is output
    before = Graph(
        [conv, bn, Node("sum", L.Add(), "conv", "bn"), Node("next", L.Conv(eighths(1, 3, 1)), "sum")], "next"
    )
    assert unchanged(before, (2, 4)) is before
    dead = Graph([*before.nodes, Node("unread", norm(1), "next"), Node("more", norm(1), "unread")], "next")
    assert unchanged(dead, (2, 4)) is dead


THROUGH = [  # what lies between scale and layer, the scale, whether it passes
    ([L.Flatten()], norm(3), True),
    ([L.AvgPool(kernel=2)], norm(3), True),
    ([L.AvgPool(kernel=2, padding=1, count_include_pad=False)], norm(3), True),
    ([L.AvgPool(kernel=3, stride=2, padding=0, ceil=True)], norm(3), True),
    ([L.AvgPool(kernel=2, padding=1)], norm(3), False),
    ([L.AvgPool(kernel=2, padding=(0, (1, 0)))], norm(3), False),
    ([L.AvgPool(kernel=2, padding=1)], L.Scale(eighths(3)), True),
    ([L.SumPool(kernel=2)], norm(3), False),
    ([L.SumPool(kernel=2)], L.Scale(eighths(3)), True),
    ([L.MaxPool(kernel=2)], norm(3), False),
    ([L.MaxPool(kernel=2, padding=1)], L.Scale(abs(eighths(3)), eighths(3)), True),
    ([L.GlobalMaxPool()], L.BatchNorm([0.5, 0.0, 2.0], eighths(3)), True),
    ([L.GlobalAvgPool(), L.Flatten()], norm(3), True),
    ([L.Mean(axes=(2, 3))], norm(3), True),
    ([L.Mean(axes=2, keepdims=True), L.Squeeze(axis=(2,)), L.Flatten()], norm(3), True),
    ([L.Mean(axes=1, keepdims=True)], norm(3), False),
    ([L.Mean(axes=(-1, -2))], norm(3), False),
    ([L.Upsample(factor=2), L.Dropout()], norm(3), True),
    ([L.Resize(size=(3, 6))], norm(3), True),
    ([L.AdaptiveAvgPool(size=(3, 2))], norm(3), True),
    ([L.AdaptiveMaxPool(size=2)], norm(3), False),
    ([L.AdaptiveMaxPool(size=2)], L.Scale(abs(eighths(3)), eighths(3)), True),
    ([L.ReLU()], norm(3), False),
    ([L.Pad(padding=((0, 0), (1, 1), (1, 1)))], norm(3), False),
    ([L.Slice(axis=1)], norm(3), False),
]


@pytest.mark.parametrize(("between", "scale", "passes"), THROUGH, ids=lambda value: repr(value))
def test_through_pools_and_shapes_where_that_is_exact(between, scale, passes):
    x = eighths(1, 3, 4, 5)
    shape = outputs(chain(*between), x)[0].shape
    last = L.Dense(eighths(shape[1], 2)) if len(shape) == 2 else L.Conv(eighths(2, shape[1], 1, 1), padding=1)
    graph = unchanged(chain(scale, *between, last), x.shape[1:], drop_identity=False)
    assert len(graph.nodes) == len(between) + 2 - passes
    inner = Graph(graph.nodes, [node.name for node in graph.nodes if node.kind != "Conv"])
    assert len(unchanged(inner, x.shape[1:]).nodes) >= len(between)
    read = chain(scale, *between, last)
    read = Graph(read.nodes, (read.nodes[-2].name, *read.outputs))
    assert unchanged(read, x.shape[1:], drop_identity=False) is read


def test_a_dense_layer_that_reads_sequences_has_its_channels_elsewhere():
    """Batch norm goes by axis 1, dense layers by the last: only one number for all is the same for both."""
    square = L.Dense(eighths(4, 4), eighths(4))
    sequences = [  # layers that tell that there are three axes or more, the shape of their input
        ([L.Reshape((4, 4))], (16,)),
        ([L.Flatten(), L.Unsqueeze(axis=2), L.Upsample(factor=4)], (4,)),
        ([L.Transpose(axes=(0, 2, 1))], (4, 4)),
        ([L.Pad([(0, 0), (0, 0)])], (4, 4)),
        ([L.Upsample(factor=1)], (4, 4)),
        ([L.MaxPool(kernel=1), L.Unsqueeze(axis=1), L.Mean(axes=1)], (4, 4)),
    ]
    for before, shape in sequences:
        for layers in ([square, norm(4)], [norm(4), square], [norm(4), L.Upsample(factor=1), square]):
            graph = chain(*before, *layers)
            assert unchanged(graph, shape) is graph
    summed = chain(L.MaxPool(kernel=1), L.Sum(axes=2), norm(4), square)
    assert kinds(unchanged(summed, (4, 4))) == ["MaxPool", "Sum", "Dense"]
    scalar = chain(L.Reshape((4, 4)), L.Scale(0.5, 2.0), square, L.Scale(3.0))
    assert kinds(unchanged(scalar, (16,))) == ["Reshape", "Dense"]


def test_a_scale_with_one_number_an_element_stays():
    conv = L.Conv(eighths(2, 3, 1), padding=1)
    for scale in (L.Scale(eighths(3, 4)), L.Scale(0.5, eighths(3, 4))):
        graph = chain(scale, conv)
        assert unchanged(graph, (3, 4)) is graph
    wrong = chain(conv, norm(3))
    assert canonize(wrong) is wrong  # the graph is not one that runs
    assert canonize(chain(norm(2), conv)).notes == ()


def test_standard_scaler_on_the_input():
    scaler = L.Scale(eighths(4), eighths(4))
    graph = unchanged(chain(scaler, L.Dense(eighths(4, 3), eighths(3)), L.ReLU(), L.Dense(eighths(3, 2))), (4,))
    assert kinds(graph) == ["Dense", "ReLU", "Dense"]
    assert graph.notes == ("0.scale folded into 1.dense",)


# --- a convolution with tap biases


@pytest.mark.parametrize("name", ["1d padded, strided, no bias", "2d groups", "3d", "transposed 1d", "transposed 2d"])
def test_a_convolution_with_tap_biases_is_a_layer_like_others(name, exact):
    layer, shapes, inputs, _ = LINEAR[name]
    folded = canonize(chain(norm(inputs), layer)).nodes[0].layer
    for shape in shapes:
        x = exact(eighths(2, *shape))
        layer = folded.like(x)
        frozen = layer.frozen(x)
        z = frozen.forward(x)
        assert fractions(z).tolist() == fractions(layer.forward(x)).tolist()
        R = exact(eighths(*z.shape, seed=1))
        check_adjoint(frozen, x, R)
        for rule in (lrp.Zero(), lrp.Epsilon(epsilon=0.5), lrp.Gamma(gamma=1), lrp.AlphaBeta(alpha=2), lrp.WSquare()):
            check_conserves(layer, rule, x, R)
        x32 = eighths(2, *shape).astype(np.float32)
        assert folded.like(x32).forward(x32).dtype == np.float32
        assert layer.forward(x[:0]).shape == (0, *z.shape[1:])


def test_tap_biases_and_bias_maps_must_fit():
    weight = eighths(2, 3, 3)
    layer = L.Conv(weight, padding=1, tap_bias=eighths(2, 3))
    assert repr(layer) == "Conv(weight=2x3x3, padding=((1, 1),), tap_bias=2x3)"
    with pytest.raises(ShapeError, match=r"Conv: tap_bias has shape \(2,\), need \(2, 3\)"):
        L.Conv(weight, tap_bias=eighths(2))
    with pytest.raises(ShapeError, match=r"ConvTranspose: tap_bias has shape \(2, 3\), need \(3, 3\)"):
        L.ConvTranspose(weight, tap_bias=eighths(2, 3))
    with pytest.raises(ShapeError, match="Conv: tap_bias holds NaN or infinite values"):
        L.Conv(weight, tap_bias=eighths(2, 3) * math.inf)
    frozen = layer.frozen(eighths(1, 3, 5))
    frozen.check((1, 3, 5))
    with pytest.raises(ShapeError, match=r"a bias map of shape \(2, 5\) does not fit an output of size \(6,\)"):
        frozen.check((1, 3, 6))


# --- batch norm before a ReLU


def dense_block():
    """Two layers of a DenseNet and its end: convolutions read the concatenation of all before them."""
    nodes = [Node("conv0", L.Conv(eighths(3, 2, 3, 3), padding=1), "input")]
    features, channels = ["conv0"], 3
    for i in (1, 2):
        nodes += [
            Node(f"cat{i}", L.Concat(), *features),
            Node(f"bn{i}a", norm(channels, seed=i), f"cat{i}"),
            Node(f"relu{i}a", L.ReLU(), f"bn{i}a"),
            Node(f"conv{i}a", L.Conv(eighths(4, channels, 1, 1)), f"relu{i}a"),
            Node(f"bn{i}b", norm(4, seed=i), f"conv{i}a"),
            Node(f"relu{i}b", L.ReLU(), f"bn{i}b"),
            Node(f"conv{i}b", L.Conv(eighths(2, 4, 3, 3, seed=i), padding=1), f"relu{i}b"),
        ]
        features.append(f"conv{i}b")
        channels += 2
    nodes += [
        Node("cat3", L.Concat(), *features),
        Node("bn3", norm(channels, seed=3), "cat3"),
        Node("relu3", L.ReLU(), "bn3"),
        Node("pool", L.GlobalAvgPool(), "relu3"),
        Node("flat", L.Flatten(), "pool"),
        Node("logits", L.Dense(eighths(channels, 3), eighths(3)), "flat"),
    ]
    return Graph(nodes, "logits")


def test_dense_block(exact):
    left = unchanged(dense_block(), (2, 4, 3))
    assert left.notes == ("bn1b folded into conv1a", "bn2b folded into conv2a")
    moved = unchanged(dense_block(), (2, 4, 3), (2, 2, 5), move_batch_norm=True)
    assert "BatchNorm" not in kinds(moved)
    assert moved.notes[2:] == (
        "bn1a moved behind relu1a and folded into conv1a",
        "bn2a moved behind relu2a and folded into conv2a",
        "bn3 moved behind relu3 and folded into logits",
    )
    assert isinstance(moved["relu1a"].layer, ThresholdReLU)
    assert isinstance(moved["relu1b"].layer, L.ReLU)
    assert set(moved.aliases) == {"bn1b", "bn2b"}
    check_books(lrp.explain(moved, exact(eighths(1, 2, 3, 3)), lrp.Epsilon(epsilon=0.25), 0))


@pytest.mark.parametrize(
    ("between", "moves"),
    [
        ([], True),
        ([L.MaxPool(kernel=2)], True),
        ([L.AvgPool(kernel=2)], True),
        ([L.AvgPool(kernel=2, padding=1, count_include_pad=False), L.Dropout()], True),
        ([L.AvgPool(kernel=2, padding=1)], False),  # the channel whose scale is 0 is not constant behind the pool
        ([L.Tanh()], False),
    ],
    ids=repr,
)
@pytest.mark.parametrize("padding", [0, 1])
def test_moved_through_pools(between, moves, padding):
    bn = L.BatchNorm([0.5, -2.0, 0.0, 0.0, -0.25], [0.25, 0.5, 0.75, -0.5, -0.125])
    conv = L.Conv(eighths(2, 5, 2, 2), padding=padding)
    graph = chain(L.Sub(0.5), bn, L.ReLU(), *between, conv)
    shapes = [] if "Tanh" in repr(between) else [(5, 5, 6), (5, 7, 4)]  # tanh has no rational values
    moved = unchanged(graph, *shapes, move_batch_norm=True)
    assert ("BatchNorm" not in kinds(moved)) == moves
    assert not moves or (moved.nodes[-1].layer.tap_bias is not None) == bool(padding)


def test_without_a_constant_channel_no_shift_is_left():
    bn = L.BatchNorm([0.5, -2.0, 0.0], [0.25, 0.5, -0.5])  # the third is constant 0
    graph = chain(L.Sub(0.5), bn, L.ReLU(), L.AvgPool(kernel=2, padding=1), L.Conv(eighths(2, 3, 2), padding=1))
    moved = unchanged(graph, (3, 5), step=batch_norm_moved)
    assert moved.nodes[-1].layer.tap_bias is None
    assert kinds(moved) == ["Sub", "ThresholdReLU", "AvgPool", "Conv"]


def test_what_else_reads_the_batch_norm_or_the_relu_keeps_it_in_place():
    conv, last = L.Conv(eighths(3, 3, 1)), L.Conv(eighths(2, 3, 1))
    nodes = [Node("sub", L.Sub(0.5), "input"), Node("bn", norm(3), "sub"), Node("relu", L.ReLU(), "bn")]
    nodes.append(Node("conv", conv, "relu"))
    for read in ("bn", "relu"):
        graph = Graph([*nodes, Node("sum", L.Add(), "conv", read), Node("last", last, "sum")], "last")
        assert unchanged(graph, (3, 4), move_batch_norm=True) is graph
        graph = Graph(nodes, ("conv", read))
        assert unchanged(graph, (3, 4), move_batch_norm=True) is graph
    two = Graph([*nodes, Node("last", last, "relu")], ("conv", "last"))
    assert unchanged(two, (3, 4), move_batch_norm=True).notes == ("bn moved behind relu and folded into conv, last",)


def test_threshold_relu(exact):
    layer = ThresholdReLU(threshold=[1.0, 1.0, 1.0], sign=[1.0, -1.0, 0.0])
    x = exact(np.array([[[0.0, 1.0, 3.0]] * 3]))
    layer = layer.like(x)
    assert fractions(layer.forward(x)).tolist() == [[[0, 0, 2], [1, 0, 0], [0, 0, 0]]]
    assert fractions(layer.derivative(x)).tolist() == [[[0, 0, 1], [-1, 0, 0], [0, 0, 0]]]
    assert layer.wire
    with pytest.raises(ShapeError, match="ThresholdReLU: sign has shape"):
        layer.forward(x[:, :2])


# --- joining


JOINED = [  # two layers, the shapes of inputs, whether they join
    (L.Dense(K(4, 3), K(3)), L.Dense(K(3, 2), K(2)), [(4,), (5, 4)], True),
    (L.Dense(K(4, 3), K(3)), L.Dense(K(3, 2)), [(4,)], True),
    (L.Dense(K(4, 3)), L.Dense(K(3, 2)), [(4,)], True),
    (L.Conv(K(3, 2, 1, 1), K(3)), L.Conv(K(2, 3, 3, 2), K(2), padding=1, stride=2), [(2, 3, 4), (2, 6, 5)], True),
    (L.Conv(K(3, 2, 1, 1)), L.Conv(K(2, 3, 3, 2), padding=1), [(2, 3, 4)], True),
    (L.Conv(K(3, 2, 3, 2), K(3), padding=1, stride=2), L.Conv(K(2, 3, 1, 1), K(2)), [(2, 3, 4), (2, 6, 5)], True),
    (L.Conv(K(3, 2, 3), tap_bias=K(3, 3), padding=1), L.Conv(K(2, 3, 1)), [(2, 3)], True),
    (L.Conv(K(3, 2, 1), K(3)), L.Conv(K(2, 3, 3), K(2), tap_bias=K(2, 3), padding=1), [(2, 3)], True),
    (L.Conv(K(3, 2, 1), K(3)), L.ConvTranspose(K(3, 2, 3), K(2), stride=2), [(2, 3), (2, 1)], True),
    (L.ConvTranspose(K(2, 3, 3), K(3), stride=2), L.Conv(K(2, 3, 1), K(2)), [(2, 3)], True),
    (L.Conv(K(3, 2, 1)), L.Conv(K(2, 3, 1)), [(2, 3)], True),
    (L.Conv(K(3, 2, 3)), L.Conv(K(2, 3, 3)), [(2, 5)], False),
    (L.Conv(K(3, 2, 3)), L.Conv(K(2, 3, 1), padding=1), [(2, 5)], False),
    (L.Conv(K(3, 2, 3)), L.Conv(K(2, 3, 1), stride=2), [(2, 5)], False),
    (L.Conv(K(3, 2, 3)), L.Conv(K(2, 3, 1), tap_bias=K(2, 1)), [(2, 5)], False),
    (L.Conv(K(3, 2, 3)), L.ConvTranspose(K(3, 2, 1)), [(2, 5)], False),
    (L.Conv(K(4, 2, 1)), L.Conv(K(2, 2, 3), groups=2), [(2, 5)], False),
    (L.Conv(K(4, 1, 3), groups=2), L.Conv(K(2, 4, 1)), [(2, 5)], False),
    (L.Conv(K(3, 2, 1)), L.Dense(K(3, 2)), [(2, 3)], False),
    (L.Dense(K(4, 3)), L.ReLU(), [(4,)], False),
]


@pytest.mark.parametrize(("first", "second", "shapes", "joins"), JOINED, ids=lambda value: repr(value))
def test_linear_layers_joined(first, second, shapes, joins):
    graph = unchanged(chain(first, second), *shapes, join_linear=True)
    assert len(graph.nodes) == 2 - joins
    assert unchanged(chain(first, second), *shapes).notes == ()
    names = [node.name for node in chain(first, second).nodes]
    assert graph.notes == ((f"{names[0]} joined into {names[1]}",) if joins else ())
    assert graph.aliases == {}
    read = Graph(chain(first, second).nodes, names)
    assert unchanged(read, *shapes, join_linear=True) is read


def test_three_in_a_row_and_batch_norms_between():
    graph = chain(L.Dense(K(4, 3), K(3)), norm(3), L.Dropout(), L.Dense(K(3, 5)), L.Scale(0.5), L.Dense(K(5, 2), K(2)))
    joined = unchanged(graph, (4,), join_linear=True)
    assert kinds(joined) == ["Dense"]
    two = chain(L.Dense(K(4, 3)), L.Dense(K(3, 3)))
    shared = Graph([*two.nodes, Node("sum", L.Add(), *(node.name for node in two.nodes))], "sum")
    assert unchanged(shared, (4,), join_linear=True) is shared


# --- dropping, stripping, pools


def test_identities_dropped_and_their_names_kept():
    nodes = [
        Node("start", L.Identity(), "input"),
        Node("dense", L.Dense(eighths(3, 3)), "start"),
        Node("drop1", L.Dropout(), "dense"),
        Node("drop2", L.Dropout(p=0.1), "drop1"),
        Node("sum", L.Add(), "drop2", "start"),
        Node("end", L.Identity(), "sum"),
    ]
    graph = Graph(nodes, "end", aliases={"y": "end", "x0": "start", "h": "drop1", "d": "dense"}, notes=("read",))
    done = unchanged(graph, (3,))
    assert kinds(done) == ["Dense", "Add"]
    assert done.outputs == ("sum",)
    assert done.nodes[1].inputs == ("dense", "input")
    assert done.notes == ("read", "start dropped", "drop1 dropped", "drop2 dropped", "end dropped")
    assert done.aliases == {
        **{"y": "sum", "end": "sum", "x0": "input", "start": "input"},
        **{"h": "dense", "d": "dense", "drop1": "dense", "drop2": "dense"},
    }
    assert str(done).endswith("\n".join(done.notes))
    e = lrp.explain(done, eighths(1, 3), lrp.Zero(), lrp.targets.logit(0))
    assert (e.at("x0") == e.relevance).all()


def test_an_identity_stays_where_it_is_an_output_of_its_own():
    only = chain(L.Dropout())
    assert unchanged(only, (3,)) is only
    dense = Node("dense", L.Dense(eighths(3, 2)), "input")
    both = Graph([dense, Node("same", L.Identity(), "dense")], ("dense", "same"))
    assert unchanged(both, (3,)) is both
    twice = Graph([dense, Node("a", L.Identity(), "dense"), Node("b", L.Identity(), "dense")], ("a", "b"))
    assert unchanged(twice, (3,)).outputs == ("dense", "b")


@pytest.mark.parametrize("final", [L.Sigmoid(), L.Softmax(axis=1)], ids=repr)
def test_probabilities_stripped(final):
    dense = Node("fc", L.Dense(eighths(3, 2)), "input")
    graph = Graph(
        [dense, Node("p", final, "fc"), Node("drop", L.Dropout(), "p")], "drop", aliases={"y": "p", "z": "fc"}
    )
    x = eighths(2, 3)
    done = canonize(graph)
    assert done.outputs == ("fc",)
    assert done.notes == ("drop dropped", "p stripped: the output fc gives logits")
    assert done.aliases == {"z": "fc"}
    assert (outputs(done, x)[0] == graph.forward(x)["fc"]).all()
    assert canonize(done) is done
    lrp.explain(done, x, lrp.Zero(), 1)
    kept = canonize(graph, strip_output=False)
    assert kept.outputs == ("p",)
    with pytest.raises(lrp.GraphError, match="strip it"):
        lrp.explain(kept, x, lrp.Zero(), 1)
    both = Graph([dense, Node("p", final, "fc")], ("fc", "p"))
    assert output_stripped(both).outputs == ("fc",)
    read = Graph([dense, Node("p", final, "fc"), Node("sum", L.Add(), "fc", "p")], ("p", "sum"))
    assert canonize(read) is read
    at_once = chain(final)
    assert canonize(at_once) is at_once
    gate = Graph([dense, Node("gate", final, "fc"), Node("sum", L.Add(), "fc", "gate")], "sum")
    assert canonize(gate) is gate


def test_average_pools():
    layers = [L.MaxPool(kernel=2), L.AdaptiveMaxPool(size=2), L.GlobalMaxPool()]
    graph = unchanged(chain(*layers), (3, 4, 4), average_pools=True)
    assert [node.layer.frozen_as for node in graph.nodes] == ["average"] * 3
    assert graph.notes == tuple(
        f"{name} deals relevance out as an average pool"
        for name in ("0.maxpool", "1.adaptivemaxpool", "2.globalmaxpool")
    )
    assert lrp.presets.average_pooled is average_pooled
    assert unchanged(chain(*layers), (3, 4, 4)).notes == ()


# --- all together


def everything():
    return chain(
        L.Scale(eighths(2), eighths(2)),
        L.Conv(eighths(3, 2, 3, 3), eighths(3), padding=1),
        norm(3),
        L.ReLU(),
        L.MaxPool(kernel=2),
        norm(3, seed=4),
        L.ReLU(),
        L.Conv(eighths(2, 3, 1, 1)),
        L.Conv(eighths(2, 2, 2, 2), padding=1),
        L.Flatten(),
        L.Dropout(),
        L.Dense(eighths(18, 3)),
        L.Sigmoid(),
    )


SWITCHES = {  # switch: its own function, what it does there
    "fold_batch_norm": (batch_norm_folded, ["2.batchnorm folded into 1.conv"]),
    "fold_scale": (scale_folded, ["0.scale folded into 1.conv"]),
    "drop_identity": (identity_dropped, ["10.dropout dropped"]),
    "strip_output": (output_stripped, ["12.sigmoid stripped: the output 11.dense gives logits"]),
    "move_batch_norm": (batch_norm_moved, ["2.batchnorm moved behind 3.relu and folded into"]),
    "join_linear": (linear_joined, ["7.conv joined into 8.conv"]),
    "average_pools": (average_pooled, ["4.maxpool deals relevance out as an average pool"]),
}
NONE = dict.fromkeys(SWITCHES, False)
ALL = dict.fromkeys(SWITCHES, True)


def test_each_switch_does_its_part_and_no_other():
    graph = everything()
    assert canonize(graph, **NONE) is graph
    default = canonize(graph).notes
    for switch, (step, notes) in SWITCHES.items():
        alone = canonize(graph, **NONE | {switch: True})
        assert alone.notes == step(graph).notes
        if switch == "move_batch_norm":
            notes = ["5.batchnorm moved behind 6.relu and folded into 7.conv"]
        assert list(alone.notes) == notes
        without = canonize(graph, **ALL | {switch: False}).notes
        assert not set(without) & set(notes)
        assert (set(notes) <= set(default)) == (switch not in ("move_batch_norm", "join_linear", "average_pools"))
    done = canonize(graph, **ALL)
    assert kinds(done) == ["Conv", "ReLU", "MaxPool", "ThresholdReLU", "Conv", "Flatten", "Dense"]
    assert canonize(done, **ALL) is done
    assert canonize(done) is done
    x = lrp.exact(eighths(2, 2, 4, 4))
    logits = Graph(graph.nodes[:-1], "11.dense")
    wanted = outputs(logits.like(x), x)[0]
    assert fractions(outputs(canonize(graph.like(x), **ALL), x)[0]).tolist() == fractions(wanted).tolist()


def test_lrp_0_is_what_it_was_and_other_rules_are_not(exact):
    """Batch norm by rule Zero, or folded: the same LRP-0, exactly; not so for gamma; moved, not for LRP-0 either."""
    graph = chain(
        *(norm(2), L.Conv(eighths(3, 2, 3, 3, seed=3), padding=1), norm(3), L.ReLU(), L.MaxPool(kernel=2)),
        *(norm(3, seed=5), L.ReLU(), L.AvgPool(kernel=2), L.Flatten(), norm(3, seed=6)),
        L.Dense(eighths(3, 2, seed=3), eighths(2)),
    )
    x = exact(eighths(2, 2, 4, 4) + 1 / 64)
    graph = graph.like(x)
    folded, moved = canonize(graph), canonize(graph, move_batch_norm=True)
    assert kinds(folded).count("BatchNorm") == 1
    assert kinds(moved).count("BatchNorm") == 0

    def relevance(network, rule):
        e = lrp.explain(network, x, rule, 1)
        check_books(e)
        return fractions(e.relevance).tolist()

    assert relevance(folded, lrp.Zero()) == relevance(graph, lrp.Zero())
    assert any(map(any, relevance(graph, lrp.Zero())[0][0]))
    assert relevance(folded, lrp.Gamma(gamma=0.5)) != relevance(graph, lrp.Gamma(gamma=0.5))
    assert relevance(moved, lrp.Zero()) != relevance(graph, lrp.Zero())


def test_arithmetic_is_the_networks_own():
    conv, bn = L.Conv(eighths(3, 2, 3).astype(np.float32), padding=1), norm(3)
    wide = canonize(chain(L.Scale(0.5, 1.0), conv, bn)).nodes[0].layer
    assert {value.dtype for value in (wide.weight, wide.bias, wide.tap_bias)} == {np.dtype(np.float64)}
    for mixed in ([conv.like(lrp.exact([1])), bn], [conv, bn.like(lrp.exact([1]))]):
        assert is_exact(canonize(chain(*mixed)).nodes[0].layer.weight)
    x = eighths(1, 2, 4).astype(np.float32)
    narrow = chain(conv, L.BatchNorm(bn.scale.astype(np.float32), bn.shift.astype(np.float32)))
    assert outputs(canonize(narrow), x)[0].dtype == np.float32
    assert canonize(narrow).nodes[0].layer.weight.dtype == np.float32


@st.composite
def networks(draw):
    """A chain of layers that fit each other, with sums of what has the same shape, read anywhere."""
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))

    def values(*shape):
        return rng.integers(-4, 5, shape) / 4

    ndim = draw(st.integers(1, 2))
    shape = (draw(st.integers(1, 3)), *draw(st.lists(st.integers(2, 4), min_size=ndim, max_size=ndim)))
    shapes, nodes = {"input": shape}, []
    for i in range(draw(st.integers(2, 8))):
        source = draw(st.sampled_from([*shapes, *[list(shapes)[-1]] * 3]))
        channels, *size = shape = shapes[source]
        options = ["norm", "norm", "scale", "relu", "identity", "add"]
        options += ["conv", "conv", "transposed", "max", "average"] if size else ["dense", "dense"]
        options += ["flatten"] * (len(shape) > 1)
        out, pad = draw(st.integers(1, 3)), draw(st.integers(0, 1))
        groups = channels if channels == out and draw(st.booleans()) else 1
        kernel = tuple(min(n + 2 * pad, draw(st.integers(1, 2))) for n in size)
        sources = [source]
        match draw(st.sampled_from(options)):
            case "norm":
                layer = L.BatchNorm(values(channels), values(channels))
            case "scale":
                layer = L.Scale(values(*draw(st.sampled_from([(), (channels,)]))), draw(st.sampled_from([None, 0.5])))
            case "relu":
                layer = L.ReLU()
            case "identity":
                layer = L.Identity()
            case "add":
                layer = L.Add()
                sources += draw(st.lists(st.sampled_from([n for n in shapes if shapes[n] == shape]), max_size=1))
            case "conv":
                bias = draw(st.sampled_from([None, values(out)]))
                layer = L.Conv(values(out, channels // groups, *kernel), bias, padding=pad, groups=groups)
            case "transposed":
                layer = L.ConvTranspose(values(channels, out // groups, *kernel), stride=2, groups=groups)
            case "max":
                layer = L.MaxPool(kernel=kernel)
            case "average":
                layer = L.AvgPool(kernel=2, stride=1, padding=1, count_include_pad=draw(st.booleans()))
            case "flatten":
                layer = L.Flatten()
            case "dense":
                layer = L.Dense(values(channels, out), draw(st.sampled_from([None, values(out)])))
        name = f"n{i}"
        inputs = [np.zeros((1, *shapes[n])) for n in sources]
        layer.check(*(a.shape for a in inputs))
        shapes[name] = layer.forward(*inputs).shape[1:]
        nodes.append(Node(name, layer, *sources))
    reads = draw(st.lists(st.sampled_from(nodes), max_size=2, unique=True))
    return Graph(nodes, [*dict.fromkeys([*(node.name for node in reads), nodes[-1].name])]), shapes["input"]


@settings(max_examples=200)
@given(networks(), st.fixed_dictionaries(dict.fromkeys(SWITCHES, st.booleans())))
def test_the_forward_pass_of_any_network_is_unchanged(network, switches):
    graph, shape = network
    x = lrp.exact(eighths(2, *shape))
    done = canonize(graph.like(x), **switches)
    before, after = graph.forward(x), done.forward(x)
    for name, want in zip(graph.outputs, outputs(done, x), strict=True):
        assert fractions(before[name]).tolist() == fractions(want).tolist()
    for alias in done.aliases:
        assert fractions(before[alias]).tolist() == fractions(after[done.resolve(alias)]).tolist()
    assert canonize(done, **switches) is done
    floating = canonize(graph, **switches)
    size = max(float(abs(floats(value)).max()) for value in before.values())
    for got, want in zip(outputs(floating, floats(x)), outputs(done, x), strict=True):
        assert abs(got - floats(want)).max() <= 1e-12 * max(size, 1)
