"""check_rule finds the faults that were published, each as a small function here; sees every property broken by a wrong
function; and raises no alarm on a rule of this package."""

import dataclasses
import subprocess
import sys
import time

import numpy as np
import pytest

import lrp_ref as lrp
from lrp_ref.arrays import number
from lrp_ref.layers import Add, AvgPool, Conv, Dense, MaxPool, Scale, Sub
from lrp_ref.rules import ZMinus
from lrp_ref.stabilize import AtZero, Clipped, Relative, SignedOrZero, Unsigned
from lrp_ref.theory.properties import BASIC, Claims, RuleFailed, RuleReport, check_rule, claims_of

SEEDS = range(20)
BOTH = ("outputs", "inputs")


def plus(x):
    return np.maximum(x, 0)


def minus(x):
    return np.minimum(x, 0)


def over(R, d):
    """R / d, and 0 where d is 0."""
    return np.where(d == 0, 0, R / np.where(d == 0, 1, d))


# --- the functions with the faults, and those without them ----------------------------------------


def z_plus(a, W, b, R):
    s = over(R, plus(a) @ plus(W) + minus(a) @ minus(W) + plus(b))
    return plus(a) * (s @ plus(W).T) + minus(a) * (s @ minus(W).T)


def raw_bias_under_clamped_weights(a, W, b, R):
    s = over(R, plus(a) @ plus(W) + minus(a) @ minus(W) + b)
    return plus(a) * (s @ plus(W).T) + minus(a) * (s @ minus(W).T)


def negative_inputs_not_split(a, W, b, R):
    return a * (over(R, a @ plus(W) + plus(b)) @ plus(W).T)


def alpha_beta(a, W, b, R, bias=lambda b: (plus(b), minus(b))):
    up, down = bias(b)
    s = 2 * over(R, plus(a) @ plus(W) + minus(a) @ minus(W) + up)
    t = over(R, plus(a) @ minus(W) + minus(a) @ plus(W) + down)
    of_plus, of_minus = s @ plus(W).T - t @ minus(W).T, s @ minus(W).T - t @ plus(W).T
    return plus(a) * of_plus + minus(a) * of_minus


def both_biases_in_both_parts(a, W, b, R):
    return alpha_beta(a, W, b, R, lambda b: (b, b))


def signed_epsilon(a, W, b, R, eps=1e-6):
    z = a @ W + b
    return a * (over(R, z + eps * np.where(z < 0, -1, 1)) @ W.T)


def unsigned_epsilon(a, W, b, R, eps=1e-6):
    return a * (over(R, a @ W + b + eps) @ W.T)


def unsigned_quarter(a, W, b, R):
    return a * ((R / (a @ W + b + 0.25)) @ W.T)


def w_square(a, W, b, R, bias=0):
    return over(R, (W * W).sum(axis=0) + bias * b * b) @ (W * W).T + 0 * a


def b_squared_in_w2(a, W, b, R):
    return w_square(a, W, b, R, bias=1)


def gamma_unsplit(a, W, b, R):
    W, b = W + 0.25 * plus(W), b + 0.25 * plus(b)
    return a * (over(R, a @ W + b) @ W.T)


def gamma_split(a, W, b, R):
    z, R_in = a @ W + b, 0
    for sign in (1, -1):
        part = plus if sign == 1 else minus
        m = a[:, :, None] * W
        n = m + 0.25 * part(m)
        R_in = R_in + n @ over(R * (sign * z > 0), n.sum(axis=1) + b + 0.25 * part(b))[:, :, None]
    return R_in[:, :, 0]


def add_in_proportion(layer, inputs, R):
    z = sum(inputs) + (0 if layer.constant is None else layer.constant)
    return tuple(a * over(R, z) for a in inputs)


def add_doubled(layer, inputs, R):
    return tuple(R for _ in inputs)


def pool(layer, inputs, R, winners):
    (a,), R_in = inputs, np.zeros_like(inputs[0])
    for n, c, k in np.ndindex(*R.shape):
        window = slice(k * layer.stride, k * layer.stride + 2)
        R_in[n, c, window] += winners(a[n, c, window]) * R[n, c, k]
    return R_in


def first_wins(layer, inputs, R):
    return pool(layer, inputs, R, lambda w: np.arange(2) == w.argmax())


def ties_lost(layer, inputs, R):
    return pool(layer, inputs, R, lambda w: (w == w.max()) & ((w == w.max()).sum() == 1))


def ties_doubled(layer, inputs, R):
    return pool(layer, inputs, R, lambda w: w == w.max())


def lost_where_the_maximum_is_0(layer, inputs, R):
    return pool(layer, inputs, R, lambda w: (np.arange(2) == w.argmax()) * (w.max() != 0))


ALPHA_BETA, EPSILON, POOL = lrp.AlphaBeta(alpha=2), lrp.Epsilon(epsilon=1e-6), ("max pool",)
FAULTS = {  # function: claims that break, and the property; layers; the same claims hold of the last
    raw_bias_under_clamped_weights: [
        (Claims(like=lrp.ZPlus()), "like ZPlus()", z_plus),
        (Claims(positive="always"), "positive", z_plus),
    ],
    both_biases_in_both_parts: [(Claims(like=ALPHA_BETA), f"like {ALPHA_BETA!r}", alpha_beta)],
    unsigned_epsilon: [(Claims(like=EPSILON), "like Epsilon(epsilon=1e-06)", signed_epsilon)],
    unsigned_quarter: [(Claims(), "finite", signed_epsilon)],
    negative_inputs_not_split: [
        (Claims(like=lrp.ZPlus()), "like ZPlus()", z_plus),
        (Claims(positive="always"), "positive", z_plus),
    ],
    b_squared_in_w2: [
        (Claims(like=lrp.WSquare()), "like WSquare()", w_square),
        (Claims(conserves="always"), "conserves", w_square),
        (Claims(free_of=("a", "b")), "free of b", w_square),
    ],
    add_doubled: [
        (Claims(conserves="up to bias"), "conserves", add_in_proportion),
        (Claims(like=lrp.Norm()), "like Norm()", add_in_proportion),
    ],
    ties_lost: [
        (Claims(conserves="always"), "conserves", first_wins),
        (Claims(like=lrp.Pass()), "like Pass()", first_wins),
    ],
    ties_doubled: [(Claims(conserves="always"), "conserves", first_wins)],
    lost_where_the_maximum_is_0: [(Claims(conserves="always"), "conserves", first_wins)],
    gamma_unsplit: [(Claims(like=lrp.GeneralizedGamma()), "like GeneralizedGamma(gamma=0.25)", gamma_split)],
}
CASES = [(fault, *one) for fault, several in FAULTS.items() for one in several]


def layers_for(function):
    if function in (add_doubled, add_in_proportion):
        return ("add",)
    return POOL if function in (ties_lost, ties_doubled, lost_where_the_maximum_is_0, first_wins) else ("dense",)


def fails(subject, claims, layers=("dense",), **options):
    with pytest.raises(RuleFailed) as caught:
        check_rule(subject, claims, layers, **options)
    return caught.value


def weights_in(snippet):
    """How many weights the witness has."""
    values = {}
    exec(snippet.partition("\nr0 = ")[0], values)
    layer = values.get("layer")
    return values["W"].size if "W" in values else layer.weight.size if isinstance(layer, Dense) else 0


@pytest.mark.parametrize(("fault", "claims", "name", "right"), CASES, ids=lambda x: getattr(x, "__name__", None))
def test_a_published_fault_is_found_and_printed(fault, claims, name, right):
    began = time.perf_counter()
    failed = fails(fault, claims, layers_for(fault))
    print(f"{fault.__name__}: {name}: {time.perf_counter() - began:.2f} s, {failed.examples} examples")
    assert failed.property == name
    assert isinstance(failed, AssertionError)
    assert f"{fault.__name__} breaks: {name}\ngot " in str(failed)
    assert failed.snippet in str(failed)
    assert failed.examples <= 100
    assert weights_in(failed.snippet) <= 2
    with pytest.raises(AssertionError, match=r".* != .*"), np.errstate(all="ignore"):
        exec(failed.snippet, {})


@pytest.mark.parametrize(("fault", "claims", "name", "right"), CASES, ids=lambda x: getattr(x, "__name__", None))
def test_the_same_claim_holds_of_the_function_without_the_fault(fault, claims, name, right):
    outcomes = dict(check_rule(right, claims, layers_for(fault), examples=30).outcomes)
    assert outcomes[name].startswith("held")
    assert not [o for o in outcomes.values() if "no draw" in o]


def test_a_witness_is_as_small_as_can_be():
    """One weight shows an unsigned epsilon, and it is printed as a program."""
    failed = fails(unsigned_epsilon, Claims(like=EPSILON))
    assert failed.snippet.splitlines()[:3] == [
        "import numpy as np",
        f"from {__name__} import unsigned_epsilon as f",
        "from lrp_ref import exact",
    ]
    assert weights_in(failed.snippet) == 1


def test_a_snippet_is_a_program_of_its_own():
    failed = fails(lrp.Zero(), Claims(conserves="always"))
    done = subprocess.run([sys.executable, "-c", failed.snippet], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "AssertionError: conserves" in done.stderr


# --- each property is seen to break ----------------------------------------------------------------


class Lossy(lrp.Zero):
    """Hands on less than it books."""

    def back(self, layer, inputs, R):
        R_in, absorbed = super().back(layer, inputs, R)
        return tuple(r * number(0.999, r) for r in R_in), absorbed


class Promoting(lrp.Zero):
    """Forgets in which arithmetic it is."""

    def back(self, layer, inputs, R):
        R_in, absorbed = super().back(layer, inputs, R)
        return tuple(r if r.dtype == object else r * np.ones(1) for r in R_in), absorbed


class OnlyFloats(lrp.Rule):
    """LRP-0 with a constant that rationals cannot meet."""

    def shares(self):
        return (lrp.Share((lrp.Term(w=lambda w: w * 0.5, b=lambda b: b * 0.5),)),)


def right(a, W, b, R):
    return a * (over(R, a @ W + b) @ W.T)


def changed_in_float32(a, W, b, R):
    return right(a, W, b, R) * (1.25 if a.dtype == np.float32 else 1)


def shows_its_place(a, W, b, R):
    return right(a, W, b, R) * np.arange(1, a.shape[1] + 1)


def mixes_the_batch(a, W, b, R):
    return right(a, W, b, R.mean(axis=0, keepdims=True))


def flattened(a, W, b, R):
    return right(a, W, b, R).ravel()


def refuses_zeros(a, W, b, R):
    if not a.all():
        raise ValueError("zeros are not for me")
    return right(a, W, b, R)


WRONG = [
    (refuses_zeros, Claims(), "runs"),
    (flattened, Claims(), "runs"),
    (lambda a, W, b, R: a * ((R / (a @ W + b)) @ W.T), Claims(), "finite"),
    (lambda a, W, b, R: right(a, W, b, abs(R)), Claims(), "linear in R"),
    (lambda a, W, b, R: right(a, W, b, R + 1), Claims(), "linear in R"),
    (mixes_the_batch, Claims(), "batch independent"),
    (lrp.Epsilon(epsilon=0.25, stabilizer=Relative(over="batch")), None, "batch independent"),
    (shows_its_place, Claims(), "permutation equivariant"),
    (changed_in_float32, Claims(), "same on every array module"),
    (Promoting(), Claims(), "same on every array module"),
    (Lossy(), Claims(), "books close"),
    (lrp.Flat(bias="raw"), Claims(scales=("outputs",)), "scales: outputs"),
    (lrp.WSquare(), Claims(scales=BOTH), "scales: inputs"),
    (right, Claims(free_of=("a",)), "free of a"),
    (right, Claims(free_of=("b",)), "free of b"),
    (lrp.WSquare(), Claims(free_of=("a", "b", "w")), "free of w"),
    (right, Claims(positive="always"), "positive"),
    (lrp.ZPlus(split="weight"), Claims(positive="always"), "positive"),
    (lrp.Zero(), Claims(conserves="always"), "conserves"),
    (lambda a, W, b, R: 1000 * right(a, W, b, R), Claims(conserves="up to bias"), "conserves"),
    (lambda a, W, b, R: 1.0000001 * right(a, W, b, R), Claims(conserves="up to bias"), "conserves"),
    (lrp.Zero(), Claims(like=lrp.Norm(bias="none")), "like Norm(bias='none')"),
    (OnlyFloats(), Claims(like=lrp.Flat()), "like Flat()"),
]


@pytest.mark.parametrize(("wrong", "claims", "name"), WRONG)
def test_each_property_is_seen_to_break(wrong, claims, name):
    failed = fails(wrong, claims)
    assert failed.property == name
    module = {"f": wrong, "np": np}
    error = ValueError if wrong is refuses_zeros else AssertionError
    with pytest.raises(error), np.errstate(all="ignore"):
        exec(failed.snippet, module)


@pytest.mark.parametrize("layers", [("conv",), ("max pool",), ("add",)])
def test_faults_are_seen_on_every_family(layers):
    assert fails(Lossy(), None, layers).property == "books close"

    def first_only(layer, inputs, R):
        R_in, _ = lrp.Zero().back(layer, inputs, R)
        R_in[0][..., :1] *= 2
        return R_in

    failed = fails(first_only, Claims(like=lrp.Zero()), layers)
    assert failed.property in ("permutation equivariant", "like Zero()")
    assert "# define here f, the function under test" in failed.snippet
    with pytest.raises(AssertionError):
        exec(failed.snippet, {"f": first_only})


# --- and nothing is seen that is not there ---------------------------------------------------------

OURS = [
    lrp.Zero(), lrp.Epsilon(epsilon=0.25), lrp.Epsilon(epsilon=1e-6), lrp.Norm(), lrp.Gamma(gamma=0.1),
    lrp.GeneralizedGamma(), lrp.ZPlus(), lrp.ZPlus(split="weight"), ZMinus(), ZMinus(split="weight"), lrp.AlphaBeta(),
    lrp.AlphaBeta(alpha=1), lrp.AlphaBeta(alpha=1.5, split="weight"), lrp.Flat(), lrp.WSquare(),
    lrp.ZBox(low=-1, high=1), lrp.ZBox(low=-2.118, high=2.64), lrp.Pass(), lrp.Gradient(), lrp.Product(),
    lrp.Product(portions=(0.5, 0.5)), lrp.WSquare(bias="squared"), lrp.ZPlus(bias="none"), lrp.Gamma(bias="raw"),
    lrp.AlphaBeta(bias="spread"),
]  # fmt: skip
STABILIZERS = [Unsigned(), AtZero(), Clipped(), SignedOrZero(), Relative(), Relative(signed=False, plus=0.5)]
VARIANTS = [
    dataclasses.replace(rule, bias=bias, epsilon=epsilon)
    for rule in OURS[:17]
    for bias in ("rule", "none", "raw", "squared", "spread")
    for epsilon in (0.0, 0.25)
] + [dataclasses.replace(rule, stabilizer=form, epsilon=0.25) for rule in OURS[:17] for form in STABILIZERS]


def no_alarm(rule, examples, seeds=SEEDS):
    layers = ("mul",) if isinstance(rule, lrp.Product) else ("dense", "conv", "add", "max pool")
    return [check_rule(rule, None, layers, examples=examples, seed=seed) for seed in seeds]


@pytest.mark.parametrize("rule", OURS, ids=repr)
def test_no_alarm_on_a_rule_of_ours(rule):
    assert all(isinstance(report, RuleReport) for report in no_alarm(rule, 2))


@pytest.mark.full
@pytest.mark.parametrize("rule", OURS, ids=repr)
def test_no_alarm_on_a_rule_of_ours_at_length(rule):
    reports = no_alarm(rule, 40)
    assert not [o for report in reports for o in report.outcomes if "no draw" in o[1]]


@pytest.mark.full
@pytest.mark.parametrize("rule", VARIANTS, ids=repr)
def test_no_alarm_on_a_variant(rule):
    no_alarm(rule, 8, range(3))


@pytest.mark.full
def test_what_is_claimed_of_our_rules_is_all_that_holds():
    """No claim of the table can be made stronger, but where a rule is asked beyond its domain."""
    stronger = {"conserves": "always", "positive": "always", "free_of": ("a", "b", "w"), "scales": BOTH}
    for rule in OURS[:17]:
        claims = claims_of(rule)
        for name, most in stronger.items():
            if getattr(claims, name) != most:
                failed = fails(rule, dataclasses.replace(claims, **{name: most}), examples=60)
                assert failed.property.startswith(name.replace("_", " ").rstrip()[:6]), (rule, name, failed.property)


# --- the report, and what is refused ---------------------------------------------------------------


def test_a_report_says_what_held_and_what_was_skipped():
    report = check_rule(lrp.Pass(), examples=60)
    outcomes = dict(report.outcomes)
    assert list(outcomes)[:7] == list(BASIC)
    assert outcomes["on Dense"].startswith("skipped: refused, ")
    assert "exact, float64, float32, longdouble" in outcomes["same on every array module"]
    assert report.root.startswith("no: it divides nothing")
    assert str(report).splitlines()[:2] == ["Pass()", "property                    outcome"]
    outcomes = dict(check_rule(right, examples=5).outcomes)
    assert outcomes["books close"] == "skipped: a function keeps no books"
    assert "no exact: a function is run in floats" in outcomes["same on every array module"]
    outcomes = dict(check_rule(OnlyFloats(), Claims(scales=("inputs",)), POOL, examples=20).outcomes)
    assert "no exact: TypeError" in outcomes["same on every array module"]
    assert outcomes["scales: inputs"] == "skipped: no draw that it applies to"


@pytest.mark.parametrize(
    ("rule", "root"),
    [
        (lrp.Zero(), "yes"),
        (lrp.GeneralizedGamma(), "yes"),
        (lrp.ZBox(low=0, high=1), "yes"),
        (lrp.AlphaBeta(alpha=1), "yes"),
        (lrp.AlphaBeta(alpha=2), "no: its parts, of portions 2 and -1, pull in unlike directions"),
        (lrp.Zero(bias="spread"), 'no: bias="spread"'),
        (lrp.Gradient(), "no: it divides nothing"),
        (right, "unknown: a function shows no terms"),
    ],
    ids=lambda value: getattr(value, "__name__", repr(value)),
)
def test_whether_there_is_a_root(rule, root):
    assert check_rule(rule, examples=2).root.startswith(root)


def test_a_domain_makes_a_claim_true():
    """A plain gamma and a z+ that does not split are right where inputs are not negative, and z is positive."""
    like = Claims(like=lrp.GeneralizedGamma(), inputs="nonnegative", outputs="positive", conserves="up to bias")
    outcomes = dict(check_rule(gamma_unsplit, like, examples=300).outcomes)
    assert not [o for o in outcomes.values() if "no draw" in o]
    check_rule(negative_inputs_not_split, Claims(like=lrp.ZPlus(), inputs="nonnegative", positive="always"))
    check_rule(negative_inputs_not_split, Claims(positive="for inputs >= 0"))
    check_rule(negative_inputs_not_split, Claims(like=lrp.ZPlus(), inputs=(0.0, 1.0)))


def test_a_stabilizer_of_a_function_is_forgiven():
    claims = Claims(conserves="up to bias", scales=BOTH)
    assert fails(signed_epsilon, claims).property in ("conserves", "scales: outputs")
    for seed in range(5):
        check_rule(signed_epsilon, dataclasses.replace(claims, epsilon=1e-6), seed=seed)


@pytest.mark.parametrize(
    "layer",
    [
        Dense(weight=[[1, 0.3], [-2, 0.7], [0.1, 5]], bias=[0.1, -1]),
        Conv(weight=np.arange(-8, 10).reshape(2, 1, 3, 3) / 7, groups=2, padding=1),
        Conv(weight=np.arange(-4, 4).reshape(2, 2, 2), tap_bias=np.ones((2, 2)), padding=1),
        AvgPool(kernel=2),
        MaxPool(kernel=3, stride=1, ties="shared"),
        Add(),
        Sub(),
        Scale(weight=[0.5, -1.5], bias=[1.0, 0.0]),
    ],
    ids=repr,
)
def test_layers_of_the_users_own(layer):
    for rule in (lrp.ZPlus(), lrp.AlphaBeta(), lrp.Flat()):
        check_rule(rule, layers=(layer,), examples=15)


def test_equal_seeds_give_equal_draws():
    one, two = (fails(b_squared_in_w2, Claims(conserves="always"), seed=4) for _ in range(2))
    assert (one.snippet, one.examples) == (two.snippet, two.examples)


def test_what_is_refused(monkeypatch):
    for wrong in (3, lrp.Zero, lambda a, W: a, lambda *args: args):
        with pytest.raises(TypeError, match=r"no function of \(a, W, b, R\) or of \(layer, inputs, R\)"):
            check_rule(wrong)
    with pytest.raises(ValueError, match="names out of"):
        check_rule(lrp.Zero(), layers=("densely",))
    with pytest.raises(ValueError, match='needs "dense" or a Dense'):
        check_rule(right, layers=("conv", MaxPool(kernel=2)))
    with pytest.raises(ValueError, match="conserves='maybe', need 'always' or 'up to bias' or 'no'"):
        Claims(conserves="maybe")
    with pytest.raises(ValueError, match=r"free_of=.* need 'a' or 'b' or 'w'"):
        Claims(free_of=("z",))
    with pytest.raises(lrp.UnsuitableRule, match="refuses every layer"):
        check_rule(lrp.Product(), examples=5)
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    with pytest.raises(ImportError, match=r'check_rule needs hypothesis: pip install "lrp_ref\[properties\]"'):
        check_rule(lrp.Zero())


def test_nothing_is_printed_but_the_error(capsys):
    fails(b_squared_in_w2, Claims(conserves="always"))
    check_rule(right, examples=5)
    assert capsys.readouterr() == ("", "")
