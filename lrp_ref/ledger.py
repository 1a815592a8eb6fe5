"""The books: for every node and sample, what relevance came, what went on, and where the rest stayed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

from .arrays import Array, divide, floats, number, sample_sums, where, zeros
from .text import table
from .values import value


@value
class Absorbed:
    """What a layer did not hand on, for each of its outputs (arrays of the output's shape).

    Booked directly, never as a remainder: a remainder balances whatever the code does.
    """

    bias: Array
    """s_k b_k, the share of the bias."""
    stabilizer: Array
    """s_k e_k, the share of the stabilizer."""
    unclaimed: Array
    """portion R_k where the denominator is exactly 0, and (1 - sum of portions) R_k."""
    poles: Array
    """Whether a denominator is exactly 0 where R_k is not."""
    empty: Array
    """The same in a part that only takes contributions of one sign: nothing of that sign is there."""

    @classmethod
    def undealt(cls, R: Array, portions: Sequence[Array]) -> Self:
        """(1 - sum of portions) R is unclaimed."""
        nothing, never = R * number(0, R), R != R
        return cls(nothing, nothing, (number(1, R) - sum(portions)) * R, never, never)

    @classmethod
    def share(cls, dealt: Array, z: Array, e: Array, bias: Array, stabilizer: Array, *, one_sign: bool) -> Self:
        """One share: of `dealt`, what bias and stabilizer take, and all of it where the denominator z + e is 0."""
        dry = (z + e == 0) & (dealt != 0)
        never = z != z
        unclaimed = where(dry, dealt, number(0, dealt))
        if one_sign:
            return cls(bias, stabilizer, unclaimed, dry & (z != 0), (z == 0) & (dealt != 0))
        return cls(bias, stabilizer, unclaimed, dry, never)

    def __add__(self, other: Absorbed) -> Absorbed:
        return Absorbed(
            self.bias + other.bias,
            self.stabilizer + other.stabilizer,
            self.unclaimed + other.unclaimed,
            self.poles | other.poles,
            self.empty | other.empty,
        )


@value
class Entry:
    """One node's books; each number is an array with one value a sample."""

    node: str
    kind: str
    came: Array
    """Relevance of the node's output."""
    sent: Mapping[str, Array]
    """What went to each node or input that this one reads."""
    bias: Array
    stabilizer: Array
    unclaimed: Array
    edited: Array
    """What a mask of ``edit=`` took away (negative: added) before the node dealt its relevance out."""
    magnitude_out: Array
    """sum |R| that the node dealt out."""
    magnitude_in: Array
    """sum |R| that arrived at its inputs."""
    poles: Array
    """How many of its outputs have a denominator of exactly 0 and relevance."""
    empty: Array
    """How many have an empty part."""

    @property
    def went(self) -> Array:
        """Relevance handed on to all inputs together."""
        return sum(self.sent.values())

    @property
    def absorbed(self) -> Array:
        """bias + stabilizer + unclaimed + edited."""
        return self.bias + self.stabilizer + self.unclaimed + self.edited

    @property
    def amplification(self) -> Array:
        """sum |R_in| / sum |R_out|; 0 where no relevance came."""
        return divide(self.magnitude_in, self.magnitude_out)

    def balance(self) -> Array:
        """came - went - absorbed: 0 in exact arithmetic, rounding in floats."""
        return self.came - self.went - self.absorbed


@value
class Ledger:
    """The entries of all nodes that relevance passed, from the output down."""

    entries: Sequence[Entry]
    start: Mapping[str, Array]
    """Relevance put in at each output, per sample."""
    arrived: Mapping[str, Array]
    """Relevance of each input, per sample."""
    edited_inputs: Mapping[str, Array]
    """What a mask took away at an input itself."""

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, node: str) -> Entry:
        for entry in self.entries:
            if entry.node == node:
                return entry
        raise KeyError(f'no relevance passed a node "{node}"; the ledger has {[e.node for e in self.entries]}')

    @property
    def absorbed(self) -> Array:
        """All that was absorbed anywhere, per sample."""
        return sum([entry.absorbed for entry in self.entries], start=sum(self.edited_inputs.values()))

    def balance(self) -> Array:
        """start - relevance of the inputs - all absorbed: the books closed end to end."""
        return sum(self.start.values()) - sum(self.arrived.values()) - self.absorbed

    def fan_in(self) -> dict[str, Array]:
        """For each node and input: what came minus what its consumers sent and what was put in there."""
        sent: dict[str, Any] = dict(self.start)
        for entry in self.entries:
            for source, amount in entry.sent.items():
                sent[source] = sent[source] + amount if source in sent else amount
        came = {entry.node: entry.came for entry in self.entries}
        for name, amount in self.arrived.items():
            came[name] = amount + self.edited_inputs.get(name, 0)
        return {name: came[name] - sent[name] if name in sent else came[name] for name in came}

    def table(self, sample: int = 0) -> str:
        """The books of one sample, to print."""
        parts = ("came", "went", "bias", "stabilizer", "unclaimed", "edited")
        head = ("node", "layer", *parts, "amplified", "")
        rows = [
            (
                entry.node,
                entry.kind,
                *(_short(getattr(entry, part), sample) for part in parts),
                _short(entry.amplification, sample, zero="0"),
                _mark(entry, sample),
            )
            for entry in self.entries
        ]
        for name, amount in self.arrived.items():
            edited = _short(self.edited_inputs[name], sample) if name in self.edited_inputs else "."
            rows.append((name, "(input)", _short(amount, sample), "", "", "", "", edited, "", ""))
        return table(head, rows)

    def __str__(self) -> str:
        return self.table()


def _short(values: Any, sample: int, zero: str = ".") -> str:
    value = floats(values[sample : sample + 1])[0]
    return f"{value:.5g}" if value else zero


def _mark(entry: Entry, sample: int) -> str:
    poles, empty = int(entry.poles[sample]), int(entry.empty[sample])
    marks = [f"zero denominators: {poles}"] if poles else []
    marks += [f"empty parts: {empty}"] if empty else []
    return ", ".join(marks)


def entry(
    node: str,
    kind: str,
    came: Array,
    dealt: Array,
    sources: Sequence[str],
    R_in: Sequence[Array],
    absorbed: Absorbed,
) -> Entry:
    """The books of one node: `came` before and `dealt` after a mask, `R_in` what each source received."""
    sent: dict[str, Any] = {}
    for source, R in zip(sources, R_in, strict=True):
        amount = sample_sums(R)
        sent[source] = sent[source] + amount if source in sent else amount
    units = tuple(range(1, came.ndim))
    return Entry(
        node=node,
        kind=kind,
        came=sample_sums(came),
        sent=sent,
        bias=sample_sums(absorbed.bias),
        stabilizer=sample_sums(absorbed.stabilizer),
        unclaimed=sample_sums(absorbed.unclaimed),
        edited=sample_sums(zeros((len(came), 1), came) if dealt is came else came - dealt),
        magnitude_out=sample_sums(abs(dealt)),
        magnitude_in=sum(sample_sums(abs(R)) for R in R_in),
        poles=absorbed.poles.sum(axis=units),
        empty=absorbed.empty.sum(axis=units),
    )
