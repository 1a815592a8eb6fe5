"""What is added to a denominator: e_k = delta_k(z_k), a value that a rule holds.

s(z) is +1 where z >= 0, else -1. The forms are those found in the field: which library uses which is said in
each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, Protocol

from .arrays import Array, namespace, number, ones, root_mean_square, sign, where
from .values import value


class Stabilizer(Protocol):
    """A function of the denominators z (batch first) and of the rule's epsilon, giving what is added to them."""

    def __call__(self, z: Array, epsilon: float) -> Array:
        """e, in the shape of z."""
        ...


@value
class Signed:
    """e = epsilon s(z). The default (zennit, captum, lrp_toolbox, LRP_for_LSTM; Bach et al. 2015 eq. 58)."""

    def __call__(self, z: Array, epsilon: float) -> Array:
        """Epsilon s(z)."""
        return number(epsilon, z) * sign(z)


@value
class Unsigned:
    """e = epsilon, whatever the sign of z: the chapter's formula as printed (its tutorial, BiLRP, LXT).

    Singular at z = -epsilon.
    """

    def __call__(self, z: Array, epsilon: float) -> Array:
        """Epsilon."""
        return number(epsilon, z) * ones(z.shape, z)


@value
class AtZero:
    """e = epsilon where z is exactly 0, else 0 (iNNvestigate's division in every rule but Epsilon)."""

    def __call__(self, z: Array, epsilon: float) -> Array:
        """Epsilon at zeros."""
        return where(z == 0, number(epsilon, z), number(0, z))


@value
class Clipped:
    """e = s(z) max(|z|, epsilon) - z: denominators of magnitude epsilon at least (zennit's ``clip=True``)."""

    def __call__(self, z: Array, epsilon: float) -> Array:
        """What lifts z to s(z) epsilon where it is smaller."""
        small = abs(z) < number(epsilon, z)
        return where(small, number(epsilon, z) * sign(z) - z, number(0, z))


@value
class SignedOrZero:
    """e = epsilon sign(z) with sign(0) = 0, and `at_zero` where z is exactly 0 (the ResNet/DenseNet code of Binder)."""

    at_zero: float = 1e-12

    def __post_init__(self) -> None:
        if not (math.isfinite(self.at_zero) and self.at_zero >= 0):
            raise ValueError(f"SignedOrZero: at_zero={self.at_zero}, need a finite number >= 0")

    def __call__(self, z: Array, epsilon: float) -> Array:
        """Epsilon s(z), or at_zero."""
        return where(z == 0, number(self.at_zero, z), number(epsilon, z) * sign(z))


@value(kw_only=True)
class Relative:
    """e = epsilon rms(z) + plus, times s(z) if `signed`; rms the root mean square over `over`.

    Parameters
    ----------
    over : "sample" (all axes but the batch: zennit's ``norm_scale``), "batch" (every axis: the chapter's
        tutorial; one sample's relevance then depends on the others), or a tuple of axes
    signed : bool
    plus : float, an absolute part

    In exact arithmetic rms is the float64 nearest to the exact root, taken as the exact number that it is.
    """

    over: Literal["sample", "batch"] | tuple[int, ...] = "sample"
    signed: bool = True
    plus: float = 0.0

    def __post_init__(self) -> None:
        good = self.over in ("sample", "batch") or (
            isinstance(self.over, tuple) and all(isinstance(axis, int) for axis in self.over)
        )
        if not good:
            raise ValueError(f'Relative: over={self.over!r}, need "sample", "batch" or a tuple of axes')
        if not (math.isfinite(self.plus) and self.plus >= 0):
            raise ValueError(f"Relative: plus={self.plus}, need a finite number >= 0")

    def __call__(self, z: Array, epsilon: float) -> Array:
        """Epsilon rms(z) + plus."""
        axes: Sequence[int] = range(z.ndim) if self.over == "batch" else range(1, z.ndim)
        if isinstance(self.over, tuple):
            axes = self.over
        e = number(epsilon, z) * root_mean_square(z, axes) + number(self.plus, z)
        return e * sign(z) if self.signed else namespace(z).broadcast_to(e, z.shape)


BY_ELEMENT = (Signed, Unsigned, AtZero, Clipped, SignedOrZero)
"""Those that look at each z by itself."""
