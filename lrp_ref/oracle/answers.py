"""What a diagnosis says."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from ..explain import Arrays
from ..values import value


@value
class Cause:
    """A variant of the catalogue, and where."""

    name: str
    says: str
    who: tuple[str, ...]
    nodes: tuple[str, ...]
    """Where it is; empty for one of the start or of the whole setting."""
    everywhere: bool
    """Whether these are all nodes where it applies."""

    def __str__(self) -> str:
        place = f" at {', '.join(self.nodes)}" if self.nodes else ""
        return f"{self.name}{place}{', wherever it applies' if self.everywhere and self.nodes else ''}"


@value
class Hypothesis:
    """Causes that together give the other framework's numbers."""

    causes: tuple[Cause, ...]
    fit: float
    """The greatest deviation that remains, relative to the greatest relevance of its tensor."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the causes, sorted."""
        return tuple(sorted(cause.name for cause in self.causes))

    def __str__(self) -> str:
        return " and ".join(map(str, self.causes))


@value
class Apart:
    """An input on which two hypotheses differ."""

    first: Hypothesis
    other: Hypothesis
    x: Arrays
    difference: float
    """How far apart they are there, relative to the greatest relevance of the input."""


@value
class Diagnosis:
    """What :func:`diagnose` found; prints as a few lines."""

    verdict: Literal["agree", "explained", "unknown"]
    tensor: str | None
    """The node or input, from the top, at whose output the relevance first differs; None on agreement."""
    node: str | None
    """The node whose step is at fault, the first of them; None on agreement, if it is the start, and if unknown."""
    suspects: tuple[str, ...]
    """The nodes between that tensor and the relevances that are known above it."""
    deviation: float
    """How far theirs is from ours there, relative to the greatest relevance; the greatest anywhere on agreement."""
    bound: float
    """What would still be agreement there: 64 times our own error, and 32 unit roundoffs at least."""
    error_by: str
    """What our own error was found by: "a certificate", or "longer arithmetic" and why."""
    hypotheses: tuple[Hypothesis, ...]
    """Those that give their numbers, the best first."""
    apart: tuple[Apart, ...] = ()
    """For the other hypotheses an input that tells them from the first, where one was found."""
    left: tuple[str, ...] = ()
    """What was not searched, and why."""

    @property
    def ambiguous(self) -> bool:
        """Whether several hypotheses with different causes give the same numbers."""
        return len({hypothesis.names for hypothesis in self.hypotheses}) > 1

    @property
    def answer(self) -> Hypothesis | None:
        """The first hypothesis."""
        return self.hypotheses[0] if self.hypotheses else None

    def to_dict(self) -> dict[str, Any]:
        """Everything but the inputs that tell hypotheses apart, as JSON can hold it."""
        return {
            "verdict": self.verdict,
            "tensor": self.tensor,
            "node": self.node,
            "suspects": list(self.suspects),
            "deviation": self.deviation,
            "bound": self.bound,
            "error_by": self.error_by,
            "ambiguous": self.ambiguous,
            "hypotheses": [
                {
                    "fit": hypothesis.fit,
                    "causes": [
                        {**_plain(cause), "who": list(cause.who), "nodes": list(cause.nodes)}
                        for cause in hypothesis.causes
                    ],
                }
                for hypothesis in self.hypotheses
            ],
            "apart": [{"other": list(apart.other.names), "difference": apart.difference} for apart in self.apart],
            "left": list(self.left),
        }

    def __str__(self) -> str:
        if self.verdict == "agree":
            return f"agree: {self.deviation:.1e} of max|R| at most, {self.bound:.1e} is rounding, by {self.error_by}"
        lines = [f'differ: first at the relevance of "{self.tensor}", by {self.deviation:.1e} of max|R|']
        lines[0] += f" ({self.bound:.1e} would be rounding, by {self.error_by})"
        if self.answer is None:
            lines.append(f"unknown: nothing in the catalogue gives these numbers at {', '.join(self.suspects)}")
        else:
            lines.append(f"because: {self.answer}; what remains is {self.answer.fit:.1e} of max|R|")
            for cause in self.answer.causes:
                lines.append(f"  {cause.name}: {cause.says}; so does {', '.join(cause.who)}")
            if self.ambiguous:
                lines.append("ambiguous: these numbers do not tell it from")
            elif len(self.hypotheses) > 1:
                lines.append("the same elsewhere would give these numbers too:")
            for other in self.hypotheses[1:]:
                told = next((a for a in self.apart if a.other == other), None)
                how = f" (an input was found on which they differ by {told.difference:.1e})" if told else ""
                lines.append(f"  {other}{how}")
        return "\n".join([*lines, *(f"not searched: {what}" for what in self.left)])


def _plain(cause: Cause) -> dict[str, Any]:
    return {field.name: getattr(cause, field.name) for field in dataclasses.fields(cause)}
