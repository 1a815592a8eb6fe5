"""What goes through the engine: relevance with its sums, and what a step is told and must be able to do."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from ..arrays import Array, namespace, zeros
from ..layers.base import Shape
from .memory import Memory, same_rows
from .sweep import Books, finished


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
        (rows,) = same_rows([R], memory)
        found = finished(rows, None, None, len(R), memory)
        return cls(R, found.sum, found.magnitude, ours)

    @classmethod
    def none(cls, shape: Shape, like: Array) -> Flow:
        """No relevance, for an array of `shape`."""
        nothing = namespace(like).zeros(len(like))
        return cls(zeros(shape, like), nothing, nothing, ours=False)


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

    def forward(self, inputs: Sequence[Array], memory: Memory) -> tuple[Array, Any]:
        """z, and what `back` wants to know of it."""
        ...

    def back(self, call: Call, flow: Flow) -> tuple[list[Flow], Books, str]:
        """The relevance of each input, the books, and the name of what computed it."""
        ...


class Call(NamedTuple):
    """What a step meets on the way back; inputs and output are None where it does not need them."""

    inputs: Sequence[Any]
    shapes: Sequence[Shape]
    z: Any
    known: Any
    """What its `forward` gave it to know."""
    memory: Memory


def books_of(R: Array) -> Books:
    """Empty books, where R is."""
    return Books(len(R), namespace(R))
