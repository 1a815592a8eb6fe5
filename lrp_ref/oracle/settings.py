"""Settings, and variants of them: what decides a relevance, as a value, and functions from one to another."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Self

from ..arrays import Array, number
from ..composites import Composite, Predicate, as_composite
from ..explain import Arrays, Explanation, explain
from ..graph import Graph
from ..layers import Layer
from ..ledger import Absorbed
from ..propagate import Rule, Share
from ..targets import Target, as_target, fixed
from ..values import value


def each(x: Arrays, change: Callable[[Array], Array]) -> Arrays:
    """The input, or all inputs by name, changed."""
    return {name: change(a) for name, a in x.items()} if isinstance(x, Mapping) else change(x)


# --- settings -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Step(Rule):
    r"""What happens to relevance at one node: a rule, through a layer that need not be the network's, times a factor.

    .. math:: R_j = f \sum_k R_{j \leftarrow k}

    with the messages of `rule` on `layer` at the network's own activations; (1 - f) R_k is unclaimed.
    """

    layer: Layer
    rule: Rule
    factor: Any = 1

    def shares(self) -> tuple[Share, ...]:
        """The rule's."""
        return self.rule.shares()

    def back(self, layer: Layer, inputs: Sequence[Array], R: Array) -> tuple[tuple[Array, ...], Absorbed]:
        """The rule's, of factor times R, through the layer of this step."""
        through = self.layer.like(inputs[0])
        if self.factor == 1:
            return self.rule.back(through, inputs, R)
        f = number(self.factor, R)
        R_in, absorbed = self.rule.back(through, inputs, f * R)
        return R_in, absorbed + Absorbed.undealt(R, [f])


@value
class Setting:
    """Everything that decides the relevance of an input."""

    graph: Graph
    """The network, before `canonize`."""
    x: Arrays
    rules: Mapping[str, Rule]
    """By node, for every node of the network canonized."""
    target: Any = None
    canonize: Sequence[Callable[[Graph], Graph]] = ()
    dtype: str | None = None
    """"float32": computed in single precision whatever x is; None: in the arithmetic of x."""

    @classmethod
    def of(cls, graph: Graph, x: Arrays, composite: Composite | Rule, target: Any = None) -> Self:
        """The setting of :func:`lrp_ref.explain` with the same arguments."""
        composite = as_composite(composite)
        prepared = composite.prepare(graph.like(x))
        setting = cls(graph, x, dict(composite.assign(prepared)), target, composite.canonize)
        setting.__dict__["prepared"] = prepared
        return setting

    @cached_property
    def prepared(self) -> Graph:
        """The network canonized, in the arithmetic of x."""
        graph = self.graph.like(self.x)
        for step in self.canonize:
            graph = step(graph)
        return graph

    @cached_property
    def activations(self) -> Mapping[str, Array]:
        """Of the network canonized, in the arithmetic of x."""
        return self.prepared.forward(self.x)

    def with_input(self, x: Arrays) -> Self:
        """The same at another input, of the same shapes and dtype."""
        changed = dataclasses.replace(self, x=x)
        if "prepared" in self.__dict__:
            changed.__dict__["prepared"] = self.prepared
        return changed

    @property
    def composite(self) -> Composite:
        """One case a node."""
        return Composite([(_Only(name), rule) for name, rule in self.rules.items()], self.canonize)

    def explain(self) -> Explanation:
        """The relevance, by the plain path."""
        x = self.x if self.dtype is None else each(self.x, lambda a: a.astype(self.dtype))
        return explain(self.graph, x, self.composite, self.target, engine="plain")

    def at(self, node: str) -> Step:
        """What happens at a node."""
        rule = self.rules[node]
        return rule if isinstance(rule, Step) else Step(layer=self.prepared[node].layer, rule=rule)

    def with_steps(self, steps: Mapping[str, Rule]) -> Self:
        """The same with other steps or rules at the nodes named."""
        changed = dataclasses.replace(self, rules={**self.rules, **steps})
        for name in ("prepared", "activations"):  # which rules do not change
            if name in self.__dict__:
                changed.__dict__[name] = self.__dict__[name]
        return changed


@value
class _Only(Predicate):
    """The node of exactly that name."""

    name: str

    def select(self, graph: Graph) -> frozenset[str]:
        """It, if the graph has it."""
        return frozenset({self.name} & {node.name for node in graph.nodes})

    def __repr__(self) -> str:
        return f"only({self.name!r})"


# --- variants -----------------------------------------------------------------------------------------------------

Scope = Literal["node", "start", "network"]


@value
class Variant:
    """A difference from the rule, layer or start of the same name."""

    name: str
    says: str
    """What is computed, with the formula."""
    who: tuple[str, ...]
    """The frameworks that do so."""
    change: Callable[..., Any] = field(compare=False, repr=False)
    """Step -> Step, (z, start) -> start, or Setting -> Setting, by the scope; None where it does not apply."""
    scope: Scope = "node"
    """What it changes: the step at one node, the start, or the whole setting."""

    def at(self, setting: Setting, node: str) -> Setting | None:
        """The setting with this at one node; None where it does not apply or can have no effect there."""
        if self.scope != "node":
            return None
        step = self.change(setting.at(node))
        return None if step is None else setting.with_steps({node: step})

    def nodes(self, setting: Setting) -> tuple[str, ...]:
        """The nodes where it applies."""
        if self.scope != "node":
            return ()
        return tuple(node.name for node in setting.prepared.nodes if self.change(setting.at(node.name)) is not None)

    def everywhere(self, setting: Setting) -> Setting | None:
        """The setting with this wherever it applies; None where it does not apply or can have no effect."""
        if self.scope == "start":
            return _started(setting, self.change)
        if self.scope == "network":
            changed: Setting | None = self.change(setting)
            return changed
        steps = {name: self.change(setting.at(name)) for name in self.nodes(setting)}
        return setting.with_steps(steps) if steps else None

    def __str__(self) -> str:
        return f"{self.name}: {self.says} ({', '.join(self.who)})"


# --- the start

Start = Callable[[Array, Array], Array | None]
"""The logits z and the start R -> another start, both (batch, classes) or of any shape."""


@value
class Started:
    """Another start than that of `target`, of the logits that the network has."""

    target: Target
    change: Start

    def start(self, z: Array) -> Array:
        """The other start; the target's own where there is none."""
        R = self.target.start(z)
        new = self.change(z, R)
        return R if new is None else new

    def direction(self, z: Array) -> Array:
        """The target's."""
        return self.target.direction(z)


def _started(setting: Setting, change: Start) -> Setting | None:
    """The setting with another start; None where it has none other, or where there are several outputs."""
    graph = setting.prepared
    if len(graph.outputs) != 1:
        return None
    z, target = setting.activations[graph.outputs[0]], setting.target
    goal = fixed(as_target(target[graph.outputs[0]] if isinstance(target, Mapping) else target), z)
    R = goal.start(z)
    new = change(z, R)
    if new is None or bool((new == R).all()):
        return None
    return dataclasses.replace(setting, target=Started(goal, change))
