"""Frameworks that are held to the vectors: what they are asked in their own words, and what they answer.

Each adapter is one function, Case -> arrays; README.md beside this file says how to write another. torch and the
frameworks are imported inside functions.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ..conform import Adapter

PEERS = ("zennit", "captum", "lxt")
"""Frameworks that run here, each with a module of its name."""


def adapter(peer: str) -> Adapter:
    """The adapter of a framework.

    Raises
    ------
    ImportError
        if the framework is not installed, or cannot be imported; it says what to do.
    """
    imported("torch")
    imported(peer)
    made: Adapter = import_module(f".{peer}", __name__).relevance
    return made


def imported(name: str) -> Any:
    """A module of the dependency group "peers"."""
    try:
        return import_module(name)
    except ImportError as error:
        how = "pip install --no-deps lxt" if name == "lxt" else f"pip install {name}"
        raise ImportError(
            f'cannot import {name} ({error}): install the dependency group "peers" (pip install --group peers), or '
            f"{how}"
        ) from error
    except RuntimeError as error:  # such as torchvision, built for another torch
        raise ImportError(f"{name} is installed, and its import fails: {error}") from error


def version_of(peer: str) -> str:
    """The version that is installed, if one is."""
    try:
        return version(peer)
    except PackageNotFoundError:
        return ""
