"""The fused step of convolutions and dense layers.

Forward, the denominators of the rule ride along: one pass over the columns of `a` makes z and each share's own z'. If
both signs of weights are wanted, z = z+ + z- is their sum, and never z- the difference, which would cancel. Back, each
share is divided in one pass, and the shares that multiply the same input are given back in one product.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..arrays import Array, namespace, negative, number, positive, zeros
from ..layers import Layer, ReLU
from ..layers.base import Linear
from ..propagate import Rule, Share, Term, Transform, keep
from ..rules import Raised, one, where_negative, where_positive
from ..stabilize import BY_ELEMENT, Signed
from ..values import value
from .activation import activate
from .flow import Call, Flow, books_of
from .memory import Memory, on_device
from .operators import Operator
from .sweep import Books, Deal, within

_SIGNS: dict[Any, str] = {where_positive: "positive", where_negative: "negative"}


@value
class Active:
    """A share that deals something out: its index, the terms that are not 0, and its portion."""

    index: int
    terms: tuple[Term, ...]
    portion: float | str
    one_sign: bool
    own_is_z: bool
    """Whether its z' is the layer's z."""
    positive: bool
    """Whether its z' is positive wherever it deals something out."""


@value
class Ridden:
    """What the forward pass found out for the way back."""

    not_negative: bool
    own: dict[int, Array]
    """z' of the shares that rode along, by their index."""


def fits(rule: Rule) -> bool:
    """Whether the rule's shares are all that there is to it, and their portions can be dealt out block by block."""
    return rule.only_shares and all(not callable(s.portion) or s.portion in _SIGNS for s in rule.shares())


def rectifiable(read_by: Layer | None, rule: Rule, *, dead: bool) -> bool:
    """Whether z may be what a ReLU makes of it although it is needed: where z <= 0 there is no relevance to divide."""
    return type(read_by) is ReLU and dead and type(rule.stabilizer) in BY_ELEMENT


class Product:
    """A convolution or dense layer under a rule: a :class:`Step`.

    Parameters
    ----------
    dead : whether R is 0 wherever z <= 0, because only ReLUs read z and they were dealt nothing there
    not_negative : whether it is known that a >= 0; else it is looked at
    read_by : the activation that alone reads z, if it is not kept: z becomes what it makes of it, unless z is needed
    """

    def __init__(
        self, layer: Linear, operator: Operator, rule: Rule, *, dead: bool, not_negative: bool, read_by: Layer | None
    ) -> None:
        self.layer, self.operator, self.rule, self.dead = layer, operator, rule, dead
        self.not_negative = not_negative
        self._derived: dict[Any, Any] = {}
        self._active = {sign: self._actives(not_negative=sign) for sign in (False, True)}
        either = [share for active in self._active.values() for share in active]
        self.needs_input = any(term.x is not one for share in either for term in share.terms)
        self.needs_output = any(share.own_is_z or isinstance(share.portion, str) for share in either)
        self.then = read_by if not self.needs_output or rectifiable(read_by, rule, dead=dead) else None

    # --- what the rule comes to ------------------------------------------------------------------

    def _actives(self, *, not_negative: bool) -> list[Active]:
        """The shares that deal something out, without the terms that are 0 for inputs >= 0."""
        found = []
        for index, share in enumerate(self.rule.shares()):
            portion: Any = _SIGNS[share.portion] if callable(share.portion) else share.portion
            if self.dead and isinstance(portion, str):
                portion = 1 if portion == "positive" else 0
            if portion == 0:
                continue
            terms = tuple(term for term in share.terms if not (not_negative and term.x is negative))
            own_bias = self.rule.bias == "raw" or (self.rule.bias == "rule" and [t.b for t in share.terms] == [keep])
            # z > 0 wherever R is not 0, and where a >= 0 more weight only adds to it
            one_term = len(terms) == 1 and _same(terms[0].x, not_negative)
            as_it_is = one_term and terms[0].w is keep and own_bias
            adds = terms[0].w is keep or (not_negative and _kind(terms[0].w)[0] == "+")
            lifted = self.dead and one_term and adds and self.rule.bias in ("rule", "raw")
            found.append(Active(index, terms, portion, share.one_sign, as_it_is, lifted))
        return found

    def derived(self, key: Any, make: Callable[[], Any]) -> Any:
        """A value that depends on weights and rule alone, made once."""
        if key not in self._derived:
            self._derived[key] = make()
        return self._derived[key]

    def _weight(self, a: Array) -> Array:
        return self.layer.parameters(a)[0]

    def _matrix(self, a: Array, transform: Transform) -> Array:
        key = ("matrix", _key(transform))
        return self.derived(key, lambda: self.operator.matrix(transform(self._weight(a))))

    def _transposed(self, a: Array, transforms: Sequence[Transform]) -> Array:
        key = ("transposed", *map(_key, transforms))
        return self.derived(key, lambda: self.operator.transposed([w(self._weight(a)) for w in transforms]))

    def _bias(self, a: Array, index: int | None) -> Array | None:
        """The bias of z (None) or of a share's z', a number a channel or a row a position; None for 0."""

        def make() -> Array | None:
            layer = self.layer.frozen(a)
            weight, bias = layer.parameters(a)
            if index is not None:
                terms = tuple(Term(b=term.b) for term in self.rule.shares()[index].terms)
                _, _, bias = self.rule.modified(Share(terms), a[:0], weight, bias)
            if not bool(bias.any()):
                return None
            if bias.ndim == 1 or bias[0].size == 1:
                return bias.reshape(-1)
            return namespace(a).ascontiguousarray(bias.reshape(len(bias), -1).T)

        sized = a.shape[2:] if getattr(self.layer, "tap_bias", None) is not None else ()
        return self.derived(("bias", index, sized), make)

    # --- forward -----------------------------------------------------------------------------------

    def forward(self, inputs: Sequence[Array], memory: Memory) -> tuple[Array, Ridden]:
        """z, and what rode along."""
        (a,) = inputs
        operator, shape, xp = self.operator, self.operator.output(a.shape), namespace(a)
        seen = self.not_negative or not a.size
        not_negative = seen or (not on_device(a) and bool(a.min() >= 0))  # a device is not waited for
        z = operator.empty(shape, a, memory)
        riding: list[tuple[Active, Transform]] = []
        for share in self._active[not_negative]:
            if len(share.terms) == 1 and _same(share.terms[0].x, not_negative) and not share.own_is_z:
                riding.append((share, share.terms[0].w))
        own = {share.index: operator.empty(shape, a, memory) for share, _ in riding}
        outs = {share.index: operator.rows(own[share.index], memory) for share, _ in riding}
        z_rows = operator.rows(z, memory)
        biases = {index: self._bias(a, index) for index in (None, *outs)}
        each = len(z_rows) // max(1, len(a))
        kinds = [_kind(w) for _, w in riding]
        split = sorted(k for k, _ in kinds) == ["+", "-"] if len(kinds) == 2 else False
        if split:
            parts = [positive if kind == "+" else negative for kind, _ in kinds]
            wanted = [(self._matrix(a, w), outs[share.index]) for w, (share, _) in zip(parts, riding, strict=True)]
        else:
            wanted = [(self._matrix(a, keep), z_rows)]
            wanted += [(self._matrix(a, w), outs[share.index]) for share, w in riding]

        def finish_block(first: int, last: int) -> None:
            blocks = [outs[share.index][first:last] for share, _ in riding]
            block = z_rows[first:last]
            if split:
                xp.add(blocks[0], blocks[1], out=block)
                for part, (_, gamma) in zip(blocks, kinds, strict=True):
                    if gamma is not None:  # w + gamma w+ is z + gamma z+
                        xp.multiply(part, number(gamma, part), out=part)
                        xp.add(part, block, out=part)
            for index, rows in zip((None, *outs), (block, *blocks), strict=True):
                _add_bias(rows, biases[index], first, each)
            if self.then:
                activate(self.then, block, block)

        def finish(first: int, last: int) -> None:
            for start, stop in within(first, last, each, z_rows.shape[1]):
                finish_block(start, stop)

        def finish_there(first: int, last: int) -> None:
            from .device import lifted

            gammas = [gamma for _, gamma in kinds] if split else None
            parts = [rows[first:last] for rows in outs.values()]
            rectified = type(self.then) is ReLU
            lifted(z_rows[first:last], parts, list(biases.values()), gammas, rectified=rectified)
            if self.then and not rectified:
                activate(self.then, z_rows[first:last], z_rows[first:last])

        one_kernel = on_device(a) and len(riding) <= 2 and all(b is None or b.ndim == 1 for b in biases.values())
        last_step = finish_there if one_kernel else finish_block if on_device(a) else finish
        operator.products(a, [m for m, _ in wanted], [out for _, out in wanted], memory, last_step)
        return z, Ridden(not_negative, own)

    # --- back ---------------------------------------------------------------------------------------

    def back(self, call: Call, flow: Flow) -> tuple[list[Flow], Books, str]:
        """Each share is divided in one pass, and given back in as few products as can be."""
        operator, ridden, memory, books = self.operator, call.known, call.memory, books_of(flow.R)
        (a,), (shape,), R, batch = call.inputs, call.shapes, flow.R, len(flow.R)
        if a is None:
            a = namespace(R).broadcast_to(zeros((), R), shape)
        active, rows = self._active[ridden.not_negative], operator.rows(R, memory)
        made: dict[Any, Array] = {}

        def x_of(term: Term) -> Array:
            if _same(term.x, ridden.not_negative):
                return a
            key = _key(term.x)
            if key not in made:
                made[key] = term.x(a)
            return made[key]

        givers: dict[Any, list[tuple[Active, Term]]] = {}  # by the input that they multiply
        for share in active:
            for term in share.terms:
                x_key = keep if _same(term.x, ridden.not_negative) else _key(term.x)
                givers.setdefault(x_key, []).append((share, term))
        books.shares = len(active)
        signed = [share.index for share in active if isinstance(share.portion, str)]
        if not signed and (left := 1 - sum(float(share.portion) for share in active)):
            books.unclaimed = books.unclaimed + left * flow.sum
        outputs = rows.shape[1]
        every = None
        if operator.stacks and len(active) > 1 and len(givers) == 1 and all(len(each.terms) == 1 for each in active):
            every = memory.array((len(rows), len(active) * outputs), R)
        s: dict[int, Array] = {}
        dealt = {}
        for i, share in enumerate(active):
            if every is not None:
                s[share.index] = every[:, i * outputs : (i + 1) * outputs]
            else:
                in_place = flow.ours and len(active) == 1 and rows.flags.c_contiguous
                s[share.index] = rows if in_place else memory.array(rows.shape, R)
            deal = self._deal(share, a, call.z, ridden, x_of, memory, neither=signed[:1] == [share.index])
            dealt[share.index] = deal.divide(rows, s[share.index], batch, books, memory)
        books.count()
        given: dict[int, tuple[Array, list[tuple[Array, Array | None]]]] = {}  # by the s that is given back
        for pairs in givers.values():
            x = None if pairs[0][1].x is one else x_of(pairs[0][1])
            if every is not None and all(dealt.values()):
                together = [(every, [term.w for _, term in pairs])]
            else:
                together = [(s[share.index], [term.w]) for share, term in pairs if dealt[share.index]]
            for each, weights in together:
                given.setdefault(id(each), (each, []))[1].append((self._transposed(a, weights), x))
        R_in, found = None, None
        for i, (each, terms) in enumerate(given.values(), start=1):
            contiguous = namespace(R).ascontiguousarray(each)
            R_in, found = operator.adjoint(contiguous, terms, shape, memory, R_in, counted=i == len(given))
        if R_in is None or found is None:
            return [Flow.of(zeros(shape, R), memory, ours=True)], books, computed(R)
        return [Flow(R_in, found.sum, found.magnitude, ours=True)], books, computed(R)

    def _deal(
        self, share: Active, a: Array, z: Any, ridden: Ridden, x_of: Callable[[Term], Array], memory: Memory,
        *, neither: bool,
    ) -> Deal:  # fmt: skip
        rule, rows = self.rule, self.operator.rows
        own = z if share.own_is_z else ridden.own.get(share.index)
        bias = self._bias(a, share.index)
        if own is None:
            own = self._own(share, a, x_of, memory, bias)
        e = None if type(rule.stabilizer) is Signed else rows(rule.stabilizer(own, rule.epsilon), memory)
        return Deal(
            rows(own, memory), float(rule.epsilon) if e is None else 0.0, e, share.portion,
            rows(z, memory) if isinstance(share.portion, str) else None, bias, share.one_sign, share.positive,
            neither,
        )  # fmt: skip

    def _own(self, share: Active, a: Array, x_of: Callable[[Term], Array], memory: Memory, bias: Array | None) -> Array:
        """The z' of a share that did not ride along: the sum of its terms' products, and its bias."""

        def make() -> Array:
            own = self.operator.empty(self.operator.output(a.shape), a, memory)
            rows = self.operator.rows(own, memory)
            each = len(rows) // max(1, len(a))
            for i, term in enumerate(share.terms):
                into = rows if i == 0 else memory.array(rows.shape, rows)
                last = i == len(share.terms) - 1

                def finish(first: int, until: int, into: Array = into, last: bool = last) -> None:
                    block = rows[first:until]
                    if into is not rows:
                        namespace(block).add(block, into[first:until], out=block)
                    if last:
                        _add_bias(block, bias, first, each)

                self.operator.products(x_of(term), [self._matrix(a, term.w)], [into], memory, finish)
            return own

        if all(term.x is one for term in share.terms):
            return self.derived(("own", share.index, a.shape), make)
        return make()


def _same(x: Transform, not_negative: bool) -> bool:
    """Whether x(a) is a."""
    return x is keep or (x is positive and not_negative)


def _key(transform: Transform) -> Any:
    try:
        hash(transform)
    except TypeError:
        return id(transform)
    return transform


def _kind(w: Transform) -> tuple[str, float | None]:
    """The sign of the weights that w raises or takes alone, "" for other transforms, and by how much it raises them."""
    part, gamma = (w.part, w.gamma) if isinstance(w, Raised) else (w, None)
    return "+" if part is positive else "-" if part is negative else "", gamma


def _add_bias(rows: Array, bias: Array | None, first: int, each: int) -> None:
    """To rows that start with row `first` of all: a number a channel, or one of `each` rows a position."""
    if bias is None:
        return
    xp = namespace(rows)
    if bias.ndim == 1:
        xp.add(rows, bias, out=rows)
        return
    if len(rows) <= each - first % each:
        xp.add(rows, bias[first % each :][: len(rows)], out=rows)
    else:  # whole samples
        samples = rows.reshape(-1, each, rows.shape[1])
        xp.add(samples, bias, out=samples)


def computed(R: Array) -> str:
    """What is said to have computed the products."""
    if not on_device(R):
        return "fused"
    from . import device

    return device.computed(R)
