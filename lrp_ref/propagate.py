"""Layer-wise relevance propagation, on one screen.

Every layer, frozen at the data point, is a linear map z_k = sum_j a_j w_jk + b_k. Every rule says which
contributions n_jk share the relevance R_k of output k among the inputs j:

    R_j = sum_k  n_jk / (sum_j n_jk + n_0k + e_k)  R_k ,        n_jk = x(a_j) w(w_jk) ,   n_0k = b(b_k)

(or a sum of such terms), with e_k the stabilizer. :func:`four_steps` computes that for any layer and any rule,
and books what is not handed on.

Montavon, Binder, Lapuschkin, Samek, Müller, "Layer-Wise Relevance Propagation: An Overview", 2019, section
10.2.2 (doi 10.1007/978-3-030-28954-6_10).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from .arrays import Array, divide, number, ones, where, zeros
from .errors import UnsuitableRule
from .ledger import Absorbed
from .stabilize import Signed, Stabilizer
from .values import equal, hashed, plain, value

if TYPE_CHECKING:
    from .layers import Layer, Linear

Transform = Callable[[Array], Array]


def keep(x: Array) -> Array:
    """The values as they are."""
    return x


@value
class Term:
    """Contributions x(a_j) w(w_jk), and b(b_k) beside them."""

    x: Transform = keep
    w: Transform = keep
    b: Transform = keep


@value
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
    portions = rule.portions_at(layer, a)
    R_in, absorbed = zeros(a.shape, a), Absorbed.undealt(R, portions)
    for share, portion in zip(rule.shares(), portions, strict=True):
        x, w, b = rule.modified(share, a, weight, bias)
        z = sum(map(layer.linear, x, w)) + b  # 1 forward
        e = rule.stabilizer(z, rule.epsilon)
        s = divide(portion * R, z + e)  # 2 divide
        c = [layer.adjoint(s, w_t, a.shape) for w_t in w]  # 3 backward
        R_in = R_in + sum(x_t * c_t for x_t, c_t in zip(x, c, strict=True))  # 4 multiply
        absorbed = absorbed + Absorbed.share(portion * R, z, e, s * b, s * e, one_sign=share.one_sign)
    if rule.bias == "spread":
        return spread(layer, a, R_in, absorbed)
    return R_in, absorbed


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


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
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
    __eq__, __hash__ = equal, hashed

    def __post_init__(self) -> None:
        self.require(is_number(self.epsilon) and self.epsilon >= 0, "epsilon", "a finite number >= 0")
        form: Any = self.stabilizer
        self.require(callable(form) and not isinstance(form, type), "stabilizer", "a stabilizer such as Signed()")
        self.require(self.bias in BIASES, "bias", "one of " + ", ".join(map(repr, BIASES)))

    def require(self, good: bool, parameter: str, need: str) -> None:
        """Refuse a parameter at construction."""
        if not good:
            value = getattr(self, parameter)
            raise ValueError(f"{type(self).__name__}: {parameter}={value!r}, need {need}")

    def shares(self) -> tuple[Share, ...]:
        """How R_k is dealt out: a tuple of shares, the same for every layer."""
        raise NotImplementedError(f"{type(self).__name__} must define shares()")

    @property
    def only_shares(self) -> bool:
        """Whether its shares are all that there is to it: there are some, and they are dealt out as they say."""
        hatches = ("back", "linear_map", "modified", "portions_at")
        as_usual = all(getattr(type(self), name) is getattr(Rule, name) for name in hatches)
        return as_usual and self.bias != "spread" and bool(self.shares())

    def portions_at(self, layer: Linear, a: Array) -> list[Array]:
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
        return x, w, sum(term.b(bias) for term in share.terms)

    def linear_map(self, layer: Layer, inputs: Sequence[Array]) -> tuple[Linear, Array]:
        """The layer frozen at its inputs, and the one array, of all of them, that this map acts on."""
        if layer.product:
            raise UnsuitableRule(
                f"{self!r} on {layer!r}: a product is no linear map of its inputs together; "
                f"take Product(portions=(1, 0)), which gives all to the first"
            )
        return layer.frozen(*inputs), layer.join(*inputs)

    def back(self, layer: Layer, inputs: Sequence[Array], R: Array) -> tuple[tuple[Array, ...], Absorbed]:
        """The relevance of each input of a layer, given that of its output, and the books."""
        frozen, a = self.linear_map(layer, inputs)
        R_in, absorbed = four_steps(frozen, self, a, R)
        return layer.split(R_in, [a.shape for a in inputs]), absorbed

    def __repr__(self) -> str:
        own = [f for f in dataclasses.fields(self) if f.name not in _COMMON or getattr(self, f.name) != f.default]
        own.sort(key=lambda f: f.name in _COMMON)
        return f"{type(self).__name__}({', '.join(f'{f.name}={plain(getattr(self, f.name))!r}' for f in own)})"


_COMMON = ("epsilon", "stabilizer", "bias", "split")
"""Parameters that are printed only where they are not the default."""


def is_number(value: Any) -> bool:
    """Whether a parameter is a finite real number (an exact rational is one)."""
    if isinstance(value, bool) or hasattr(value, "__len__"):  # neither text nor an array
        return False
    try:
        return math.isfinite(float(value))
    except (TypeError, ValueError, OverflowError):
        return False
