"""The fast engine: a graph and a composite made ready once, and explained many times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any, Literal

from ..arrays import Array, is_exact, namespace, ones, zeros
from ..composites import Composite, as_composite
from ..errors import ArithmeticMismatch, GraphError
from ..explain import Arrays, Explanation, checked_edit, explained, masked, refuse_poles, targets_of
from ..graph import Graph, Node, naming
from ..layers import Layer
from ..layers.base import Shape
from ..ledger import Entry, Ledger
from ..propagate import Rule
from ..rules import Pass
from ..signs import positive_nodes
from ..values import value
from . import signs
from .activation import same_everywhere
from .flow import Call, Flow, Step, books_of
from .memory import Memory, empty, on_device, same_rows
from .product import Product
from .steps import Summing, step_of
from .sweep import Books, finished


class Prepared:
    """A graph and a composite made ready: see :func:`lrp_ref.prepare`."""

    def __init__(
        self, graph: Graph, composite: Composite | Rule, *, x: Arrays | None = None, threads: int | None = None
    ) -> None:
        self._composite, self._threads = as_composite(composite), threads
        self._graph = self._composite.prepare(graph)
        self._ready: dict[tuple[Any, ...], _Ready] = {}
        if x is not None:
            everything = {name: _Everything() for name in self._graph.outputs}
            self.explain_each(x, [everything], keep="input")

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
        key = (first.dtype.char, keep, str(first.device) if on_device(first) else None)
        if key not in self._ready:
            self._ready[key] = _Ready(self._graph.like(values), self._composite, keep)
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
    return x.device if on_device(x) else nullcontext()


class _Ready:
    """The steps for one dtype and one way of keeping."""

    def __init__(self, graph: Graph, composite: Composite, keep: str) -> None:
        self.graph, self.keep, self.memory = graph, keep, Memory()
        self.rules = composite.assign(graph)
        dead, not_negative = signs.dead(graph, self.rules), positive_nodes(graph)
        self.steps: dict[str, Step] = {}
        self._checked: dict[str, list[Shape]] = {}
        self.needed = {*graph.inputs, *graph.outputs}
        made_already = set()  # activations
        for node in graph.nodes:
            made = self.steps[node.name] = step_of(
                node, self.rules[node.name], dead=node.name in dead, not_negative=node.inputs[0] in not_negative,
                read_by=self._activation(node), done=node.name in made_already,
            )  # fmt: skip
            if isinstance(made, (Product, Summing)) and made.then:
                made_already.add(self.graph.readers[node.name][0][0].name)
            if made.needs_output:
                self.needed.add(node.name)
            if made.needs_input:
                self.needed.update(node.inputs)

    def _activation(self, node: Node) -> Layer | None:
        """The activation that alone reads the node's output, which is not kept; None if there is no such."""
        readers = [reader for reader, _ in self.graph.readers[node.name]]
        if len(readers) != 1 or node.name in self.graph.outputs or self.keep != "input":
            return None
        (reader,) = readers
        return reader.layer if type(self.rules[reader.name]) is Pass and same_everywhere(reader.layer) else None

    def _forward(
        self, values: Mapping[str, Array], *, keep_all: bool
    ) -> tuple[dict[str, Any], dict[str, Shape], dict[str, Any]]:
        """The activations that the way back reads, all shapes, and what the steps want to know."""
        activations: dict[str, Any] = dict(values)
        shapes = {name: a.shape for name, a in values.items()}
        known, waiting = {}, {source: len(readers) for source, readers in self.graph.readers.items()}
        for node in self.graph.nodes:
            inputs = [activations[source] for source in node.inputs]
            read = [shapes[source] for source in node.inputs]
            with naming(node):
                if self._checked.get(node.name) != read:
                    node.layer.check(*read)
                    self._checked[node.name] = read
                activations[node.name], known[node.name] = self.steps[node.name].forward(inputs, self.memory)
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
        masks = checked_edit(self.graph, edit, {n: spread(nothing, s) for n, s in shapes.items()}) if edit else {}
        outputs = {name: activations[name] for name in self.graph.outputs}
        goals = [targets_of(self.graph, activations, target) for target in targets]
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
            with naming(node):
                if strict:
                    refuse_poles(self.rules[node.name], node, inputs, flow.R)
                if not on_device(flow.R) and not flow.magnitude.any():
                    sent = [Flow.none(shape, flow.R) for shape in call.shapes]
                    books, computed_by[node.name] = books_of(flow.R), "skipped"
                else:
                    sent, books, computed_by[node.name] = self.steps[node.name].back(call, flow)
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
        ledger = Ledger(entries, start=begun, arrived=arrived, edited_inputs=edited)
        return explained(
            graph, self.rules, targets, outputs, relevance, activations, ledger, computed_by, keep=self.keep
        )


def _edited(flow: Flow, masks: Mapping[str, Array], name: str, memory: Memory) -> Flow:
    return Flow.of(masked(flow.R, masks, name), memory, ours=True) if name in masks else flow


def _joined(flow: Flow, more: Flow, memory: Memory) -> Flow:
    """Relevance that came along two ways; where one brought none it is the other's."""
    if not on_device(flow.R):
        for one, other in ((flow, more), (more, flow)):
            if not other.magnitude.any():
                return one
    R = empty(flow.R.shape, flow.R, memory)
    one, other, into = same_rows([flow.R, more.R, R], memory)
    found = finished(one, None, other, len(R), memory, into)
    return Flow(R, found.sum, found.magnitude, ours=True)


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
