"""What the engine does at a node that is no convolution or dense layer: passing on, cutting, pooling, adding."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import rules
from ..arrays import Array, namespace, number, ones
from ..graph import Node
from ..layers import (
    Activation,
    Add,
    BatchNorm,
    Concat,
    Flatten,
    Identity,
    Layer,
    MaxPool,
    Mul,
    Reshape,
    Scale,
    Squeeze,
    Transpose,
    Unsqueeze,
)
from ..layers.base import Diagonal
from ..propagate import Rule, Share, Term
from ..stabilize import Signed
from ..values import value
from . import activation, pool, product
from .flow import Call, Flow, Step, books_of
from .general import General
from .memory import Memory, empty, on_device, same_order, same_rows
from .operators import operator
from .product import Product
from .sweep import Adding, Books, Deal, Totals

_ONE_TO_ONE = (Activation, BatchNorm, Scale, Diagonal)
"""Layers that lead each input to the output at its own place."""
_BIJECTIONS = (Flatten, Identity, Reshape, Squeeze, Transpose, Unsqueeze)
"""Wires that lead each input to one output, and leave no output without."""


def step_of(node: Node, rule: Rule, *, dead: bool, not_negative: bool, read_by: Layer | None, done: bool) -> Step:
    """What the engine does at a node.

    dead, not_negative, read_by : see Product; done : whether it is such an activation, and what it makes is made
    """
    layer: Any = node.layer
    if type(rule) is rules.Pass:
        if pool.fits(layer):
            return Pooling(layer)
        if type(layer) is Concat:
            return Joining(layer)
        if isinstance(layer, (*_ONE_TO_ONE, *_BIJECTIONS)):
            return Passing(layer, done)
    elif type(rule) is rules.Product and rule.portions[0] == 1 and type(layer) is Mul:
        return Gating(layer)
    elif product.fits(rule):
        if found := operator(layer):
            return Product(layer, found, rule, dead=dead, not_negative=not_negative, read_by=read_by)
        if type(layer) is Add and layer.constant is None and rule.shares() == (Share((Term(),)),):
            return Summing(layer, rule, read_by if product.rectifiable(read_by, rule, dead=dead) else None)
    return General(layer, rule)


@value
class Passing:
    """Relevance that keeps its value through elementwise layers and reshapes."""

    layer: Layer
    done: bool = False
    """Whether the step before has already made of the input what the layer would."""
    needs_input = needs_output = False

    def forward(self, inputs: Sequence[Array], memory: Memory) -> tuple[Array, Any]:
        """The layer's own."""
        (a,) = inputs
        if self.done:
            return a, None
        layer, bounded = self.layer, activation.bounds(self.layer) != (None, None)
        if not bounded and (on_device(a) or not activation.same_everywhere(layer)):
            return layer.forward(a), None
        z = empty(a.shape, a, memory)
        z_seen, a_seen = same_order([z, a]) if bounded else same_rows([z, a], memory)
        activation.activate(layer, a_seen, z_seen)
        return z, None

    def back(self, call: Call, flow: Flow) -> tuple[list[Flow], Books, str]:
        """R, in the shape of the input."""
        if isinstance(self.layer, _BIJECTIONS):
            flow = dataclasses.replace(flow, R=self.layer.route_back(flow.R, call.shapes[0]))
        return [flow], books_of(flow.R), "passed"


@value
class Joining:
    """The inputs of a concatenation, each given what is its own."""

    layer: Concat
    needs_input = needs_output = False

    def forward(self, inputs: Sequence[Array], memory: Memory) -> tuple[Array, Any]:
        """One after the other."""
        axis = self.layer.axis % inputs[0].ndim
        shape = list(inputs[0].shape)
        shape[axis] = sum(a.shape[axis] for a in inputs)
        z = empty(tuple(shape), inputs[0], memory)
        for part, a in zip(self.layer.split(z, [a.shape for a in inputs]), inputs, strict=True):
            part[...] = a
        return z, None

    def back(self, call: Call, flow: Flow) -> tuple[list[Flow], Books, str]:
        """The cuts."""
        parts = self.layer.split(flow.R, call.shapes)
        flows = [Flow.of(part, call.memory, ours=flow.ours) for part in parts]
        return flows, books_of(flow.R), "passed"


@value
class Pooling:
    """The winners of a max pool."""

    layer: MaxPool
    needs_input = needs_output = True

    def forward(self, inputs: Sequence[Array], memory: Memory) -> tuple[Array, Any]:
        """The maxima."""
        return pool.maxima(self.layer, inputs[0], memory), None

    def back(self, call: Call, flow: Flow) -> tuple[list[Flow], Books, str]:
        """R at the winners."""
        R_in = pool.routed(self.layer, call.inputs[0], call.z, flow.R, call.memory)
        if pool.windows_apart(self.layer, call.shapes[0]):  # each number is passed on as it is
            passed = dataclasses.replace(flow, R=R_in, ours=True)
        else:
            passed = Flow.of(R_in, call.memory, ours=True)
        return [passed], books_of(flow.R), "passed"


@value
class Gating:
    """A product whose relevance is all the first factor's, the signal's: the gate is given none."""

    layer: Mul
    needs_input = needs_output = False

    def forward(self, inputs: Sequence[Array], memory: Memory) -> tuple[Array, Any]:
        """The product."""
        return self.layer.forward(*inputs), None

    def back(self, call: Call, flow: Flow) -> tuple[list[Flow], Books, str]:
        """R, summed where the signal is broadcast."""
        signal, gate = call.shapes
        passed = flow
        if signal != flow.R.shape:
            of_gate = Diagonal(weight=ones(gate, flow.R))
            passed = Flow.of(of_gate.adjoint(flow.R, of_gate.weight, signal), call.memory, ours=False)
        return [passed, Flow.none(gate, flow.R)], books_of(flow.R), "passed"


@value
class Summing:
    """A sum of branches of one shape, each given its own contribution's share."""

    layer: Add
    rule: Rule
    then: Layer | None = None
    """The ReLU that alone reads z, if z is to be what it makes of it."""
    needs_input = needs_output = True

    def forward(self, inputs: Sequence[Array], memory: Memory) -> tuple[Array, Any]:
        """The sum."""
        xp, first = namespace(inputs[0]), inputs[0]
        if any(a.shape != first.shape for a in inputs):
            z = self.layer.forward(*inputs)
            return (xp.maximum(z, number(0, z)) if self.then else z), None
        z = empty(first.shape, first, memory)
        if on_device(z) and len(inputs) == 2:
            from .device import lifted

            into, *two = same_rows([z, *inputs], memory)
            lifted(into, two, (None, None, None), (None, None), rectified=self.then is not None)
            return z, None
        out, *parts = same_order([z, *inputs])
        xp.add(parts[0], parts[1] if len(parts) > 1 else number(0, z), out=out)
        for part in parts[2:]:
            xp.add(out, part, out=out)
        if self.then:
            xp.maximum(out, number(0, z), out=out)
        return z, None

    def back(self, call: Call, flow: Flow) -> tuple[list[Flow], Books, str]:
        """s = R / (z + e) and a_i s, in one pass."""
        if any(shape != call.shapes[0] for shape in call.shapes):
            return General(self.layer, self.rule).back(call, flow)
        memory, batch, books = call.memory, len(flow.R), books_of(flow.R)
        arrays = [call.z, flow.R, *call.inputs]
        if type(self.rule.stabilizer) is not Signed:
            arrays.append(self.rule.stabilizer(call.z, self.rule.epsilon))
        z, R, *others = same_rows(arrays, memory)
        inputs = others[: len(call.inputs)]
        outs = [empty(call.z.shape, call.z, memory) for _ in inputs]
        out_rows = same_rows([call.z, *outs], memory)[1:]
        e = others[-1] if len(others) > len(inputs) else None
        deal = Deal(z, 0.0 if e is not None else float(self.rule.epsilon), e)
        if on_device(R):
            found = _shared_there(deal, R, inputs, out_rows, batch, books, memory)
        else:
            passed = [Adding(batch, len(z), memory) for _ in inputs]

            def give(s: Array, first: int, last: int) -> None:
                for a, out, adding in zip(inputs, out_rows, passed, strict=True):
                    adding.add(np.multiply(a[first:last], s, out=out[first:last]), first, last)

            deal.divide(R, None, batch, books, memory, give)
            books.count()
            found = [adding.totals for adding in passed]
        return [Flow(out, t.sum, t.magnitude, ours=True) for out, t in zip(outs, found, strict=True)], books, "fused"


def _shared_there(
    deal: Deal, R: Array, parts: Sequence[Array], outs: Sequence[Array], batch: int, books: Books, memory: Memory
) -> list[Totals]:
    """Each out becomes its part times s, on a device."""
    from .device import finished, shared

    if len(parts) == 2:
        return shared(deal, R, parts, outs, batch, books)
    s = memory.array(R.shape, R)
    deal.divide(R, s, batch, books, memory)
    return [finished(s, part, None, batch, out) for part, out in zip(parts, outs, strict=True)]
