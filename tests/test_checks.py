"""The checkers against wrong code: each fault is caught by the checker whose job it is."""

import dataclasses

import by_definition as ref
import numpy as np
import pytest
from checks import check_adjoint, check_books, check_conserves, check_same_dealing

import lrp_ref as lrp
from lrp_ref.arrays import divide, number, zeros
from lrp_ref.layers import Conv, Dense, ReLU
from lrp_ref.ledger import Absorbed

RNG = np.random.default_rng(7)
K, k = RNG.integers(-4, 5, (3, 2, 3, 3)) / 4, RNG.integers(1, 5, 3) / 4
CONV = Conv(weight=K, bias=k, padding=1)
A, R = RNG.integers(-4, 5, (2, 2, 4, 4)) / 4, RNG.integers(-4, 5, (2, 3, 4, 4)) / 4
START = RNG.bit_generator.state


@pytest.fixture(autouse=True)
def the_same_numbers_whichever_tests_run():
    RNG.bit_generator.state = START


def steps(divided=None, weight_back=lambda w: w, terms_back=lambda pairs: pairs):
    """four_steps written once more, with places for a fault."""

    def back(rule, layer, inputs, R):
        (a,), layer = inputs, layer.frozen(*inputs)
        weight, bias = layer.parameters(a)
        R_in, absorbed = zeros(a.shape, a), Absorbed.undealt(R, portions := rule.portions_at(layer, a))
        for share, portion in zip(rule.shares(), portions, strict=True):
            x, w, b = rule.modified(share, a, weight, bias)
            z = sum(map(layer.linear, x, w)) + b
            e = rule.stabilizer(z, rule.epsilon)
            s = divide(portion * R, z + e)
            s = divided(s) if divided else s
            c = [layer.adjoint(s, weight_back(w_t), a.shape) for w_t in w]
            R_in = R_in + sum(x_t * c_t for x_t, c_t in terms_back(list(zip(x, c, strict=True))))
            absorbed = absorbed + Absorbed.share(portion * R, z, e, s * b, s * e, one_sign=share.one_sign)
        return (R_in,), absorbed

    return back


def faulty(rule, back):
    """The rule with another way back."""
    return dataclasses.make_dataclass("Faulty", [], bases=(type(rule),), namespace={"back": back}, frozen=True)(
        **{field.name: getattr(rule, field.name) for field in dataclasses.fields(rule)}
    )


FAULTS = {
    "s scaled by 0.999": steps(divided=lambda s: s * number(0.999, s)),
    "a transposed kernel": steps(weight_back=lambda w: w.swapaxes(2, 3)),
    "a term dropped in step 4": steps(terms_back=lambda pairs: pairs[:1]),
    "another w in step 3 than in step 1": steps(weight_back=abs),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("arithmetic", ["exact", "float64", "float32"])
def test_the_balance_sees(fault, arithmetic):
    to = lrp.exact if arithmetic == "exact" else lambda x: x.astype(arithmetic)
    a, relevance = to(A), to(R)
    layer, rule = CONV.like(a), lrp.ZPlus()
    check_conserves(layer, rule, a, relevance)
    check_conserves(layer, faulty(rule, steps()), a, relevance)
    with pytest.raises(AssertionError, match="off by"):
        check_conserves(layer, faulty(rule, FAULTS[fault]), a, relevance)


class WrongRho(lrp.Rule):
    """Gamma with w + gamma |w|: consistent in forward and backward, and no rule of the chapter."""

    def shares(self):
        def raised(w):
            return w + number(0.25, w) * abs(w)

        return (lrp.Share((lrp.Term(w=raised, b=raised),)),)


def test_the_balance_is_blind_to_a_wrong_rho_and_the_literal_loops_are_not():
    a, relevance = lrp.exact(A[:1]), lrp.exact(R[:1])
    layer = CONV.like(a)
    op = ref.conv(K.tolist(), k.tolist(), (2, 4, 4), [1, 1], [(1, 1), (1, 1)], [1, 1], 1)
    expected = ref.gamma(op, lrp.fractions(a).reshape(-1).tolist(), lrp.fractions(relevance).reshape(-1).tolist(), 0.25)
    check_conserves(layer, WrongRho(), a, relevance)
    check_same_dealing(lrp.four_steps(layer, lrp.Gamma(gamma=0.25), a, relevance), expected)
    with pytest.raises(AssertionError, match="by definition"):
        check_same_dealing(lrp.four_steps(layer, WrongRho(), a, relevance), expected)


class LeakyAdjoint(Dense):
    """A dense layer whose adjoint loses a thousandth."""

    def adjoint(self, s, w, shape):
        return super().adjoint(s, w, shape) * number(0.999, s)


class FlippedAdjoint(Conv):
    """A convolution that forgets that its adjoint reads the kernel as it is."""

    def adjoint(self, s, w, shape):
        return super().adjoint(s, w[:, :, ::-1, ::-1], shape)


@pytest.mark.parametrize("to", [lrp.exact, np.asarray], ids=["exact", "float64"])
def test_the_adjoint_check_sees_a_wrong_adjoint(to):
    x, s = to(RNG.integers(-4, 5, (2, 4)) / 4), to(RNG.integers(1, 5, (2, 3)) / 4)
    W = RNG.integers(1, 5, (4, 3)) / 4
    check_adjoint(Dense(weight=W).like(x), x, s)
    with pytest.raises(AssertionError, match=r"adjoint|against"):
        check_adjoint(LeakyAdjoint(weight=W).like(x), x, s)
    x, s = to(A), to(R)
    check_adjoint(CONV.like(x), x, s)
    with pytest.raises(AssertionError, match=r"adjoint|against"):
        check_adjoint(FlippedAdjoint(weight=K, padding=1).like(x), x, s)


def test_the_books_check_sees_relevance_that_nobody_sent():
    net = lrp.chain(Dense(weight=[[1, 2], [3, -1]], bias=[1, 1]), ReLU(), Dense(weight=[[2.0], [1.0]], bias=[0.5]))
    e = lrp.explain(net, lrp.exact([[1.0, 2.0]]), lrp.Epsilon(epsilon=0.25))
    check_books(e)
    first, second, *rest = e.ledger.entries
    doubled = dataclasses.replace(second, came=second.came * 2)
    with pytest.raises(AssertionError, match=r'node "1.relu" .* is off by'):
        check_books(dataclasses.replace(e, ledger=dataclasses.replace(e.ledger, entries=[first, doubled, *rest])))
    everything = dataclasses.replace(second, came=second.came * 2, sent={n: v * 2 for n, v in second.sent.items()})
    with pytest.raises(AssertionError, match="received what nobody sent"):
        check_books(dataclasses.replace(e, ledger=dataclasses.replace(e.ledger, entries=[first, everything, *rest])))
    arrived = {"input": e.ledger.arrived["input"] + 1}
    with pytest.raises(AssertionError, match="received what nobody sent"):
        check_books(dataclasses.replace(e, ledger=dataclasses.replace(e.ledger, arrived=arrived)))
    with pytest.raises(AssertionError, match="start minus inputs"):
        check_books(
            dataclasses.replace(e, ledger=dataclasses.replace(e.ledger, entries=[], arrived={}, start={"a": 1}))
        )


def test_the_rounding_bound_is_of_use():
    """In float32 it lets rounding pass and stops a fault of 1e-4."""
    a, relevance = A.astype("float32"), R.astype("float32")
    tiny = steps(divided=lambda s: s * number(1.0001, s))
    check_conserves(CONV.like(a), lrp.ZPlus(), a, relevance)
    with pytest.raises(AssertionError, match="off by"):
        check_conserves(CONV.like(a), faulty(lrp.ZPlus(), tiny), a, relevance)
