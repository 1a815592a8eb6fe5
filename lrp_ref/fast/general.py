"""Any other layer: where its rule has shares, ``Rule.back`` with what need not be computed left out.

Terms whose input is 0 everywhere drop out (a- behind a ReLU), a share that deals nothing out is passed over, a
denominator that is the layer's own z is not computed again, and the division keeps its books as sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arrays import Array, negative, number, positive, sample_sums, zeros
from ..layers import GlobalAvgPool, Layer
from ..propagate import Rule, Share, Term, keep
from ..stabilize import Signed
from ..values import value
from .flow import Call, Flow, books_of
from .memory import Memory, empty, on_device, same_rows
from .sweep import Books, Deal


@value
class General:
    """The readable layer and rule; on a device as they are, for what can be left out would have to be looked at."""

    layer: Layer
    rule: Rule
    needs_input = needs_output = True

    def forward(self, inputs: Sequence[Array], memory: Memory) -> tuple[Array, Any]:
        """The layer's own; a mean over planes without a copy of those that have their channels last."""
        a = inputs[0]
        if type(self.layer) is GlobalAvgPool and not on_device(a):
            mean = a.mean(axis=tuple(range(2, a.ndim)), keepdims=True, dtype=np.float64)
            return mean.astype(a.dtype), None
        return self.layer.forward(*inputs), None

    def back(self, call: Call, flow: Flow) -> tuple[list[Flow], Books, str]:
        """The fused step, or the plain one."""
        rule, R, books = self.rule, flow.R, books_of(flow.R)
        if type(rule).back is not Rule.back or rule.bias == "spread" or on_device(R):
            parts, absorbed = rule.back(self.layer, call.inputs, R)
            units = tuple(range(1, R.ndim))
            books.bias, books.stabilizer = sample_sums(absorbed.bias), sample_sums(absorbed.stabilizer)
            books.unclaimed = sample_sums(absorbed.unclaimed)
            books.poles, books.empty = absorbed.poles.sum(axis=units), absorbed.empty.sum(axis=units)
            name = "plain"
        else:
            parts, name = self._fused(call, R, books), "fused"
        return [Flow.of(part, call.memory, ours=False) for part in parts], books, name

    def _fused(self, call: Call, R: Array, books: Books) -> tuple[Array, ...]:
        rule, layer, memory = self.rule, self.layer, call.memory
        frozen, a = rule.linear_map(layer, call.inputs)
        weight, bias = frozen.parameters(a)
        own_z = frozen is layer  # what is frozen at the inputs may have another output (a pool as an average)
        not_negative = not a.size or bool(a.min() >= 0)
        left: Array | None = R  # what no share has dealt out; None: nothing
        R_in = None
        for share in rule.shares():
            z = frozen.forward(a) if callable(share.portion) and not own_z else call.z
            dealt = _dealt(share, z, R)
            if dealt is None or not bool(dealt.any()):
                continue
            left = None if dealt is left else (number(0, R) if left is None else left) - dealt
            terms = [term for term in share.terms if not (not_negative and term.x is negative)]
            x = [a if term.x is keep or (not_negative and term.x is positive) else term.x(a) for term in terms]
            w = [weight if term.w is keep else term.w(weight) for term in terms]
            _, _, b = rule.modified(Share(tuple(Term(b=term.b) for term in share.terms)), a, weight, bias)
            as_it_is = len(terms) == 1 and x[0] is a and w[0] is weight and rule.bias == "rule" and terms[0].b is keep
            own = call.z if own_z and as_it_is else sum(map(frozen.linear, x, w), start=number(0, R)) + b
            s = empty(own.shape, own, memory)
            arrays = [own, dealt, s]
            if type(rule.stabilizer) is not Signed:
                arrays.append(rule.stabilizer(own, rule.epsilon))
            own_rows, R_rows, s_rows, *given = same_rows(arrays, memory)
            e = given[0] if given else None
            deal = Deal(own_rows, 0.0 if given else float(rule.epsilon), e, one_sign=share.one_sign)
            deal.divide(R_rows, s_rows, len(R), books, memory)
            if bool(b.any()):
                books.bias += sample_sums(s * b)
            for x_t, w_t in zip(x, w, strict=True):
                c = frozen.adjoint(s, w_t, a.shape)
                R_in = c * x_t if R_in is None else R_in + c * x_t
        books.count()
        if left is not None:
            books.unclaimed += sample_sums(left)
        return layer.split(zeros(a.shape, a) if R_in is None else R_in, call.shapes)


def _dealt(share: Share, z: Array, R: Array) -> Array | None:
    """What the share deals out; None where its portion is 0."""
    if callable(share.portion):
        return share.portion(z) * R
    if share.portion == 0:
        return None
    return R if share.portion == 1 else number(share.portion, R) * R
