"""Networks as graphs: how they are checked when built and when they meet data, and what they are in each arithmetic."""

import itertools
import re
from fractions import Fraction as F

import numpy as np
import pytest

from lrp_ref import ArithmeticMismatch, Graph, GraphError, Node, NotExact, ShapeError, chain, fractions, given
from lrp_ref.arrays import floats
from lrp_ref.layers import (
    GELU,
    Add,
    Clip,
    Concat,
    Dense,
    Flatten,
    Given,
    Mean,
    PReLU,
    ReLU,
    Scale,
    Sigmoid,
    SoftMinPool,
    Softplus,
    Sub,
    Tanh,
)

X = np.array([[1.0, -2.0, 0.5], [0.0, 3.0, -1.0]])
W = np.array([[1.0, -1.0], [0.5, 2.0], [0.25, 0.0]])

RESIDUAL = [
    Node("first", Dense(W, [0.5, -0.5]), "input"),
    Node("relu", ReLU(), "first"),
    Node("second", Dense([[1.0, 0.5], [-1.0, 2.0]]), "relu"),
    Node("sum", Add(), "second", "relu"),
    Node("logits", Dense([[1.0, -1.0], [2.0, 0.25]]), "sum"),
]


def residual(order=range(5)):
    return Graph([RESIDUAL[i] for i in order], outputs="logits")


def same(a, b):
    assert set(a) == set(b)
    for name in a:
        assert np.array_equal(a[name], b[name]), name


# --- building


def test_forward_is_the_formula():
    values = residual().forward(X)
    first = X @ W + [0.5, -0.5]
    relu = np.maximum(first, 0)
    total = relu @ [[1, 0.5], [-1, 2]] + relu
    expected = {"input": X, "first": first, "relu": relu, "second": total - relu, "sum": total}
    same(values, expected | {"logits": total @ [[1, -1], [2, 0.25]]})
    assert list(values) == ["input", "first", "relu", "second", "sum", "logits"]


def test_the_order_of_the_nodes_does_not_matter():
    values = residual().forward(X)
    for order in itertools.permutations(range(5)):
        graph = residual(order)
        assert [node.name for node in graph.nodes] == ["first", "relu", "second", "sum", "logits"]
        same(graph.forward(X), values)


def test_nodes_that_do_not_depend_on_each_other_keep_their_order():
    nodes = [Node(name, ReLU(), "input") for name in "cab"]
    graph = Graph([Node("sum", Add(), "a", "b", "c"), *nodes], outputs="sum")
    assert [node.name for node in graph.nodes] == ["c", "a", "b", "sum"]


def test_a_node_may_read_another_twice_and_a_layer_stand_at_two_nodes():
    layer = Dense(np.eye(3) * 2)
    graph = Graph([Node("a", layer, "input"), Node("b", layer, "a"), Node("twice", Add(), "b", "b")], outputs="twice")
    assert np.array_equal(graph.forward(X)["twice"], 8 * X)


CYCLES = {
    "itself": [Node("a", ReLU(), "a")],
    "two": [Node("a", ReLU(), "b"), Node("b", ReLU(), "a")],
    "behind": [
        Node("in", ReLU(), "input"),
        Node("a", Add(), "in", "b"),
        Node("b", ReLU(), "a"),
        Node("c", ReLU(), "b"),
    ],
}


@pytest.mark.parametrize(("name", "among"), [("itself", "'a'"), ("two", "'a', 'b'"), ("behind", "'a', 'b', 'c'")])
def test_cycles(name, among):
    with pytest.raises(GraphError, match=f"^nodes in a cycle, or behind one: {among}$"):
        Graph(CYCLES[name], outputs="a")


REFUSED = [
    ([Node("a", ReLU(), "input"), Node("a", ReLU(), "input"), Node("b", ReLU(), "a")], {"outputs": "a"},
     "names that occur twice: 'a'"),
    ([Node("input", ReLU(), "input")], {"outputs": "input"}, "names that occur twice: 'input'"),
    ([Node("a", ReLU(), "x")], {"outputs": "a", "inputs": ("x", "x")}, "names that occur twice: 'x'"),
    ([Node("a", ReLU())], {"outputs": "a"}, 'node "a" (ReLU) has 0 inputs, needs 1'),
    ([Node("a", ReLU(), "input", "input")], {"outputs": "a"}, 'node "a" (ReLU) has 2 inputs, needs 1'),
    ([Node("a", Add())], {"outputs": "a"}, 'node "a" (Add) has 0 inputs, needs 1 or more'),
    ([Node("a", Sub(), *["input"] * 3)], {"outputs": "a"}, 'node "a" (Sub) has 3 inputs, needs 1 to 2'),
    ([Node("a", ReLU(), "input")], {"outputs": "input"},
     "output or alias \"input\" is no node; the nearest names are 'a'"),
    ([Node("a", ReLU(), "input")], {"outputs": ("a", "b")},
     "output or alias \"b\" is no node; the nearest names are 'a'"),
    ([Node("a", ReLU(), "input")], {"outputs": "a", "aliases": {"x": "b"}},
     "output or alias \"b\" is no node; the nearest names are 'a'"),
    ([Node("a", ReLU(), "input"), Node("b", ReLU(), "a")], {"outputs": "b", "aliases": {"a": "b"}},
     'alias "a" of "b" is itself the name of a node or input'),
]  # fmt: skip


@pytest.mark.parametrize(("nodes", "rest", "message"), REFUSED, ids=[message for *_, message in REFUSED])
def test_graphs_that_are_no_network(nodes, rest, message):
    with pytest.raises(GraphError, match="^" + re.escape(message) + "$"):
        Graph(nodes, **rest)


NAMES = ["conv1", "conv2", "conv3", "pool", "classifier"]


def test_unknown_names_come_with_the_three_nearest():
    nodes = [Node(name, ReLU(), "input") for name in NAMES]
    for build in (
        lambda: Graph([*nodes, Node("late", ReLU(), "conv4")], outputs="late"),
        lambda: Graph(nodes, outputs="conv4"),
        lambda: Graph(nodes, outputs="pool")["conv4"],
        lambda: Graph(nodes, outputs="pool").with_layers({"conv4": Tanh()}),
    ):
        with pytest.raises(GraphError, match=r'"conv4".*; the nearest names are ') as caught:
            build()
        named = str(caught.value).partition("nearest names are ")[2].split(", ")
        assert sorted(named) == ["'conv1'", "'conv2'", "'conv3'"]
    with pytest.raises(GraphError, match=r'^node "late" reads "conv4", which is no node or input; '):
        Graph([*nodes, Node("late", ReLU(), "conv4")], outputs="late")


def test_one_nearest_name_where_there_is_but_one():
    with pytest.raises(GraphError, match=r"^no node \"b\"; the nearest names are 'a'$"):
        Graph([Node("a", ReLU(), "input")], outputs="a")["b"]


# --- reading a graph


def test_nodes_by_name():
    graph = residual()
    assert graph["sum"] is RESIDUAL[3]
    assert graph["sum"].inputs == ("second", "relu")
    assert graph["sum"].kind == "Add"
    assert graph.inputs == ("input",)
    assert graph.outputs == ("logits",)


def test_upstream():
    above = residual().upstream
    assert above["input"] == above["first"] == frozenset()
    assert above["second"] == {"first", "relu"}
    assert above["sum"] == {"first", "relu", "second"}
    assert above["logits"] == {"first", "relu", "second", "sum"}


def test_upstream_of_two_inputs():
    nodes = [
        Node("a", ReLU(), "x"),
        Node("b", ReLU(), "y"),
        Node("c", Add(), "a", "y"),
        Node("d", Add(), "a", "b", "c"),
    ]
    above = Graph(nodes, outputs=("c", "d"), inputs=("x", "y")).upstream
    assert (above["x"], above["y"], above["a"], above["b"]) == (frozenset(),) * 4
    assert above["c"] == {"a"}
    assert above["d"] == {"a", "b", "c"}


def test_chain_names_by_position_and_kind():
    graph = chain(Dense(W), ReLU(), Dense([[1.0], [2.0]]), Flatten())
    assert [node.name for node in graph.nodes] == ["0.dense", "1.relu", "2.dense", "3.flatten"]
    assert [node.inputs for node in graph.nodes] == [("input",), ("0.dense",), ("1.relu",), ("2.dense",)]
    assert graph.outputs == ("3.flatten",)
    assert np.array_equal(graph.forward(X)["3.flatten"], np.maximum(X @ W, 0) @ [[1], [2]])
    with pytest.raises(GraphError, match="at least one layer"):
        chain()


def test_how_graphs_print():
    graph = residual()
    assert repr(graph) == "Graph(5 nodes, input -> logits)"
    assert str(graph).splitlines() == [
        "node    layer                      reads",
        "first   Dense(weight=3x2, bias=2)  input",
        "relu    ReLU()                     first",
        "second  Dense(weight=2x2)          relu",
        "sum     Add()                      second, relu",
        "logits  Dense(weight=2x2)          sum",
    ]
    assert repr(two_and_two()) == "Graph(2 nodes, x, y -> a, b)"


def test_aliases():
    graph = Graph(RESIDUAL, outputs="logits", aliases={"tensor:7": "relu", "x": "input", "sum": "sum"})
    assert graph["tensor:7"] is graph["relu"]
    assert graph.resolve("tensor:7") == "relu"
    assert graph.resolve("logits") == "logits"
    changed = graph.with_layers({"tensor:7": Tanh()})
    assert isinstance(changed["relu"].layer, Tanh)
    assert changed.aliases == graph.aliases
    assert list(graph.forward(X)) == list(residual().forward(X))
    with pytest.raises(GraphError, match=r'^no node "tensor:8"'):
        graph["tensor:8"]


def test_notes_are_printed_and_kept():
    graph = Graph(RESIDUAL, outputs="logits", notes=["read from a file"])
    assert str(graph) == f"{residual()}\nread from a file"
    assert graph.like(X.astype(np.float32)).notes == ["read from a file"]


def test_graphs_and_nodes_are_frozen():
    with pytest.raises(AttributeError):
        residual().outputs = ("sum",)
    with pytest.raises(AttributeError):
        RESIDUAL[0].name = "other"


def test_with_layers():
    graph = residual()
    layer = Scale(2.0)
    changed = graph.with_layers({"relu": layer})
    assert changed["relu"].layer is layer
    assert changed["relu"].inputs == ("first",)
    for name in ("first", "second", "sum", "logits"):
        assert changed[name].layer is graph[name].layer
    assert isinstance(graph["relu"].layer, ReLU)
    assert (changed.inputs, changed.outputs) == (graph.inputs, graph.outputs)
    values = changed.forward(X)
    assert np.array_equal(values["relu"], 2 * values["first"])
    with pytest.raises(GraphError, match=r'^no node "rel"'):
        graph.with_layers({"rel": layer})
    with pytest.raises(GraphError, match=r'node "sum" \(ReLU\) has 2 inputs, needs 1'):
        graph.with_layers({"sum": ReLU()})


# --- several inputs and outputs


def two_and_two():
    return Graph([Node("a", Concat(), "x", "y"), Node("b", Dense(W), "x")], outputs=["a", "b"], inputs=["x", "y"])


def test_several_inputs_and_outputs():
    graph = two_and_two()
    values = graph.forward({"y": X + 1, "x": X})
    assert graph.outputs == ("a", "b")
    same(values, {"x": X, "y": X + 1, "a": np.concatenate([X, X + 1], axis=1), "b": X @ W})


def test_inputs_of_different_ranks():
    graph = Graph([Node("m", Mean(2), "image"), Node("sum", Add(), "m", "vector")], "sum", ["image", "vector"])
    image = np.arange(12.0).reshape(2, 3, 2)
    assert np.array_equal(graph.forward({"image": image, "vector": X})["sum"], image.mean(axis=2) + X)


@pytest.mark.parametrize("keys", [["x"], [], ["x", "y", "z"], ["x", "Y"]], ids=str)
def test_wrong_keys(keys):
    with pytest.raises(GraphError, match=re.escape(f"inputs {sorted(keys)} were given, the graph has ['x', 'y']")):
        two_and_two().forward(dict.fromkeys(keys, X))


def test_one_array_for_two_inputs():
    with pytest.raises(GraphError, match=r"inputs \['x'\] were given, the graph has \['x', 'y'\]: give a dict by name"):
        two_and_two().forward(X)


def test_samples_may_be_single_numbers():
    assert chain(ReLU()).forward(np.array([1.0, -1.0]))["0.relu"].tolist() == [1, 0]


def test_a_dict_for_one_input():
    same(residual().forward({"input": X}), residual().forward(X))
    with pytest.raises(GraphError, match=r"inputs \['x'\] were given"):
        residual().forward({"x": X})


# --- what is no input

BAD = [
    pytest.param(np.array([[1, 2, 3]]), ArithmeticMismatch, 'input "input" has dtype int64', id="ints"),
    pytest.param(np.ones((1, 3), bool), ArithmeticMismatch, 'input "input" has dtype bool', id="bool"),
    pytest.param(np.ones((1, 3), complex), ArithmeticMismatch, 'input "input" has dtype complex', id="complex"),
    pytest.param(np.array([[1, np.nan, 3]]), ArithmeticMismatch, 'input "input" holds 1 NaN', id="nan"),
    pytest.param(np.array([[np.inf, 2, -np.inf]]), ArithmeticMismatch, 'input "input" holds 2 NaN or inf', id="inf"),
    pytest.param([[1.0, 2.0, 3.0]], ArithmeticMismatch, 'input "input" is a list, not an array', id="list"),
    pytest.param(1.0, ArithmeticMismatch, 'input "input" is a float, not an array', id="number"),
    pytest.param(np.array([[1, 2, 3]], dtype=object), ArithmeticMismatch, "object array of int", id="object-ints"),
    pytest.param(
        np.array([[0.5, 2.0, 1.0]], dtype=object), ArithmeticMismatch, "object array of float", id="object-floats"
    ),
    pytest.param(np.array([[F(1), 2, F(3)]], dtype=object), ArithmeticMismatch, "of Fraction, int", id="object-mixed"),
    pytest.param(np.array(1.0), GraphError, 'input "input" has no axes', id="no-axes"),
]


@pytest.mark.parametrize(("x", "error", "message"), BAD)
def test_inputs_are_checked(x, error, message):
    for call in (residual().forward, residual().check_inputs, lambda x: given(residual(), x)):
        with pytest.raises(error, match=re.escape(message)):
            call(x)


def test_mixed_carriers_are_refused():
    flint = pytest.importorskip("flint")
    with pytest.raises(ArithmeticMismatch, match="object array of Fraction, fmpq: make it with lrp_ref"):
        residual().forward(np.array([[F(1), flint.fmpq(1), F(2)]], dtype=object))
    mixed = {"x": np.array([[F(1)]], dtype=object), "y": np.array([[flint.fmpq(1)]], dtype=object)}
    with pytest.raises(ArithmeticMismatch, match='inputs "y" and "x" differ in dtype, device or carrier'):
        two_and_two().forward(mixed)


@pytest.mark.parametrize("other", [np.float32, np.longdouble, object], ids=["float32", "longdouble", "exact"])
def test_mixed_dtypes_are_refused(other):
    y = fractions(X) if other is object else X.astype(other)
    with pytest.raises(ArithmeticMismatch, match='inputs "y" and "x" differ in dtype, device or carrier'):
        two_and_two().forward({"x": X, "y": y})


def test_batches_must_match():
    with pytest.raises(GraphError, match='inputs "y" and "x" have batches of 1 and 2'):
        two_and_two().forward({"x": X, "y": X[:1]})


def test_an_input_that_nothing_reads_is_checked_too():
    graph = Graph([Node("a", ReLU(), "x")], outputs="a", inputs=("x", "unread"))
    with pytest.raises(ArithmeticMismatch, match='input "unread" holds 1 NaN'):
        graph.forward({"x": X, "unread": np.array([[np.nan], [0]])})


def test_forward_leaves_inputs_and_graph_as_they_were(exact):
    graph, x = residual(), X.copy()
    graph.forward(x)
    graph.forward(exact(x))
    assert np.array_equal(x, X)
    assert graph["first"].layer.weight is RESIDUAL[0].layer.weight


# --- errors on the way


def test_errors_name_node_and_layer(exact):
    graph = Graph([Node("narrow", Dense([[1.0]]), "input")], outputs="narrow")
    with pytest.raises(
        ShapeError, match=r'^node "narrow" \(Dense\): input has shape \(2, 3\), need \(batch, \.\.\., 1\)$'
    ):
        graph.forward(X)
    with pytest.raises(NotExact, match=r'^node "0\.tanh" \(Tanh\): tanh has no rational values'):
        chain(Tanh()).forward(exact(X))
    with pytest.raises(ShapeError, match=r'^node "1\.prelu" \(PReLU\): PReLU: slope has shape \(5,\)'):
        chain(ReLU(), PReLU(np.ones(5))).forward(X)
    wide = Graph([Node("sum", Add(), "x", "y")], outputs="sum", inputs=("x", "y"))
    with pytest.raises(
        ShapeError, match=r'^node "sum" \(Add\): inputs of shapes \[\(2, 3\), \(2, 2\)\] do not broadcast'
    ):
        wide.forward({"x": X, "y": X[:, :2]})
    if np.finfo(np.longdouble).nmant > 52:
        with pytest.raises(ArithmeticMismatch, match=r'^node "0\.gelu" \(GELU\): erf is not available in longdouble'):
            chain(GELU()).forward(X.astype(np.longdouble))


# --- arithmetic


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble], ids=lambda dtype: dtype.__name__)
def test_forward_is_in_the_arithmetic_of_its_input(dtype):
    values = residual().forward(X.astype(dtype))
    assert {value.dtype for value in values.values()} == {np.dtype(dtype)}
    same({name: value.astype(float) for name, value in values.items()}, residual().forward(X))  # dyadic numbers


def test_forward_is_exact_on_rationals(exact):
    x = exact([[F(1, 3), F(-2, 7), F(1, 2)]])
    values = residual().forward(x)
    assert {type(v) for value in values.values() for v in value.flat} == {type(x[0, 0])}
    first = [F(1, 3) - F(1, 7) + F(1, 8) + F(1, 2), F(-1, 3) - F(4, 7) - F(1, 2)]
    assert fractions(values["first"])[0].tolist() == first
    assert fractions(values["sum"])[0].tolist() == [2 * first[0], first[0] / 2]
    assert fractions(values["logits"])[0].tolist() == [3 * first[0], -2 * first[0] + first[0] / 8]


def test_like(exact):
    graph = residual()
    assert graph.like(X) is graph
    assert graph.like({"input": X}) is graph
    single = graph.like(X.astype(np.float32))
    assert single.like(X[:1].astype(np.float32)) is single
    assert {v.dtype for node in single.nodes for _, v in node.layer._arrays()} == {np.dtype(np.float32)}
    assert single["relu"].layer is graph["relu"].layer
    rational = graph.like(exact(X))
    assert rational.like(exact(X)) is rational
    assert {type(v) for v in rational["first"].layer.weight.flat} == {type(exact(0)[()])}
    assert fractions(rational["first"].layer.weight).tolist() == fractions(W).tolist()
    assert {node.name: node.inputs for node in single.nodes} == {node.name: node.inputs for node in graph.nodes}


def test_an_empty_batch_goes_through(exact):
    for x in (X[:0], X[:0].astype(np.float32), exact(X[:0])):
        values = residual().forward(x)
        assert values["logits"].shape == (0, 2)
        assert {value.dtype for value in values.values()} == {x.dtype}


# --- networks without rational values


def smooth():
    return chain(
        Dense(W, [0.1, 0.2]), Tanh(), Dense([[1.0, 0.3], [-0.7, 2.0]]), Softplus(beta=2.0), Clip(low=0.25), Sigmoid()
    )


def test_given_makes_a_network_exact(exact):
    graph = smooth()
    with pytest.raises(NotExact, match=r'node "1\.tanh" \(Tanh\)'):
        graph.forward(exact(X))
    rational = given(graph, X)
    assert [type(node.layer) for node in rational.nodes] == [Dense, Given, Dense, Given, Clip, Given]
    assert isinstance(rational["3.softplus"].layer.layer, Softplus)
    in_floats, values = graph.forward(X), rational.forward(exact(X))
    assert {type(v) for value in values.values() for v in value.flat} == {type(exact(0)[()])}
    for name in ("1.tanh", "3.softplus", "5.sigmoid"):
        assert np.array_equal(floats(values[name]), in_floats[name])
    tanh, weight = fractions(values["1.tanh"]), fractions(graph["2.dense"].layer.weight)
    assert fractions(values["2.dense"]).tolist() == (tanh @ weight).tolist()
    assert np.allclose(floats(values["2.dense"]), in_floats["2.dense"], rtol=1e-15, atol=1e-15)
    assert isinstance(graph["1.tanh"].layer, Tanh)


@pytest.mark.parametrize("kind", ["float32", "float64", "exact"])
def test_given_computes_its_outputs_in_float64(exact, kind):
    x = exact(X) if kind == "exact" else X.astype(kind)
    rational = given(smooth(), x)
    assert rational["1.tanh"].layer.output.dtype == np.float64
    assert np.array_equal(rational["1.tanh"].layer.output, smooth().forward(X)["1.tanh"])


def test_given_leaves_rational_networks_alone():
    graph = residual()
    assert [node.layer for node in given(graph, X).nodes] == [node.layer for node in graph.nodes]


def test_given_holds_for_its_input_only():
    rational = given(smooth(), X)
    with pytest.raises(ShapeError, match=r'node "1\.tanh" \(Given\): Given: input has shape \(1, 2\)'):
        rational.forward(X[:1])


def test_given_leaves_pools_without_rational_values():
    with pytest.raises(NotExact, match="SoftMinPool"):
        given(chain(SoftMinPool()), X).forward(fractions(X))
