"""The product that adds to what is there: every BLAS has it, and NumPy has no name for it.

It is looked up in the library that NumPy's own products come from, and in no other: a second BLAS would bring a second
pool of threads that wait awake for work.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from ..arrays import Array

AddingProduct = Callable[[Array, Array, Array], None]
"""out += a @ b, for matrices of one dtype whose rows are contiguous."""

_ROWS, _AS_IT_IS = 101, 111  # CblasRowMajor, CblasNoTrans
_NAMES = {
    "scipy_cblas_{}gemm64_": ctypes.c_int64,
    "cblas_{}gemm64_": ctypes.c_int64,
    "scipy_cblas_{}gemm": ctypes.c_int,
    "cblas_{}gemm": ctypes.c_int,
}
"""What NumPy's wheels and other builds call it, and the integers that it takes."""


@functools.cache
def adding_product(dtype: np.dtype[Any]) -> AddingProduct | None:
    """The product for float32 or float64; None where NumPy's library does not show it, as on Windows."""
    letter, number = ("s", ctypes.c_float) if dtype == np.float32 else ("d", ctypes.c_double)
    library = ctypes.CDLL(importlib.import_module("numpy._core._multiarray_umath").__file__)
    shown = [(name.format(letter), whole) for name, whole in _NAMES.items() if hasattr(library, name.format(letter))]
    if not shown:
        return None
    name, whole = shown[0]
    gemm: Any = library[name]
    matrix: list[Any] = [ctypes.c_void_p, whole]
    gemm.restype = None
    gemm.argtypes = [*3 * [ctypes.c_int], *3 * [whole], number, *matrix, *matrix, number, *matrix]

    def of(m: Array, rows: int, columns: int) -> tuple[int, int]:
        if m.shape != (rows, columns) or m.dtype != dtype or (columns > 1 and m.strides[1] != m.itemsize):
            raise ValueError(
                f"need contiguous rows of {dtype}, {rows} x {columns}; got {m.dtype}, {m.shape}, {m.strides}"
            )
        return m.__array_interface__["data"][0], max(m.strides[0] // m.itemsize, columns)

    def add(a: Array, b: Array, out: Array) -> None:
        (rows, columns), depth = out.shape, len(b)
        a_at, b_at, out_at = of(a, rows, depth), of(b, depth, columns), of(out, rows, columns)
        if out.size and depth:
            gemm(_ROWS, _AS_IT_IS, _AS_IT_IS, rows, columns, depth, 1, *a_at, *b_at, 1, *out_at)

    return add
