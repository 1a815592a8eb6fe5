"""Networks through torch's two ONNX exporters: what they write is read, with the names of the modules."""

import copy
import os
import warnings

import numpy as np
import pytest

import lrp_ref as lrp

pytestmark = pytest.mark.torch
with warnings.catch_warnings(action="ignore"):  # what an import warns of is no test's failure
    torch = pytest.importorskip("torch", reason="needs torch")
    pytest.importorskip("onnx", reason="needs onnx")
from test_load_torch import NETWORKS, network  # noqa: E402

WRITABLE = [name for name in NETWORKS if name not in ("vgg", "3-d")]
"""Both exporters refuse, or write out as a mixture of the batch, adaptive pools to sizes that do not divide."""


def exported(name, path, *, dynamo):
    """The network in single precision as an ONNX file, and the module."""
    if dynamo:
        pytest.importorskip("onnxscript", reason="torch's newer exporter needs onnxscript")
    module, (x,) = network(name)
    module = copy.deepcopy(module).float()
    batch = (
        {"dynamic_shapes": ({0: torch.export.Dim("batch")},)} if dynamo else {"dynamic_axes": {"input": {0: "batch"}}}
    )
    with warnings.catch_warnings(action="ignore"):
        torch.onnx.export(module, (x.float(),), str(path), dynamo=dynamo, input_names=["input"], **batch)
    return module, x.float()


@pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])
@pytest.mark.parametrize("name", WRITABLE)
def test_what_is_exported_is_read(name, dynamo, tmp_path):
    module, x = exported(name, tmp_path / "net.onnx", dynamo=dynamo)
    with torch.no_grad():
        theirs = module(x).numpy()
    for canonize in (False, True):
        graph = lrp.load(tmp_path / "net.onnx", canonize=canonize, check=False)
        ours = graph.forward(x.numpy())[graph.outputs[0]]
        assert abs(ours - theirs).max() <= 1e-5 * abs(theirs).max()
        one = graph.forward(x.numpy()[:1])[graph.outputs[0]]
        assert abs(one - theirs[:1]).max() <= 1e-5 * abs(theirs).max()


@pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])
def test_nodes_have_the_names_of_the_modules(dynamo, tmp_path):
    exported("resnet", tmp_path / "net.onnx", dynamo=dynamo)
    graph = lrp.load(tmp_path / "net.onnx", check=False)
    names = {node.name for node in graph.nodes}
    assert {"conv1", "layer1.0.conv1", "layer1.0.conv2", "layer2.0.downsample.0", "fc"} <= names
    rules = lrp.Composite([(lrp.named("layer2.*"), lrp.Norm()), *lrp.presets.epsilon_plus().cases])
    e = lrp.explain(graph, np.ones((1, 3, 32, 32), dtype=np.float32), rules)
    assert e.rules["layer2.0.conv1"] == lrp.Norm()
    tensor = next(alias for alias, node in graph.aliases.items() if node == "layer1.0.conv2")
    np.testing.assert_array_equal(e.at(tensor), e.at("layer1.0.conv2"))


def test_what_keras_exports_is_read(tmp_path):
    """Keras' own exporter, on its torch backend: channels last, batch norm and biases as separate operators."""
    pytest.importorskip("onnxscript", reason="Keras' exporter on torch needs onnxscript")
    with warnings.catch_warnings(action="ignore"):
        os.environ.setdefault("KERAS_BACKEND", "torch")
        keras = pytest.importorskip("keras", reason="needs keras and a backend", exc_type=ImportError)
        if keras.backend.backend() != "torch":
            pytest.skip("needs keras on torch")
        layers = [
            *(keras.layers.Conv2D(4, 3, padding="same"), keras.layers.BatchNormalization(), keras.layers.ReLU()),
            *(keras.layers.MaxPooling2D(2), keras.layers.Conv2D(6, 3, activation="relu"), keras.layers.Dropout(0.5)),
            *(keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(5)),
        ]
        model = keras.Sequential([keras.layers.Input((12, 12, 3)), *layers])
        x = np.random.default_rng(0).normal(size=(3, 12, 12, 3)).astype("float32")
        theirs = keras.ops.convert_to_numpy(model(x, training=False))
        model.export(str(tmp_path / "net.onnx"), format="onnx", verbose=False)
    graph = lrp.load(tmp_path / "net.onnx", check=False)
    ours = graph.forward(x)[graph.outputs[0]]
    assert abs(ours - theirs).max() <= 1e-5 * abs(theirs).max()
