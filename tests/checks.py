"""The strong checkers, one line a case: each raises AssertionError saying what is wrong. They are themselves tested
with wrong code in test_checks.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lrp_ref import Explanation, Rule, fractions
from lrp_ref.arrays import floats, is_exact, sample_sums, total
from lrp_ref.audit import rounding
from lrp_ref.layers import Layer, Linear


def inner(a: Any, b: Any) -> Any:
    """sum a b as one number."""
    product = a * b
    return total(product, range(product.ndim))


def check_adjoint(linear: Linear, x: Any, s: Any, w: Any = None) -> None:
    """<linear(x, w), s> == <x, adjoint(s, w, shape)>, with == in exact arithmetic."""
    w = linear.parameters(x)[0] if w is None else w
    left, right = inner(linear.linear(x, w), s), inner(x, linear.adjoint(s, w, x.shape))
    if is_exact(x):
        assert fractions(left) == fractions(right), f"{linear!r}: <linear(x), s> = {left} but <x, adjoint(s)> = {right}"
    else:
        size = float(inner(abs(linear.linear(abs(x), abs(w))), abs(s))) or 1.0
        bound = (x.size + s.size) * float(np.finfo(x.dtype).eps) * size
        assert abs(float(left) - float(right)) <= bound, f"{linear!r}: {left} against {right}"


def check_conserves(layer: Layer, rule: Rule, inputs: Sequence[Any] | Any, R: Any) -> None:
    """came == went + bias + stabilizer + unclaimed for each sample: == if exact, else within the rounding bound."""
    inputs = tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)
    R_in, absorbed = rule.back(layer, inputs, R)
    for a, R_a in zip(inputs, R_in, strict=True):
        assert R_a.shape == a.shape, f"{layer!r}, {rule!r}: relevance of shape {R_a.shape} for an input of {a.shape}"
        assert R_a.dtype == a.dtype, f"{layer!r}, {rule!r}: relevance is {R_a.dtype}, the input {a.dtype}"
    went = sum(sample_sums(R_a) for R_a in R_in)
    parts = (absorbed.bias, absorbed.stabilizer, absorbed.unclaimed)
    balance = sample_sums(R) - went - sum(sample_sums(part) for part in parts)
    if is_exact(R):
        assert (fractions(balance) == 0).all(), f"{layer!r}, {rule!r}: the books are off by {fractions(balance)}"
    else:
        bound = rounding(layer.frozen(*inputs), rule, layer.join(*inputs), R) + _summing(R, *R_in, *parts)
        assert (abs(floats(balance)) <= bound).all(), f"{layer!r}, {rule!r}: off by {balance}, the bound is {bound}"


def check_books(explanation: Explanation) -> None:
    """Every node balances, every fan-in agrees, and start == relevance of the inputs + all absorbed (exact results)."""
    for entry in explanation.ledger:
        balance = fractions(entry.balance())
        assert (balance == 0).all(), f'node "{entry.node}" ({entry.kind}) is off by {balance}'
    for name, difference in explanation.ledger.fan_in().items():
        assert (fractions(difference) == 0).all(), f'"{name}" received what nobody sent, or not all: {difference}'
    end = fractions(explanation.ledger.balance())
    assert (end == 0).all(), f"start minus inputs minus absorbed is {end}"


def check_same_dealing(got: tuple[Any, Any], expected: Any) -> None:
    """The relevance of one sample and its books against the literal loops' (`Dealt`), with ==."""
    R_in, absorbed = got
    for name, ours, theirs in (
        ("R_in", R_in, expected.R_in),
        ("bias", absorbed.bias, expected.bias),
        ("stabilizer", absorbed.stabilizer, expected.stabilizer),
        ("unclaimed", absorbed.unclaimed, expected.unclaimed),
    ):
        ours = fractions(ours).reshape(-1).tolist()
        assert ours == list(theirs), f"{name} is {ours}, by definition {list(theirs)}"


def _summing(*arrays: Any) -> Any:
    """What rounding the ledger's own sums may add: sums of n float64 numbers."""
    return sum(floats(sample_sums(abs(a))) * (a[0].size if len(a) else 0) * 2.0**-53 for a in arrays)
