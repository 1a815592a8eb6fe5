"""Messages and gradients: limits, several inputs, errors. That they agree with LRP is in test_identities.py."""

import numpy as np
import pytest

import lrp_ref as lrp
from lrp_ref.layers import ELU, GELU, Add, Dense, MaxPool, Pad, ReLU, Sigmoid, SiLU, Softplus, Tanh
from lrp_ref.theory import gradient, gradient_x_input, integrated_gradients, messages

RNG = np.random.default_rng(11)
W = RNG.integers(-8, 9, (4, 3)) / 8
SMOOTH = lrp.chain(
    *(layer for f in (Tanh(), Softplus(), SiLU(), GELU(), ELU()) for layer in (Dense(weight=W @ W.T), f))
)


def test_messages_are_refused_above_their_limit():
    big = Dense(weight=np.zeros((2**14, 2**13 + 1)))
    with pytest.raises(lrp.ShapeError, match=r"134234112 entries, more than 134217728"):
        messages(big, lrp.Zero(), np.ones((1, 2**14)), np.ones((1, 2**13 + 1)))
    with pytest.raises(lrp.ShapeError, match="one sample"):
        messages(Dense(weight=W), lrp.Zero(), np.ones((2, 4)), np.ones((2, 3)))


@pytest.mark.parametrize("block", [1, 2, 256])
def test_messages_do_not_depend_on_how_they_are_computed(block, exact):
    a, R = exact(RNG.integers(-8, 9, (1, 4)) / 8), exact([[1.0, 0.0, -0.5]])
    layer, rule = Dense(weight=W, bias=[0.5, 0, -1]).like(a), lrp.AlphaBeta(bias="spread", epsilon=0.25)
    R_jk = messages(layer, rule, a, R, block=block)
    assert R_jk.shape == (4, 3)
    assert (lrp.fractions(R_jk) == lrp.fractions(messages(layer, rule, a, R))).all()
    assert not lrp.fractions(R_jk[:, 1]).any()


def test_messages_of_several_inputs_and_of_wires():
    a, b, R = np.array([[1.0, 3.0]]), np.array([[1.0, -1.0]]), np.array([[4.0, 2.0]])
    R_jk = messages(Add(), lrp.Norm(), (a, b), R)
    np.testing.assert_array_equal(R_jk, [np.diag([2.0, 3.0]), np.diag([2.0, -1.0])])
    padded = messages(Pad(padding=((1, 0),)), lrp.Pass(), a, np.array([[5.0, 6.0, 7.0]]))
    np.testing.assert_array_equal(padded, [[0, 6, 0], [0, 0, 7]])
    pool = messages(MaxPool(kernel=2), lrp.Pass(), a.reshape(1, 1, 2), np.array([[[9.0]]]))
    assert pool.shape == (1, 2, 1, 1)
    np.testing.assert_array_equal(pool.ravel(), [0, 9])


@pytest.mark.parametrize(
    "target",
    [1, lrp.contrast(0, 2), lrp.probability(1), lrp.log_probability(1), lrp.log_odds(3), np.array([[1.0, -2, 0, 3]])],
    ids=repr,
)
def test_the_gradient_is_the_derivative_of_what_is_explained(target):
    x = RNG.normal(size=(1, 4))

    def explained(x):
        z = SMOOTH.forward(x)["9.elu"]
        p = np.exp(z) / np.exp(z).sum()
        return {
            "1": lambda: z[0, 1],
            "contrast(i=0, j=2)": lambda: z[0, 0] - z[0, 2],
            "probability(k=1)": lambda: p[0, 1],
            "log_probability(k=1)": lambda: np.log(p[0, 1]),
            "log_odds(k=3)": lambda: np.log(p[0, 3] / (1 - p[0, 3])),
        }.get(repr(target), lambda: (z * target).sum())()

    h = 1e-6
    differences = [(explained(x + h * e) - explained(x - h * e)) / (2 * h) for e in np.eye(4)[:, None]]
    np.testing.assert_allclose(gradient(SMOOTH, x, target)[0], differences, rtol=1e-6, atol=1e-8)
    np.testing.assert_array_equal(gradient_x_input(SMOOTH, x, target), x * gradient(SMOOTH, x, target))


def test_integrated_gradients_sum_to_the_difference_from_the_baseline():
    x, baseline = RNG.normal(size=(3, 4)), RNG.normal(size=4)
    z, z0 = (SMOOTH.forward(v)["9.elu"] for v in (x, np.broadcast_to(baseline, x.shape)))
    result = integrated_gradients(SMOOTH, x, baseline=baseline, steps=256)
    k = z.argmax(axis=1)
    np.testing.assert_allclose(result.sum(axis=1), z[np.arange(3), k] - z0[np.arange(3), k], rtol=1e-4)
    assert result.dtype == x.dtype
    assert integrated_gradients(SMOOTH, x.astype("float32"), 1).dtype == np.float32
    with pytest.raises(lrp.GraphError, match="steps=0"):
        integrated_gradients(SMOOTH, x, 1, steps=0)


def test_gradients_want_one_input_and_one_output():
    net = lrp.Graph([lrp.Node("s", Add(), "a", "b"), lrp.Node("r", ReLU(), "s")], outputs="r", inputs=["a", "b"])
    with pytest.raises(lrp.GraphError, match="one input and one output"):
        gradient(net, np.ones((1, 2)), np.ones((1, 2)))
    net = lrp.Graph([lrp.Node("d", Dense(weight=W), "input"), lrp.Node("p", Sigmoid(), "d")], outputs="p")
    x = np.ones((1, 4))
    p = net.forward(x)["p"]
    np.testing.assert_allclose(gradient(net, x, 1)[0], W[:, 1] * p[0, 1] * (1 - p[0, 1]), rtol=1e-14)


def test_the_gradient_of_a_substituted_pool_is_the_maximums():
    x = np.array([[[[1.0, 3.0]]]])
    net = lrp.chain(MaxPool(kernel=(1, 2), frozen_as="average"))
    np.testing.assert_array_equal(gradient(net, x, np.ones((1, 1, 1, 1))), [[[[0, 1]]]])
    composite = lrp.Composite([(lrp.kind(MaxPool), lrp.Norm())])
    np.testing.assert_array_equal(lrp.explain(net, x, composite, target=4 * np.ones((1, 1, 1, 1))).relevance, x)
