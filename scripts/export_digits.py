"""Train the network of the second tutorial and write it as ONNX to lrp_ref/data, for readers without torch.

    python scripts/export_digits.py

Needs torch and onnx (dependency group "train"). A rerun gives a network as good, not the same bytes.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from pathlib import Path

import torch

from lrp_ref.data import FOLDER

TUTORIAL = Path(__file__).parent.parent / "tutorials" / "02_your_own_network.py"
LOADED = "# ## Loaded"


def main() -> None:
    scope: dict[str, object] = {}
    exec(compile(TUTORIAL.read_text(encoding="utf-8").partition(LOADED)[0], str(TUTORIAL), "exec"), scope)
    net = scope["trained"]()  # type: ignore[operator]
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder, warnings.catch_warnings(action="ignore"):
        made = Path(folder) / "digits_torch.onnx"
        torch.onnx.export(
            net,
            (torch.zeros(1, 1, 8, 8),),
            str(made),
            dynamo=False,  # the exporter that leaves batch norm as a node of its own
            do_constant_folding=False,
            training=torch.onnx.TrainingMode.EVAL,
            input_names=["input"],
            output_names=["probability"],
            dynamic_axes={"input": {0: "batch"}},
            opset_version=17,
        )
        os.replace(made, FOLDER / made.name)


if __name__ == "__main__":
    main()
