"""Checks for rules that others write: what every rule must keep, and what this one claims.

:func:`check_rule` draws small layers, inputs and relevances (hypothesis does the drawing) and holds a rule, or a
function of other people's, to equations that need no second implementation: linear in R, batch independent,
permutation equivariant, and those that its author claims. What breaks one is shrunk to a witness of one or two
weights, and printed as a program.

Arithmetic. Rules of this package are held to ``==`` in exact rationals. Functions run in float64, on numbers drawn from
a coarse dyadic grid, so that products and sums of contributions are exact and few operations round at all. Where a
function does round, the tolerance is derived, not chosen: see :func:`_rounding`.

Sources: the laws are those that Bach et al. 2015 (doi 10.1371/journal.pone.0130140) and Montavon et al. 2019 (doi
10.1007/978-3-030-28954-6_10) state or imply: conservation, positivity ("consistency", Montavon et al. 2017, arXiv
1512.02479), linearity in R; the laws of scale follow from the formulas.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import random
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from ..arrays import Array, exact, floats, is_array, to_host, unit_roundoff
from ..errors import LrpError, UnsuitableRule
from ..layers import Add, Conv, Dense, Layer, Linear, MaxPool, Mul
from ..propagate import SIGNED, Rule
from ..rules import (
    AlphaBeta,
    Epsilon,
    Flat,
    Gamma,
    GeneralizedGamma,
    Gradient,
    Norm,
    Pass,
    Product,
    WSquare,
    ZBox,
    Zero,
    ZMinus,
    ZPlus,
)
from ..text import table
from ..values import value
from .roots import why_no_root

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn, SearchStrategy

Function: TypeAlias = Callable[..., Any]
_Case: TypeAlias = tuple[Layer, tuple[Array, ...], Array]
FAMILIES = ("dense", "conv", "add", "max pool")
"""The layers that are drawn by default; "mul" can be asked for beside them."""


@value(kw_only=True)
class Claims:
    """What is claimed of a rule beyond what every rule must keep.

    Parameters
    ----------
    like : Rule or None
        the rule of this package that it agrees with, on the same layers, inputs and relevances.
    conserves : "always", "up to bias" or "no"
        sum_j R_j = sum_k R_k, whatever the bias ("always"), or where the bias is 0 ("up to bias"); the stabilizer of
        a Rule is left out for this. An output with no contribution at all (a denominator that is 0) does not count: a
        Rule, or `like`, says which they are; of a function, those that hand on nothing and have z_k = 0 or no positive
        contribution a_j w_jk. A max pool always has a winner, so for a function all of its outputs count.
    positive : "always", "for inputs >= 0" or "no"
        R_j >= 0 where all R_k >= 0.
    free_of : tuple of "a", "b", "w"
        what R_j does not depend on: inputs, bias, weights. ("a" is not asked of a pool, whose winner depends on a.)
    scales : tuple of "outputs", "inputs"
        R_j stays what it is under (W, b) -> (W D, b D) ("outputs"), under a -> a / D, W -> D W ("inputs"), with D a
        positive diagonal; the stabilizer of a Rule is left out for this too.
    inputs : "signed", "nonnegative" or (low, high)
        where the inputs lie for which all of this is claimed.
    outputs : "any" or "positive"
        whether it is claimed for outputs z_k > 0 alone. (Neither domain is needed to stay finite on zeros.)
    epsilon : float
        the size of a stabilizer built into a function: what it may change is forgiven in conservation and in the laws
        of scale.
    """

    like: Rule | None = None
    conserves: Literal["always", "up to bias", "no"] = "no"
    positive: Literal["always", "for inputs >= 0", "no"] = "no"
    free_of: tuple[str, ...] = ()
    scales: tuple[str, ...] = ()
    inputs: Literal["signed", "nonnegative"] | tuple[float, float] = "signed"
    outputs: Literal["any", "positive"] = "any"
    epsilon: float = 0.0

    def __post_init__(self) -> None:
        for name, allowed in _ALLOWED.items():
            given = getattr(self, name)
            for one in given if isinstance(given, tuple) and name in ("free_of", "scales") else (given,):
                if one not in allowed:
                    raise ValueError(f"Claims: {name}={given!r}, need {' or '.join(map(repr, allowed))}")

    @property
    def box(self) -> tuple[float, float]:
        """Where inputs are drawn."""
        named = {"signed": (-2.0, 2.0), "nonnegative": (0.0, 2.0)}
        return named[self.inputs] if isinstance(self.inputs, str) else self.inputs


_ALLOWED = {
    "conserves": ("always", "up to bias", "no"),
    "positive": ("always", "for inputs >= 0", "no"),
    "free_of": ("a", "b", "w"),
    "scales": ("outputs", "inputs"),
    "outputs": ("any", "positive"),
}
BOTH = ("outputs", "inputs")


def claims_of(rule: Rule) -> Claims:
    """What the mathematics of a rule of this package claims of it; of any other rule, nothing.

    Parameters
    ----------
    rule : Rule

    Returns
    -------
    Claims
    """
    made = _claims_of(rule)
    if rule.bias == "rule" or made is None or isinstance(rule, (Pass, Product, Gradient)):
        return made or Claims()
    counts = isinstance(rule, (Flat, WSquare))  # denominators that do not grow with the weights, or with their square
    conserves = {"none": "always", "spread": "always"}.get(rule.bias, "no" if made.conserves == "no" else "up to bias")
    free_of = made.free_of
    if rule.bias == "none" and not isinstance(rule, GeneralizedGamma):  # whose mask is of the layer's own z_k
        free_of = tuple(sorted({*free_of, "b"}))
    if rule.bias in ("raw", "squared"):
        free_of = tuple(one for one in free_of if one == "a")
    scales = made.scales
    if rule.bias == "raw" and counts:
        scales = ()
    if rule.bias == "squared":
        scales = ("outputs",) if isinstance(rule, WSquare) else ()
    keeps_sign = rule.bias in ("none", "spread") or (rule.bias == "squared" and not isinstance(rule, ZMinus))
    changed: dict[str, Any] = {"conserves": conserves, "free_of": free_of, "scales": scales}
    return dataclasses.replace(made, **changed, positive=made.positive if keeps_sign else "no")


def _claims_of(rule: Rule) -> Claims | None:
    """The claims of a rule with the bias of its own terms."""
    kind = type(rule)
    if kind in (Zero, Epsilon, Norm, Gamma, GeneralizedGamma):
        return Claims(conserves="up to bias", scales=BOTH)
    if isinstance(rule, AlphaBeta) and kind is AlphaBeta and rule.alpha > 1:
        return Claims(conserves="up to bias", scales=BOTH)
    if isinstance(rule, (ZPlus, AlphaBeta, ZMinus)) and kind in (ZPlus, AlphaBeta, ZMinus):
        positive: Any = "always" if rule.split == "product" else "for inputs >= 0"
        if kind is ZMinus and rule.epsilon and rule.stabilizer != SIGNED:
            positive = "no"  # its denominators are negative: another stabilizer can carry them over 0
        return Claims(conserves="up to bias", positive=positive, scales=BOTH)
    if kind is Flat:
        return Claims(conserves="always", positive="always", free_of=("a", "b", "w"), scales=BOTH)
    if kind is WSquare:
        return Claims(conserves="always", positive="always", free_of=("a", "b"), scales=("outputs",))
    if isinstance(rule, ZBox) and kind is ZBox:
        low, high = float(floats(exact(rule.low)).max()), float(floats(exact(rule.high)).min())
        claims = Claims(conserves="always", free_of=("b",), scales=("outputs",))
        return dataclasses.replace(claims, positive="always", inputs=(low, high)) if low < high else claims
    if kind is Pass:
        return Claims(conserves="always", positive="always", free_of=("b", "w"), scales=BOTH)
    if kind is Product:
        return Claims(conserves="always", positive="always")
    return Claims(free_of=("b",)) if kind is Gradient else None


class RuleFailed(LrpError, AssertionError):
    """A rule breaks a property: `property` names it, `snippet` is a program that shows it and fails its assert, and
    `examples` says how many layers were drawn before one broke it.
    """

    def __init__(self, message: str, property: str, snippet: str, examples: int) -> None:
        super().__init__(message)
        self.property, self.snippet, self.examples = property, snippet, examples


@value
class RuleReport:
    """What :func:`check_rule` found to hold; prints as a table."""

    subject: str
    outcomes: tuple[tuple[str, str], ...]
    """Each property, and "held, n draws" or why it was skipped."""
    root: str
    """Whether its messages are the first-order terms of a deep Taylor decomposition at a root."""

    def __str__(self) -> str:
        return f"{self.subject}\n{table(('property', 'outcome'), (*self.outcomes, ('DTD root', self.root)))}"


def check_rule(
    rule: Rule | Function,
    claims: Claims | None = None,
    layers: Sequence[str | Layer] = FAMILIES,
    *,
    examples: int = 100,
    seed: int = 0,
) -> RuleReport:
    r"""Hold a rule to what every rule must keep, and to its claims, on small layers that hypothesis draws.

    Always: it runs and gives R_in the shape of the inputs; it is finite on zeros, ties and dead windows; it is linear,

    .. math:: R(u R_k + v R'_k) = u R(R_k) + v R(R'_k) ;

    no sample depends on another; permuted inputs and outputs give permuted relevance; all arithmetics agree; the books
    of a Rule close. Then what is claimed, see :class:`Claims`.

    Parameters
    ----------
    rule : Rule, or a function
        a function of ``(a, W, b, R)`` with shapes (n, J), (J, K), (K,), (n, K), that gives R_in (n, J), is checked on
        dense layers; one of ``(layer, inputs, R)``, with a tuple of inputs, gives R_in or a tuple of them. Parameters
        with defaults do not count.
    claims : Claims or None
        None: those of :func:`claims_of` for a Rule, none for a function.
    layers : names out of "dense", "conv", "add", "max pool", "mul", or Layers, whose parameters are then not drawn
    examples : how many layers are drawn
    seed : equal seeds draw equal layers

    Returns
    -------
    RuleReport

    Raises
    ------
    RuleFailed
        for the first property that breaks, with the witness; an AssertionError.
    TypeError, ValueError
        if it is neither a Rule nor such a function, or if no layer is left to check it on.
    ImportError
        where hypothesis is not installed.
    """
    try:
        import hypothesis
        from hypothesis.errors import NoSuchExample
    except ImportError:
        raise ImportError('check_rule needs hypothesis: pip install "lrp_ref[properties]"') from None
    if claims is None:
        claims = claims_of(rule) if isinstance(rule, Rule) else Claims()
    subject = _Subject(rule, claims)
    cases = functools.partial(_cases, _families(tuple(layers), dense_only=_takes_matrices(rule)), claims)
    common: dict[str, Any] = {"max_examples": examples, "database": None, "deadline": None, "derandomize": False}
    quiet = hypothesis.settings(**common, print_blob=False, verbosity=hypothesis.Verbosity.quiet)

    def search(sizes: tuple[int, int, int], only: str, *phases: Any) -> _Case | None:
        settings = hypothesis.settings(quiet, phases=phases)
        try:
            return hypothesis.find(
                cases(sizes),
                lambda case: subject.first_broken(case, only) is not None,
                settings=settings,
                random=random.Random(seed),
            )
        except NoSuchExample:
            return None

    generate, shrink = hypothesis.Phase.generate, hypothesis.Phase.shrink
    if (found := search(SIZES[-1], "", generate)) is None:
        return subject.report(tuple(layers))
    drawn, broken = subject.drawn, subject.first_broken(found)
    assert broken is not None, "a rule that answers otherwise when asked again"
    name = broken.law.name
    least = next((case for sizes in SIZES if (case := search(sizes, name, generate, shrink))), found)
    broken = subject.first_broken(least, name) or broken
    program = _program(broken.law, broken.bound)
    message = f"{subject.name} breaks: {name}\n{broken.said}\n\n{program}"
    raise RuleFailed(message, property=name, snippet=program, examples=drawn)


# --- one call of a rule, which runs and can be written down ---------------------------------------


def rows(R_in: Any) -> Array:
    """The relevance of all inputs (one array or a tuple of them) as one row a sample, on the host."""
    parts = R_in if isinstance(R_in, (tuple, list)) else (R_in,)
    return np.concatenate([np.reshape(to_host(x), (len(x), -1)) for x in parts], axis=1)


def books(answer: tuple[Any, Any]) -> Array:
    """What ``rule.back`` handed on and booked as absorbed, for each sample: it should be all that came."""
    R_in, lost = answer
    return sum(rows(part).sum(axis=1) for part in (R_in, lost.bias, lost.stabilizer, lost.unclaimed))


@value
class _Call:
    by: Any
    """A Rule, or the user's function."""
    layer: Layer
    inputs: tuple[Array, ...]
    R: Array
    arithmetic: str = "float64"
    ask: Literal["rows", "books"] = "rows"

    def but(self, **changed: Any) -> _Call:
        """The same call, with changes."""
        return dataclasses.replace(self, **changed)

    def to(self, x: Array) -> Array:
        """A copy of `x` in the arithmetic of this call."""
        if self.arithmetic == "cupy":
            return importlib.import_module("cupy").asarray(x)
        return exact(x) if self.arithmetic == "exact" else np.array(x, dtype=self.arithmetic)

    def answer(self) -> Any:
        """What the Rule or function gives back."""
        R = self.to(self.R)
        layer, inputs = self.layer.like(R), tuple(map(self.to, self.inputs))
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if isinstance(self.by, Rule):
                return self.by.back(layer, inputs, R)
            if _takes_matrices(self.by):
                return self.by(inputs[0], *map(self.to, _matrices(self.layer)), R)
            return self.by(layer, inputs, R)

    @functools.cached_property
    def result(self) -> Array:
        """The relevance of the inputs, (samples, inputs); or the sum of the books, (samples,)."""
        answer = self.answer()
        if isinstance(self.by, Rule):
            return books(answer) if self.ask == "books" else rows(answer[0])
        return answer if _takes_matrices(self.by) else rows(answer)

    def messages(self) -> Array:
        """What each input receives from each output, (samples, outputs, inputs): each R_k is put in alone."""
        n, K = len(self.R), self.R[0].size
        alone = (np.eye(K) * self.R.reshape(n, 1, K)).reshape(n * K, *self.R.shape[1:])
        copies = tuple(np.repeat(a, K, axis=0) for a in self.inputs)
        return floats(self.but(inputs=copies, R=alone, ask="rows").result).reshape(n, K, -1)

    def program(self, result: str) -> tuple[str, ...]:
        """The lines that compute it."""

        def text(x: Any) -> str:
            if not is_array(x):
                return repr(x)
            made, dtype = {"exact": ("exact", ""), "cupy": ("cupy.array", ""), "float64": ("np.array", "")}.get(
                self.arithmetic, ("np.array", f", {self.arithmetic!r}")
            )
            return f"{made}({floats(x).tolist()!r}{dtype})"

        R = f"R = {text(self.R)}"
        if not isinstance(self.by, Rule) and _takes_matrices(self.by):
            a, W, b = map(text, (self.inputs[0], *_matrices(self.layer)))
            return f"a, W, b = {a}, {W}, {b}", R, f"{result} = f(a, W, b, R)"
        fields = [(f.name, f.default, getattr(self.layer, f.name)) for f in dataclasses.fields(self.layer) if f.init]
        given = ", ".join(f"{name}={text(x)}" for name, default, x in fields if is_array(x) or x != default)
        call = f"{self.by!r}.back(layer, inputs, R)" if isinstance(self.by, Rule) else "f(layer, inputs, R)"
        call += "[0]" if isinstance(self.by, Rule) and self.ask == "rows" else ""
        inputs = f"inputs = ({', '.join(map(text, self.inputs))},)"
        return f"layer = {type(self.layer).__name__}({given})", inputs, R, f"{result} = {self.ask}({call})"

    def imports(self) -> Iterator[str]:
        """The lines that must come before."""
        if self.arithmetic in ("exact", "cupy"):
            yield "import cupy" if self.arithmetic == "cupy" else "from lrp_ref import exact"
        if isinstance(self.by, Rule):
            yield from map(_import_of, [type(self.by)] + [type(self.by.stabilizer)] * (self.by.stabilizer != SIGNED))
        else:
            yield _import_of(self.by, "f")
        if isinstance(self.by, Rule) or not _takes_matrices(self.by):
            yield _import_of(type(self.layer))
            yield f"from lrp_ref.theory.properties import {self.ask}"


def _import_of(thing: Any, name: str = "") -> str:
    """How a program gets at a class or function: an import, or, where none can reach it, a word to the reader."""
    module, path = getattr(thing, "__module__", "__main__"), getattr(thing, "__qualname__", "")
    if module == "__main__" or getattr(sys.modules.get(module), path or " ", None) is not thing:
        return f"# define here {name or path}, the {'function' if name else 'class'} under test"
    return f"from {module} import {path}{f' as {name}' if name and name != path else ''}"


def _matrices(layer: Layer) -> tuple[Array, Array]:
    """Weight and bias of a dense layer."""
    assert isinstance(layer, Dense)
    return layer.weight, np.zeros(layer.weight.shape[1]) if layer.bias is None else layer.bias


def _takes_matrices(by: Any) -> bool:
    """Whether it is a function of (a, W, b, R), rather than one of (layer, inputs, R) or a Rule."""
    if isinstance(by, Rule):
        return False
    count = 0
    if callable(by) and not isinstance(by, type):
        parameters = inspect.signature(by).parameters.values()
        count = sum(p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)
    if count not in (3, 4):
        raise TypeError(f"check_rule: {by!r} is no Rule, and no function of (a, W, b, R) or of (layer, inputs, R)")
    return count == 4


# --- equations between calls ----------------------------------------------------------------------


@value
class _Law:
    """got == expected, two expressions of what the calls give, r0, r1, ..., and of R, that of the last call."""

    name: str
    calls: tuple[_Call, ...]
    got: str
    expected: str
    epsilon: float = 0.0
    rounds: bool = True


@value
class _Broken:
    law: _Law
    said: str
    bound: float = 0.0


def _rounding(call: _Call, epsilon: float) -> float:
    r"""How far rounding can move what a call gives, all samples and inputs together.

    With M_jk the messages and S_k = sum_j |M_jk|: the contributions n_jk to a denominator d_k satisfy sum_j |n_jk| =
    |d_k| S_k / |R_k|, so |b_k| <= |d_k| (1 + S_k / |R_k|), and d_k, a sum of J + 1 numbers, has a relative error of at
    most (J + 1) u (1 + 2 S_k / |R_k|). Few more operations follow, and a sum over K outputs:

    .. math:: 4 (J + K + 8)\, u \sum_k (S_k + |R_k|) (1 + 2 S_k / |R_k|)

    with 4, as a law takes up to three times a result. Where a denominator nearly cancels, S_k / |R_k| is large, and
    much is forgiven: no draw has to be thrown away.

    To this comes what a stabilizer built into a function may bend: it changes a message by the part epsilon / |d_k|,
    and contributions on the grid are 1/4 or more, so 1 / |d_k| <= 4 S_k / |R_k|; at most all of it, where d_k is 0:
    sum_k S_k min(4, 16 epsilon (1 + S_k / |R_k|)).
    """
    n, K = len(call.R), call.R[0].size
    M, size = abs(call.messages()), abs(call.R).reshape(n, K)
    S = M.sum(axis=2)
    u = max(unit_roundoff(call.to(call.R)), 2**-53)
    ratio = S / np.where(size > 0, size, 1)
    each = np.where(size > 0, (S + size) * (1 + 2 * ratio), 0)
    bent = S * np.minimum(4.0, 16 * epsilon * (1 + ratio))
    small = 4 * (M.shape[2] + K + 8) * u
    if bool((small * (1 + 2 * ratio[size > 0]) >= 1).any()):  # d_k may have either sign, or be 0: nothing is known
        return float("inf")
    return float(small * each.sum() + bent.sum())


def _bare(call: _Call) -> _Call:
    """The call without stabilizer, which hides where a denominator nearly cancels and rounding decides its sign."""
    if not isinstance(call.by, Rule):
        return call
    return call.but(by=dataclasses.replace(call.by, epsilon=0.0, stabilizer=SIGNED))


MODULES = "same on every array module"
BASIC = ("runs", "finite", "linear in R", "batch independent", "permutation equivariant", MODULES, "books close")


class _Subject:
    """A rule under test with its claims: the laws that it is held to, and the tally of what held."""

    def __init__(self, rule: Any, claims: Claims) -> None:
        self.by, self.claims, self.drawn = rule, claims, 0
        self.held: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.left_out, self.modules = {"exact": "a function is run in floats"}, ["float32"]
        self.name = getattr(rule, "__qualname__", repr(rule))
        self.plain = rule
        if isinstance(rule, Rule):
            # a stabilizer bends the laws of scale and conservation, and a Rule can be had without
            if rule.epsilon or rule.stabilizer != SIGNED:
                self.plain = dataclasses.replace(rule, epsilon=0.0, stabilizer=SIGNED)
            self.left_out = {"exact": _why_not_exact(rule), "cupy": _why_no_cupy()}
            self.modules = ["float64", "float32", "longdouble", "cupy"]
        self.modules = [module for module in self.modules if not self.left_out.get(module)]
        self.arithmetic = "float64" if self.left_out["exact"] else "exact"
        self.like_arithmetic = "exact" if claims.like is None or not _why_not_exact(claims.like) else "float64"

    def first_broken(self, case: _Case, only: str = "") -> _Broken | None:
        """The first law, or the first of one name, that the case breaks."""
        self.drawn += 1
        for law in self.laws(_Call(self.by, *case, self.arithmetic)):
            if only in ("", "runs", law.name):
                try:
                    broken = self.broken(law)
                except UnsuitableRule:
                    self.refused[type(case[0]).__name__] += 1
                    return None
                if broken is None:
                    self.held[law.name] += 1
                elif only in ("", broken.law.name):
                    return broken
        return None

    def broken(self, law: _Law) -> _Broken | None:
        """What is wrong, if the equation does not hold."""
        values: dict[str, Any] = {"np": np, "floats": floats, "R": law.calls[-1].to(law.calls[-1].R)}
        try:
            values |= {f"r{i}": call.result for i, call in enumerate(law.calls)}
            got, expected = eval(law.got, values), eval(law.expected, values)
            if np.array_equal(got, expected):
                return None
            bound = 0.0
            if law.rounds and any(call.arithmetic != "exact" for call in law.calls):
                bound = sum(_rounding(call, law.epsilon) for each in law.calls for call in (each, _bare(each)))
                if not (abs(got - expected) > bound).any():  # nor where either is NaN: that is for "finite" to say
                    return None
        except UnsuitableRule:
            raise
        except Exception as error:  # of the user's code: any
            return _Broken(dataclasses.replace(law, name="runs"), f"raised {type(error).__name__}: {error}")
        within = f"\nwithin   {bound:.3g}" if bound else ""
        return _Broken(law, f"got      {_plainly(got)}\nexpected {_plainly(expected)}{within}", bound)

    def laws(self, base: _Call) -> Iterator[_Law]:
        """Every equation that a drawn call should satisfy, from the most basic one on."""
        claims, layer, inputs, R = self.claims, base.layer, base.inputs, base.R
        low, high = claims.box
        plain = base if self.plain is self.by else base.but(by=self.plain)
        came = "R.reshape(len(R), -1).sum(axis=1)"

        def inside(call: _Call) -> bool:
            if not isinstance(claims.inputs, str) and any(((a < low) | (a > high)).any() for a in call.inputs):
                return False
            return claims.outputs == "any" or bool((call.layer.forward(*call.inputs) > 0).all())

        n, J = len(R), sum(a[0].size for a in inputs)
        yield _Law("runs", (base,), "list(np.shape(r0))", f"{[n, J]}", rounds=False)
        in_floats = base if base.arithmetic == "float64" else base.but(arithmetic="float64")
        dead, tied = (tuple(np.full(a.shape, min(max(low, x), high)) for a in inputs) for x in (0.0, 1.0))
        for call in (in_floats, in_floats.but(inputs=dead), in_floats.but(inputs=tied)):
            yield _Law("finite", (call,), "np.isfinite(r0).all()", "True", rounds=False)
        if not inside(base):
            return
        R2 = 1 - R / 2
        yield _Law("linear in R", (base.but(R=2 * R - 3 * R2), base, base.but(R=R2)), "r0", "2 * r1 - 3 * r2")
        if n > 1:
            samples = [base.but(inputs=tuple(a[i : i + 1] for a in inputs), R=R[i : i + 1]) for i in range(n)]
            alone = ", ".join(f"r{i + 1}" for i in range(n))
            yield _Law("batch independent", (base, *samples), "r0", f"np.concatenate([{alone}])")
        if (permuted := _permuted(base)) is not None:
            yield _Law("permutation equivariant", (base, permuted[0]), "r1", f"r0[:, {permuted[1]}]")
        for module in self.modules:
            call = in_floats if module == "float64" else base.but(arithmetic=module)
            yield _Law(MODULES, (call, base), "floats(r0)", "floats(r1)")
            if module == "float32" and isinstance(self.by, Rule):
                yield _Law(MODULES, (call,), "str(r0.dtype)", "'float32'", rounds=False)
        if isinstance(self.by, Rule):
            yield _Law("books close", (base.but(ask="books"),), "r0", came)
        for side in claims.scales:
            if (scaled := _rescaled(plain, side)) is not None and inside(scaled):
                yield _Law(f"scales: {side}", (plain, scaled), "r1", "r0", claims.epsilon)
        for name in claims.free_of:
            if (changed := _changed(base, name, high)) is not None and inside(changed):
                yield _Law(f"free of {name}", (base, changed), "r1", "r0")
        if claims.positive != "no":
            call = base.but(R=abs(R), inputs=inputs if claims.positive == "always" else tuple(map(abs, inputs)))
            if inside(call):
                yield _Law("positive", (call,), "r0", "np.maximum(r0, 0)")
        if claims.conserves != "no":
            call = plain if claims.conserves == "always" else plain.but(layer=_without_bias(layer))
            counting = np.where(self.excused(call), 0.0, R) if inside(call) else np.zeros(1)
            if counting.any():
                yield _Law("conserves", (call.but(R=counting),), "r0.sum(axis=1)", came, claims.epsilon)
        if claims.like is not None:
            ours = base.but(by=claims.like, arithmetic=self.like_arithmetic)
            exactly = base.arithmetic == ours.arithmetic == "exact"
            texts = ("r0", "r1") if exactly else ("floats(r0)", "floats(r1)")
            yield _Law(f"like {claims.like!r}", (base, ours), *texts)

    def excused(self, call: _Call) -> Array:
        """The outputs that need not conserve: those with a denominator of 0."""
        nowhere = np.zeros(call.R.shape, dtype=bool)
        try:
            reference = self.plain if isinstance(self.by, Rule) else self.claims.like
            if reference is not None:
                reference = dataclasses.replace(reference, epsilon=0.0, stabilizer=SIGNED)
                _, lost = call.but(by=reference, R=np.ones(call.R.shape)).answer()
                return nowhere | (lost.poles | lost.empty | (lost.unclaimed == 1)).astype(bool)
            if call.layer.wire:
                return nowhere
            silent = ~call.but(R=np.ones(call.R.shape)).messages().any(axis=2).reshape(call.R.shape)
        except Exception:  # of the user's code: the law that is to come makes the same call, and reports it
            return nowhere
        frozen, a = call.layer.frozen(*call.inputs), call.layer.join(*call.inputs)
        weight, bias = frozen.parameters(a)
        z, size = frozen.linear(a, weight), frozen.linear(abs(a), abs(weight))
        return silent & ((z + bias == 0) | (z + size == 0))

    def report(self, layers: tuple[Any, ...]) -> RuleReport:
        """What held."""
        claims, is_rule = self.claims, isinstance(self.by, Rule)
        if not self.held:
            raise UnsuitableRule(f"{self.name} refuses every layer of {layers}: pass those that it is meant for")
        left_out = "".join(f"; no {module}: {why}" for module, why in self.left_out.items() if why)
        arithmetics = ", ".join(dict.fromkeys((self.arithmetic, *self.modules))) + left_out
        asked = [name for name in BASIC if is_rule or name != "books close"]
        asked += [f"scales: {side}" for side in claims.scales] + [f"free of {x}" for x in claims.free_of]
        asked += [name for name in ("positive", "conserves") if getattr(claims, name) != "no"]
        asked += [] if claims.like is None else [f"like {claims.like!r}"]
        rows = []
        for name in asked:
            note = f" ({arithmetics})" if name == MODULES else ""
            held = self.held[name]
            rows.append((name, f"held, {held} equations{note}" if held else "skipped: no draw that it applies to"))
        if not is_rule:
            rows.append(("books close", "skipped: a function keeps no books"))
        rows += [(f"on {kind}", f"skipped: refused, {count} draws") for kind, count in self.refused.items()]
        return RuleReport(self.name, tuple(rows), _root(self.by))


def _program(law: _Law, bound: float) -> str:
    """The law as a program of its own that ends in its assert."""
    imports = ["import numpy as np", *(line for call in law.calls for line in call.imports())]
    if "floats(" in law.got + law.expected:
        imports.append("from lrp_ref.arrays import floats")
    lines: list[str] = []
    current: dict[str, str] = {}
    for i, call in enumerate(law.calls):
        for line in call.program(f"r{i}"):
            name = line.partition(" = ")[0]
            lines += [] if current.get(name) == line else [line]
            current[name] = line
    holds = f"(abs(got - expected) <= {bound!r}).all()" if bound else "np.array_equal(got, expected)"
    lines += [f"got, expected = {law.got}, {law.expected}", f'assert {holds}, f"{law.name}: {{got}} != {{expected}}"']
    return "\n".join([*dict.fromkeys(imports), "", *lines]) + "\n"


def _plainly(x: Any) -> str:
    """Numbers on one line, rationals as they are."""
    return " ".join(str(np.vectorize(str, otypes=[object])(x).tolist()).replace("'", "").split())


# --- the same call, otherwise ---------------------------------------------------------------------


def _axes(layer: Layer) -> tuple[int, int, int] | None:
    """The axes of inputs and outputs in the weight, and in activations, of a layer whose units may change places."""
    if isinstance(layer, Dense):
        return 0, 1, -1
    return (1, 0, 1) if isinstance(layer, Conv) and layer.groups == 1 and layer.tap_bias is None else None


def _permuted(call: _Call) -> tuple[_Call, list[int]] | None:
    """Inputs and outputs each moved on by one, and the order in which the relevance of the inputs should come."""
    layer: Any = call.layer
    axis, turn = 1, 1
    if axes := _axes(layer):
        axis = axes[2]
        bias = None if layer.bias is None else np.roll(layer.bias, 1, 0)
        layer = dataclasses.replace(layer, weight=np.roll(layer.weight, 1, axes[:2]), bias=bias)
    elif isinstance(layer, Add) and len({a.shape for a in call.inputs}) == 1:
        axis, turn = -1, -1
        layer = layer if layer.constant is None else Add(constant=np.roll(layer.constant, 1, -1))
    elif not isinstance(layer, (MaxPool, Mul)):
        return None
    ends = np.cumsum([a[0].size for a in call.inputs])
    places = [np.arange(e - a[0].size, e).reshape(1, *a.shape[1:]) for a, e in zip(call.inputs, ends, strict=True)]
    order = np.concatenate([np.roll(place, 1, axis).ravel() for place in places[::turn]]).tolist()
    inputs = tuple(np.roll(a, 1, axis) for a in call.inputs[::turn])
    return call.but(layer=layer, inputs=inputs, R=np.roll(call.R, 1, axis)), order


def _rescaled(call: _Call, side: str) -> _Call | None:
    """Each output in another unit, with weight and bias; or each input, with its weights: 2, 1/2, 2 of the old."""
    layer: Any = call.layer
    if (axes := _axes(layer)) is None:
        return None

    def times(x: Array, axis: int) -> Array:
        D = 2.0 ** (1 - 2 * (np.arange(x.shape[axis]) % 2))
        return np.moveaxis(np.moveaxis(x, axis, -1) * D, -1, axis)

    if side == "inputs":
        inputs = tuple(a / times(np.ones(a.shape), axes[2]) for a in call.inputs)
        return call.but(layer=dataclasses.replace(layer, weight=times(layer.weight, axes[0])), inputs=inputs)
    bias = None if layer.bias is None else times(layer.bias, 0)
    return call.but(layer=dataclasses.replace(layer, weight=times(layer.weight, axes[1]), bias=bias))


def _changed(call: _Call, name: str, high: float) -> _Call | None:
    """Other inputs of the same domain, another bias, or other weights."""
    layer: Any = call.layer
    if name == "a":  # only where the connections do not depend on the inputs
        inputs = tuple(high - (high - a) / 4 for a in call.inputs)
        return call.but(inputs=inputs) if isinstance(layer, (Linear, Add)) else None
    if name == "b" and isinstance(layer, Add):
        return call.but(layer=Add(constant=np.ones(1) + (0 if layer.constant is None else layer.constant)))
    if (axes := _axes(layer)) is None:
        return None
    if name == "w":
        return call.but(layer=dataclasses.replace(layer, weight=2 * layer.weight + 1))
    bias = np.ones(layer.weight.shape[axes[1]]) if layer.bias is None else layer.bias + 1
    return call.but(layer=dataclasses.replace(layer, bias=bias))


def _without_bias(layer: Layer) -> Layer:
    """The layer with a bias of 0."""
    gone = {name: None for name in ("bias", "constant", "tap_bias") if getattr(layer, name, None) is not None}
    return dataclasses.replace(layer, **gone) if gone else layer


# --- what is drawn --------------------------------------------------------------------------------


SIZES = ((1, 1, 1), (1, 2, 1), (2, 3, 2))
"""The most samples, inputs and outputs: for the witness the fewest that show it, and otherwise the last."""


def _families(layers: tuple[Any, ...], *, dense_only: bool) -> tuple[Any, ...]:
    """The layers asked for that the rule can be checked on."""
    for one in layers:
        if not isinstance(one, Layer) and one not in (*FAMILIES, "mul"):
            raise ValueError(f"check_rule: layers={layers!r}, need Layers or names out of {(*FAMILIES, 'mul')}")
    layers = tuple(one for one in layers if not dense_only or one == "dense" or isinstance(one, Dense))
    if not layers:
        raise ValueError('check_rule: no layer to check on; a function of (a, W, b, R) needs "dense" or a Dense')
    return layers


def _cases(layers: tuple[Any, ...], claims: Claims, sizes: tuple[int, int, int]) -> SearchStrategy[_Case]:
    """Small layers with numbers from a coarse grid, simplest first: 0, then 1."""
    from hypothesis import strategies as st

    low, high = claims.box
    simplest = functools.partial(sorted, key=lambda x: (x % 1 != 0, abs(x), x < 0))
    signed = simplest(i / 2 for i in range(-4, 5))
    values = simplest({low, high, (low + high) / 2, *(x for x in signed if low <= x <= high)})
    fitting = [_fitting(one) if isinstance(one, Layer) else [] for one in layers]

    @st.composite
    def cases(draw: DrawFn) -> _Case:
        def array(shape: Sequence[int], most: Sequence[int] | None = None, of: Sequence[float] = signed) -> Array:
            """Cut from an array of the greatest size, so that to shrink a size changes no other number."""
            most = most or shape
            size = int(np.prod(most))
            numbers = draw(st.lists(st.sampled_from(of), min_size=size, max_size=size))
            return np.array(numbers).reshape(most)[tuple(map(slice, shape))]

        def count(most: int, least: int = 1) -> int:
            return draw(st.integers(least, most))

        which, n, C, K = count(len(layers) - 1, 0), *map(count, sizes)
        layer, branches = layers[which], 1
        shape: tuple[int, ...] = (n, C)
        most: tuple[int, ...] = (2, 3)
        if isinstance(layer, Layer):
            shape = (n, *draw(st.sampled_from(fitting[which])))
            most, branches = shape, layer.arity[1] or 2
        elif layer == "dense":
            layer = Dense(weight=array((C, K), (3, 2)), bias=array((K,), (2,)))
        elif layer == "conv":
            kernel = count(2)
            shape, most = (n, C, count(3, kernel)), (2, 3, 3)
            layer = Conv(weight=array((K, C, kernel), (2, 3, 2)), bias=array((K,), (2,)), padding=count(kernel - 1, 0))
        elif layer == "add":
            layer, branches = Add(constant=array((C,), (3,))), count(3, 2)
        elif layer == "mul":
            layer, branches = Mul(), 2
        else:
            shape, most = (n, C, count(4, 2)), (2, 3, 4)
            layer = MaxPool(kernel=2, stride=count(2))
        inputs = tuple(array(shape, most, values) for _ in range(branches))
        return layer, inputs, array(layer.forward(*inputs).shape)

    return cases()


def _fitting(layer: Layer) -> list[tuple[int, ...]]:
    """The smallest shapes of one sample that a layer of the user's takes."""
    weight, groups = getattr(layer, "weight", None), getattr(layer, "groups", 1)
    channels = sorted({1, 2, 3, 4, *(groups * i for i in (() if weight is None else weight.shape[:2]))})
    fit: list[tuple[int, ...]] = []
    for sizes in ((), *((i,) * d for d in (1, 2, 3) for i in (1, 2, 3, 4, 6))):
        for shape in ((c, *sizes) for c in channels):
            try:
                inputs = [np.ones((1, *shape))] * (layer.arity[1] or 2)
                layer.check(*(a.shape for a in inputs))
                layer.forward(*inputs)
                fit.append(shape)
            except Exception:  # the layer's way to say that the shape does not fit
                continue
    if not fit:
        raise ValueError(f"check_rule: found no small input that fits {layer!r}")
    return fit[:4]


# --- what a rule is capable of --------------------------------------------------------------------


def _why_not_exact(rule: Rule) -> str:
    """Why a rule has no exact arithmetic, as one trial tells; "" where it has."""
    a = exact([[1.0]])
    try:
        (R_in,), _ = rule.back(Dense(weight=exact([[0.5]]), bias=exact([0.25])), (a,), a)
    except UnsuitableRule:
        return ""
    except Exception as error:  # of the user's code: any
        return f"{type(error).__name__}: {error}"
    strangers = {type(x).__name__ for x in R_in.flat} - {type(a.flat[0]).__name__}
    return f"it turns rationals into {', '.join(sorted(strangers))}" if strangers else ""


def _why_no_cupy() -> str:
    """Why CuPy cannot be used; "" where it can."""
    try:
        importlib.import_module("cupy").zeros(1)
    except Exception as error:  # no module, no driver, no device: each has its own
        return type(error).__name__
    return ""


def _root(rule: Any) -> str:
    if not isinstance(rule, Rule):
        return "unknown: a function shows no terms (any split that conserves has some root: that alone proves nothing)"
    return f"no: {why}" if (why := why_no_root(rule)) else "yes: a - t v, v_j = n_jk / w_jk, of its one active share"
