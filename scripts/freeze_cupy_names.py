"""The public names of the CuPy that is installed, with the parameters of its functions, as JSON.

    python scripts/freeze_cupy_names.py tests/cupy_names.json

Importing CuPy needs no GPU. A function's parameters are written as a lambda takes them, every default as None; null
stands where they are not known, and for what is no function. A ufunc takes, besides its operands, what is said once.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
import sys
import warnings
from pathlib import Path
from typing import Any

MODULES = ("cupy", "cupy.linalg", "cupy.lib.stride_tricks", "cupy.cuda", "cupy.cuda.runtime", "cupyx")
MODULES += ("cupyx.scipy.special",)


def main(path: str) -> None:
    with warnings.catch_warnings(action="ignore"):
        cupy = importlib.import_module("cupy")
        modules = {name: public(importlib.import_module(name)) for name in MODULES}
        ufuncs = {
            name: sorted(key for key, value in vars(sys.modules[name]).items() if isinstance(value, cupy.ufunc))
            for name in ("cupy", "cupyx.scipy.special")
        }
    frozen = {
        "version": cupy.__version__,
        "modules": modules,
        "ufuncs": ufuncs,
        "ufunc keywords": re.findall(r"(\w+)=", first_line(cupy.add)),
        "ufunc methods": [name for name in dir(cupy.ufunc) if not name.startswith("_")],
        "ndarray": public(cupy.ndarray),
        "operators": [name for name in dir(cupy.ndarray) if name.startswith("__") and name not in dir(object)],
    }
    text = json.dumps(frozen, indent=0, sort_keys=True)
    Path(path).write_text(text + "\n", encoding="utf-8")


def public(owner: Any) -> dict[str, str | None]:
    found = {name: getattr(owner, name) for name in dir(owner) if not name.startswith("_")}
    return {name: parameters(value) for name, value in found.items() if not isinstance(value, int)}


def parameters(function: Any) -> str | None:
    """What stands between the parentheses, without types; compiled methods say it in their documentation."""
    if isinstance(function, type) or not callable(function):
        return None
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        found = re.match(r"[\w.]+\(self(?:, )?(.*?)\)(?: ->|$)", first_line(function))
        return None if found is None else ", ".join(map(bare, found[1].split(", ")))
    plain = [
        p.replace(annotation=p.empty, default=p.empty if p.default is p.empty else None)
        for p in signature.parameters.values()
        if p.name != "self"
    ]
    return str(signature.replace(parameters=plain, return_annotation=signature.empty))[1:-1]


def bare(parameter: str) -> str:
    """`int axis=-1` as `axis=None`."""
    name, default, _ = parameter.partition("=")
    return name.split(" ")[-1] + ("=None" if default else "")


def first_line(function: Any) -> str:
    return (inspect.getdoc(function) or "").partition("\n")[0]


if __name__ == "__main__":
    main(*sys.argv[1:])
