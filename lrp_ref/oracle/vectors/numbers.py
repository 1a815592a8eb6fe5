"""Numbers as the files have them: rationals as text, balls where the text would be long, tensors in safetensors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import count
from typing import Any

import numpy as np

from ...arrays import Array, fractions, is_enclosed
from ...errors import LrpError
from ..balls import Ball

LONGEST = 400
"""The most characters of a rational; a longer one is stored as a ball."""
BITS = 72
"""Of a ball's midpoint; more where they do not prove which float64 is nearest."""


# --- drawn numbers ----------------------------------------------------------------------------------------------------


class Draw:
    """Numbers drawn from a label, the same ones in every version of every library: bytes of SHA-256.

    Parameters
    ----------
    label : str
    """

    def __init__(self, label: str) -> None:
        self._blocks = (hashlib.sha256(f"{label}/{i}".encode()).digest() for i in count())
        self._bytes = b""

    def below(self, n: int) -> int:
        """One of 0, ..., n - 1."""
        if len(self._bytes) < 4:
            self._bytes = next(self._blocks)
        word, self._bytes = int.from_bytes(self._bytes[:4]), self._bytes[4:]
        return word * n >> 32

    def of(self, values: Sequence[float], shape: Sequence[int]) -> Array:
        """An array of float64, each entry one of `values`."""
        size = int(np.prod(tuple(shape), dtype=int))
        return np.array([values[self.below(len(values))] for _ in range(size)], dtype=float).reshape(tuple(shape))


# --- exact numbers as JSON --------------------------------------------------------------------------------------------


def text(value: Fraction) -> str:
    """A rational as "p/q" in lowest terms, or "p" if it is whole."""
    return str(value)


def entry(value: Fraction | Ball) -> str | dict[str, Any]:
    """A rational as text, or as the ball that encloses it if the text would have more than `LONGEST` characters; a
    number that is only known to lie in a ball as that.
    """
    if isinstance(value, Ball):
        mid, radius = value.dyadic()
        return ball(mid, radius) if radius else entry(mid)
    digits = (value.numerator.bit_length() + value.denominator.bit_length()) * 0.30103
    if digits < 2 * LONGEST and len(written := text(value)) <= LONGEST:
        return written
    return ball(value)


def ball(value: Fraction, known: Fraction = Fraction(0)) -> dict[str, Any]:
    """The float64 nearest to a number, and dyadic numbers with ``abs(number - mid) <= radius`` that prove it.

    The number is within `known` of the value, which is a rational.

    Raises
    ------
    LrpError
        for a number that lies halfway between two floats, or so near that 576 bits, or what is known, do not tell.
    """
    nearest, bits = float(value), BITS
    while bits <= 8 * BITS:
        scale = Fraction(2) ** (bits - value.numerator.bit_length() + value.denominator.bit_length())
        mid = round(value * scale) / scale
        radius = 1 / scale * (1 + -(-known * scale).__floor__() if known else 1)
        if float(mid - radius) == float(mid + radius) == nearest:
            return {"float64": nearest, "mid": text(mid), "radius": text(radius)}
        bits *= 2
    raise LrpError(f"no ball of {bits // 2} bits proves that {nearest!r} is the float64 nearest to an expected value")


def tensor(a: Array) -> dict[str, Any]:
    """An exact array: its shape, and its entries in C order."""
    return {"shape": list(a.shape), "values": vector(a)}


def vector(a: Array) -> list[Any]:
    """Exact numbers in order, or what encloses them."""
    return [entry(value) for value in (a if is_enclosed(a) else fractions(a)).reshape(-1)]


def rounded(a: Array) -> Array:
    """Each entry correctly rounded to float64."""
    flat = [float(Fraction(e)) if isinstance(e, str) else e["float64"] for e in vector(a)]
    return np.array(flat, dtype="<f8").reshape(a.shape)


# --- safetensors ------------------------------------------------------------------------------------------------------

TYPES = {"<f4": "F32", "<f8": "F64"}


def safetensors(arrays: Mapping[str, Array]) -> bytes:
    """Arrays of float32 and float64 as the content of a .safetensors file, in the order given.

    Eight bytes with the length of a JSON header, the header, the arrays' bytes; offsets count from the header's end.
    """
    header: dict[str, Any] = {}
    parts, offset = [], 0
    for name, array in arrays.items():
        kind = "<f4" if array.dtype == np.float32 else "<f8"
        content = np.ascontiguousarray(array, dtype=kind).tobytes()
        ends = [offset, offset + len(content)]
        header[name] = {"dtype": TYPES[kind], "shape": list(array.shape), "data_offsets": ends}
        parts.append(content)
        offset = ends[1]
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    return len(head).to_bytes(8, "little") + head + b"".join(parts)


def float32(a: Array) -> Array:
    """The array in float32, which must hold it exactly."""
    made = np.asarray(a, dtype=np.float32)
    if not (made.astype(np.float64) == np.asarray(a, dtype=np.float64)).all():
        raise LrpError("an input or weight of a vector does not fit float32 exactly")
    return made
