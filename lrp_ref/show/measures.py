"""What a map looks like, in numbers: how much of it is negative, and how spread it is."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..arrays import Array, divide
from .heatmap import finite


def negative_share(R: Any) -> Array:
    """Share of a map that is negative: sum of |R_p| where R_p < 0, over sum of |R_p|.

    Parameters
    ----------
    R : array (N, ...)
        relevance, floats or exact rationals.

    Returns
    -------
    ndarray (N,) of float64
        in [0, 1]; 0 for a map of zeros.

    Raises
    ------
    ArithmeticMismatch
        if a relevance is not a finite number.
    """
    rows, sizes = _sizes(R)
    return divide(np.where(rows < 0, sizes, 0.0).sum(axis=1), sizes.sum(axis=1))


def entropy(R: Any) -> Array:
    """Shannon entropy of a map, in bits: -sum p log2 p with p = |R_p| / sum |R_p|, and 0 log 0 = 0.

    A map of H bits is as spread as one with 2^H equal cells: 0 bits for a single cell.

    Parameters
    ----------
    R : array (N, ...)
        relevance, floats or exact rationals.

    Returns
    -------
    ndarray (N,) of float64
        0 for a map of zeros.

    Raises
    ------
    ArithmeticMismatch
        if a relevance is not a finite number.
    """
    _, sizes = _sizes(R)
    p = divide(sizes, sizes.sum(axis=1, keepdims=True))
    return 0.0 - (p * np.log2(np.where(p > 0, p, 1.0))).sum(axis=1)


def _sizes(R: Any) -> tuple[Array, Array]:
    """The cells of each sample in a row, and their |R| by the largest: sums of huge ones stay finite."""
    values = finite(R, "relevance").astype(np.float64)
    rows = values.reshape(len(values), math.prod(values.shape[1:]))
    return rows, divide(np.abs(rows), np.abs(rows).max(axis=1, initial=0, keepdims=True))
