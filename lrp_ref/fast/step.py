"""Any other layer whose rule has shares: ``Rule.back`` with what need not be computed left out.

Terms whose input is 0 everywhere drop out (a- behind a ReLU); a share that deals nothing out is passed over; a
denominator that is the layer's own z is not computed again; the books are kept as sums, not as arrays.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..arrays import Array, namespace, negative, number, positive, sample_sums, where, zeros
from ..layers import Layer
from ..ledger import Absorbed
from ..propagate import Rule, Share, Term, keep
from ..stabilize import Signed

Back = tuple[tuple[Array, ...], Absorbed, str]


def back(rule: Rule, layer: Layer, inputs: Sequence[Array], z: Array, R: Array) -> Back:
    """The relevance of each input, the books as sums, and the name of what computed it.

    Parameters
    ----------
    rule, layer, inputs, R : as for ``Rule.back``
    z : the layer's output, which is not computed again
    """
    if type(rule).back is not Rule.back or rule.bias == "spread":
        return (*rule.back(layer, inputs, R), "plain")
    if namespace(R) is not np:  # what can be left out would have to be looked at, and the device waited for
        return (*rule.back(layer, inputs, R), "plain")
    return _fused(rule, layer, inputs, z, R)


def _fused(rule: Rule, layer: Layer, inputs: Sequence[Array], z: Array, R: Array) -> Back:
    frozen, a = rule.linear_map(layer, inputs)
    weight, bias = frozen.parameters(a)
    own_z = frozen is layer  # what is frozen at the inputs may have another output (a pool as an average)
    not_negative = not a.size or bool(a.min() >= 0)
    books = _Books(R)
    R_in = None
    for share in rule.shares():
        dealt = _dealt(share, frozen.forward(a) if callable(share.portion) and not own_z else z, R)
        if dealt is None or not bool(dealt.any()):
            continue
        books.deal(dealt)
        terms = [term for term in share.terms if not (not_negative and term.x is negative)]
        x = [a if term.x is keep or (not_negative and term.x is positive) else term.x(a) for term in terms]
        w = [weight if term.w is keep else term.w(weight) for term in terms]
        _, _, b = rule.modified(Share(tuple(Term(b=term.b) for term in share.terms)), a, weight, bias)
        if own_z and len(terms) == 1 and x[0] is a and w[0] is weight and rule.bias == "rule" and terms[0].b is keep:
            own = z
        else:
            own = sum(map(frozen.linear, x, w), start=number(0, R)) + b
        s = books.divide(rule, share, dealt, own, b)
        for x_t, w_t in zip(x, w, strict=True):
            c = frozen.adjoint(s, w_t, a.shape)
            R_in = c * x_t if R_in is None else R_in + c * x_t
    if R_in is None:
        R_in = zeros(a.shape, a)
    return layer.split(R_in, [x.shape for x in inputs]), books.absorbed(), "fused"


def _dealt(share: Share, z: Array, R: Array) -> Array | None:
    """What the share deals out; None where its portion is 0."""
    if callable(share.portion):
        return share.portion(z) * R
    if share.portion == 0:
        return None
    return R if share.portion == 1 else number(share.portion, R) * R


class _Books:
    """What stays of one node's relevance, as a sum a sample, while its shares are dealt out."""

    def __init__(self, R: Array) -> None:
        self.R, self.left = R, R
        nothing = sample_sums(zeros((len(R), 1), R))
        self.bias = self.stabilizer = self.unclaimed = nothing
        self.poles: Array | None = None
        self.empty: Array | None = None

    def deal(self, dealt: Array) -> None:
        """A share takes this."""
        self.left = None if dealt is self.left else (0 if self.left is None else self.left) - dealt

    def divide(self, rule: Rule, share: Share, dealt: Array, own: Array, b: Array) -> Array:
        """s = dealt / (own + e), and 0 where that divides by 0, with its part of the books."""
        xp, nothing = namespace(own), number(0, own)
        if type(rule.stabilizer) is not Signed:
            e = rule.stabilizer(own, rule.epsilon)
        elif rule.epsilon:
            e = own + nothing  # -0 becomes 0, whose sign is +1
            e = xp.copysign(number(rule.epsilon, own), e, out=e)
        else:
            e = None
        if share.one_sign and not bool(own.all()):
            self.empty = self._or(self.empty, (own == 0) & (dealt != 0))
        d = own if e is None else own + e
        if bool(d.all()):
            s = dealt / d
        else:
            zero = d == 0
            s = where(zero, nothing, dealt / where(zero, number(1, d), d))
            lost = zero & (dealt != 0)
            self.unclaimed = self.unclaimed + sample_sums(where(lost, dealt, nothing))
            self.poles = self._or(self.poles, lost & (own != 0) if share.one_sign else lost)
        if bool(b.any()):
            self.bias = self.bias + sample_sums(s * b)
        if e is not None:
            self.stabilizer = self.stabilizer + sample_sums(s * e)
        return s

    @staticmethod
    def _or(before: Array | None, more: Array) -> Array:
        return more if before is None else before | more

    def absorbed(self) -> Absorbed:
        """The sums, with axes that stand for those of R."""
        shape = (len(self.R),) + (1,) * (self.R.ndim - 1)
        unclaimed = self.unclaimed if self.left is None else self.unclaimed + sample_sums(self.left)
        never = namespace(self.R).zeros(shape, dtype=bool)
        return Absorbed(
            self.bias.reshape(shape), self.stabilizer.reshape(shape), unclaimed.reshape(shape),
            never if self.poles is None else self.poles, never if self.empty is None else self.empty,
        )  # fmt: skip
