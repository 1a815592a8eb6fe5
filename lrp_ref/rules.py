"""The table of rules: each is a few rows of terms for :func:`lrp_ref.propagate.four_steps`.

Letters are the chapter's: a_j inputs, w_jk weights, b_k bias, z_k their sum; x+ = max(0, x), x- = min(0, x),
so that x = x+ + x-; e_k the stabilizer, epsilon s(z_k) unless another form is asked for, with s(0) = +1. Sums
in denominators run over all inputs j of output k. Every rule takes `epsilon`, `stabilizer` and `bias`, all by
keyword.

Sources: Bach et al. 2015 (doi 10.1371/journal.pone.0130140); Montavon et al. 2017 (arXiv 1512.02479);
Montavon et al. 2019 (the chapter, doi 10.1007/978-3-030-28954-6_10); Lapuschkin et al. 2019; Andéol et al.
2021.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from .arrays import (
    Array,
    exact,
    floats,
    is_array,
    is_exact,
    like,
    negative,
    number,
    ones,
    per_channel,
    positive,
    unit_roundoff,
    zeros,
)
from .errors import UnsuitableRule
from .ledger import Absorbed
from .propagate import Rule, Share, Term, Transform, is_number, keep
from .values import value

if TYPE_CHECKING:
    from .layers import Layer

__all__ = [
    "AlphaBeta", "Epsilon", "Flat", "Gamma", "GeneralizedGamma", "Gradient", "Norm", "Pass", "Product", "WSquare",
    "ZBox", "ZMinus", "ZPlus", "Zero",
]  # fmt: skip


# --- transforms: what a term does to inputs, weights and bias -------------------------------------


def one(x: Array) -> Array:
    """1."""
    return ones(x.shape, x)


def nothing(x: Array) -> Array:
    """0."""
    return x * number(0, x)


def square(x: Array) -> Array:
    """x^2."""
    return x * x


@value
class Raised:
    """w + gamma w+ (or w + gamma w-)."""

    gamma: float
    part: Transform = positive

    def __call__(self, w: Array) -> Array:
        """The raised weights."""
        return w + number(self.gamma, w) * self.part(w)


@value
class Above:
    """a - bound, with a warning where a lies on the wrong side of it by more than rounding."""

    bound: Any
    side: Literal["low", "high"]

    def __call__(self, a: Array) -> Array:
        """The distance from the bound, which is never negative above "low" and never positive below "high"."""
        bound = per_channel(like(self.bound, a), a, f"ZBox: {self.side}")
        distance = a - bound
        excess = -distance if self.side == "low" else distance
        outside = excess > number(8 * unit_roundoff(a), a) * (abs(a) + abs(bound))
        if bool(outside.any()):
            worst = floats(excess[outside]).max()
            warnings.warn(
                f"ZBox: {int(outside.sum())} input values lie beyond {self.side}, the worst by {worst:.3g}: "
                f"the box must hold the data",
                stacklevel=2,
            )
        return distance


def where_positive(z: Array) -> Array:
    """1 where z > 0, else 0."""
    return (z > 0) * number(1, z)


def where_negative(z: Array) -> Array:
    """1 where z < 0, else 0."""
    return (z < 0) * number(1, z)


def _split(sign: Literal[1, -1], split: str) -> tuple[Term, ...]:
    """The contributions a_j w_jk of one sign: of the product, or ("weight") those of the weights of that sign."""
    same, other = (positive, negative) if sign == 1 else (negative, positive)
    if split == "weight":
        return (Term(keep, same, same),)
    return (Term(positive, same, same), Term(negative, other, nothing))


def _one_sign(rule: ZPlus | ZMinus | AlphaBeta) -> bool:
    """Whether a part can only be empty, and never cancel: with the inputs split, and no bias of the other sign."""
    return rule.split == "product" and rule.bias not in ("raw", "squared")


# --- the rules ------------------------------------------------------------------------------------


class Zero(Rule):
    r"""LRP-0.

    .. math:: R_j = \sum_k \frac{a_j w_{jk}}{\sum_j a_j w_{jk} + b_k + e_k} R_k

    With epsilon = 0 everywhere and activations passed, it is gradient x input. Bach et al. 2015, eq. 56.
    """

    def shares(self) -> tuple[Share, ...]:
        """(a, w, b)."""
        return (Share((Term(),)),)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Epsilon(Rule):
    r"""LRP-epsilon.

    .. math:: R_j = \sum_k \frac{a_j w_{jk}}{z_k + \varepsilon\, s(z_k)} R_k

    `epsilon` has no default: frameworks take anything from 1e-16 to a quarter of the rms of z, and mean it
    differently (a guard against division by zero, or a filter of noise). Bach et al. 2015, eq. 58.
    """

    epsilon: float = dataclasses.field()

    def shares(self) -> tuple[Share, ...]:
        """(a, w, b)."""
        return (Share((Term(),)),)


class Norm(Rule):
    r"""LRP-0 under the name that it has on layers without weights: sums, adds, average pools.

    .. math:: R_j = \sum_k \frac{a_j w_{jk}}{\sum_j a_j w_{jk} + b_k + e_k} R_k
    """

    def shares(self) -> tuple[Share, ...]:
        """(a, w, b)."""
        return (Share((Term(),)),)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Gamma(Rule):
    r"""LRP-gamma of the chapter, for inputs a >= 0 and outputs z > 0.

    .. math:: R_j = \sum_k \frac{a_j (w_{jk} + \gamma w_{jk}^+)}{\sum_j a_j (w_{jk} + \gamma w_{jk}^+)
              + b_k + \gamma b_k^+ + e_k} R_k

    For signed inputs or outputs see :class:`GeneralizedGamma`, which zennit calls Gamma. Montavon et al.
    2019.
    """

    gamma: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(is_number(self.gamma) and self.gamma >= 0, "gamma", "a finite number >= 0")

    def shares(self) -> tuple[Share, ...]:
        """(a, w + gamma w+, b + gamma b+)."""
        return (Share((Term(keep, Raised(self.gamma), Raised(self.gamma)),)),)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class GeneralizedGamma(Rule):
    r"""LRP-gamma for inputs and outputs of any sign, with m_jk = a_j w_jk.

    .. math:: R_j = \sum_k \frac{m_{jk} + \gamma m_{jk}^\pm}{\sum_j (m_{jk} + \gamma m_{jk}^\pm)
              + b_k + \gamma b_k^\pm + e_k} R_k

    with + where z_k > 0 and - where z_k < 0, z_k the layer's own (with its bias, whatever `bias` says); where
    z_k = 0, R_k is unclaimed. zennit's Gamma. Andéol et al. 2021.
    """

    gamma: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(is_number(self.gamma) and self.gamma >= 0, "gamma", "a finite number >= 0")

    def shares(self) -> tuple[Share, ...]:
        """Where z > 0: (a+, w + g w+, b + g b+), (a-, w + g w-, 0); where z < 0 with + and - exchanged in w and b."""
        up, down = Raised(self.gamma, positive), Raised(self.gamma, negative)
        return (
            Share((Term(positive, up, up), Term(negative, down, nothing)), portion=where_positive),
            Share((Term(positive, down, down), Term(negative, up, nothing)), portion=where_negative),
        )


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ZPlus(Rule):
    r"""z+, which is alpha-beta with alpha = 1, beta = 0, and LRP-gamma in the limit of large gamma.

    .. math:: R_j = \sum_k \frac{(a_j w_{jk})^+}{\sum_j (a_j w_{jk})^+ + b_k^+ + e_k} R_k

    ``split="weight"`` takes a_j w_jk+ instead, without splitting the inputs (captum, iNNvestigate's fast
    form): the same where a >= 0. ``bias="none"`` is the form of the deep Taylor paper. Montavon et al. 2017.
    """

    split: Literal["product", "weight"] = "product"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(self.split in ("product", "weight"), "split", '"product" or "weight"')

    def shares(self) -> tuple[Share, ...]:
        """(a+, w+, b+), (a-, w-, 0)."""
        return (Share(_split(1, self.split), one_sign=_one_sign(self)),)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ZMinus(Rule):
    r"""The negative contributions alone: the beta part of alpha-beta, with weight 1.

    .. math:: R_j = \sum_k \frac{(a_j w_{jk})^-}{\sum_j (a_j w_{jk})^- + b_k^- + e_k} R_k

    alpha-beta is alpha times z+ less beta times this; lrp_toolbox computes it for alpha = 0, and LRP-gamma for signed
    outputs tends to it where z_k < 0. Bach et al. 2015.
    """

    split: Literal["product", "weight"] = "product"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(self.split in ("product", "weight"), "split", '"product" or "weight"')

    def shares(self) -> tuple[Share, ...]:
        """(a+, w-, b-), (a-, w+, 0)."""
        return (Share(_split(-1, self.split), one_sign=_one_sign(self)),)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class AlphaBeta(Rule):
    r"""LRP-alpha-beta, alpha - beta = 1.

    .. math:: R_j = \sum_k \left( \alpha \frac{(a_j w_{jk})^+}{\sum_j (a_j w_{jk})^+ + b_k^+ + e_k}
              - \beta \frac{(a_j w_{jk})^-}{\sum_j (a_j w_{jk})^- + b_k^- + e_k} \right) R_k

    Where output k has no negative contribution the second term is 0, so that alpha R_k is handed on:
    relevance is created, and booked as -beta R_k unclaimed ("empty part"). `beta` defaults to alpha - 1, and
    is set to exactly that. Bach et al. 2015, eq. 60.
    """

    alpha: float = 2
    beta: float | None = None
    split: Literal["product", "weight"] = "product"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(is_number(self.alpha) and self.alpha >= 1, "alpha", "a finite number >= 1")
        self.require(self.split in ("product", "weight"), "split", '"product" or "weight"')
        if self.beta is not None:
            near = is_number(self.beta) and abs(self.alpha - self.beta - 1) <= 4 * math.ulp(self.alpha)
            self.require(near and self.beta >= 0, "beta", f"alpha - 1 = {self.alpha - 1!r}, so that alpha - beta = 1")
        object.__setattr__(self, "beta", self.alpha - 1)

    def shares(self) -> tuple[Share, ...]:
        """alpha: (a+, w+, b+), (a-, w-, 0); -beta: (a+, w-, b-), (a-, w+, 0)."""
        beta, one_sign = self.alpha - 1, _one_sign(self)
        return (
            Share(_split(1, self.split), portion=self.alpha, one_sign=one_sign),
            Share(_split(-1, self.split), portion=-beta, one_sign=one_sign),
        )


class Flat(Rule):
    r"""Equal shares to all connected inputs.

    .. math:: R_j = \sum_k \frac{1}{n_k + e_k} R_k

    with n_k the number of real inputs connected to output k: padding does not count, a weight of 0 does. The
    bias takes nothing. Lapuschkin et al. 2019.
    """

    def shares(self) -> tuple[Share, ...]:
        """(1, 1, 0)."""
        return (Share((Term(one, one, nothing),)),)


class WSquare(Rule):
    r"""w^2, for the first layer on unbounded inputs.

    .. math:: R_j = \sum_k \frac{w_{jk}^2}{\sum_j w_{jk}^2 + e_k} R_k

    ``bias="squared"`` adds b_k^2 to the denominator, as zennit does. Montavon et al. 2017.
    """

    def shares(self) -> tuple[Share, ...]:
        """(1, w^2, 0)."""
        return (Share((Term(one, square, nothing),)),)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ZBox(Rule):
    r"""z-box (z^B), for the first layer on inputs in a box l_j <= a_j <= h_j.

    .. math:: R_j = \sum_k \frac{a_j w_{jk} - l_j w_{jk}^+ - h_j w_{jk}^-}
              {\sum_j (a_j w_{jk} - l_j w_{jk}^+ - h_j w_{jk}^-) + e_k} R_k

    The numerator is (a_j - l_j) w_jk+ + (a_j - h_j) w_jk-, two terms that are never negative, and is computed
    so: the three of the formula cancel. The bias cancels; padded cells get nothing.

    Parameters
    ----------
    low, high : float, sequence or array
        a scalar, one number a channel (axis 1), or an array of exactly the sample's shape; kept as nested
        tuples.

    Warns
    -----
    UserWarning
        if an input lies outside the box by more than rounding.

    Montavon et al. 2017.
    """

    low: Any
    high: Any

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("low", "high"):
            object.__setattr__(self, name, _nested(getattr(self, name)))
            self.require(_shape(getattr(self, name)) is not None, name, "finite numbers, in rows of equal length")
        low, high = exact(self.low), exact(self.high)
        if low.ndim == 0 or high.ndim == 0 or low.shape == high.shape:
            self.require(bool((low <= high).all()), "low", f"at most high={self.high!r}")

    def shares(self) -> tuple[Share, ...]:
        """(a - l, w+, 0), (a - h, w-, 0)."""
        return (
            Share(
                (
                    Term(Above(self.low, "low"), positive, nothing),
                    Term(Above(self.high, "high"), negative, nothing),
                )
            ),
        )


class Pass(Rule):
    r"""R_j = R_k along the connections; weights and bias are ignored.

    .. math:: R_j = \sum_k p_{jk} R_k

    with p_jk = 1 for the input j that feeds output k. Only where every output has at most one live input (activations,
    batch norm, reshapes, a max pool's winner), or where the layer declares portions p_jk of its own (tied maxima, the
    soft-min pool). An output that no input feeds (the border of a pad) is unclaimed. Nothing is divided, so `epsilon`,
    `stabilizer` and `bias` have no effect.
    """

    def shares(self) -> tuple[Share, ...]:
        """None: nothing is divided."""
        return ()

    def back(self, layer: Layer, inputs: Sequence[Array], R: Array) -> tuple[tuple[Array, ...], Absorbed]:
        """R_j = sum_k p_jk R_k; unclaimed (1 - sum_j p_jk) R_k, with p_jk = 1 where the layer declares nothing."""
        wires, a = self.linear_map(layer, inputs)
        weight, _ = wires.parameters(a)
        p = wires.portions(a)
        fed = wires.linear(ones(a.shape, a), ones(weight.shape, a) if p is None else p)
        if p is None and not wires.one_to_one and bool((fed > 1).any()):
            most = int(floats(fed).max())
            raise UnsuitableRule(
                f"Pass on {layer!r}: an output has {most} live inputs, and Pass does not say how they share; "
                f"take Norm(), Epsilon(epsilon=...) or Flat()"
            )
        R_in = wires.adjoint(R, ones(weight.shape, a) if p is None else p, a.shape)
        return layer.split(R_in, [x.shape for x in inputs]), Absorbed.undealt(R, [fed])


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Product(Rule):
    r"""A fixed portion of R_k to each factor of a product z_k = u_k v_k.

    .. math:: R_{u} = p\, R_k , \qquad R_{v} = (1 - p)\, R_k

    summed over the axes along which a factor is broadcast. ``portions=(1, 0)`` gives all to the first factor, the
    signal, as if the second, its gate, were a constant (LRP-all); ``(0.5, 0.5)`` is the half rule, the Shapley values
    of the product against 0, and AttnLRP's. The second portion is taken as 1 minus the first, so that nothing is
    absorbed; nothing is divided, so `epsilon`, `stabilizer` and `bias` have no effect. Arras et al. 2019
    (arXiv 1909.12114); Achtibat et al. 2024 (arXiv 2402.05602).
    """

    portions: tuple[float, float] = (1, 0)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "portions", _nested(self.portions))
        good = _shape(self.portions) == (2,) and min(self.portions) >= 0 and abs(float(sum(self.portions)) - 1) < 1e-15
        self.require(good, "portions", "two numbers >= 0 whose sum is 1")

    def shares(self) -> tuple[Share, ...]:
        """None: nothing is divided."""
        return ()

    def back(self, layer: Layer, inputs: Sequence[Array], R: Array) -> tuple[tuple[Array, ...], Absorbed]:
        """To each input its portion of R, along the connections of its own frozen map."""
        if not layer.product:
            raise UnsuitableRule(f"{self!r} on {layer!r}: it is no product of its inputs; take another rule")
        first = number(self.portions[0], R) * R
        rest = zeros(R.shape, R) if self.portions[0] == 1 else R - first
        R_in = []
        for i, (a, dealt) in enumerate(zip(inputs, (first, rest), strict=True)):
            factor = layer.frozen(*inputs, wrt=i)
            R_in.append(factor.adjoint(dealt, ones(factor.parameters(a)[0].shape, a), a.shape))
        return tuple(R_in), Absorbed.undealt(R, [number(1, R)])


class Gradient(Rule):
    r"""Relevance times the layer's derivative: no rule of LRP, but what frameworks do where no rule was set.

    .. math:: R_j = \sum_k \frac{\partial z_k}{\partial a_j} R_k

    It conserves only where the derivatives by the inputs of each output sum to 1: an add hands all of R_k to each of
    its inputs, and a dense layer multiplies by its weights. The rest, (1 - sum_j dz_k/da_j) R_k, is booked as
    unclaimed, so the books show the doubling. Nothing is divided, so `epsilon`, `stabilizer` and `bias` have no effect.
    """

    def shares(self) -> tuple[Share, ...]:
        """None: nothing is divided."""
        return ()

    def back(self, layer: Layer, inputs: Sequence[Array], R: Array) -> tuple[tuple[Array, ...], Absorbed]:
        """To each input what the tangent's transpose gives it: of the joined inputs, or of each factor of a product."""
        if layer.product:
            maps = [(layer.tangent(*inputs, wrt=i), a) for i, a in enumerate(inputs)]
        else:
            maps = [(layer.tangent(*inputs), layer.join(*inputs))]
        weights = [tangent.parameters(a)[0] for tangent, a in maps]
        parts = [t.adjoint(R, w, a.shape) for (t, a), w in zip(maps, weights, strict=True)]
        dealt = [t.linear(ones(a.shape, a), w) for (t, a), w in zip(maps, weights, strict=True)]
        R_in = tuple(parts) if layer.product else layer.split(parts[0], [x.shape for x in inputs])
        return R_in, Absorbed.undealt(R, dealt)


def _nested(bound: Any) -> Any:
    """A bound as a number or as nested tuples of numbers."""
    if is_array(bound):
        bound = (bound if is_exact(bound) else floats(bound)).tolist()
    return tuple(map(_nested, bound)) if isinstance(bound, (list, tuple)) else bound


def _shape(bound: Any) -> tuple[int, ...] | None:
    """The shape of nested tuples of numbers; None where they are ragged, empty, or hold what is no number."""
    if not isinstance(bound, tuple):
        return () if is_number(bound) else None
    shapes = {_shape(part) for part in bound}
    row = shapes.pop() if len(shapes) == 1 else None
    return None if row is None else (len(bound), *row)
