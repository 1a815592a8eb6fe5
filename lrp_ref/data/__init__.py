"""Shipped data: handwritten digits, and two small networks trained on them by ``scripts/train_digits.py``.

The digits are the UCI Machine Learning Repository's "Optical Recognition of Handwritten Digits" by E. Alpaydin
and C. Kaynak, https://doi.org/10.24432/C50P49, under CC BY 4.0; read through scikit-learn's ``load_digits``, only
the format changed.

Pixels are multiples of 1/16 and parameters of 1/1024, so that exact arithmetic stays small.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..graph import Graph, Node
from ..layers import Add, AvgPool, BatchNorm, Conv, Dense, Flatten, MaxPool, ReLU

__all__ = ["Digits", "digits", "digits_cnn", "digits_mlp"]

FOLDER = Path(__file__).parent


@dataclass(frozen=True, eq=False)
class Digits:
    """1797 handwritten digits, split into training and test rows.

    Attributes
    ----------
    images : (N, 1, 8, 8), float32 in [0, 1]; pixel counts divided by 16, which is exact
    labels : (N,), 0 to 9
    train, test : row indices
        `test` is a random 20 % in random order, the same at every call, and `train` the rest in order
    """

    images: NDArray[np.float32]
    labels: NDArray[np.int64]
    train: NDArray[np.int64]
    test: NDArray[np.int64]


def digits() -> Digits:
    """The digits, as arrays of their own at every call."""
    with np.load(FOLDER / "digits.npz", allow_pickle=False) as file:
        images, labels, test = file["images"], file["labels"], file["test"]
    return Digits(
        images=images[:, None].astype(np.float32) / 16,
        labels=labels.astype(np.int64),
        train=np.setdiff1d(np.arange(len(labels)), test),
        test=test.astype(np.int64),
    )


def _parameters(path: Path) -> dict[str, NDArray[np.float64]]:
    """The parameters by "<node>.<field>", from a file that counts 1024ths."""
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name].astype(np.float64) / 1024 for name in file.files}


def digits_mlp(path: Path = FOLDER / "digits_mlp.npz") -> Graph:
    """A multilayer perceptron 64-32-16-10; `path` is for files that the training script has just written."""
    p = _parameters(path)
    return Graph(
        [
            Node("flatten", Flatten(), "input"),
            Node("dense1", Dense(weight=p["dense1.weight"], bias=p["dense1.bias"]), "flatten"),
            Node("relu1", ReLU(), "dense1"),
            Node("dense2", Dense(weight=p["dense2.weight"], bias=p["dense2.bias"]), "relu1"),
            Node("relu2", ReLU(), "dense2"),
            Node("logits", Dense(weight=p["logits.weight"], bias=p["logits.bias"]), "relu2"),
        ],
        outputs="logits",
    )


def digits_cnn(path: Path = FOLDER / "digits_cnn.npz") -> Graph:
    """A small residual network with batch norms and both pools; `path` as in `digits_mlp`."""
    p = _parameters(path)
    return Graph(
        [
            Node("conv1", Conv(weight=p["conv1.weight"], padding=1), "input"),
            Node("bn1", BatchNorm(scale=p["bn1.scale"], shift=p["bn1.shift"]), "conv1"),
            Node("relu1", ReLU(), "bn1"),
            Node("pool1", MaxPool(kernel=2), "relu1"),
            Node("conv2", Conv(weight=p["conv2.weight"], padding=1), "pool1"),
            Node("bn2", BatchNorm(scale=p["bn2.scale"], shift=p["bn2.shift"]), "conv2"),
            Node("add", Add(), "bn2", "pool1"),
            Node("relu2", ReLU(), "add"),
            Node("pool2", AvgPool(kernel=2), "relu2"),
            Node("flatten", Flatten(), "pool2"),
            Node("logits", Dense(weight=p["logits.weight"], bias=p["logits.bias"]), "flatten"),
        ],
        outputs="logits",
    )
