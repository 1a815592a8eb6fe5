"""A network: a plain graph of named nodes, whose forward pass is a plain dict {name: activation}."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import field
from functools import cached_property
from heapq import heappop, heappush
from typing import Self

from .arrays import Array, check_arithmetic, floats, mover, same_arithmetic
from .errors import ArithmeticMismatch, GraphError, LrpError
from .layers import Activation, Given, Layer, Softmax
from .text import near, table
from .values import value


@value(init=False)
class Node:
    """A layer at a place: ``Node("sum", Add(), "r1", "input")``. Its one output goes by its name."""

    name: str
    layer: Layer
    inputs: tuple[str, ...]

    def __init__(self, name: str, layer: Layer, *inputs: str) -> None:
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "layer", layer)
        object.__setattr__(self, "inputs", inputs)

    @property
    def kind(self) -> str:
        """The layer's class, for messages and tables."""
        return type(self.layer).__name__


@contextmanager
def naming(node: Node) -> Iterator[None]:
    """Errors say at which node they arose."""
    try:
        yield
    except LrpError as error:
        said = type(error)(f'node "{node.name}" ({node.kind}): {error}')
        said.__dict__.update(error.__dict__)
        raise said from error


@value
class Graph:
    """Nodes in any order, without cycles; inputs and outputs by name.

    Parameters
    ----------
    nodes : sequence of Node
    outputs : str or sequence of str
        names of nodes; a sequence if there are several
    inputs : str or sequence of str
        names that no node has
    aliases : {other name: node}
        by which nodes answer too, such as the tensor names of the file that they were read from
    notes : sequence of str
        what was done to the network since it was read, to print

    Raises
    ------
    GraphError
        for names that occur twice or nowhere, cycles, and wrong numbers of inputs.
    """

    nodes: Sequence[Node]
    outputs: str | Sequence[str]
    inputs: str | Sequence[str] = "input"
    aliases: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def __post_init__(self) -> None:
        inputs, outputs = (
            (names,) if isinstance(names, str) else tuple(names) for names in (self.inputs, self.outputs)
        )
        object.__setattr__(self, "inputs", inputs)
        object.__setattr__(self, "outputs", outputs)
        counts = Counter([*inputs, *(node.name for node in self.nodes)])
        if twice := [name for name, count in counts.items() if count > 1]:
            raise GraphError(f"names that occur twice: {', '.join(map(repr, twice))}")
        for node in self.nodes:
            least, most = node.layer.arity
            if len(node.inputs) < least or (most is not None and len(node.inputs) > most):
                needs = f"{least} or more" if most is None else str(least) if most == least else f"{least} to {most}"
                raise GraphError(f'node "{node.name}" ({node.kind}) has {len(node.inputs)} inputs, needs {needs}')
            for source in node.inputs:
                if source not in counts:
                    raise GraphError(
                        f'node "{node.name}" reads "{source}", which is no node or input{near(source, list(counts))}'
                    )
        for name in [*outputs, *self.aliases.values()]:
            if name not in counts or (name in outputs and name in inputs):
                raise GraphError(f'output or alias "{name}" is no node{near(name, [n.name for n in self.nodes])}')
        for alias, name in self.aliases.items():
            if alias in counts and alias != name:
                raise GraphError(f'alias "{alias}" of "{name}" is itself the name of a node or input')
        object.__setattr__(self, "nodes", self._sorted())

    def _sorted(self) -> tuple[Node, ...]:
        """The nodes so that each stands after those it reads; otherwise in the order given."""
        readers: dict[str, list[int]] = {}
        missing = []
        for i, node in enumerate(self.nodes):
            sources = set(node.inputs) - set(self.inputs)
            missing.append(len(sources))
            for source in sources:
                readers.setdefault(source, []).append(i)
        ready, order = [i for i, count in enumerate(missing) if not count], []
        while ready:
            node = self.nodes[heappop(ready)]
            order.append(node)
            for i in readers.get(node.name, ()):
                missing[i] -= 1
                if not missing[i]:
                    heappush(ready, i)
        if len(order) < len(self.nodes):
            names = ", ".join(repr(node.name) for node, count in zip(self.nodes, missing, strict=True) if count)
            raise GraphError(f"nodes in a cycle, or behind one: {names}")
        return tuple(order)

    @cached_property
    def upstream(self) -> Mapping[str, frozenset[str]]:
        """For each node the names of all nodes that its output depends on, itself not among them."""
        above: dict[str, frozenset[str]] = {name: frozenset() for name in self.inputs}
        for node in self.nodes:
            sources = [source for source in node.inputs if source not in self.inputs]
            above[node.name] = frozenset(sources).union(*(above[source] for source in sources))
        return above

    @cached_property
    def readers(self) -> Mapping[str, tuple[tuple[Node, int], ...]]:
        """For each node and input the nodes that read it, in order, each with which of its inputs that is."""
        found: dict[str, list[tuple[Node, int]]] = {n: [] for n in (*self.inputs, *(node.name for node in self.nodes))}
        for node in self.nodes:
            for i, source in enumerate(node.inputs):
                found[source].append((node, i))
        return {name: tuple(readers) for name, readers in found.items()}

    def resolve(self, name: str) -> str:
        """The node that an alias stands for; any other name as it is."""
        return self.aliases.get(name, name)

    @cached_property
    def _by_name(self) -> Mapping[str, Node]:
        return {node.name: node for node in self.nodes}

    def __getitem__(self, name: str) -> Node:
        if self.resolve(name) not in self._by_name:
            raise GraphError(f'no node "{name}"{near(name, list(self._by_name))}')
        return self._by_name[self.resolve(name)]

    def with_layers(self, layers: Mapping[str, Layer]) -> Self:
        """The same graph with other layers at the nodes named."""
        new = {self[name].name: layer for name, layer in layers.items()}
        nodes = [Node(node.name, new.get(node.name, node.layer), *node.inputs) for node in self.nodes]
        return dataclasses.replace(self, nodes=nodes)

    def like(self, x: Array | Mapping[str, Array]) -> Self:
        """The same graph with its parameters in the arithmetic of `x`: dtype and device, or exact rationals.

        The graph itself where nothing changes.
        """
        first = next(iter(x.values())) if isinstance(x, Mapping) else x
        layers = {node.name: new for node in self.nodes if (new := node.layer.like(first)) is not node.layer}
        return self.with_layers(layers) if layers else self

    def to(self, device: str) -> Self:
        """The same graph with its parameters on a device, copied there once: "cuda", "cuda:1", or "cpu" for back.

        Inputs that are there too, such as ``cupy.asarray(x)``, are then explained without a copy between host and
        device. Needs the extra ``gpu-cuda12`` or ``gpu-cuda13``.

        Raises
        ------
        ArithmeticMismatch
            for another name, a device that cannot be used, and parameters that are exact rationals.
        ImportError
            where CuPy is not installed.
        """
        move, layers = mover(device), {}
        for node in self.nodes:
            with naming(node):
                new = node.layer.moved(move)
            if new is not node.layer:
                layers[node.name] = new
        return self.with_layers(layers) if layers else self

    def forward(self, x: Array | Mapping[str, Array]) -> dict[str, Array]:
        """All activations by name, the inputs among them, computed in the arithmetic of `x`.

        Parameters
        ----------
        x : array (batch, ...), or a dict of them for several inputs

        Raises
        ------
        ArithmeticMismatch, ShapeError, NotExact
            naming the input or node.
        """
        values = self.check_inputs(x)
        for node in self.like(values).nodes:
            inputs = [values[source] for source in node.inputs]
            with naming(node):
                node.layer.check(*(value.shape for value in inputs))
                values[node.name] = node.layer.forward(*inputs)
        return values

    def check_inputs(self, x: Array | Mapping[str, Array]) -> dict[str, Array]:
        """The inputs by name, each checked to be an array in which relevance can be computed."""
        given: dict[str, Array] = dict(x) if isinstance(x, Mapping) else {self.inputs[0]: x}
        if set(given) != set(self.inputs):
            raise GraphError(
                f"inputs {sorted(given)} were given, the graph has {sorted(self.inputs)}: give a dict by name"
            )
        first = given[self.inputs[0]]
        for name in self.inputs:
            value = given[name]
            check_arithmetic(value, f'input "{name}"')
            if value.ndim < 1:
                raise GraphError(f'input "{name}" has no axes: it needs a batch axis and more')
            if not same_arithmetic(value, first):
                raise ArithmeticMismatch(f'inputs "{name}" and "{self.inputs[0]}" differ in dtype, device or carrier')
            if len(value) != len(first):
                raise GraphError(
                    f'inputs "{name}" and "{self.inputs[0]}" have batches of {len(value)} and {len(first)}'
                )
        return given

    def __str__(self) -> str:
        rows = [(node.name, repr(node.layer), ", ".join(node.inputs)) for node in self.nodes]
        return "\n".join([table(("node", "layer", "reads"), rows), *self.notes])

    def __repr__(self) -> str:
        return f"Graph({len(self.nodes)} nodes, {', '.join(self.inputs)} -> {', '.join(self.outputs)})"


def chain(*layers: Layer) -> Graph:
    """Layers one after the other, named by position and kind: "0.conv", "1.relu", ..."""
    if not layers:
        raise GraphError("a chain needs at least one layer")
    nodes, source = [], "input"
    for i, layer in enumerate(layers):
        nodes.append(Node(f"{i}.{type(layer).__name__.lower()}", layer, source))
        source = nodes[-1].name
    return Graph(nodes, outputs=source)


def given(graph: Graph, x: Array | Mapping[str, Array]) -> Graph:
    """The graph with every activation that has no rational values replaced by its outputs at `x`, given as
    numbers.

    ``explain(given(graph, x), exact(x), ...)`` is then exact: the float outputs of tanh, softplus and kin at
    `x` are taken as the exact numbers that they are, and all else is computed from them in rationals.
    """
    values = graph.forward({name: floats(value) for name, value in graph.check_inputs(x).items()})
    layers: dict[str, Layer] = {
        node.name: Given(node.layer, values[node.name])
        for node in graph.nodes
        if isinstance(node.layer, (Activation, Softmax)) and not node.layer.rational
    }
    return graph.with_layers(layers)
