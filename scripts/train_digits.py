"""Train the two networks shipped in lrp_ref/data, round them to multiples of 1/1024, and write them.

    python scripts/train_digits.py [--out DIR] [--seed N]

Takes about half a minute on one core. Needs torch (dependency group "train"), and scikit-learn where digits.npz
is missing. Exits with 1 and writes no network if lrp_ref measures one below its goal on the test rows. A rerun
reaches the goals, not the same bytes.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lrp_ref.data import FOLDER, Digits, digits, digits_cnn, digits_mlp
from lrp_ref.graph import Graph
from lrp_ref.layers import BatchNorm


class MLP(nn.Module):
    """Trains `digits_mlp`."""

    def __init__(self) -> None:
        super().__init__()
        self.dense1 = nn.Linear(64, 32)
        self.dense2 = nn.Linear(32, 16)
        self.logits = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(F.relu(self.dense2(F.relu(self.dense1(x.flatten(1))))))


class CNN(nn.Module):
    """Trains `digits_cnn`."""

    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.logits = nn.Linear(4 * channels, 10)

    def forward(self, x: Tensor) -> Tensor:
        pooled = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 2)
        added = self.bn2(self.conv2(pooled)) + pooled
        return self.logits(F.avg_pool2d(F.relu(added), 2).flatten(1))


Goal = tuple[type[nn.Module], Callable[[Path], Graph], float]
GOALS: dict[str, Goal] = {
    "digits_mlp.npz": (MLP, digits_mlp, 0.96),
    "digits_cnn.npz": (CNN, digits_cnn, 0.98),
}


def jitter(x: Tensor) -> Tensor:
    """Each image rotated by up to 7 degrees, scaled by up to 8 % and shifted by up to 0.4 pixels."""
    angle, zoom, right, down = (torch.rand(4, len(x)) * 2 - 1) * torch.tensor([[0.12], [0.08], [0.1], [0.1]])
    cos, sin = (1 + zoom) * angle.cos(), (1 + zoom) * angle.sin()
    maps = torch.stack([cos, -sin, right, sin, cos, down], dim=1).reshape(-1, 2, 3)
    return F.grid_sample(x, F.affine_grid(maps, list(x.shape), align_corners=False), align_corners=False)


def train(net: nn.Module, data: Digits, epochs: int = 300, batch: int = 64, rate: float = 0.03) -> None:
    """Train on the training rows alone."""
    images, labels = torch.from_numpy(data.images[data.train]), torch.from_numpy(data.labels[data.train])
    steps = len(labels) // batch
    optimizer = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=epochs * steps)
    net.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(labels))[: steps * batch].split(batch):
            optimizer.zero_grad()
            F.cross_entropy(net(jitter(images[rows])), labels[rows], label_smoothing=0.1).backward()
            optimizer.step()
            schedule.step()


def parameters(net: nn.Module) -> dict[str, np.ndarray]:
    """The parameters by "<node>.<field>" as counts of 1024ths, batch norms as scale and shift."""
    found: dict[str, np.ndarray] = {}
    for name, layer in net.named_children():
        values = {key: value.double().numpy() for key, value in layer.state_dict().items()}
        if isinstance(layer, nn.BatchNorm2d):
            norm = BatchNorm.from_statistics(
                mean=values["running_mean"],
                variance=values["running_var"],
                weight=values["weight"],
                bias=values["bias"],
                epsilon=layer.eps,
            )
            values = {"scale": norm.scale, "shift": norm.shift}
        elif isinstance(layer, nn.Linear):
            values["weight"] = values["weight"].T
        found |= {f"{name}.{field}": np.rint(value * 1024).astype(np.int16) for field, value in values.items()}
    return found


def accuracy(graph: Graph, data: Digits) -> float:
    """The share of test rows that lrp_ref classifies correctly."""
    logits = graph.forward(data.images[data.test].astype(np.float64))["logits"]
    return float((logits.argmax(1) == data.labels[data.test]).mean())


def write_digits(path: Path) -> None:
    """The digits as scikit-learn has them, with a test split of 20 %."""
    from sklearn.datasets import load_digits

    raw = load_digits()
    rows = np.random.default_rng(0).permutation(len(raw.target))
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        np.savez_compressed(
            made := Path(folder) / path.name,
            images=raw.images.astype(np.uint8),
            labels=raw.target.astype(np.uint8),
            test=rows[: round(0.2 * len(rows))].astype(np.uint16),
        )
        os.replace(made, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder for the networks (default: the package's)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    if not (FOLDER / "digits.npz").exists():
        write_digits(FOLDER / "digits.npz")
    data = digits()
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.out) as folder:
        for name, (network, load, goal) in GOALS.items():
            net, made = network(), Path(folder) / name
            train(net, data)
            np.savez_compressed(made, **parameters(net))
            reached = accuracy(load(made), data)
            if reached < goal:
                sys.exit(f"{name}: {reached:.2%} of the test rows, needs {goal:.0%}; nothing written")
            print(f"{name}: {reached:.2%} of the test rows")
        for name in GOALS:
            os.replace(Path(folder) / name, options.out / name)


if __name__ == "__main__":
    main()
