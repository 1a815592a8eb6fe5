"""The core on a device that is not there: the same code and bits on arrays that refuse and count what CuPy does.

The stand-in (standin_cupy.py) and the check of the source (static_xp.py) are themselves held against bugs that NumPy
lets pass, and in test_gpu.py against a real device.
"""

import dataclasses
import importlib
import itertools
import sys
import textwrap
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import standin_cupy
import static_xp
from grid import GRID, relevance, sample
from test_rules import BIASES, RULES, STABILIZED, STABILIZERS, rule_for
from zennit_composites import BOX, ZENNIT

import lrp_ref as lrp
from lrp_ref import layers as L
from lrp_ref.arrays import namespace, same_arithmetic, to_host
from lrp_ref.data import digits, digits_cnn, digits_mlp
from lrp_ref.layers import Dense, MaxPool, Resize
from lrp_ref.show import channel_sum, colors, entropy, negative_share
from lrp_ref.theory import check_rule, dtd, gradient, gradient_x_input, integrated_gradients, messages

ROOT = Path(lrp.__file__).parent
DATA = digits()
NETS = {"mlp": digits_mlp(), "cnn": digits_cnn()}
IMAGES = DATA.images[DATA.test[:3]]


# --- the stand-in and the check, by bugs that NumPy lets pass --------------------------------------------------------

SEEDED = {  # what: (lines on xp and x of two rows of three, what the stand-in says, whether the check sees it)
    # arrays of the host among those of the device
    "zeros": ("return x + np.zeros(x.shape, x.dtype)", "refused", True),
    "asarray": ("return np.asarray(x) + 1", "refused", True),
    "weights": ("return x @ np.ones((3, 2), x.dtype)", "refused", True),
    "stack": ("return xp.stack([x[0], np.ones(3, x.dtype)])", "refused", True),
    "stack of the host alone": ("return xp.stack([np.ones(3), np.ones(3)])", "refused", True),
    "no axes": ("return x * np.array(2.0, x.dtype)", "refused", True),
    "host first": ("return np.ones(3, x.dtype) - x", "refused", True),
    "comparison": ("return x > np.zeros(3, x.dtype)", "refused", True),
    "in place": ("x = x.copy()\nx += np.ones(3, x.dtype)\nreturn x", "refused", True),
    "where": ("return xp.where(x > 0, x, np.zeros(3, x.dtype))", "refused", True),
    "method": ("return x.dot(np.ones(3, x.dtype))", "refused", True),
    "list": ("return x + [1.0, 2.0, 3.0]", "refused", False),
    "written, other dtype": ("x = x.copy()\nx[:, :2] = np.ones((2, 2), bool)\nreturn x", "refused", True),
    # what CuPy has not
    "errstate": ("with xp.errstate(divide='ignore'):\n    return 1 / x", "refused", True),
    "insert": ("return xp.insert(x, 0, 0, axis=1)", "refused", True),
    "nditer": ("return [float(value) for value in xp.nditer(x)]", "refused", True),
    "longdouble": ("return x.astype(xp.longdouble)", "refused", True),
    "longdouble, by NumPy's name": ("return x.astype(np.longdouble)", "refused", False),
    "object": ("return xp.asarray(x, dtype=object)", "refused", False),
    "einsum_path": ("return xp.einsum_path('ij,ij->i', x, x)", "refused", True),
    "linalg.outer": ("return xp.linalg.outer(x[0], x[1])", "refused", True),
    "sum where": ("return xp.sum(x, where=x > 0)", "refused", True),
    "max initial": ("return x.max(initial=0)", "refused", True),
    "divide where": ("return xp.divide(x, x, where=x != 0, out=xp.zeros_like(x))", "refused", True),
    "clip min max": ("return xp.clip(x, min=0, max=1)", "refused", True),
    "multiply.at": ("x = x.copy()\nxp.multiply.at(x, xp.zeros(1, dtype=int), 2.0)\nreturn x", "refused", True),
    "maximum.reduce": ("return xp.maximum.reduce(x)", "refused", True),
    "index": ("return [0, 1] * x.argmax()", "refused", False),
    "slice bound": ("return x[:, : x.argmax()]", "counted", False),
    "shape": ("return xp.zeros((x.argmax(), 2))", "refused", False),
    "range": ("return list(range(x.argmax()))", "refused", False),
    # what waits for the device, and what is copied to it
    "float": ("return x / float(x.sum())", "counted", False),
    "int": ("return x * int(x.argmax())", "counted", False),
    "if": ("if (x >= 0).all():\n    return x\nreturn -x", "counted", False),
    "item": ("return x * x.max().item()", "counted", False),
    "mask": ("return x[x > 0]", "counted", False),
    "nonzero": ("return xp.nonzero(x)[1]", "counted", False),
    "one-armed where": ("return xp.where(x > 0)[1]", "counted", False),
    "unique": ("return xp.unique(x)", "counted", False),
    "print": ("str(x)\nreturn x", "counted", False),
    "host index": ("return x[:, np.array([0, 2])]", "counted", True),
    "list index": ("return x[:, [0, 2]]", "counted", False),
    "written": ("x = x.copy()\nx[...] = np.ones((2, 3), x.dtype)\nreturn x", "refused", True),
    "a row written": ("x = x.copy()\nx[0] = np.ones(3, x.dtype)\nreturn x", "refused", True),
    "asarray of the host": ("return x + xp.asarray([1.0, 2.0, 3.0], dtype=x.dtype)", "counted", False),
    # what is right
    "zeros_like": ("return np.zeros_like(x)", "passes", True),  # by CuPy's own dispatch, and bad style
    "ufunc": ("return np.exp(x)", "passes", True),
    "the same in good style": ("return xp.exp(xp.zeros_like(x))", "passes", False),
    "number": ("return 2 * x - x.dtype.type(3)", "passes", False),
    "reductions": ("return x / x.sum(axis=1, keepdims=True) - x.max()", "passes", False),
    "add.at": ("x = x.copy()\nxp.add.at(x[0], xp.zeros(2, dtype=int), x[1, :2])\nreturn x", "passes", False),
    "write a number": ("x = x.copy()\nx[:, 1:] = 0\nreturn x", "passes", False),
    "device index": ("return x[:, xp.arange(2)]", "passes", False),
    "contractions": ("return xp.einsum('ij,kj->ik', x, x) + xp.tensordot(x, x.T, 1) + x @ x.T", "passes", False),
    "pad and repeat": ("return xp.repeat(xp.pad(x, ((0, 0), (1, 2))), 2, axis=1)", "passes", False),
    "sorted": ("return xp.take_along_axis(x, xp.argsort(x, axis=1), axis=1)", "passes", False),
}


def source(name):
    return "def seeded(x):\n    xp = namespace(x)\n" + textwrap.indent(SEEDED[name][0], "    ")


def seeded(name):
    scope = {"np": np, "namespace": namespace}
    exec(source(name), scope)
    return scope["seeded"]


REFUSALS = (TypeError, ValueError, AttributeError, NotImplementedError)
X = np.array([[0.5, 2.0, 1.0], [3.0, 0.25, 4.0]], dtype=np.float32)


@pytest.mark.parametrize("name", SEEDED)
def test_what_the_stand_in_says_of_a_bug(name, standin):
    says = SEEDED[name][1]
    expected = seeded(name)(X)  # NumPy lets it pass
    x = importlib.import_module("cupy").asarray(X)
    standin.reset()
    if says == "refused":
        with pytest.raises(REFUSALS):
            seeded(name)(x)
        return
    result = seeded(name)(x)
    assert bool(standin.syncs or standin.uploads) == (says == "counted")
    np.testing.assert_array_equal(to_host(result), expected)


@pytest.mark.parametrize("name", SEEDED)
def test_what_the_check_of_the_source_says_of_a_bug(name):
    assert bool(static_xp.complaints(source(name))) == SEEDED[name][2]


def test_a_sync_can_be_forbidden(standin):
    x = importlib.import_module("cupy").asarray(X)
    with standin.no_syncs(), pytest.raises(AssertionError, match="bool waits for the device"):
        bool(x.any())
    assert bool(x.any())


def test_reductions_stay_on_the_device_and_views_share_their_memory(standin):
    cupy = importlib.import_module("cupy")
    x = cupy.asarray(X)
    for one in (x.sum(), x[0, 0], x.max(), x.any(), cupy.array_equal(x, x), x.argmax(), x.T, cupy.ravel(x)):
        assert type(one) is cupy.ndarray
    x[0][1] = 7
    assert x[0, 1].item() == 7
    assert namespace(x) is cupy
    assert same_arithmetic(x, x[:1])
    assert not same_arithmetic(x, X)


def test_kernels_do_not_run(standin):
    cupy = importlib.import_module("cupy")
    assert cupy.is_available()
    assert cupy.cuda.runtime.getDeviceCount() == 1
    for launch in (
        cupy.RawKernel("source", "name"),
        cupy.RawModule(code="source").get_function,
        cupy.ElementwiseKernel("T x", "T y", "y = x", "name"),
    ):
        with pytest.raises(RuntimeError, match="runs no kernels"):
            launch("name")


def test_the_stand_in_leaves_nothing_behind():
    before = {name: sys.modules.get(name) for name in standin_cupy.MODULES}
    with standin_cupy.installed():
        assert importlib.import_module("cupy.linalg") is not before["cupy.linalg"]
    assert {name: sys.modules.get(name) for name in standin_cupy.MODULES} == before


# --- the source ------------------------------------------------------------------------------------------------------

HOST_ONLY = {  # a module, a folder, or the definitions of a module that never meet a device's arrays, and why
    "arrays.py": {
        "_rationals": "rationals are objects, which only the host has",
        "like": "takes numbers and lists in",
        "number": "one rational",
        "as_array": "takes numbers and lists in",
        "on_host": "what its name says",
        "_floats": "rationals",
        "_midpoints": "balls",
        "_of_balls": "balls",
        "total": "NumPy's only for rationals",
        "matmul": "NumPy's only for rationals",
        "_matmul_flint": "rationals",
        "_matmul_fractions": "rationals",
        "_integer_rows": "rationals",
        "root_mean_square": "NumPy's only for rationals",
    },
    "cli.py": "reads files and prints",
    "data/": "reads files",
    "fast/": "NumPy's memory and BLAS, and ufuncs that CuPy's arrays take over",
    "loaders/": "reads files",
    "oracle/": "rationals and balls, and numbers of other frameworks on the host",
    "show/": "draws what it has copied to the host",
    "store.py": "writes files, from what it has copied to the host",
    "theory/dtd.py": {"_summary": "of a column that floats() has copied to the host"},
    "theory/properties.py": "makes its examples on the host, and takes them to the arithmetic that is asked for",
    "theory/recursion.py": "exact arithmetic only",
}
ON_A_DEVICE = "fast/device"
"""Within `fast`: what runs there only."""


def host_only(path):
    """The definitions of a module that are; None: all."""
    folder = path.partition("/")[0] + "/"
    if folder in HOST_ONLY and not path.startswith(ON_A_DEVICE):
        return None
    found = HOST_ONLY.get(path, {})
    return None if isinstance(found, str) else set(found)


SOURCES = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in sorted(ROOT.rglob("*.py"))}


def test_what_runs_on_a_device_asks_only_for_what_cupy_has():
    for path, text in SOURCES.items():
        assert not static_xp.complaints(text, host_only(path)), path


def test_every_exception_is_needed():
    for path, reasons in HOST_ONLY.items():
        assert any(static_xp.complaints(SOURCES[one]) for one in SOURCES if one.startswith(path)), path
        for name in reasons if isinstance(reasons, dict) else ():
            assert name in static_xp.definitions(SOURCES[path])
            assert static_xp.complaints(SOURCES[path], set(reasons) - {name}), name


# --- layers and rules ------------------------------------------------------------------------------------------------


KINDS = ("signed", "positive", "zeros", "ties")


def bits(a):
    """All there is of an array: 0 differs from -0."""
    host = to_host(a)
    return host.shape, host.dtype, host.tobytes()


def on_both(case, rule, dtype, kind, counts):
    """The rule's results on the host and on the stand-in, and how often the walk waited for the device."""
    cupy = importlib.import_module("cupy")
    rng = np.random.default_rng(0)
    inputs = tuple(a.astype(dtype) for a in sample(case, rng, 2, kind))
    layer = case.layer.like(inputs[0])
    z = layer.forward(*inputs)
    R = relevance(z.shape, rng).astype(dtype)
    there = tuple(map(cupy.asarray, inputs))
    layer_there, R_there = case.layer.like(there[0]), cupy.asarray(R)
    assert bits(layer_there.forward(*there)) == bits(z)
    counts.reset()
    try:
        host = rule.back(layer, inputs, R)
    except lrp.UnsuitableRule:
        with pytest.raises(lrp.UnsuitableRule):
            rule.back(layer_there, there, R_there)
        return
    device = rule.back(layer_there, there, R_there)
    waits, uploads = counts.syncs.copy(), counts.uploads.copy()
    for ours, theirs in zip(device[0], host[0], strict=True):
        assert bits(ours) == bits(theirs)
    for name in ("bias", "stabilizer", "unclaimed", "poles", "empty"):
        assert bits(getattr(device[1], name)) == bits(getattr(host[1], name)), name
    check_counts(rule, case, waits, uploads)


def check_counts(rule, case, waits, uploads):
    """A walk back waits for the device only to look whether a box holds its data, or whether wires come alone."""
    box = isinstance(rule, lrp.ZBox)  # its two bounds are copied there, and each is held against the data
    assert waits["bool"] == 2 if box else waits["bool"] <= isinstance(rule, lrp.Pass)
    assert set(waits) <= {"bool"}
    axes = len(case.shapes[0]) - 1 if isinstance(case.layer, Resize) else 0  # a row of weights for each
    assert uploads == +Counter(array=2 * box + axes)


@pytest.mark.parametrize("case", GRID, ids=lambda case: case.id)
def test_every_layer(case, standin):
    """With one rule, and the gradient: the short form of the next test."""
    for rule in (lrp.Zero(), lrp.Gradient()):
        on_both(case, rule, np.float64, "signed", standin)


@pytest.mark.parametrize("case", GRID, ids=lambda case: case.id)
def test_every_rule_on_every_layer(case, standin):
    """On one kind of input and one precision, which differ from rule to rule."""
    rules = [*(rule_for(name, case) for name in RULES), lrp.Pass(), lrp.Gradient()]
    for i, rule in enumerate(rules, start=GRID.index(case)):
        on_both(case, rule, (np.float32, np.float64)[i // 4 % 2], KINDS[i % 4], standin)


@pytest.mark.parametrize("form", STABILIZERS, ids=repr)
def test_every_stabilizer(form, standin):
    z = np.array([[1, -1], [0, 0.125]])
    assert bits(form(importlib.import_module("cupy").asarray(z), 0.25)) == bits(form(z, 0.25))


@pytest.mark.parametrize("id", ["dense", "conv2d-padding-per-axis"])
def test_every_variant_of_a_rule(id, standin):
    case = next(case for case in GRID if case.id == id)
    for i, (name, bias, (epsilon, form)) in enumerate(itertools.product(RULES, BIASES, STABILIZED)):
        if i % 5 == 0:
            rule = dataclasses.replace(rule_for(name, case), bias=bias, epsilon=epsilon, stabilizer=form)
            on_both(case, rule, np.float64, "signed", standin)


@pytest.mark.full
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", GRID, ids=lambda case: case.id)
def test_every_rule_on_every_layer_and_all_inputs(case, dtype, standin):
    rules = [rule_for(name, case) for name in RULES] + [lrp.Pass(), lrp.Gradient()]
    for rule, kind in itertools.product(rules, KINDS):
        on_both(case, rule, dtype, kind, standin)


ACTIVATIONS = [
    *(L.ReLU(), L.LeakyReLU(slope=0.3), L.PReLU(slope=np.array([0.5, -0.25, 0.0])), L.ELU(), L.SELU(), L.CELU()),
    *(L.Softplus(), L.Sigmoid(), L.SiLU(), L.GELU(), L.GELU(approximate="tanh"), L.Tanh(), L.Clip(low=0, high=1)),
    *(L.HardSigmoid(), L.HardSwish(), L.Softmax(), L.Softmax(axis=1)),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layer", ACTIVATIONS, ids=repr)
def test_activations_and_their_tangents(layer, dtype, standin):
    a = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(dtype)
    made = []
    for x in (a, importlib.import_module("cupy").asarray(a)):
        there = layer.like(x)
        tangent = there.tangent(x)
        made.append((bits(there.forward(x)), bits(tangent.adjoint(x, tangent.parameters(x)[0], x.shape))))
    assert made[0] == made[1]


def test_products_and_soft_minima(standin):
    cupy = importlib.import_module("cupy")
    u, v = np.random.default_rng(0).standard_normal((2, 2, 3))
    for rule in (lrp.Product(), lrp.Product(portions=(0.5, 0.5)), lrp.Gradient()):
        here, _ = rule.back(L.Mul(), [u, v], u - v)
        there, _ = rule.back(L.Mul(), [cupy.asarray(u), cupy.asarray(v)], cupy.asarray(u - v))
        assert list(map(bits, there)) == list(map(bits, here))
    for share in ("eta", "z"):
        (here,), _ = lrp.Pass().back(L.SoftMinPool(share=share), [u], u[:, :1])
        (there,), _ = lrp.Pass().back(L.SoftMinPool(share=share), [cupy.asarray(u)], cupy.asarray(u[:, :1]))
        assert bits(there) == bits(here)


# --- explanations ----------------------------------------------------------------------------------------------------

COMPOSITES = {
    "zero": lrp.Zero(),
    "gamma": lrp.Gamma(),
    "relative": lrp.Epsilon(epsilon=0.25, stabilizer=lrp.Relative(over="sample")),
    "spread": lrp.Epsilon(epsilon=0.25, bias="spread"),
    **ZENNIT,
}


def explained(net, x, *args, **kwargs):
    """On the stand-in, and on the host; by the plain path."""
    device = importlib.import_module("cupy").asarray(x)
    return (lrp.explain(net, place, *args, engine="plain", **kwargs) for place in (device, x))


def check_same(there, here):
    """Bit by bit: relevance, activations, and the books."""
    for name in ("relevances", "activations"):
        ours, theirs = getattr(there, name), getattr(here, name)
        assert list(ours) == list(theirs)
        for node in theirs:
            np.testing.assert_array_equal(ours[node].get(), theirs[node], strict=True)
    np.testing.assert_array_equal(there.relevance.get(), here.relevance, strict=True)
    np.testing.assert_array_equal(there.output.get(), here.output, strict=True)
    assert str(there.ledger) == str(here.ledger)
    assert there.ledger.table(sample=1) == here.ledger.table(sample=1)
    np.testing.assert_array_equal(there.ledger.balance().get(), here.ledger.balance())
    for name, amount in here.ledger.fan_in().items():
        np.testing.assert_array_equal(there.ledger.fan_in()[name].get(), amount)
    assert there.targets == here.targets
    assert str(there.rules) == str(here.rules)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", COMPOSITES)
@pytest.mark.parametrize("net", NETS)
def test_explanations_are_the_same(net, name, dtype, standin):
    there, here = explained(NETS[net], IMAGES.astype(dtype), COMPOSITES[name])
    check_same(there, here)


LOGITS = digits_mlp().forward(IMAGES)[digits_mlp().outputs[0]]
TARGETS = {
    "greatest": None,
    "class": 3,
    "class of each": [3, 1, 4],
    "array": np.array([3, 1, 4]),
    "one": lrp.one(3),
    "probability": lrp.probability(3),
    "contrast": lrp.contrast(3, [5, 6, 7]),
    "log_probability": lrp.log_probability([3, 1, 4]),
    "log_odds": lrp.log_odds(3),
    "relevance": LOGITS,
}


@pytest.mark.parametrize("name", TARGETS)
def test_targets(name, standin):
    there, here = explained(NETS["mlp"], IMAGES, lrp.Zero(), TARGETS[name])
    for node in here.relevances:
        np.testing.assert_array_equal(there.at(node).get(), here.at(node), strict=True)
    np.testing.assert_array_equal(
        gradient(NETS["mlp"], importlib.import_module("cupy").asarray(IMAGES), TARGETS[name]).get(),
        gradient(NETS["mlp"], IMAGES, TARGETS[name]),
    )


def test_targets_on_the_device(standin):
    cupy = importlib.import_module("cupy")
    x = cupy.asarray(IMAGES)
    for target in (np.array([3, 1, 4]), LOGITS):
        there = lrp.explain(NETS["mlp"], x, lrp.Zero(), cupy.asarray(target), engine="plain")
        here = lrp.explain(NETS["mlp"], IMAGES, lrp.Zero(), target, engine="plain")
        np.testing.assert_array_equal(there.relevance.get(), here.relevance)


def test_edit_and_keep(standin):
    cupy = importlib.import_module("cupy")
    mask = (np.arange(64).reshape(8, 8) % 3 > 0).astype(np.float32)
    for edit in ({"input": mask}, {"input": mask, NETS["mlp"].outputs[0]: np.arange(10) / np.float32(8)}):
        there, here = explained(NETS["mlp"], IMAGES, lrp.Gamma(), edit=edit, keep="input")
        check_same(there, here)
        assert list(there.relevances) == ["input"]
        there = lrp.explain(
            NETS["mlp"],
            cupy.asarray(IMAGES),
            lrp.Gamma(),
            edit={name: cupy.asarray(part) for name, part in edit.items()},
            engine="plain",
        )
        np.testing.assert_array_equal(there.relevance.get(), here.relevance)


def test_saved_and_read(standin, tmp_path):
    there, here = explained(NETS["cnn"], IMAGES, lrp.presets.epsilon_plus())
    there.save(tmp_path / "there.npz")
    here.save(tmp_path / "here.npz")
    assert (tmp_path / "there.npz").read_bytes() == (tmp_path / "here.npz").read_bytes()
    for node, R in lrp.read(tmp_path / "there.npz").relevances.items():
        np.testing.assert_array_equal(R, here.at(node))


def test_gradients_and_messages(standin):
    cupy = importlib.import_module("cupy")
    net, x = NETS["cnn"], cupy.asarray(IMAGES)
    np.testing.assert_array_equal(gradient(net, x).get(), gradient(net, IMAGES))
    np.testing.assert_array_equal(gradient_x_input(net, x, 3).get(), gradient_x_input(net, IMAGES, 3))
    np.testing.assert_array_equal(
        integrated_gradients(net, x, steps=4).get(), integrated_gradients(net, IMAGES, steps=4)
    )
    layer = Dense(np.arange(12.0).reshape(4, 3) - 5, np.ones(3))
    a, R = np.ones((1, 4)), np.array([[1.0, -2.0, 3.0]])
    np.testing.assert_array_equal(
        messages(layer.like(cupy.asarray(a)), lrp.ZPlus(), cupy.asarray(a), cupy.asarray(R), block=2).get(),
        messages(layer, lrp.ZPlus(), a, R, block=2),
    )


def test_pictures(standin):
    there, here = explained(NETS["cnn"], IMAGES, lrp.Zero())
    for measure in (entropy, negative_share, colors):
        assert bits(measure(channel_sum(there.relevance))) == bits(measure(channel_sum(here.relevance)))


def test_networks_are_changed_on_the_device(standin):
    x = importlib.import_module("cupy").asarray(IMAGES.astype(float))
    for make in (
        lambda net: lrp.canonize(net),
        lambda net: lrp.with_contrast(net, 3, 5),
        lambda net: lrp.with_log_odds(net, 3),
        lambda net: lrp.given(net, to_host(x)),
    ):
        here, there = make(NETS["cnn"]), make(NETS["cnn"].to("cuda"))
        assert str(there) == str(here)
        assert str(there.to("cpu")) == str(here)
        assert bits(there.forward(x)[there.outputs[0]]) == bits(here.forward(to_host(x))[here.outputs[0]])


def test_the_deep_taylor_decomposition_of_an_explanation_from_a_device(standin):
    there, here = explained(NETS["mlp"], IMAGES[:1].astype(float), lrp.ZPlus(), 3)
    for options in ({}, {"reading": "physical", "units": 3, "context": False}):
        assert str(dtd.verify(there, **options)) == str(dtd.verify(here, **options))


def test_a_rule_is_checked_on_the_device_as_well(standin):
    for rule in (lrp.Gamma(), lrp.ZBox(low=-3, high=3), lrp.Flat()):
        assert "longdouble, cupy)" in str(check_rule(rule, examples=5))


def test_poles(standin):
    cupy = importlib.import_module("cupy")
    graph = lrp.chain(Dense(np.array([[1.0, 1.0], [-1.0, 1.0]])))
    for x in (np.ones((2, 2)), cupy.ones((2, 2))):
        with pytest.raises(lrp.Pole, match=r"sample 0, unit \(0,\)"):
            lrp.explain(graph, x, lrp.Zero(), np.ones((2, 2)), strict=True, engine="plain")


def test_what_is_refused_is_refused_in_the_same_words(standin):
    cupy = importlib.import_module("cupy")
    two = lrp.Graph([lrp.Node("sum", lrp.layers.Add(), "a", "b")], outputs="sum", inputs=["a", "b"])
    with pytest.raises(lrp.ArithmeticMismatch, match="differ in dtype, device or carrier"):
        lrp.explain(two, {"a": X, "b": cupy.asarray(X)}, lrp.Zero(), X)
    for x in (IMAGES.astype(int), np.where(IMAGES > 0, np.float32("nan"), IMAGES), IMAGES[:, :, :4]):
        said = []
        for place in (x, cupy.asarray(x)):
            with pytest.raises(lrp.LrpError) as refused:
                lrp.explain(NETS["mlp"], place, lrp.Zero(), engine="plain")
            said.append(str(refused.value))
        assert said[0] == said[1]


# --- what waits, and what is copied ----------------------------------------------------------------------------------


def parameters(net):
    return sum(len(list(node.layer._arrays())) for node in net.nodes)


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("target", [None, 3])
@pytest.mark.parametrize("net", NETS)
def test_what_an_explanation_waits_for_and_uploads(net, target, moved, standin):
    net = NETS[net].like(IMAGES).to("cuda") if moved else NETS[net]
    copied = 0 if moved else parameters(net)
    x = importlib.import_module("cupy").asarray(IMAGES)
    standin.reset()
    e = lrp.explain(net, x, lrp.presets.epsilon_gamma_box(**BOX), target, engine="plain")
    pools = sum(isinstance(node.layer, MaxPool) for node in e.graph.nodes)
    boxes = sum(isinstance(rule, lrp.ZBox) for rule in e.rules.values())
    assert standin.syncs == {
        "bool": 2  # the input is looked at for NaN, by explain() and by forward()
        + copied  # so is each parameter that is copied
        + pools  # whether each output of a max pool has one winner
        + 2 * boxes,  # whether the data lie above the low and below the high
        **({} if target else {"get": 1}),  # the classes of the greatest logits
    }
    assert standin.uploads == {
        "array": copied + 1 + 2 * boxes,  # parameters, classes, bounds
        "value": 1,  # the 1 written at the classes
    }
