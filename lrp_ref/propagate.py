"""Layer-wise relevance propagation, on one screen.

Every layer, frozen at the data point, is a linear map z_k = sum_j a_j w_jk + b_k. Every rule says which
contributions n_jk share the relevance R_k of output k among the inputs j:

    R_j = sum_k  n_jk / (sum_j n_jk + n_0k + e_k)  R_k ,      n_jk = sum over terms  x(a_j) w(w_jk) ,   n_0k =
    b(b_k)

with e_k the stabilizer. :func:`four_steps` computes that for any layer and any rule, and books what is not
handed on.

Montavon, Binder, Lapuschkin, Samek, Müller, "Layer-Wise Relevance Propagation: An Overview", 2019, section
10.3 (doi 10.1007/978-3-030-28954-6_10).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any, Literal

from .arrays import Array, divide, floats, number, ones, sample_sums, unit_roundoff, where, zeros
from .errors import UnsuitableRule
from .layers import Layer, Linear
from .ledger import Absorbed
from .stabilize import Signed, Stabilizer

Transform = Callable[[Array], Array]


def keep(x: Array) -> Array:
    """The values as they are."""
    return x


@dataclass(frozen=True)
class Term:
    """Contributions x(a_j) w(w_jk), and b(b_k) beside them."""

    x: Transform = keep
    w: Transform = keep
    b: Transform = keep


@dataclass(frozen=True)
class Share:
    """A portion of R_k, dealt out in proportion to the sum of the terms' contributions."""

    terms: tuple[Term, ...]
    portion: float | Callable[[Array], Array] = 1
    """A number, or a function of the layer's own z_k that gives one for each output."""
    one_sign: bool = False
    """Whether the terms take only contributions of one sign, so that the part can be empty."""


def four_steps(layer: Linear, rule: Rule, a: Array, R: Array) -> tuple[Array, Absorbed]:
    """The relevance of the layer's input `a`, given the relevance `R` of its output, and the books.

    `layer` is frozen; `a` and `R` have the batch first. Results have the arithmetic of `a`.
    """
    weight, bias = layer.parameters(a)
    portions = rule.portions(layer, a)
    R_in, absorbed = zeros(a.shape, a), Absorbed.undealt(R, portions)
    for share, portion in zip(rule.shares(), portions, strict=True):
        x, w, b = rule.modified(share, a, weight, bias)
        z = total(map(layer.linear, x, w)) + b  # 1 forward
        e = rule.stabilizer(z, rule.epsilon)
        s = divide(portion * R, z + e)  # 2 divide
        c = [layer.adjoint(s, w_t, a.shape) for w_t in w]  # 3 backward
        R_in = R_in + total(x_t * c_t for x_t, c_t in zip(x, c, strict=True))  # 4 multiply
        absorbed = absorbed + Absorbed.share(portion * R, z, e, s * b, s * e, one_sign=share.one_sign)
    if rule.bias == "spread":
        return spread(layer, a, R_in, absorbed)
    return R_in, absorbed


def total(parts: Iterable[Array]) -> Array:
    """The sum of a few arrays."""
    return reduce(add, parts)


def spread(layer: Linear, a: Array, R_in: Array, absorbed: Absorbed) -> tuple[Array, Absorbed]:
    """What bias and stabilizer took, dealt out equally to the connected inputs (Arras et al. 2017, bias factor 1)."""
    connected = ones(layer.parameters(a)[0].shape, a)
    n = layer.linear(ones(a.shape, a), connected)
    R_in = R_in + layer.adjoint(divide(absorbed.bias + absorbed.stabilizer, n), connected, a.shape)
    fed, nothing = n != 0, number(0, a)
    stays = {name: where(fed, nothing, getattr(absorbed, name)) for name in ("bias", "stabilizer")}
    return R_in, dataclasses.replace(absorbed, **stays)


SIGNED = Signed()
BIASES = ("rule", "none", "raw", "squared", "spread")


@dataclass(frozen=True, kw_only=True, repr=False)
class Rule:
    """A frozen value: how a linear map deals relevance out. A new rule defines `shares`, and that is all.

    Parameters
    ----------
    epsilon : float, >= 0
        size of the stabilizer.
    stabilizer : Stabilizer
        its form, a value of :mod:`lrp_ref.stabilize`.
    bias : str
        what the bias adds to the denominators: "rule" (what the rule's terms say), "none", "raw" (b_k as it
        is, in every share), "squared" (b_k^2), or "spread" (as "rule", and what bias and stabilizer take is
        dealt out equally to the connected inputs).
    """

    epsilon: float = 0.0
    stabilizer: Stabilizer = SIGNED
    bias: Literal["rule", "none", "raw", "squared", "spread"] = "rule"

    def __post_init__(self) -> None:
        self.require(is_number(self.epsilon) and self.epsilon >= 0, "epsilon", "a finite number >= 0")
        self.require(callable(self.stabilizer), "stabilizer", "a stabilizer such as Signed()")
        self.require(self.bias in BIASES, "bias", "one of " + ", ".join(map(repr, BIASES)))

    def require(self, good: bool, parameter: str, need: str) -> None:
        """Refuse a parameter at construction."""
        if not good:
            value = getattr(self, parameter)
            raise ValueError(f"{type(self).__name__}: {parameter}={value!r}, need {need}")

    def shares(self) -> tuple[Share, ...]:
        """How R_k is dealt out: a tuple of shares, the same for every layer."""
        raise NotImplementedError(f"{type(self).__name__} must define shares()")

    def portions(self, layer: Linear, a: Array) -> list[Array]:
        """The portion of R_k that each share deals out: a number, or an array of the output's shape."""
        portions = [share.portion for share in self.shares()]
        z = layer.forward(a) if any(map(callable, portions)) else a
        return [portion(z) if callable(portion) else number(portion, a) for portion in portions]

    def modified(self, share: Share, a: Array, weight: Array, bias: Array) -> tuple[list[Array], list[Array], Array]:
        """The rule's own inputs and weights, one for each term of the share, and its own bias."""
        x = [term.x(a) for term in share.terms]
        w = [term.w(weight) for term in share.terms]
        if self.bias == "none":
            return x, w, bias * number(0, bias)
        if self.bias == "raw":
            return x, w, bias
        if self.bias == "squared":
            return x, w, bias * bias
        return x, w, total(term.b(bias) for term in share.terms)

    def back(self, layer: Layer, inputs: Sequence[Array], R: Array) -> tuple[tuple[Array, ...], Absorbed]:
        """The relevance of each input of a layer, given that of its output, and the books."""
        R_in, absorbed = four_steps(layer.frozen(*inputs), self, layer.join(*inputs), R)
        return layer.split(R_in, [a.shape for a in inputs]), absorbed

    def __repr__(self) -> str:
        own = [f for f in dataclasses.fields(self) if f.name not in _COMMON or getattr(self, f.name) != f.default]
        own.sort(key=lambda f: f.name in _COMMON)
        return f"{type(self).__name__}({', '.join(f'{f.name}={getattr(self, f.name)!r}' for f in own)})"


_COMMON = ("epsilon", "stabilizer", "bias", "split")
"""Parameters that are printed only where they are not the default."""


def is_number(value: Any) -> bool:
    """Whether a parameter is a finite real number (an exact rational is one)."""
    if isinstance(value, (bool, str)):
        return False
    try:
        return math.isfinite(float(value))
    except (TypeError, ValueError, OverflowError):
        return False


@dataclass(frozen=True, repr=False)
class Pass(Rule):
    """R_j = R_k along the connections; weights and bias are ignored.

    Only where every output has at most one live input (activations, batch norm, reshapes, a max pool's
    winner), or where the layer declares portions of its own (tied maxima, the soft-min pool). An output that
    no input feeds (the border of a pad) is unclaimed. Nothing is divided, so `epsilon`, `stabilizer` and
    `bias` have no effect.
    """

    def shares(self) -> tuple[Share, ...]:
        """None: nothing is divided."""
        return ()

    def back(self, layer: Layer, inputs: Sequence[Array], R: Array) -> tuple[tuple[Array, ...], Absorbed]:
        """R_j = sum_k p_jk R_k; unclaimed (1 - sum_j p_jk) R_k, with p_jk = 1 where the layer declares nothing."""
        wires, a = layer.frozen(*inputs), layer.join(*inputs)
        weight, _ = wires.parameters(a)
        p = wires.portions(a)
        fed = wires.linear(ones(a.shape, a), ones(weight.shape, a) if p is None else p)
        if p is None and not wires.one_to_one and bool((fed > 1).any()):
            raise UnsuitableRule(
                f"Pass on {layer!r}: an output has {fed.max()} live inputs, and Pass does not say how they share; "
                f"take Norm(), Epsilon(epsilon=...) or Flat()"
            )
        R_in = wires.adjoint(R, ones(weight.shape, a) if p is None else p, a.shape)
        return layer.split(R_in, [x.shape for x in inputs]), Absorbed.undealt(R, [fed])


def poles(layer: Linear, rule: Rule, a: Array, R: Array) -> Array:
    """Where a denominator is exactly 0 although relevance and some contribution are not, in the shape of R."""
    weight, bias = layer.parameters(a)
    found = R != R
    for share, portion in zip(rule.shares(), rule.portions(layer, a), strict=True):
        x, w, b = rule.modified(share, a, weight, bias)
        z = total(map(layer.linear, x, w)) + b
        size = total(layer.linear(abs(x_t), abs(w_t)) for x_t, w_t in zip(x, w, strict=True)) + abs(b)
        found = found | ((z + rule.stabilizer(z, rule.epsilon) == 0) & (portion * R != 0) & (size != 0))
    return found


def rounding(layer: Linear, rule: Rule, a: Array, R: Array) -> Array:
    """A bound, per sample, on how far rounding moves the balance R - R_in - absorbed of `four_steps`; 0 if
    exact.

    (J + K + 8) u sum_k |s_k| (sum_j |x_j w_jk| + |b_k| + |e_k|), with J the most inputs of an output, K the
    most outputs of an input, and u the unit roundoff.
    """
    weight, bias = layer.parameters(a)
    connected = ones(weight.shape, a)
    fan_in, fan_out = (
        layer.linear(ones(a.shape, a), connected),
        layer.adjoint(ones(R.shape, a), connected, a.shape),
    )
    J, K = (float(fan.max()) if fan.size else 0.0 for fan in map(floats, (fan_in, fan_out)))
    size = zeros(R.shape, a)
    for share, portion in zip(rule.shares(), rule.portions(layer, a), strict=True):
        x, w, b = rule.modified(share, a, weight, bias)
        z = total(map(layer.linear, x, w)) + b
        e = rule.stabilizer(z, rule.epsilon)
        reach = total(layer.linear(abs(x_t), abs(w_t)) for x_t, w_t in zip(x, w, strict=True)) + abs(b) + abs(e)
        size = size + abs(divide(portion * R, z + e)) * reach
    return (J + K + 8) * unit_roundoff(a) * floats(sample_sums(size))
