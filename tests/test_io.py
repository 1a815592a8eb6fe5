"""lrp.load looks at what it is given."""

import warnings
from pathlib import Path

import numpy as np
import pytest

import lrp_ref as lrp
from lrp_ref.data import FOLDER, digits, digits_mlp

X = digits().images[:2]


@pytest.mark.parametrize("kind", [str, Path])
def test_a_path_to_an_onnx_file(kind):
    pytest.importorskip("onnx", reason="needs onnx")
    graph = lrp.load(kind(FOLDER / "digits_torch.onnx"))
    assert next(node.name for node in graph.nodes) == "features.conv1"
    assert "features.norm1 folded into features.conv1" in graph.notes
    raw = lrp.load(kind(FOLDER / "digits_torch.onnx"), canonize=False)
    assert {node.kind for node in raw.nodes} >= {"BatchNorm", "Softmax"}
    p, z = raw.forward(X)[raw.outputs[0]], graph.forward(X)[graph.outputs[0]]
    np.testing.assert_allclose(p, np.exp(z) / np.exp(z).sum(axis=1, keepdims=True), rtol=1e-5)


def test_a_fitted_estimator():
    linear = pytest.importorskip("sklearn.linear_model", reason="needs scikit-learn")
    x, y = np.random.default_rng(0).normal(size=(30, 4)), np.arange(30) % 3
    model = linear.LogisticRegression().fit(x, y)
    graph = lrp.load(model)
    np.testing.assert_allclose(graph.forward(x)[graph.outputs[0]], model.decision_function(x), rtol=1e-12, atol=1e-12)


@pytest.mark.torch
def test_a_torch_module():
    with warnings.catch_warnings(action="ignore"):
        torch = pytest.importorskip("torch")
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3)).eval()
    graph = lrp.load(module, input=X)
    assert graph.forward(X)[graph.outputs[0]].shape == (2, 3)
    with pytest.raises(lrp.LoadError, match="needs input="):
        lrp.load(module)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        *((f"net{suffix}", "a pickle can run anything") for suffix in (".pt", ".pth", ".pkl", ".joblib", ".PKL")),
        ("net.h5", r"need an \.onnx or \.keras file"),
        (np.ones(3), r"an array of shape \(3,\) is no network"),
        (digits_mlp, "a function is no network"),
        ("nowhere.onnx", "nowhere.onnx"),
    ],
)
def test_what_is_no_network_is_refused(network, message):
    if str(network).endswith(".onnx"):
        pytest.importorskip("onnx", reason="needs onnx")
    with pytest.raises(lrp.LoadError, match=message):
        lrp.load(network)


def test_a_missing_library_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(ImportError, match=r'pip install "lrp_ref\[onnx\]"'):
        lrp.load(FOLDER / "digits_torch.onnx")


def test_a_graph_is_saved_and_loaded(tmp_path):
    pytest.importorskip("onnx", reason="needs onnx")
    graph = lrp.load(FOLDER / "digits_torch.onnx")
    lrp.save(graph, tmp_path / "again.onnx")
    again = lrp.load(tmp_path / "again.onnx", canonize=False)
    assert str(again) == str(graph)
    for ours, theirs in zip(again.nodes, graph.nodes, strict=True):
        if ours.kind in ("Conv", "Dense"):
            np.testing.assert_array_equal(ours.layer.weight, theirs.layer.weight)
            np.testing.assert_array_equal(ours.layer.bias, theirs.layer.bias)
    np.testing.assert_allclose(again.forward(X)[again.outputs[0]], graph.forward(X)[graph.outputs[0]], atol=1e-5)
