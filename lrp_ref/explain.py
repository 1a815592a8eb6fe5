"""explain(): one forward pass, one walk back through the graph, and the books."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

from .arrays import Array, like, sample_sums
from .audit import poles
from .composites import Assignment, Composite, as_composite
from .errors import GraphError, Pole, ShapeError
from .graph import Graph, Node, naming
from .ledger import Entry, Ledger, entry
from .propagate import Rule
from .targets import StartRelevance, Target, as_target, fixed
from .text import near
from .values import value

if TYPE_CHECKING:
    from pathlib import Path

    from .fast import Prepared

Arrays = Array | Mapping[str, Array]


@value
class Explanation:
    """What :func:`explain` found."""

    relevance: Arrays
    """Relevance of the input, in its shape and arithmetic; a dict by name if the graph has several inputs."""
    output: Arrays
    """The network's output; a dict by name if it has several."""
    rules: Assignment
    """The rule of each node; prints as a table with the case that chose it."""
    ledger: Ledger
    """For each node and sample what came, what went, and where the rest stayed."""
    relevances: Mapping[str, Array]
    """The relevance at each node's output and at the inputs (only these with ``keep="input"``)."""
    activations: Mapping[str, Array]
    """The output of each node and the inputs (only these with ``keep="input"``)."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Other names that nodes answer to."""
    engine: Mapping[str, str] = field(default_factory=dict)
    """What computed each node's relevance: "plain", or the kernel's name; "skipped" where none came."""
    graph: Graph | None = None
    """The network, as the composite prepared it and in the arithmetic of the input; None if read from a file."""
    targets: Mapping[str, Target] = field(default_factory=dict)
    """What was explained of each output, the greatest logit by its class; empty if read from a file."""

    def at(self, name: str) -> Array:
        """The relevance at the output of the named node, or of the named input; after a mask, if it has one."""
        node = self.aliases.get(name, name)
        if node not in self.relevances:
            raise GraphError(
                f'no relevance was kept at "{name}"{near(name, list(self.relevances))}; '
                f'explain(..., keep="all") keeps it at every node that relevance passed'
            )
        return self.relevances[node]

    def save(self, path: str | Path) -> None:
        """Write relevances, rules, ledger and versions to one file (npz with JSON); read it with ``lrp_ref.read``."""
        from .store import save

        save(self, path)

    def __repr__(self) -> str:
        return f"Explanation({', '.join(sorted(set(self.engine.values()))) or 'plain'}, {len(self.rules)} nodes)"


def read(path: str | Path, *, constructors: Mapping[str, Any] | None = None) -> Explanation:
    """The explanation written to `path` by ``Explanation.save``.

    Parameters
    ----------
    path : str or Path
    constructors : {name: class} of rules and stabilizers that are not this library's own, by the name they print

    Raises
    ------
    LrpError
        if the file is not such a file; arrays are not larger than the file, and nothing is pickled.
    """
    from .store import load

    return load(path, constructors or {})


def explain(
    graph: Graph,
    x: Arrays,
    composite: Composite | Rule,
    target: Any = None,
    *,
    edit: Mapping[str, Array] | None = None,
    keep: Literal["all", "input"] = "all",
    strict: bool = False,
    engine: Literal["plain", "fast"] | None = None,
) -> Explanation:
    """Relevance of the inputs for what the network says of them.

    Parameters
    ----------
    graph : Graph
    x : array (batch, ...) of float32, float64, longdouble, or exact rationals (:func:`exact`); a dict by name
        if the graph has several inputs. The graph's parameters are taken into its arithmetic.
    composite : Composite, or a Rule for every node that is not a wire
    target : what is explained: a class (int, or one int a sample: its logit), a target such as contrast(3,
        5), an array of start relevance in the output's shape, or None for the greatest logit of each sample;
        a dict by name if the graph has several outputs
    edit : {node or input: array that broadcasts to its relevance}, multiplied onto the relevance on its way
    keep : "all" keeps relevance and activations of every node, "input" those of the inputs only
    strict : raise Pole where a denominator is exactly 0 although relevance and contributions are not
    engine : "plain", the readable path; "fast", the same numbers to rounding in less time, for float32 and float64;
        or None: fast where it can be had. The result's `engine` says what computed each node.

    Returns
    -------
    Explanation
        in the arithmetic of x.

    Raises
    ------
    LrpError
        of the kind that fits, naming input, node or case.
    """
    if keep not in ("all", "input"):
        raise GraphError(f'keep={keep!r}: need "all" or "input"')
    if engine not in (None, "plain", "fast"):
        raise GraphError(f'engine={engine!r}: need "plain" or "fast", or None for the one that fits')
    composite = as_composite(composite)
    values = graph.check_inputs(x)
    if engine == "fast" or (engine is None and _quick(values)):
        return prepare(graph, composite).explain(values, target, edit=edit, keep=keep, strict=strict)
    graph = composite.prepare(graph.like(values))
    rules = composite.assign(graph)
    activations = graph.forward(values)
    masks = checked_edit(graph, edit or {}, activations)

    targets = targets_of(graph, activations, target)
    start = {name: goal.start(activations[name]) for name, goal in targets.items()}
    outputs = {name: activations[name] for name in graph.outputs}
    relevance = dict(start)
    entries: list[Entry] = []
    for node in reversed(graph.nodes):
        if node.name not in relevance:
            continue  # no output depends on it
        inputs = [activations[source] for source in node.inputs]
        came = relevance[node.name]
        R = relevance[node.name] = masked(came, masks, node.name)
        with naming(node):
            if strict:
                refuse_poles(rules[node.name], node, inputs, R)
            R_in, absorbed = rules[node.name].back(node.layer, inputs, R)
        entries.append(entry(node.name, node.kind, came, R, node.inputs, R_in, absorbed))
        for source, R_source in zip(node.inputs, R_in, strict=True):
            relevance[source] = relevance[source] + R_source if source in relevance else R_source
        if keep == "input":
            del relevance[node.name], activations[node.name]

    edited = {}
    for name in graph.inputs:
        came = relevance.get(name, values[name] * 0)
        relevance[name] = masked(came, masks, name)
        if name in masks:
            edited[name] = sample_sums(came - relevance[name])
    ledger = Ledger(
        entries,
        start={name: sample_sums(R) for name, R in start.items()},
        arrived={name: sample_sums(relevance[name]) for name in graph.inputs},
        edited_inputs=edited,
    )
    computed_by = {entry.node: "plain" for entry in entries}
    return explained(graph, rules, targets, outputs, relevance, activations, ledger, computed_by, keep=keep)


def explained(
    graph: Graph, rules: Assignment, targets: Mapping[str, Target], outputs: Mapping[str, Array],
    relevance: Mapping[str, Array], activations: Mapping[str, Array], ledger: Ledger, computed_by: Mapping[str, str],
    *, keep: str,
) -> Explanation:  # fmt: skip
    """What was found, as far as it was to be kept."""
    kept = graph.inputs if keep == "input" else [*graph.inputs, *(node.name for node in graph.nodes)]
    return Explanation(
        relevance=one_or_all({name: relevance[name] for name in graph.inputs}),
        output=one_or_all(outputs),
        rules=rules,
        ledger=ledger,
        relevances={name: relevance[name] for name in kept if name in relevance},
        activations={name: activations[name] for name in kept},
        aliases=graph.aliases,
        engine=computed_by,
        graph=graph,
        targets=targets,
    )


def prepare(
    graph: Graph, composite: Composite | Rule, *, x: Arrays | None = None, threads: int | None = None
) -> Prepared:
    """The graph made ready for many explanations: weights are derived once, and memory is used again.

    Parameters
    ----------
    graph, composite : as for :func:`explain`
    x : an input like those to come; with it the weights are derived and the memory is allocated now, else by the first
        call
    threads : how many threads matrix products take, during a call; None: as numpy was told. Needs the extra
        ``threads``. Results do not depend on it by more than rounding.

    Returns
    -------
    Prepared
        whose ``explain(x, target)`` gives what :func:`explain` does, for float32 and float64
    """
    from .fast import Prepared

    return Prepared(graph, composite, x=x, threads=threads)


def _quick(values: Mapping[str, Array]) -> bool:
    """Whether lrp_ref.fast is there, and computes such numbers."""
    first = next(iter(values.values()))
    return find_spec("lrp_ref.fast") is not None and first.dtype.char in "fd"


def targets_of(graph: Graph, activations: Mapping[str, Array], target: Any) -> dict[str, Target]:
    """The target of each output that has one, the greatest logit as that of its class."""
    if len(graph.outputs) == 1 and not isinstance(target, Mapping):
        target = {graph.outputs[0]: target}
    if not isinstance(target, Mapping) or not target or set(target) - set(graph.outputs):
        raise GraphError(f"target: the outputs are {list(graph.outputs)}: give a dict with a target for some or all")
    goals = {}
    for name, wanted in target.items():
        goal, node = as_target(wanted), graph[name]
        if node.layer.probabilities and not isinstance(goal, StartRelevance):
            raise GraphError(
                f'target: node "{name}" ({node.kind}) gives probabilities, relevance starts from logits: '
                f"strip it, and name the node before it as the output"
            )
        goals[name] = fixed(goal, activations[name])
    return goals


def checked_edit(graph: Graph, edit: Mapping[str, Array], activations: Mapping[str, Array]) -> dict[str, Array]:
    """The masks in the arithmetic of the activations, each fitting the relevance that it multiplies."""
    masks = {}
    for given, mask in edit.items():
        name = graph.resolve(given)
        if name not in activations:
            raise GraphError(f'edit: no node or input "{given}"{near(given, list(activations))}')
        masks[name] = like(mask, activations[name])
        shape = activations[name].shape
        extra = masks[name].ndim - len(shape)
        if extra > 0 or any(n not in (1, size) for n, size in zip(masks[name].shape, shape[-extra:], strict=False)):
            raise ShapeError(f'edit: an array of shape {masks[name].shape} does not broadcast to "{name}" {shape}')
    return masks


def masked(R: Array, edit: Mapping[str, Array], name: str) -> Array:
    """R times the mask of the node or input named, if it has one."""
    return R * edit[name] if name in edit else R


def one_or_all(arrays: Mapping[str, Array]) -> Arrays:
    """The only array, or all by name."""
    return next(iter(arrays.values())) if len(arrays) == 1 else dict(arrays)


def refuse_poles(rule: Rule, node: Node, inputs: list[Array], R: Array) -> None:
    """Raise Pole for the first output of the node whose denominator is 0 although it has relevance to deal out."""
    if not rule.shares():
        return  # nothing is divided
    frozen, a = rule.linear_map(node.layer, inputs)
    found = poles(frozen, rule, a, R)
    if bool(found.any()):
        sample, *unit = (int(index[0]) for index in found.nonzero())
        raise Pole(
            f"sample {sample}, unit {tuple(unit)}: the denominator of {rule!r} is exactly 0, "
            f"although relevance and contributions are not; give the rule an epsilon"
        )
