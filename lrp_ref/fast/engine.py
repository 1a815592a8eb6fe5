"""The fast engine: a graph and a composite made ready once, and explained many times."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from contextlib import nullcontext
from typing import Any, Literal, Protocol

import numpy as np

from ..arrays import Array, is_exact, namespace, number, ones, sample_sums, zeros
from ..composites import Composite, as_composite
from ..errors import ArithmeticMismatch, GraphError, LrpError
from ..explain import (
    Arrays,
    Explanation,
    _checked_edit,
    _masked,
    _one_or_all,
    _refuse_poles,
    _targets,
)  # fmt: skip
from ..graph import Graph, Node
from ..layers import (
    Activation,
    Add,
    BatchNorm,
    Clip,
    Concat,
    Flatten,
    Identity,
    Layer,
    MaxPool,
    ReLU,
    Reshape,
    Scale,
    Squeeze,
    Transpose,
    Unsqueeze,
)  # fmt: skip
from ..layers.base import Diagonal, Shape
from ..ledger import Entry, Ledger
from ..propagate import Rule, Share, Term
from ..rules import Pass
from ..stabilize import AtZero, Clipped, Signed, SignedOrZero, Unsigned
from ..values import value
from . import pool, product, signs, step
from .memory import Memory, channels_last
from .operators import operator
from .product import ProductStep
from .sweep import Books, Deal, Totals, totals_of

_ONE_TO_ONE = (Activation, BatchNorm, Scale, Diagonal)
"""Layers that lead each input to the output at its own place."""
_ELEMENT_BY_ELEMENT = (Signed, Unsigned, AtZero, Clipped, SignedOrZero)
"""Stabilizers whose e_k depends on z_k alone."""
_BIJECTIONS = (Flatten, Identity, Reshape, Squeeze, Transpose, Unsqueeze)
"""Wires that lead each input to one output, and leave no output without."""


@dataclasses.dataclass
class Flow:
    """Relevance on its way, with its sums for each sample."""

    R: Array
    sum: Array
    magnitude: Array
    ours: bool
    """Whether nothing else refers to its memory, so that it may be overwritten."""

    @classmethod
    def of(cls, R: Array, memory: Memory, *, ours: bool) -> Flow:
        """Relevance whose sums are still to be had."""
        found = totals_of(same_rows([R], memory)[0], len(R), memory)
        return cls(R, found.sum, found.magnitude, ours)


class Step(Protocol):
    """What the engine does at one node."""

    @property
    def needs_input(self) -> bool:
        """Whether `back` reads the node's inputs."""
        ...

    @property
    def needs_output(self) -> bool:
        """Whether `back` reads its output."""
        ...

    @property
    def fresh(self) -> bool:
        """Whether `forward` gives an array that nothing else refers to."""
        ...

    def forward(self, inputs: Sequence[Array], memory: Memory) -> tuple[Array, Any]:
        """z, and what `back` wants to know of it."""
        ...

    def back(self, call: Call, flow: Flow) -> tuple[list[Flow], Books, str]:
        """The relevance of each input, the books, and the name of what computed it."""
        ...


@value
class Call:
    """What a step meets on the way back; inputs and output are None where it does not need them."""

    inputs: Sequence[Any]
    shapes: Sequence[Shape]
    z: Any
    known: Any
    """What its `forward` gave it to know."""
    memory: Memory


@value
class General:
    """The readable layer and rule, with what need not be computed left out; see `step`."""

    layer: Layer
    rule: Rule
    needs_input = needs_output = True
    fresh = False

    def forward(self, inputs: Sequence[Array], memory: Memory) -> tuple[Array, Any]:
        """The layer's own."""
        return self.layer.forward(*inputs), None

    def back(self, call: Call, flow: Flow) -> tuple[list[Flow], Books, str]:
        """As `step.back` finds it."""
        R_in, absorbed, name = step.back(self.rule, self.layer, call.inputs, call.z, flow.R)
        books, units = books_of(flow.R), tuple(range(1, flow.R.ndim))
        books.bias, books.stabilizer = sample_sums(absorbed.bias), sample_sums(absorbed.stabilizer)
        books.unclaimed = sample_sums(absorbed.unclaimed)
        books.poles, books.empty = absorbed.poles.sum(axis=units), absorbed.empty.sum(axis=units)
        return [Flow.of(R, call.memory, ours=False) for R in R_in], books, name


@value
class Passing:
    """Relevance that keeps its value through elementwise layers and reshapes."""

    layer: Layer
    overwrite: bool = False
    """Whether the output may take the input's place in memory."""
    done: bool = False
    """Whether the input is already what the layer makes of it."""
    needs_input = needs_output = False

    @property
    def fresh(self) -> bool:
        """ReLU's and Clip's."""
        layer = self.layer
        return type(layer) is ReLU or (isinstance(layer, Clip) and (layer.low, layer.high) != (None, None))

    def forward(self, inputs: Sequence[Array], memory: Memory) -> tuple[Array, Any]:
        """The layer's own."""
        (a,) = inputs
        if self.done:
            return a, None
        if not self.fresh:
            return self.layer.forward(a), None
        low, high = (self.layer.low, self.layer.high) if isinstance(self.layer, Clip) else (0, None)
        xp, z = namespace(a), a if self.overwrite else alike(a, memory)
        out = z
        if a.ndim > 2 and channels_last(z).flags.c_contiguous:  # in the order in which it lies
            out = channels_last(z)
            a = out if z is a else channels_last(a)  # CuPy copies what shares memory with out and is not out itself
        if low is not None:
            a = xp.maximum(a, number(low, a), out=out)
        if high is not None:
            a = xp.minimum(a, number(high, a), out=out)
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
    fresh = True

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
        flows = []
        for part in self.layer.split(flow.R, call.shapes):
            R_in = empty(part.shape, flow.R, call.memory)
            R_in[...] = part
            flows.append(Flow.of(R_in, call.memory, ours=True))
        return flows, books_of(flow.R), "passed"


@value
class Pooling:
    """The winners of a max pool."""

    layer: MaxPool
    needs_input = needs_output = fresh = True

    def forward(self, inputs: Sequence[Array], memory: Memory) -> tuple[Array, Any]:
        """The maxima."""
        return pool.maxima(self.layer, inputs[0], memory), None

    def back(self, call: Call, flow: Flow) -> tuple[list[Flow], Books, str]:
        """R at the winners."""
        R_in = pool.routed(self.layer, call.inputs[0], call.z, flow.R, call.memory)
        return [Flow.of(R_in, call.memory, ours=True)], books_of(flow.R), "passed"


class Product:
    """A convolution or dense layer."""

    fresh = True

    def __init__(self, layer: Any, rule: Rule, *, dead: bool, not_negative: bool, device: bool) -> None:
        found = operator(layer, device=device)
        assert found is not None
        self.step = ProductStep(layer, found, rule, dead=dead, not_negative=not_negative)
        self.needs_input, self.needs_output = self.step.needs_input, self.step.needs_output

    def forward(self, inputs: Sequence[Array], memory: Memory) -> tuple[Array, Any]:
        """z, and the denominators that rode along."""
        return self.step.forward(inputs[0], memory)

    def back(self, call: Call, flow: Flow) -> tuple[list[Flow], Books, str]:
        """The fused step."""
        books = books_of(flow.R)
        (a,), (shape,) = call.inputs, call.shapes
        R_in, found = self.step.back(a, shape, call.z, flow, call.known, call.memory, books)
        return [Flow(R_in, found.sum, found.magnitude, ours=True)], books, _name(flow.R)


@value
class Summing:
    """A sum of branches of one shape, each given its own contribution's share."""

    layer: Add
    rule: Rule
    rectified: bool = False
    """Whether z is to be what the ReLU that alone reads it makes of it."""
    needs_input = needs_output = fresh = True

    def forward(self, inputs: Sequence[Array], memory: Memory) -> tuple[Array, Any]:
        """The sum."""
        first, *others = inputs
        if any(other.shape != first.shape for other in others):
            z = self.layer.forward(*inputs)
            return (namespace(z).maximum(z, number(0, z)) if self.rectified else z), None
        z, xp = alike(first, memory), namespace(first)
        if xp is not np and len(others) == 1:
            from .device import lifted

            into, *two = same_rows([z, *inputs], memory)
            lifted(into, two, (None, None, None), (None, None), rectified=self.rectified)
            return z, None
        last = first.ndim > 2 and channels_last(z).flags.c_contiguous  # in the order in which it lies
        parts = [channels_last(a) if last else a for a in (z, first, *others)]
        xp.add(parts[1], parts[2] if others else number(0, z), out=parts[0])
        for other in parts[3:]:
            xp.add(parts[0], other, out=parts[0])
        if self.rectified:
            xp.maximum(parts[0], number(0, z), out=parts[0])
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
        outs = [alike(call.z, memory) for _ in inputs]
        out_rows = same_rows([call.z, *outs], memory)[1:]
        e = others[-1] if len(others) > len(inputs) else None
        deal = Deal(z, 0.0 if e is not None else float(self.rule.epsilon), e)
        if namespace(R) is not np:
            from .device import finished, shared

            if len(inputs) == 2:
                found = shared(deal, R, inputs, out_rows, batch, books)
            else:
                s = memory.array(R.shape, R)
                deal.divide(R, s, batch, books, memory)
                found = [finished(s, a, None, batch, out) for a, out in zip(inputs, out_rows, strict=True)]
            return (
                [Flow(out, t.sum, t.magnitude, ours=True) for out, t in zip(outs, found, strict=True)],
                books,
                "fused",
            )
        found = [Totals(batch, len(z)) for _ in inputs]

        def give(s: Array, first: int, last: int) -> None:
            for a, out, totals in zip(inputs, out_rows, found, strict=True):
                totals.add(np.multiply(a[first:last], s, out=out[first:last]), first, last, memory)

        deal.divide(R, None, batch, books, memory, give)
        books.count()
        return [Flow(out, t.sum, t.magnitude, ours=True) for out, t in zip(outs, found, strict=True)], books, "fused"


def books_of(R: Array) -> Books:
    """Empty books, where R is."""
    return Books(len(R), namespace(R))


def _name(R: Array) -> str:
    """What computed the products of a fused step."""
    if namespace(R) is np:
        return "fused"
    from .device import computed

    return computed(R)


def alike(a: Array, memory: Memory) -> Array:
    """An empty array of a's shape, with channels last in memory where a has them so."""
    return empty(a.shape, a, memory)


def empty(shape: Shape, like: Array, memory: Memory) -> Array:
    """An empty array of `shape`, with channels last in memory where `like` has them so."""
    last = like.ndim > 2 and channels_last(like).flags.c_contiguous
    return memory.empty_channels_last(shape, like) if last else memory.array(shape, like)


def same_rows(arrays: Sequence[Array], memory: Memory) -> list[Array]:
    """Arrays of one shape as rows, in the order in which the first lies in memory: views, or copies if they lie
    otherwise.
    """
    last = arrays[0].ndim > 2 and channels_last(arrays[0]).flags.c_contiguous
    found = []
    for a in arrays:
        ordered = channels_last(a) if last else a
        if not ordered.flags.c_contiguous:
            copy = memory.array(ordered.shape, a)
            copy[...] = ordered
            ordered = copy
        found.append(ordered.reshape(-1, ordered.shape[-1]) if a.ndim > 1 else ordered.reshape(-1, 1))
    return found


def _step(node: Node, rule: Rule, *, dead: bool, not_negative: bool, device: bool) -> Step:
    layer: Any = node.layer
    if type(rule) is Pass:
        if pool.fits(layer):
            return Pooling(layer)
        if type(layer) is Concat:
            return Joining(layer)
        if isinstance(layer, (*_ONE_TO_ONE, *_BIJECTIONS)):
            return Passing(layer)
    elif product.fits(rule):
        if operator(layer) is not None:
            return Product(layer, rule, dead=dead, not_negative=not_negative, device=device)
        if type(layer) is Add and layer.constant is None and rule.shares() == (Share((Term(),)),):
            return Summing(layer, rule)
    return General(layer, rule)


# --- many calls ------------------------------------------------------------------------------------------


class Prepared:
    """A graph and a composite made ready: see :func:`lrp_ref.prepare`."""

    def __init__(
        self, graph: Graph, composite: Composite | Rule, *, x: Arrays | None = None, threads: int | None = None
    ) -> None:
        self._composite, self._threads = as_composite(composite), threads
        self._graph = self._composite.prepare(graph)
        self._ready: dict[tuple[Any, ...], _Ready] = {}
        if x is not None:
            values = graph.check_inputs(x)
            ones = {name: _Everything() for name in self._graph.outputs}
            with _device(values[self._graph.inputs[0]]):
                self._for(values, "input").explain(values, [ones], {}, strict=False)

    def explain(
        self,
        x: Arrays,
        target: Any = None,
        *,
        edit: Mapping[str, Array] | None = None,
        keep: Literal["all", "input"] = "all",
        strict: bool = False,
    ) -> Explanation:
        """What ``lrp_ref.explain`` gives; arguments and errors are the same."""
        (found,) = self.explain_each(x, [target], edit=edit, keep=keep, strict=strict)
        return found

    def explain_each(
        self,
        x: Arrays,
        targets: Sequence[Any],
        *,
        edit: Mapping[str, Array] | None = None,
        keep: Literal["all", "input"] = "all",
        strict: bool = False,
    ) -> list[Explanation]:
        """One explanation for each of several targets, from one forward pass."""
        if keep not in ("all", "input"):
            raise GraphError(f'keep={keep!r}: need "all" or "input"')
        values = self._graph.check_inputs(x)
        with _threads(self._threads), _device(values[self._graph.inputs[0]]):
            return self._for(values, keep).explain(values, targets, edit or {}, strict=strict)

    def _for(self, values: Mapping[str, Array], keep: str) -> _Ready:
        first = values[self._graph.inputs[0]]
        if is_exact(first) or first.dtype.char not in "fd":
            raise ArithmeticMismatch(
                f'engine="fast" computes float32 and float64, not {first.dtype}: take engine="plain"'
            )
        device = namespace(first) is not np
        key = (first.dtype.char, keep, str(first.device) if device else None)
        if key not in self._ready:
            self._ready[key] = _Ready(self._graph.like(values), self._composite, keep, device=device)
        return self._ready[key]

    def __repr__(self) -> str:
        return f"Prepared({self._graph!r})"


@value
class _Everything:
    """The target that reaches whatever can be reached."""

    def direction(self, z: Array) -> Array:
        """Ones."""
        return self.start(z)

    def start(self, z: Array) -> Array:
        """Ones."""
        return ones(z.shape, z)


def _threads(count: int | None) -> Any:
    """The context in which BLAS takes that many threads."""
    if count is None:
        return nullcontext()
    try:
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
    except ImportError:
        raise ImportError('threads= needs threadpoolctl: pip install "lrp_ref[threads]"') from None
    return threadpool_limits(count, "blas")


def _device(x: Array) -> Any:
    """The context in which kernels run where x is."""
    return nullcontext() if namespace(x) is np else x.device


class _Ready:
    """The steps for one dtype and one way of keeping."""

    def __init__(self, graph: Graph, composite: Composite, keep: str, *, device: bool) -> None:
        self.graph, self.keep, self.memory = graph, keep, Memory()
        self.rules = composite.assign(graph)
        self.readers = Counter(source for node in graph.nodes for source in node.inputs)
        dead, not_negative = signs.dead(graph, self.rules), signs.not_negative(graph)
        self.steps: dict[str, Step] = {}
        self.needed = {*graph.inputs, *graph.outputs}
        for node in graph.nodes:
            made = _step(
                node, self.rules[node.name],
                dead=node.name in dead, not_negative=node.inputs[0] in not_negative, device=device,
            )  # fmt: skip
            if isinstance(made, Passing) and type(node.layer) is ReLU and self._takes_over(node.inputs[0], dead):
                made = Passing(node.layer, overwrite=True, done=device)
                source = self.steps[node.inputs[0]]
                if device and isinstance(source, Product):
                    source.step.rectified = True
                elif device and isinstance(source, Summing):
                    self.steps[node.inputs[0]] = dataclasses.replace(source, rectified=True)
            self.steps[node.name] = made
            if made.needs_output:
                self.needed.add(node.name)
            if made.needs_input:
                self.needed.update(node.inputs)

    def _takes_over(self, source: str, dead: Set[str]) -> bool:
        """Whether a ReLU's output may take the place of its input: where z <= 0 there is no relevance to divide."""
        alone = self.readers[source] == 1 and source not in self.graph.outputs and self.keep == "input"
        known = alone and source in dead and isinstance(self.steps.get(source), (Product, Summing))
        return known and isinstance(self.rules[source].stabilizer, _ELEMENT_BY_ELEMENT)

    def _forward(
        self, values: Mapping[str, Array], *, keep_all: bool
    ) -> tuple[dict[str, Any], dict[str, Shape], dict[str, Any]]:
        """The activations that the way back reads, all shapes, and what the steps want to know."""
        activations: dict[str, Any] = dict(values)
        shapes = {name: a.shape for name, a in values.items()}
        known, waiting = {}, dict(self.readers)
        for node in self.graph.nodes:
            inputs = [activations[source] for source in node.inputs]
            try:
                node.layer.check(*(a.shape for a in inputs))
                activations[node.name], known[node.name] = self.steps[node.name].forward(inputs, self.memory)
            except LrpError as error:
                raise type(error)(f'node "{node.name}" ({node.kind}): {error}') from error
            shapes[node.name] = activations[node.name].shape
            for source in node.inputs:
                waiting[source] -= 1
                if not waiting[source] and source not in self.needed and not keep_all:
                    activations[source] = None
        return activations, shapes, known

    def explain(
        self, values: dict[str, Array], targets: Sequence[Any], edit: Mapping[str, Array], *, strict: bool
    ) -> list[Explanation]:
        """One explanation a target."""
        keep_all = self.keep == "all" or strict
        activations, shapes, known = self._forward(values, keep_all=keep_all)
        nothing = zeros((), values[self.graph.inputs[0]])
        spread = namespace(nothing).broadcast_to
        masks = _checked_edit(self.graph, edit, {n: spread(nothing, s) for n, s in shapes.items()}) if edit else {}
        outputs = {name: activations[name] for name in self.graph.outputs}
        goals = [_targets(self.graph, activations, target) for target in targets]
        found = []
        for i, goal in enumerate(goals):
            last = i == len(goals) - 1  # and then what was used may go
            own = (activations, known) if last else (dict(activations), dict(known))
            found.append(self._back(*own, shapes, outputs, goal, masks, strict=strict))
        return found

    def _back(
        self, activations: dict[str, Any], known: dict[str, Any], shapes: Mapping[str, Shape],
        outputs: Mapping[str, Array], targets: dict[str, Any], masks: Mapping[str, Array], *, strict: bool,
    ) -> Explanation:  # fmt: skip
        graph, memory, keep_all = self.graph, self.memory, self.keep == "all"
        flows = {name: Flow.of(goal.start(outputs[name]), memory, ours=False) for name, goal in targets.items()}
        begun = {name: flow.sum for name, flow in flows.items()}
        relevance: dict[str, Array] = {}
        entries: list[Entry] = []
        computed_by: dict[str, str] = {}
        for node in reversed(graph.nodes):
            if node.name not in flows:
                continue  # no output depends on it
            came = flows.pop(node.name)
            flow = _edited(came, masks, node.name, memory)
            if keep_all:
                relevance[node.name], flow.ours = flow.R, False
            inputs = [activations[source] for source in node.inputs]
            z = activations[node.name] if keep_all else activations.pop(node.name)
            call = Call(inputs, [shapes[source] for source in node.inputs], z, known.pop(node.name), memory)
            try:
                if strict:
                    _refuse_poles(self.rules[node.name], node, inputs, flow.R)
                sent, books, computed_by[node.name] = self.steps[node.name].back(call, flow)
            except LrpError as error:
                raise type(error)(f'node "{node.name}" ({node.kind}): {error}') from error
            entries.append(_entry(node, came, flow, sent, books))
            for source, part in zip(node.inputs, sent, strict=True):
                flows[source] = _joined(flows[source], part, memory) if source in flows else part
            del came, flow, sent, part, inputs, z, call  # their memory is wanted for the next
        edited, arrived = {}, {}
        for name in graph.inputs:
            a = activations[name]
            came = flows[name] if name in flows else Flow.of(zeros(a.shape, a), memory, ours=True)
            flow = _edited(came, masks, name, memory)
            relevance[name], arrived[name] = flow.R, flow.sum
            if name in masks:
                edited[name] = came.sum - flow.sum
        kept = [*graph.inputs, *(node.name for node in graph.nodes)] if keep_all else graph.inputs
        return Explanation(
            relevance=_one_or_all({name: relevance[name] for name in graph.inputs}),
            output=_one_or_all(outputs),
            rules=self.rules,
            ledger=Ledger(entries, start=begun, arrived=arrived, edited_inputs=edited),
            relevances={name: relevance[name] for name in kept if name in relevance},
            activations={name: activations[name] for name in kept},
            aliases=graph.aliases,
            engine=computed_by,
            graph=graph,
            targets=targets,
        )


def _edited(flow: Flow, masks: Mapping[str, Array], name: str, memory: Memory) -> Flow:
    return Flow.of(_masked(flow.R, masks, name), memory, ours=True) if name in masks else flow


def _joined(flow: Flow, more: Flow, memory: Memory) -> Flow:
    """Relevance that came along two ways."""
    if namespace(flow.R) is not np:
        from .device import finished

        out = alike(flow.R, memory)
        one, other, into = same_rows([flow.R, more.R, out], memory)
        found = finished(one, None, other, len(out), into)
        return Flow(out, found.sum, found.magnitude, ours=True)
    R = alike(flow.R, memory)
    np.add(flow.R, more.R, out=R)
    return Flow.of(R, memory, ours=True)


def _entry(node: Node, came: Flow, flow: Flow, sent: Sequence[Flow], books: Books) -> Entry:
    amounts: dict[str, Any] = {}
    for source, part in zip(node.inputs, sent, strict=True):
        amounts[source] = amounts[source] + part.sum if source in amounts else part.sum
    unedited = came is flow and bool(books.none)
    edited = books.none[0] if unedited else came.sum - flow.sum
    return Entry(
        node=node.name, kind=node.kind, came=came.sum, sent=amounts, bias=books.bias, stabilizer=books.stabilizer,
        unclaimed=books.unclaimed, edited=edited, magnitude_out=flow.magnitude,
        magnitude_in=sum((part.magnitude for part in sent[1:]), start=sent[0].magnitude), poles=books.poles,
        empty=books.empty,
    )  # fmt: skip
