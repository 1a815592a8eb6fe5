"""What a propagation can be asked afterwards: where its denominators vanish, and how far rounding moves its books."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from .arrays import Array, divide, floats, ones, sample_sums, unit_roundoff, zeros
from .propagate import Rule, Share

if TYPE_CHECKING:
    from .layers import Linear


class Forward(NamedTuple):
    """The first of the four steps, of one share of a rule: its own inputs, weights and bias, and z, the sum of all."""

    share: Share
    portion: Array
    """Of R_k, that the share deals out."""
    x: list[Array]
    w: list[Array]
    b: Array
    z: Array


def forwards(layer: Linear, rule: Rule, a: Array) -> Iterator[Forward]:
    """The first step of each share of a rule, for a frozen layer at its input."""
    weight, bias = layer.parameters(a)
    for share, portion in zip(rule.shares(), rule.portions_at(layer, a), strict=True):
        x, w, b = rule.modified(share, a, weight, bias)
        yield Forward(share, portion, x, w, b, sum(map(layer.linear, x, w)) + b)


def poles(layer: Linear, rule: Rule, a: Array, R: Array) -> Array:
    """Where a denominator is exactly 0 although relevance and some contribution are not, in the shape of R."""
    found = R != R
    for _, portion, x, w, b, z in forwards(layer, rule, a):
        size = sum(layer.linear(abs(x_t), abs(w_t)) for x_t, w_t in zip(x, w, strict=True)) + abs(b)
        found = found | ((z + rule.stabilizer(z, rule.epsilon) == 0) & (portion * R != 0) & (size != 0))
    return found


def rounding(layer: Linear, rule: Rule, a: Array, R: Array) -> Array:
    """A bound, per sample, on how far rounding moves the balance R - R_in - absorbed of `four_steps`; 0 if
    exact.

    (J + K + 8) u sum_k |s_k| (sum_j |x_j w_jk| + |b_k| + |e_k|), with J the most inputs of an output, K the
    most outputs of an input, and u the unit roundoff.
    """
    connected = ones(layer.parameters(a)[0].shape, a)
    fan_in, fan_out = (
        layer.linear(ones(a.shape, a), connected),
        layer.adjoint(ones(R.shape, a), connected, a.shape),
    )
    J, K = (float(fan.max()) if fan.size else 0.0 for fan in map(floats, (fan_in, fan_out)))
    size = zeros(R.shape, a)
    for _, portion, x, w, b, z in forwards(layer, rule, a):
        e = rule.stabilizer(z, rule.epsilon)
        reach = sum(layer.linear(abs(x_t), abs(w_t)) for x_t, w_t in zip(x, w, strict=True)) + abs(b) + abs(e)
        size = size + abs(divide(portion * R, z + e)) * reach
    return (J + K + 8) * unit_roundoff(a) * floats(sample_sums(size))
