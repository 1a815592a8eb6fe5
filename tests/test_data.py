"""The shipped digits and networks are what they are said to be."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lrp_ref.data import FOLDER, digits, digits_cnn, digits_mlp

NETWORKS = pytest.mark.parametrize(("load", "goal"), [(digits_mlp, 0.96), (digits_cnn, 0.98)])


def accuracy(graph):
    data = digits()
    logits = graph.forward(data.images[data.test].astype(np.float64))["logits"]
    return (logits.argmax(1) == data.labels[data.test]).mean()


def test_digits_have_the_documented_form():
    data = digits()
    assert data.images.shape == (1797, 1, 8, 8)
    assert data.images.dtype == np.float32
    assert set(np.unique(data.images * 16)) == set(range(17))
    assert data.labels.shape == (1797,)
    assert set(data.labels) == set(range(10))
    assert {data.labels.dtype, data.train.dtype, data.test.dtype} == {np.dtype(np.int64)}


def test_split_parts_the_rows():
    data = digits()
    assert len(data.test) == round(0.2 * 1797)
    assert (data.test[1:] < data.test[:-1]).any(), "the test rows are shuffled"
    assert sorted([*data.train, *data.test]) == list(range(1797))


def test_digits_are_those_of_scikit_learn():
    raw = pytest.importorskip("sklearn.datasets").load_digits()
    data = digits()
    np.testing.assert_array_equal(data.images[:, 0] * 16, raw.images)
    np.testing.assert_array_equal(data.labels, raw.target)


@NETWORKS
def test_networks_reach_their_accuracy(load, goal):
    assert accuracy(load()) >= goal


@NETWORKS
def test_parameters_are_multiples_of_a_1024th(load, goal):
    arrays = [array for node in load().nodes for array in vars(node.layer).values() if isinstance(array, np.ndarray)]
    assert arrays
    for array in arrays:
        assert array.dtype == np.float64
        np.testing.assert_array_equal(array * 1024, np.rint(array * 1024))


def test_data_is_small():
    assert sum(path.stat().st_size for path in FOLDER.iterdir() if path.is_file()) < 300_000


@pytest.mark.full
@pytest.mark.torch
def test_training_script_reaches_the_accuracies_again(tmp_path):
    pytest.importorskip("torch")
    script = Path(__file__).parents[1] / "scripts" / "train_digits.py"
    subprocess.run([sys.executable, script, "--out", tmp_path], check=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["digits_cnn.npz", "digits_mlp.npz"]
    assert accuracy(digits_mlp(tmp_path / "digits_mlp.npz")) >= 0.96
    assert accuracy(digits_cnn(tmp_path / "digits_cnn.npz")) >= 0.98
