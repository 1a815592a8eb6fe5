"""What a propagation can be asked afterwards: where its denominators vanish, and how far rounding moves its books."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .arrays import Array, divide, floats, ones, sample_sums, unit_roundoff, zeros
from .propagate import Rule

if TYPE_CHECKING:
    from .layers import Linear


def poles(layer: Linear, rule: Rule, a: Array, R: Array) -> Array:
    """Where a denominator is exactly 0 although relevance and some contribution are not, in the shape of R."""
    weight, bias = layer.parameters(a)
    found = R != R
    for share, portion in zip(rule.shares(), rule.portions_at(layer, a), strict=True):
        x, w, b = rule.modified(share, a, weight, bias)
        z = sum(map(layer.linear, x, w)) + b
        size = sum(layer.linear(abs(x_t), abs(w_t)) for x_t, w_t in zip(x, w, strict=True)) + abs(b)
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
    for share, portion in zip(rule.shares(), rule.portions_at(layer, a), strict=True):
        x, w, b = rule.modified(share, a, weight, bias)
        z = sum(map(layer.linear, x, w)) + b
        e = rule.stabilizer(z, rule.epsilon)
        reach = sum(layer.linear(abs(x_t), abs(w_t)) for x_t, w_t in zip(x, w, strict=True)) + abs(b) + abs(e)
        size = size + abs(divide(portion * R, z + e)) * reach
    return (J + K + 8) * unit_roundoff(a) * floats(sample_sums(size))
