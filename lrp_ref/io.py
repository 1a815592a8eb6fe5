"""Networks from elsewhere: what to call. Each loader is imported only when it is called."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from .arrays import Array, is_array
from .errors import LoadError, LrpError
from .graph import Graph

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".joblib", ".ckpt", ".bin")


def load(network: Any, *, canonize: bool = True, check: bool | None = None, input: Array | None = None) -> Graph:
    """A network as a graph, from what a user has: looks at what it is given.

    Parameters
    ----------
    network : path of an .onnx or .keras file, a torch module, a Keras model, a fitted scikit-learn estimator
    canonize : fold batch norms and scalers, drop identities, strip a final softmax; see :func:`canonize`
    check : run both on `input` (or a random one) and refuse a difference; None: as the loader has it
    input : array (batch, ...), an example; a torch module needs one

    Raises
    ------
    LoadError, UnsupportedOp
        saying what is wrong; ImportError naming the extra that is missing.
    """
    options: dict[str, Any] = {"canonize": canonize} | ({} if check is None else {"check": check})
    if isinstance(network, (str, os.PathLike)):
        network = os.fspath(network)
        suffix = os.path.splitext(network)[1].lower()
        if suffix in PICKLES:
            raise LoadError(
                f"{network}: a pickle can run anything when it is loaded, and is never read: "
                f"load it yourself, and pass the module or estimator, or export it to ONNX"
            )
        if suffix == ".onnx":
            return from_onnx(network, **options, input=input)
        if suffix == ".keras":
            return from_keras(network, **options)
        raise LoadError(f"{network}: need an .onnx or .keras file, or the torch, Keras or scikit-learn object itself")
    families = {base.__module__.partition(".")[0] for base in type(network).__mro__}
    if "torch" in families:
        if input is None:
            raise LoadError(f"a torch module ({type(network).__name__}) needs input=, an example of what it takes")
        return from_torch(network, input, **options)
    if "keras" in families:
        return from_keras(network, **options)
    if "sklearn" in families:
        return from_sklearn(network, canonize=canonize)
    what = f"an array of shape {network.shape}" if is_array(network) else f"a {type(network).__name__}"
    raise LoadError(f"{what} is no network: need a path, a torch module, a Keras model or a scikit-learn estimator")


def from_onnx(
    path: str | Path, *, canonize: bool = True, check: bool | None = None, input: Array | None = None
) -> Graph:
    """The network in an ONNX file: see :func:`lrp_ref.loaders.onnx.from_onnx`."""
    from .loaders.onnx import from_onnx

    return from_onnx(path, canonize=canonize, check=check, input=input)


def from_torch(module: Any, example: Any, *, canonize: bool = True, check: bool = True) -> Graph:
    """A torch module: see :func:`lrp_ref.loaders.torch.from_torch`."""
    from .loaders.torch import from_torch

    return from_torch(module, example, canonize=canonize, check=check)


def from_keras(model: Any, *, canonize: bool = True, check: bool = True) -> Graph:
    """A Keras model or .keras file: see :func:`lrp_ref.loaders.keras.from_keras`."""
    from .loaders.keras import from_keras

    return from_keras(model, canonize=canonize, check=check)


def from_sklearn(estimator: Any, *, canonize: bool = True) -> Graph:
    """A fitted scikit-learn estimator or pipeline: see :func:`lrp_ref.loaders.sklearn.from_sklearn`."""
    from .loaders.sklearn import from_sklearn

    return from_sklearn(estimator, canonize=canonize)


def save(graph: Graph, path: str | Path, *, input: Array | Mapping[str, Array] | None = None) -> None:
    """Write a graph as an .onnx file, which other tools run, and from which :func:`load` makes the same graph again.

    See :func:`lrp_ref.loaders.onnx_write.save`. With ``load(path, canonize=False)`` it is the very same graph.

    Parameters
    ----------
    graph : Graph
    path : str or Path, ending in .onnx
    input : array (batch, ...), or a dict of them, an example; where the layers do not say how many axes an input has,
        or ONNX has a layer for inputs of a given size only

    Raises
    ------
    UnsupportedOp, LrpError
        saying what cannot be written, and what to do; ImportError naming the extra that is missing.
    """
    from .loaders.onnx_write import save

    if os.path.splitext(path)[1].lower() != ".onnx":
        raise LrpError(f"{path}: a graph is saved as ONNX: give a path that ends in .onnx")
    save(graph, path, input=input)
