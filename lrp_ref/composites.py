"""Which rule for which node: ordered cases of a predicate and a rule; the first that fits is taken.

Predicates are values, facts of the graph: combine them with & | ~ .
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from .errors import GraphError, NoRule
from .graph import Graph, Node
from .layers import Layer
from .propagate import Rule
from .rules import Pass
from .text import near, table
from .values import value


class Predicate:
    """A question about nodes of a graph."""

    def select(self, graph: Graph) -> frozenset[str]:
        """The names of the nodes for which the answer is yes."""
        raise NotImplementedError

    def __and__(self, other: Predicate) -> Predicate:
        return And(self, other)

    def __or__(self, other: Predicate) -> Predicate:
        return Or(self, other)

    def __invert__(self) -> Predicate:
        return Not(self)


@value
class And(Predicate):
    """Both."""

    left: Predicate
    right: Predicate

    def select(self, graph: Graph) -> frozenset[str]:
        """The intersection."""
        return self.left.select(graph) & self.right.select(graph)

    def __repr__(self) -> str:
        return f"({self.left!r} & {self.right!r})"


@value
class Or(Predicate):
    """Either."""

    left: Predicate
    right: Predicate

    def select(self, graph: Graph) -> frozenset[str]:
        """The union."""
        return self.left.select(graph) | self.right.select(graph)

    def __repr__(self) -> str:
        return f"({self.left!r} | {self.right!r})"


@value
class Not(Predicate):
    """The opposite."""

    predicate: Predicate

    def select(self, graph: Graph) -> frozenset[str]:
        """The complement."""
        return frozenset(node.name for node in graph.nodes) - self.predicate.select(graph)

    def __repr__(self) -> str:
        return f"~{self.predicate!r}"


@value(init=False)
class _OfKinds(Predicate):
    """What is asked of layer classes."""

    kinds: tuple[type[Layer], ...]

    def __init__(self, *kinds: type[Layer]) -> None:
        given: tuple[object, ...] = kinds
        word = type(self).__name__
        if not given or not all(isinstance(kind, type) and issubclass(kind, Layer) for kind in given):
            raise GraphError(f"{word}(...) needs layer classes, such as {word}(Conv, Dense); got {kinds!r}")
        object.__setattr__(self, "kinds", kinds)

    def nodes(self, graph: Graph) -> frozenset[str]:
        """The nodes of these kinds."""
        return frozenset(node.name for node in graph.nodes if isinstance(node.layer, self.kinds))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(kind.__name__ for kind in self.kinds)})"


class kind(_OfKinds):
    """Nodes whose layer is of one of these classes: ``kind(Conv, Dense)``."""

    def select(self, graph: Graph) -> frozenset[str]:
        """By class."""
        return self.nodes(graph)


class first(_OfKinds):
    """Nodes of these kinds with none of these kinds upstream: a fact of the data flow, not of the order of nodes."""

    def select(self, graph: Graph) -> frozenset[str]:
        """Those that come first on every way to them."""
        some = self.nodes(graph)
        return frozenset(name for name in some if not some & graph.upstream[name])


class last(_OfKinds):
    """Nodes of these kinds with none of these kinds downstream."""

    def select(self, graph: Graph) -> frozenset[str]:
        """Those that no other depends on."""
        some = self.nodes(graph)
        return some.difference(*(graph.upstream[name] for name in some))


@value(init=False)
class depth(_OfKinds):
    """Nodes that have at most `at_most` nodes of these kinds on the longest way to them, themselves included.

    ``depth(Conv, at_most=7)`` is the part of a network up to its seventh convolution, the pool behind it included.
    """

    at_most: int

    def __init__(self, *kinds: type[Layer], at_most: int) -> None:
        super().__init__(*kinds)
        object.__setattr__(self, "at_most", at_most)

    def select(self, graph: Graph) -> frozenset[str]:
        """By the longest way."""
        count = dict.fromkeys(graph.inputs, 0)
        for node in graph.nodes:
            count[node.name] = max(count[source] for source in node.inputs) + isinstance(node.layer, self.kinds)
        return frozenset(node.name for node in graph.nodes if count[node.name] <= self.at_most)

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}, at_most={self.at_most})"


@value(init=False)
class named(Predicate):
    """Nodes whose name or alias fits a pattern (``*``, ``?``, ``[...]``); a pattern that fits none is an error."""

    patterns: tuple[str, ...]

    def __init__(self, *patterns: str) -> None:
        object.__setattr__(self, "patterns", patterns)

    def select(self, graph: Graph) -> frozenset[str]:
        """By name."""
        names = [*(node.name for node in graph.nodes), *graph.aliases]
        fits = {
            pattern: {graph.resolve(name) for name in names if fnmatchcase(name, pattern)} for pattern in self.patterns
        }
        for pattern, found in fits.items():
            if not found:
                raise NoRule(f"named({pattern!r}) fits no node{near(pattern, names)}")
        return frozenset().union(*fits.values())

    def __repr__(self) -> str:
        return f"named({', '.join(map(repr, self.patterns))})"


@value
class before(Predicate):
    """Nodes that the named node's output depends on, itself not among them."""

    name: str

    def select(self, graph: Graph) -> frozenset[str]:
        """Upstream."""
        return graph.upstream[graph[self.name].name]

    def __repr__(self) -> str:
        return f"before({self.name!r})"


@value
class after(Predicate):
    """Nodes that depend on the named node, itself not among them."""

    name: str

    def select(self, graph: Graph) -> frozenset[str]:
        """Downstream."""
        return frozenset(node.name for node in graph.nodes if graph[self.name].name in graph.upstream[node.name])

    def __repr__(self) -> str:
        return f"after({self.name!r})"


@value
class Assignment(Mapping[str, Rule]):
    """{node name: rule}, with the reason for each; prints as a table."""

    rules: Mapping[str, Rule]
    layers: Mapping[str, str]
    """Each node's layer, as printed."""
    reasons: Mapping[str, str]
    """The case that chose each rule."""
    unused: tuple[str, ...] = ()
    """Cases that no node took."""

    def __getitem__(self, name: str) -> Rule:
        if name not in self.rules:
            raise KeyError(f'no node "{name}"{near(name, list(self.rules))}')
        return self.rules[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.rules)

    def __len__(self) -> int:
        return len(self.rules)

    def __str__(self) -> str:
        rows = [(name, self.layers[name], repr(rule), self.reasons[name]) for name, rule in self.rules.items()]
        never = "".join(f"\nnever used: {case}" for case in self.unused)
        return table(("node", "layer", "rule", "by case"), rows) + never


@value
class Composite:
    """Ordered cases of (predicate, rule); a node takes the rule of the first that fits.

    Wires (activations, reshapes, dropout, a max pool's winner) take Pass unless a case says otherwise; every
    other node needs a case.

    Parameters
    ----------
    cases : sequence of (Predicate, Rule)
    canonize : sequence of functions graph -> graph, applied first; they must not change the forward pass
    """

    cases: Sequence[tuple[Predicate, Rule]]
    canonize: Sequence[Callable[[Graph], Graph]] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "cases", tuple(tuple(case) for case in self.cases))
        object.__setattr__(self, "canonize", tuple(self.canonize))
        given: Any = self.cases
        for case in given:
            if len(case) != 2 or not isinstance(case[0], Predicate) or not isinstance(case[1], Rule):
                raise NoRule(f"a case is a pair such as (kind(Dense), Epsilon(epsilon=1e-6)); got {case!r}")

    def assign(self, graph: Graph) -> Assignment:
        """The rule of each node of an already canonized graph.

        Raises
        ------
        NoRule
            for a node without a rule, naming it, and for a name pattern that fits nothing.
        """
        rules: dict[str, Rule] = {}
        reasons: dict[str, str] = {}
        used = set()
        chosen = [case[0].select(graph) for case in self.cases]
        for node in graph.nodes:
            for i, (predicate, rule) in enumerate(self.cases):
                if node.name in chosen[i]:
                    rules[node.name], reasons[node.name] = rule, f"{i + 1}: {predicate!r}"
                    used.add(i)
                    break
            else:
                if not node.layer.wire:
                    raise NoRule(_missing(node))
                rules[node.name], reasons[node.name] = Pass(), "wire"
        unused = [f"{i + 1}: {case[0]!r} -> {case[1]!r}" for i, case in enumerate(self.cases) if i not in used]
        return Assignment(rules, {node.name: repr(node.layer) for node in graph.nodes}, reasons, tuple(unused))

    def prepare(self, graph: Graph) -> Graph:
        """The graph canonized."""
        for step in self.canonize:
            graph = step(graph)
        return graph

    def __str__(self) -> str:
        rows = [(str(i + 1), repr(predicate), repr(rule)) for i, (predicate, rule) in enumerate(self.cases)]
        steps = "".join(f"\ncanonize: {step.__name__}" for step in self.canonize)
        return table(("case", "nodes", "rule"), [*rows, ("", "other wires", "Pass()")]) + steps


def uniform(rule: Rule) -> Composite:
    """One rule for every node that is not a wire; wires take Pass."""
    return Composite([(_NotWire(), rule)])


@value
class _NotWire(Predicate):
    """Nodes that are not wires."""

    def select(self, graph: Graph) -> frozenset[str]:
        """By the layer's own word."""
        return frozenset(node.name for node in graph.nodes if not node.layer.wire)

    def __repr__(self) -> str:
        return "~wire"


def _missing(node: Node) -> str:
    usual = {"BatchNorm": "Pass()", "Mul": "Product(portions=(1, 0))"}
    rule = usual.get(node.kind, "Epsilon(epsilon=1e-6)")
    return f'no rule for node "{node.name}" ({node.kind}): add a case such as (kind({node.kind}), {rule})'


def as_composite(rules: Composite | Rule) -> Composite:
    """A composite as it is; a rule as the uniform composite."""
    if isinstance(rules, Rule):
        return uniform(rules)
    if isinstance(rules, Composite):
        return rules
    raise NoRule(f"need a Composite or a Rule, such as Epsilon(epsilon=1e-6); got {rules!r}")
