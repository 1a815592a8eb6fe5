"""Where relevance starts: a function of the logits z, as a value.

Each target also knows its `direction`, the derivative by z of what it explains, from which gradients start.
The start of logit, contrast, log_probability and log_odds is z times the direction, so that LRP-0 gives
gradient x input.
"""

from __future__ import annotations

import dataclasses
from numbers import Integral
from typing import Any, Literal, Protocol, cast

from .arrays import (
    Array,
    exp,
    greatest_class,
    is_array,
    like,
    namespace,
    near_greatest,
    number,
    on_host,
    to_host,
    total,
    where,
    zeros,
)
from .errors import GraphError, ShapeError
from .graph import Graph, Node
from .layers import Dense, SoftMinPool
from .values import value


class Target(Protocol):
    """What is explained."""

    def direction(self, z: Array) -> Array:
        """The derivative of the explained number by the logits z (batch, classes)."""
        ...

    def start(self, z: Array) -> Array:
        """The relevance put in at the logits."""
        ...


def one_hot(z: Array, classes: Any) -> Array:
    """1 at the class of each sample, 0 elsewhere; `classes` an int or one int a sample."""
    if z.ndim != 2:
        raise ShapeError(f"the output has shape {z.shape}, not (batch, classes): give the start relevance as an array")
    xp = namespace(z)
    picked = on_host(classes)  # so that a device is not waited for
    if picked.dtype.kind not in "iu" or picked.shape not in ((), (len(z),)):
        raise ShapeError(f"target {classes!r}: need an int, or one int for each of {len(z)} samples")
    if bool(((picked < -z.shape[1]) | (picked >= z.shape[1])).any()):
        raise ShapeError(f"target {classes!r}: the output has {z.shape[1]} classes")
    hot = zeros(z.shape, z)
    hot[xp.arange(len(z)), xp.asarray(picked)] = number(1, z)
    return hot


def softmax(z: Array) -> Array:
    """exp(z_k) / sum exp(z)."""
    powers = exp(z - near_greatest(z, 1))
    return powers / total(powers, (1,), keepdims=True)


def _key(classes: Any) -> Any:
    """Classes as an int or a tuple of ints, so that targets compare and hash."""
    if is_array(classes):
        classes = to_host(classes).tolist()
    each = classes if isinstance(classes, (list, tuple)) else [classes]
    if any(isinstance(k, bool) or not isinstance(k, Integral) for k in each):
        raise ShapeError(f"class {classes!r}: need an int, or one int a sample")
    return tuple(int(k) for k in each) if each is classes else int(each[0])


@value
class _OfClass:
    """What is explained about class k: an int, or one int a sample."""

    k: Any

    def __post_init__(self) -> None:
        object.__setattr__(self, "k", _key(self.k))


class logit(_OfClass):
    """The logit z_k; k an int, or one int a sample."""

    def direction(self, z: Array) -> Array:
        """e_k."""
        return one_hot(z, self.k)

    def start(self, z: Array) -> Array:
        """z_k at k."""
        return z * self.direction(z)


@value
class argmax:
    """The greatest logit of each sample, the first of equals."""

    def direction(self, z: Array) -> Array:
        """e_k at the greatest."""
        return one_hot(z, greatest_class(z) if z.ndim == 2 else 0)

    def start(self, z: Array) -> Array:
        """Its value."""
        return z * self.direction(z)


class one(_OfClass):
    """The logit z_k with relevance 1 instead of its value."""

    def direction(self, z: Array) -> Array:
        """e_k."""
        return one_hot(z, self.k)

    def start(self, z: Array) -> Array:
        """1 at k."""
        return self.direction(z)


class probability(_OfClass):
    """The softmax probability p_k, as relevance of logit k."""

    def direction(self, z: Array) -> Array:
        """p_k (e_k - p)."""
        p, hot = softmax(z), one_hot(z, self.k)
        return total(p * hot, (1,), keepdims=True) * (hot - p)

    def start(self, z: Array) -> Array:
        """p_k at k."""
        return softmax(z) * one_hot(z, self.k)


@value
class contrast:
    """The difference z_i - z_j of two logits."""

    i: Any
    j: Any

    def __post_init__(self) -> None:
        object.__setattr__(self, "i", _key(self.i))
        object.__setattr__(self, "j", _key(self.j))

    def direction(self, z: Array) -> Array:
        """e_i - e_j."""
        return one_hot(z, self.i) - one_hot(z, self.j)

    def start(self, z: Array) -> Array:
        """z_i at i and -z_j at j."""
        return z * self.direction(z)


class log_probability(_OfClass):
    """log p_k."""

    def direction(self, z: Array) -> Array:
        """e_k - p."""
        return one_hot(z, self.k) - softmax(z)

    def start(self, z: Array) -> Array:
        """z (e_k - p)."""
        return z * self.direction(z)


class log_odds(_OfClass):
    """eta = log(p_k / (1 - p_k)), with the chapter's weighting.

    The start is z (e_k - pi), pi_d = p_d / (1 - p_k) for d != k: its total is eta + H(pi), H the entropy. For
    a start that totals eta see :func:`with_log_odds`.
    """

    def direction(self, z: Array) -> Array:
        """e_k - pi."""
        hot = one_hot(z, self.k)
        others = where(hot == number(1, z), near_greatest(z, 1, least=True), z)
        powers = (number(1, z) - hot) * exp(others - near_greatest(others, 1))
        return hot - powers / total(powers, (1,), keepdims=True)

    def start(self, z: Array) -> Array:
        """z (e_k - pi)."""
        return z * self.direction(z)


def as_target(target: Any) -> Target:
    """A target from what `explain` accepts: a target, None, an int, an int array, or the start relevance itself."""
    if target is None:
        return argmax()
    if hasattr(target, "start") and hasattr(target, "direction"):
        return cast(Target, target)
    if is_array(target) and target.dtype.kind in "fO":
        return StartRelevance(target)
    return logit(target)


def fixed(target: Target, z: Array) -> Target:
    """The target as it stays when z changes: argmax as the logit of the class that is greatest now."""
    if isinstance(target, argmax) and z.ndim == 2:
        return logit(greatest_class(z))
    return target


def repeated(target: Target, times: int) -> Target:
    """The target of one sample for that many copies of it."""
    one: Any = target
    changed: dict[str, Any] = {}
    for field in dataclasses.fields(one) if dataclasses.is_dataclass(one) else ():
        old = getattr(one, field.name)
        if isinstance(old, tuple) and len(old) == 1:
            changed[field.name] = old * times
        elif is_array(old) and len(old) == 1:
            changed[field.name] = namespace(old).repeat(old, times, axis=0)
    return cast(Target, dataclasses.replace(one, **changed)) if changed else target


@value
class StartRelevance:
    """Start relevance given as an array of the output's shape."""

    R: Array
    __eq__, __hash__ = object.__eq__, object.__hash__

    def direction(self, z: Array) -> Array:
        """The array itself: the derivative of sum R_k z_k."""
        return self.start(z)

    def start(self, z: Array) -> Array:
        """The array."""
        if tuple(self.R.shape) != tuple(z.shape):
            raise ShapeError(f"target: start relevance has shape {self.R.shape}, the output {z.shape}")
        return like(self.R, z)


def with_contrast(graph: Graph, i: int, j: int) -> Graph:
    """The graph whose one output is z_i - z_j: the last dense layer becomes w_i - w_j.

    Agrees with the target contrast(i, j) under LRP-0; under rules that treat weights by sign the two differ.
    """
    node, layer = _last_dense(graph)
    weight = layer.weight[:, [i]] - layer.weight[:, [j]]
    bias = None if layer.bias is None else layer.bias[[i]] - layer.bias[[j]]
    return graph.with_layers({node.name: Dense(weight=weight, bias=bias)})


def with_log_odds(graph: Graph, k: int, share: Literal["z", "eta"] = "eta") -> Graph:
    """The graph whose one output is eta = log(p_k / (1 - p_k)).

    The last dense layer becomes the differences w_k - w_d to all other classes d, and a soft-min pool takes
    eta from them. ``share="eta"`` conserves; ``share="z"`` is the chapter's weighting (see SoftMinPool).
    Montavon et al. 2019.
    """
    node, layer = _last_dense(graph)
    others = [d for d in range(layer.weight.shape[1]) if d != k % layer.weight.shape[1]]
    weight = layer.weight[:, [k]] - layer.weight[:, others]
    bias = None if layer.bias is None else layer.bias[[k]] - layer.bias[others]
    differences = graph.with_layers({node.name: Dense(weight=weight, bias=bias)})
    pool = Node(f"{node.name}.log_odds", SoftMinPool(share=share), node.name)
    return dataclasses.replace(differences, nodes=[*differences.nodes, pool], outputs=pool.name)


def _last_dense(graph: Graph) -> tuple[Node, Dense]:
    node = graph[graph.outputs[0]]
    if len(graph.outputs) > 1 or not isinstance(node.layer, Dense):
        raise GraphError(f'the output "{node.name}" ({node.kind}) must be the only one, and a Dense layer')
    return node, node.layer
