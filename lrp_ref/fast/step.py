"""The fused step: ``Rule.back`` with what need not be computed left out.

Terms whose input is 0 everywhere drop out (a- behind a ReLU); a share that deals nothing out is passed over; a
denominator that is the layer's own z is not computed again; and the books are kept as sums, not as arrays.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..arrays import Array, namespace, negative, number, ones, positive, sample_sums, where, zeros
from ..layers import Dense, Layer
from ..ledger import Absorbed
from ..propagate import Rule, Share, Term, keep
from .conv import TiledConv

_OWN_RESULT = (TiledConv, Dense)
"""Layers whose adjoint makes an array that nothing else refers to, so that it may be overwritten."""


def back(
    rule: Rule, layer: Layer, inputs: Sequence[Array], z: Array, R: Array
) -> tuple[tuple[Array, ...], Absorbed, str]:
    """The relevance of each input, the books, and the name of what computed it.

    Parameters
    ----------
    rule, layer, inputs, R : as for ``Rule.back``
    z : the layer's output, which is not computed again
    """
    if type(rule).back is not Rule.back or rule.bias == "spread":
        return (*rule.back(layer, inputs, R), "plain")
    frozen, a = rule.linear_map(layer, inputs)
    weight, bias = frozen.parameters(a)
    own_z = frozen is layer  # what is frozen at the inputs may have another output (a pool as an average)
    not_negative = not bool((a < 0).any())
    nothing = number(0, R)
    left = R
    bias_sum, stabilizer_sum, unclaimed = (_sums(zeros((1,), R), R) for _ in range(3))
    poles = empty = None
    R_in = None
    for share in rule.shares():
        dealt = _dealt(share, frozen.forward(a) if callable(share.portion) and not own_z else z, R)
        if dealt is None:
            continue
        left = left - dealt
        if not bool(dealt.any()):
            continue
        terms = [term for term in share.terms if not (not_negative and term.x is negative)]
        x = [a if term.x is keep or (not_negative and term.x is positive) else term.x(a) for term in terms]
        w = [weight if term.w is keep else term.w(weight) for term in terms]
        _, _, b = rule.modified(Share(tuple(Term(b=term.b) for term in share.terms)), a, weight, bias)
        if own_z and len(terms) == 1 and x[0] is a and w[0] is weight and rule.bias == "rule" and terms[0].b is keep:
            d = z
        else:
            d = sum(map(frozen.linear, x, w), start=nothing) + b
        e = rule.stabilizer(d, rule.epsilon)
        if share.one_sign and bool((nowhere := (d == 0) & (dealt != 0)).any()):
            empty = nowhere if empty is None else empty | nowhere
        own, d = d, d + e
        zero = d == 0
        if bool(zero.any()):
            s = where(zero, nothing, dealt / where(zero, number(1, d), d))
            lost = zero & (dealt != 0)
            unclaimed = unclaimed + _sums(where(lost, dealt, nothing), R)
            at = lost & (own != 0) if share.one_sign else lost
            poles = at if poles is None else poles | at
        else:
            s = dealt / d
        for x_t, w_t in zip(x, w, strict=True):
            c = frozen.adjoint(s, w_t, a.shape)
            part = namespace(c).multiply(c, x_t, out=c) if isinstance(frozen, _OWN_RESULT) else c * x_t
            R_in = part if R_in is None else R_in + part
        bias_sum = bias_sum + _sums(s * b, R)
        stabilizer_sum = stabilizer_sum + _sums(s * e, R)
    if R_in is None:
        R_in = zeros(a.shape, a)
    never = ones((1,) * R.ndim, R) == 0
    absorbed = Absorbed(
        bias_sum, stabilizer_sum, unclaimed + _sums(left, R), never if poles is None else poles,
        never if empty is None else empty,
    )  # fmt: skip
    return layer.split(R_in, [x.shape for x in inputs]), absorbed, "fused"


def _dealt(share: Share, z: Array, R: Array) -> Array | None:
    """What the share deals out; None where its portion is 0."""
    if callable(share.portion):
        return share.portion(z) * R
    if share.portion == 0:
        return None
    return R if share.portion == 1 else number(share.portion, R) * R


def _sums(x: Array, R: Array) -> Array:
    """A sum for each sample, with axes to stand for those of R."""
    return sample_sums(x + zeros((len(R),) + (1,) * (R.ndim - 1), x)).reshape((len(R),) + (1,) * (R.ndim - 1))
