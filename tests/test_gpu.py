"""The same code on CuPy arrays, wherever there is a device: results, arithmetic, and what is refused."""

import importlib

import numpy as np
import pytest
from gpu_kernels import *  # noqa: F403
from standin_cupy import NAMES
from test_standin import REFUSALS, SEEDED, X, seeded

import lrp_ref as lrp
from lrp_ref.arrays import to_host
from lrp_ref.data import digits, digits_cnn, digits_mlp
from lrp_ref.theory import gradient, messages

pytestmark = pytest.mark.gpu

BOX = {"low": 0, "high": 1}
COMPOSITES = {
    "zero": lrp.Zero(),
    "gamma": lrp.Gamma(gamma=0.25),
    "rms": lrp.Epsilon(epsilon=0.25, stabilizer=lrp.Relative(over="sample")),
    "spread": lrp.Epsilon(epsilon=0.25, bias="spread"),
    "w2": lrp.WSquare(bias="squared"),
    "epsilon_plus_flat": lrp.presets.epsilon_plus_flat(),
    "epsilon_alpha2_beta1": lrp.presets.epsilon_alpha2_beta1(),
    "epsilon_gamma_box": lrp.presets.epsilon_gamma_box(**BOX),
}


@pytest.fixture
def cupy():
    return pytest.importorskip("cupy")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rules", COMPOSITES)
@pytest.mark.parametrize("net", [digits_mlp(), digits_cnn()], ids=["mlp", "cnn"])
def test_the_device_gives_what_the_host_gives(cupy, net, rules, dtype):
    data = digits()
    x = data.images[data.test[:4]].astype(dtype)
    host = lrp.explain(net, x, COMPOSITES[rules], target=[1, 2, 3, 4])
    device = lrp.explain(net, cupy.asarray(x), COMPOSITES[rules], target=[1, 2, 3, 4])
    assert isinstance(device.relevance, cupy.ndarray)
    assert device.relevance.dtype == dtype
    start = max(abs(sum_) for sum_ in host.ledger.start["logits"])
    if dtype == "float32" and max(abs(R).max() for R in host.relevances.values()) > 30 * start:
        return  # denominators near 0 amplify rounding: float64 says whether the code is right
    tolerance = {"float32": 1e-5, "float64": 1e-13}[dtype]
    for name in host.relevances:
        largest = abs(host.at(name)).max()
        np.testing.assert_allclose(device.at(name).get(), host.at(name), rtol=0, atol=tolerance * largest)
    for ours, theirs in zip(device.ledger, host.ledger, strict=True):
        scale = max(1.0, float(theirs.magnitude_out.max()))
        np.testing.assert_allclose(ours.absorbed.get(), theirs.absorbed, rtol=0, atol=100 * tolerance * scale)
    assert str(device.ledger).splitlines()[0].split() == str(host.ledger).splitlines()[0].split()


def test_gradients_messages_and_files_on_the_device(cupy, tmp_path):
    data, net = digits(), digits_cnn()
    x = data.images[data.test[:2]].astype("float64")
    np.testing.assert_allclose(gradient(net, cupy.asarray(x), 3).get(), gradient(net, x, 3), atol=1e-12)
    layer = net["logits"].layer.like(cupy.asarray(x))
    a, R = cupy.ones((1, layer.weight.shape[0])), cupy.ones((1, 10))
    np.testing.assert_allclose(
        messages(layer, lrp.ZPlus(), a, R).get(), messages(net["logits"].layer, lrp.ZPlus(), a.get(), R.get())
    )
    e = lrp.explain(net, cupy.asarray(x), lrp.Zero(), target=3)
    e.save(tmp_path / "e.npz")
    np.testing.assert_array_equal(lrp.read(tmp_path / "e.npz").relevance, e.relevance.get())


def test_host_and_device_do_not_mix(cupy):
    net = lrp.Graph([lrp.Node("sum", lrp.layers.Add(), "a", "b")], outputs="sum", inputs=["a", "b"])
    x = np.ones((1, 2))
    with pytest.raises(lrp.ArithmeticMismatch, match="differ in dtype, device or carrier"):
        lrp.explain(net, {"a": x, "b": cupy.asarray(x)}, lrp.Zero(), target=x)


@pytest.mark.parametrize("name", SEEDED)
def test_the_stand_in_refuses_what_cupy_refuses(cupy, name):
    """And what it lets pass gives NumPy's numbers."""
    x = cupy.asarray(X)
    if SEEDED[name][1] == "refused":
        with pytest.raises(REFUSALS):
            seeded(name)(x)
    else:
        np.testing.assert_allclose(to_host(seeded(name)(x)), seeded(name)(X), rtol=1e-6)


def test_the_stand_in_knows_no_name_that_cupy_has_not(cupy):
    for module, names in NAMES["modules"].items():
        assert set(names) <= set(dir(importlib.import_module(module))), module
    assert set(NAMES["ndarray"]) <= set(dir(cupy.ndarray))
    assert set(NAMES["ufunc methods"]) <= set(dir(cupy.ufunc))
    assert not {"__index__", "__array_interface__", "__contains__"} & set(dir(cupy.ndarray))
