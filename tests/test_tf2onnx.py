"""Keras networks on TensorFlow through tf2onnx: what it writes is read, and says what Keras said."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import lrp_ref as lrp

MISSING = [name for name in ("tensorflow", "tf2onnx", "onnx") if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}")
NAMES = (
    "mlp", "vgg", "resnet", "densenet", "inception", "mobilenet-v2", "mobilenet-v3", "efficientnet", "unet",
    "one-d", "three-d",
)  # fmt: skip


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The directory with every network's name.onnx and name.npz."""
    directory = tmp_path_factory.mktemp("tf2onnx")
    script = Path(__file__).with_name("tf2onnx_networks.py")
    done = subprocess.run([sys.executable, str(script), str(directory)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert {path.stem for path in directory.glob("*.onnx")} == set(NAMES)
    return directory


@pytest.mark.parametrize("name", NAMES)
def test_what_tf2onnx_writes_is_read(name, written):
    data = np.load(written / f"{name}.npz")
    for canonize in (False, True):
        graph = lrp.load(written / f"{name}.onnx", canonize=canonize, check=True)
        (y,) = (graph.forward(data["x"])[output] for output in graph.outputs)
        if canonize and name == "vgg":  # the final softmax is stripped
            y = np.exp(y - y.max(axis=1, keepdims=True))
            y /= y.sum(axis=1, keepdims=True)
        assert abs(y - data["y"]).max() <= 1e-5 * abs(data["y"]).max()
