"""The referee itself, held to facts worked out by hand, to its own books, and to torch's forward pass."""

import ast
import math
import random
import sys
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import by_definition as ref
import pytest
from by_definition import Dealt, Operator

F = Fraction


def fractions(*entries: str | int) -> list[Fraction]:
    return [Fraction(entry) for entry in entries]


def drawn(rng: random.Random, *shape: int) -> Any:
    """Small signed rationals, a good part of them 0, as nested lists."""
    if not shape:
        return F(rng.randint(-3, 3), rng.choice([1, 1, 2, 3]))
    return [drawn(rng, *shape[1:]) for _ in range(shape[0])]


# ----------------------------------------------------------------------------------------------------------
# Facts worked out by hand: layers


def test_conv_does_not_flip() -> None:
    op = ref.conv([[[1, 10]]], None, (1, 3), [1], [(0, 0)], [1])
    assert ref.forward(op, [1, 2, 3]) == [21, 32]
    op = ref.conv([[[1, 10]]], [5], (1, 3), [2], [(1, 2)], [2])  # reads cells (-1, 1), (1, 3) and nothing beyond
    assert op.outputs == (1, 2)
    assert ref.forward(op, [1, 2, 3]) == [5 + 20, 5 + 2]
    assert op.w == {(1, 0): 10, (1, 1): 1}


def test_conv_groups() -> None:
    op = ref.conv([[[2]], [[3]], [[5]], [[7]]], None, (2, 1), [1], [(0, 0)], [1], groups=2)
    assert ref.forward(op, [1, 10]) == [2, 3, 50, 70]


def test_a_weight_of_zero_is_connected_and_padding_is_not() -> None:
    op = ref.conv([[[0, 1, 0]]], None, (1, 2), [1], [(1, 1)], [1])
    assert set(op.w) == {(0, 0), (1, 0), (0, 1), (1, 1)}
    assert ref.flat(op, [0, 0], [2, 4]).R_in == [3, 3]


def test_conv_transpose() -> None:
    op = ref.conv_transpose([[[1, 10]]], [100], (1, 2), [2], [(0, 0)], [1], 1, [1])
    assert op.outputs == (1, 5)
    assert ref.forward(op, [1, 2]) == [101, 110, 102, 120, 100]
    op = ref.conv_transpose([[[1, 10, 4]]], None, (1, 2), [2], [(1, 0)], [1])  # 1 10 4+2 20 8 without the first
    assert ref.forward(op, [1, 2]) == [10, 6, 20, 8]
    op = ref.conv_transpose([[[2], [3]], [[5], [7]]], None, (2, 1), [1], [(0, 0)], [1], groups=2)
    assert ref.forward(op, [1, 10]) == [2, 3, 50, 70]
    unfed = ref.conv_transpose([[[1]]], [7], (1, 2), [2], [(0, 0)], [1])  # stride > kernel
    dealt = ref.flat(unfed, [1, 1], [1, 2, 4])
    assert (dealt.R_in, dealt.unclaimed) == ([1, 4], [0, 2, 0])


def test_conv_transpose_is_the_transpose_of_conv() -> None:
    rng = random.Random(1)
    grid = product([1, 2, 3], [(0, 0), (1, 0), (1, 2)], [1, 2], [1, 2])
    for stride, before_after, dilation, groups in grid:
        K = drawn(rng, 4, 4 // groups, 3)
        down = ref.conv(K, None, (4, 8), [stride], [before_after], [dilation], groups)
        size = down.outputs[1]
        extra = 8 - ((size - 1) * stride - sum(before_after) + dilation * 2 + 1)
        up = ref.conv_transpose(K, None, down.outputs, [stride], [before_after], [dilation], groups, [extra])
        assert up.outputs == (4, 8)
        assert up.w == {(k, j): w for (j, k), w in down.w.items()}


def test_average_pool_counts() -> None:
    a = [1, 2, 3, 4, 5]
    with_pad = ref.avg_pool((1, 5), [3], [3], [(1, 1)], True, True)  # (pad 1 2) (3 4 5) (pad)
    assert with_pad.outputs == (1, 2)
    assert ref.forward(with_pad, a) == [1, 4]
    assert ref.forward(ref.avg_pool((1, 5), [3], [3], [(1, 1)], True, False), a) == [F(3, 2), 4]
    over = ref.avg_pool((1, 5), [2], [2], [(0, 0)], True, True)  # the last window hangs over: it counts 1
    assert ref.forward(over, a) == [F(3, 2), F(7, 2), 5]
    half = ref.avg_pool((1, 5), [4], [3], [(0, 1)], True, True)  # (1 2 3 4) (4 5 pad over): it counts 3
    assert ref.forward(half, a) == [F(10, 4), F(9, 3)]
    last = ref.avg_pool((1, 3), [2], [3], [(1, 1)], True, True)  # (pad 1) (3 pad): it starts within the input
    assert ref.forward(last, [1, 2, 3]) == [F(1, 2), F(3, 2)]
    gone = ref.avg_pool((1, 2), [1], [2], [(0, 0)], True, True)  # the second would start at cell 2, beyond
    assert ref.forward(gone, [1, 2]) == [1]
    assert ref.forward(ref.sum_pool((1, 5), [4], [3], [(0, 1)], True), a) == [10, 9]
    assert ref.forward(ref.global_avg_pool((2, 1, 2)), [1, 2, 3, 5]) == [F(3, 2), 4]


def test_average_pool_epsilon_scales_with_the_count() -> None:
    a, eps = [1, 2], F(1, 10)
    for count, n in ((True, 3), (False, 2)):
        op = ref.avg_pool((1, 2), [3], [3], [(1, 0)], False, count)
        dealt = ref.epsilon(op, a, [1], epsilon=eps)
        assert dealt.R_in == [a_j / (sum(a) + n * eps) for a_j in a]


def test_max_pool_of_the_corner() -> None:
    a = [1, 2, 3, 10, 5, 6, 7, 8, 9]
    R = fractions("1/30", "2/30", "3/30", "4/30")
    op = ref.max_pool(a, (1, 3, 3), [2, 2], [1, 1], [(0, 0), (0, 0)], [1, 1], False)
    assert ref.forward(op, a) == [10, 6, 10, 9]
    assert ref.pass_(op, R).R_in == [F(x, 30) for x in (0, 0, 0, 4, 0, 2, 0, 0, 4)]


def test_max_pool_ties() -> None:
    def pool(a: Sequence[Any], ties: Any) -> dict[tuple[int, int], Fraction]:
        return ref.max_pool(a, (1, 3), [3], [3], [(0, 0)], [1], False, ties).w

    assert pool([2, 5, 5], "first") == {(1, 0): 1}
    assert pool([2, 5, 5], "shared") == {(1, 0): F(1, 2), (2, 0): F(1, 2)}
    assert pool([98, 99, 100], ("near", F(1, 100))) == {(1, 0): 1}
    assert pool([98, 99, 100], ("near", F(1, 101))) == {(2, 0): 1}
    assert pool([-98, -99, -100], ("near", 0)) == {(0, 0): 1}
    assert pool([-100, -98, -99], ("near", F(1, 50))) == {(0, 0): 1}  # 2 <= 100 / 50: the larger magnitude
    with pytest.raises(ValueError, match="unpack"):
        pool([1, 2, 3], "last")
    shared = ref.max_pool([2, 5, 5], (1, 3), [3], [3], [(0, 0)], [1], False, "shared")
    with pytest.raises(ValueError, match="more than one input"):
        ref.pass_(shared, [1])
    assert ref.pass_(shared, [1], shared.w).R_in == fractions(0, "1/2", "1/2")


def test_max_pool_padding_never_wins() -> None:
    a = [-3, -1, -2]
    op = ref.max_pool(a, (1, 3), [2], [2], [(1, 1)], [1], False)
    assert ref.forward(op, a) == [-3, -1]
    nothing = ref.max_pool([5], (1, 1), [2], [1], [(1, 1)], [2], False)  # looks at -1 and 1
    assert (nothing.w, ref.forward(nothing, [5]), ref.pass_(nothing, [4]).unclaimed) == ({}, [0], [4])
    average = ref.max_pool_as_average((1, 3), [2], [2], [(1, 1)], [1], False)
    assert ref.forward(average, a) == [-3, F(-3, 2)]
    wide = ref.max_pool_as_average((1, 3), [2], [1], [(0, 0)], [2], False)
    assert ref.forward(wide, a) == [F(-5, 2)]
    assert ref.forward(ref.global_max_pool([1, 7, -3, -5], (2, 2)), [1, 7, -3, -5]) == [7, -3]


def test_scale_and_batch_norm() -> None:
    op = ref.scale([-2, 2], [1, -3], (2,))
    assert ref.forward(op, [1, 2]) == [-1, 1]
    assert ref.zero(op, [1, 2], fractions("1/3", "2/3")).R_in == fractions("2/3", "8/3")
    a = [1, 2, 3, 4]
    assert ref.forward(ref.scale(3, None, (2, 2)), a) == [3, 6, 9, 12]
    assert ref.forward(ref.scale([3, 5], 1, (2, 2)), a) == [4, 7, 16, 21]
    assert ref.forward(ref.scale([[1, 2], [3, 4]], [[1, 0], [0, 0]], (2, 2)), a) == [2, 4, 9, 16]
    assert ref.forward(ref.batch_norm([3, 5], [1, 2], (2, 2)), a) == [4, 7, 17, 22]
    with pytest.raises(ValueError, match="neither"):
        ref.scale([1, 2, 3], None, (2, 2))


def test_sums_and_differences() -> None:
    op = ref.add([(2, 2), (2,), (1,)], [[10], [20]])
    assert (op.inputs, op.outputs) == ((7,), (2, 2))
    assert ref.forward(op, [1, 2, 3, 4, 5, 6, 7]) == [10 + 13, 10 + 15, 20 + 15, 20 + 17]
    assert ref.forward(ref.add([(1, 2), (3, 1)]), [1, 2, 10, 20, 30]) == [11, 12, 21, 22, 31, 32]
    assert ref.forward(ref.sub([(2,), (1,)], 3), [1, 2, 5]) == [-7, -6]
    assert ref.forward(ref.sub([(2,)], [10, 20], constant_first=True), [1, 2]) == [9, 18]
    assert ref.add([(2,)], [10, 20]).b == [10, 20]
    with pytest.raises(ValueError, match="broadcast"):
        ref.add([(2,), (3,)])


def test_reductions() -> None:
    a = [1, 2, 3, 4, 5, 6]
    assert ref.forward(ref.sum_over((2, 3), [0]), a) == [5, 7, 9]
    assert ref.forward(ref.mean_over((2, 3), [-1]), a) == [2, 5]
    assert ref.sum_over((2, 3), [0, 1], True).outputs == (1, 1)
    assert ref.sum_over((2, 3), [0, 1]).outputs == ()
    assert ref.mean_over((2, 3, 4), [1]).outputs == (2, 4)


def test_wires() -> None:
    a = [1, 2, 3, 4, 5, 6]
    assert ref.forward(ref.identity((2, 3)), a) == a
    assert ref.flatten((2, 3)).outputs == (6,)
    assert ref.forward(ref.reshape((2, 3), (3, 2)), a) == a
    assert ref.forward(ref.transpose((2, 3), (1, 0)), a) == [1, 4, 2, 5, 3, 6]
    turned = ref.transpose((1, 2, 3), (2, 0, 1))
    assert (turned.outputs, ref.forward(turned, a)) == ((3, 1, 2), [1, 4, 2, 5, 3, 6])
    assert ref.squeeze((2, 1, 3), 1).outputs == (2, 3)
    assert ref.unsqueeze((2, 3), -1).outputs == (2, 3, 1)
    assert ref.forward(ref.unsqueeze((2, 3), 0), a) == a
    assert ref.forward(ref.slice_((2, 3), [slice(None), slice(None, None, -2)]), a) == [3, 1, 6, 4]
    assert ref.forward(ref.slice_((2, 3), [slice(1, None)]), a) == [4, 5, 6]
    padded = ref.pad((1, 2), ((0, 0), (1, 2)))
    assert ref.forward(padded, [1, 2]) == [0, 1, 2, 0, 0]
    assert ref.pass_(padded, [1, 2, 3, 4, 5]).unclaimed == [1, 0, 0, 4, 5]
    assert ref.forward(ref.pad((1, 3), ((0, 0), (-1, 0))), [1, 2, 3]) == [2, 3]
    double = ref.upsample((1, 1, 2), (2, 3))
    assert ref.forward(double, [1, 2]) == [1, 1, 1, 2, 2, 2] * 2
    assert ref.pass_(double, list(range(12))).R_in == [0 + 1 + 2 + 6 + 7 + 8, 3 + 4 + 5 + 9 + 10 + 11]
    joined = ref.concat([(2, 1), (2, 2)], -1)
    assert ref.forward(joined, [1, 2, 3, 4, 5, 6]) == [1, 3, 4, 2, 5, 6]
    with pytest.raises(ValueError, match="fit together"):
        ref.concat([(2, 1), (3, 1)], 1)


def test_dense_acts_on_the_last_axis() -> None:
    op = ref.dense([[1, 10], [100, 1000]], [0, 1], lead=(2,))
    assert (op.inputs, op.outputs) == ((2, 2), (2, 2))
    assert ref.forward(op, [[1, 2], [3, 4]]) == [201, 2011, 403, 4031]


# ----------------------------------------------------------------------------------------------------------
# Facts worked out by hand: rules


def test_dense_analytic() -> None:
    op = ref.dense([[3, 5], [4, 6]], [7, 8])
    assert ref.forward(op, [1, 2]) == [18, 25]
    dealt = ref.zero(op, [1, 2], fractions("1/3", "2/3"))
    assert dealt.R_in == fractions("17/90", "316/675")
    assert dealt.bias == [F(7, 18) / 3, F(8, 25) * 2 / 3]
    assert (dealt.stabilizer, dealt.unclaimed) == ([0, 0], [0, 0])


@pytest.mark.parametrize(
    ("R", "expected"), [((1, 0), ("4/19", "8/19")), ((0, 1), ("5/27", "14/27"))], ids=["first", "second"]
)
def test_residual_analytic(R: tuple[int, int], expected: tuple[str, str]) -> None:
    layer, total, a = ref.dense([[3, 5], [4, 6]], [7, 8]), ref.add([(2,), (2,)]), fractions(1, 2)
    split = ref.zero(total, a + ref.forward(layer, a), R).R_in
    through = ref.zero(layer, a, split[2:]).R_in
    assert [x + f for x, f in zip(split[:2], through, strict=True)] == fractions(*expected)


def test_generalized_gamma_analytic() -> None:
    op = ref.dense([[1, 2], [-4, 0]], [-2, 3])  # m = (-1, -4) and (-2, 0), z = (-7, 1)
    dealt = ref.generalized_gamma(op, [-1, 1], fractions("1/3", "2/3"), F(1, 4))
    assert dealt.messages == {
        (0, 0): F(-5, 4) / F(-35, 4) / 3,
        (1, 0): F(-5) / F(-35, 4) / 3,
        (0, 1): F(-2) / F(7, 4) * 2 / 3,
        (1, 1): 0,
    }
    assert dealt.R_in == fractions("-5/7", "4/21")
    assert dealt.bias == fractions("2/21", "10/7")


WITNESS: dict[str, tuple[Callable[..., Dealt], tuple[Any, ...], dict[str, Any], tuple[Any, ...]]] = {
    # name: rule, parameters, variant, (R_in, R_in, bias, unclaimed)
    "zero": (ref.zero, (), {}, (1, -1, -1, 0)),
    "zero, bias none": (ref.zero, (), {"bias": "none"}, (0, 0, 0, -1)),
    "zero, bias spread": (ref.zero, (), {"bias": "spread"}, ("1/2", "-3/2", 0, 0)),
    "z_plus": (ref.z_plus, (), {}, (-1, 0, 0, 0)),
    "z_plus, innvestigate": (ref.z_plus, (), {"bias": "none"}, (-1, 0, 0, 0)),
    "z_plus, captum": (ref.z_plus, (), {"split": "weight", "bias": "raw"}, (0, 0, 0, -1)),
    "z_plus, captum without bias": (ref.z_plus, (), {"split": "weight", "bias": "none"}, (-1, 0, 0, 0)),
    "alpha 1 beta 0": (ref.alpha_beta, (1, 0), {}, (-1, 0, 0, 0)),
    "alpha 2 beta 1": (ref.alpha_beta, (2, 1), {}, (-2, "1/2", "1/2", 0)),
    "alpha 2 beta 1, bias raw": (ref.alpha_beta, (2, 1), {"bias": "raw"}, (0, "1/2", "1/2", -2)),
    "alpha 2 beta 1, bias none": (ref.alpha_beta, (2, 1), {"bias": "none"}, (-2, 1, 0, 0)),
    "alpha 2 beta 1, bias spread": (ref.alpha_beta, (2, 1), {"bias": "spread"}, ("-7/4", "3/4", 0, 0)),
    "gamma": (ref.gamma, ("1/4",), {}, ("5/3", "-4/3", "-4/3", 0)),
    "gamma, bias raw": (ref.gamma, ("1/4",), {"bias": "raw"}, ("5/3", "-4/3", "-4/3", 0)),
    "generalized gamma": (ref.generalized_gamma, ("1/4",), {}, ("2/3", "-5/6", "-5/6", 0)),
    "generalized gamma, bias none": (ref.generalized_gamma, ("1/4",), {"bias": "none"}, (4, -5, 0, 0)),
    "w_square": (ref.w_square, (), {}, ("-1/2", "-1/2", 0, 0)),
    "w_square, zennit": (ref.w_square, (), {"bias": "squared"}, ("-1/3", "-1/3", "-1/3", 0)),
    "flat": (ref.flat, (), {}, ("-1/2", "-1/2", 0, 0)),
    "z_box": (ref.z_box, (-1, 1), {}, (-1, 0, 0, 0)),
    "z_box, a bound per input": (ref.z_box, ([0, -1], [1, 2]), {}, ("-1/2", "-1/2", 0, 0)),
    "absolute": (ref.absolute, (), {}, ("-1/3", "-1/3", "-1/3", 0)),
}


@pytest.mark.parametrize("name", WITNESS)
def test_witness(name: str) -> None:
    """The neuron that tells the implementations apart: w = (1, -1), b = -1, a = (1, 1), R = z = -1."""
    rule, parameters, variant, (R_1, R_2, bias, unclaimed) = WITNESS[name]
    dealt = rule(ref.dense([[1], [-1]], [-1]), [1, 1], [-1], *parameters, **variant)
    assert dealt.R_in == fractions(R_1, R_2)
    assert (dealt.bias, dealt.stabilizer, dealt.unclaimed) == (fractions(bias), [0], fractions(unclaimed))


SIGNED: dict[str, tuple[Callable[..., Dealt], tuple[Any, ...], dict[str, Any], int, tuple[int, ...]]] = {
    # name: rule, parameters, variant, R, (R_in, R_in, R_in, bias)
    "zero": (ref.zero, (), {}, 7, (-2, 3, 2, 4)),
    "gamma": (ref.gamma, (1,), {}, 11, (-4, 3, 4, 8)),
    "gamma, bias raw": (ref.gamma, (1,), {"bias": "raw"}, 7, (-4, 3, 4, 4)),
    "generalized gamma": (ref.generalized_gamma, (1,), {}, 16, (-2, 6, 4, 8)),
    "z_plus": (ref.z_plus, (), {}, 9, (0, 3, 2, 4)),
    "z_plus, bias none": (ref.z_plus, (), {"bias": "none"}, 5, (0, 3, 2, 0)),
    "z_plus, split weight": (ref.z_plus, (), {"split": "weight"}, 4, (-2, 0, 2, 4)),
    "alpha 2 beta 1": (ref.alpha_beta, (2, 1), {}, 9, (-9, 6, 4, 8)),
    "alpha 2 beta 1, split weight": (ref.alpha_beta, (2, 1), {"split": "weight"}, 12, (-12, -12, 12, 24)),
    "w_square": (ref.w_square, (), {}, 14, (4, 9, 1, 0)),
    "w_square, bias squared": (ref.w_square, (), {"bias": "squared"}, 30, (4, 9, 1, 16)),
    "flat": (ref.flat, (), {}, 3, (1, 1, 1, 0)),
    "z_box": (ref.z_box, (-2, 3), {}, 18, (2, 12, 4, 0)),
    "absolute": (ref.absolute, (), {}, 11, (2, 3, 2, 4)),
}


@pytest.mark.parametrize("name", SIGNED)
def test_signed_inputs(name: str) -> None:
    """w = (2, -3, 1), b = 4, a = (-1, -1, 2): contributions (-2, 3, 2). Here R is the rule's denominator."""
    rule, parameters, variant, R, (R_1, R_2, R_3, bias) = SIGNED[name]
    dealt = rule(ref.dense([[2], [-3], [1]], [4]), [-1, -1, 2], [R], *parameters, **variant)
    assert (dealt.R_in, dealt.bias) == (fractions(R_1, R_2, R_3), fractions(bias))
    assert (dealt.stabilizer, dealt.unclaimed) == ([0], [0])


def test_witness_with_the_peers_stabilizers() -> None:
    op, a, R = ref.dense([[1], [-1]], [-1]), [1, 1], [-1]
    captum = ref.z_plus(op, a, R, split="weight", bias="raw", epsilon=F(1, 10**9))
    assert (captum.R_in, captum.bias, captum.stabilizer) == ([-(10**9), 0], [10**9], [-1])
    innvestigate: dict[str, Any] = {"bias": "raw", "epsilon": F(1, 10**7), "stabilizer": ref.at_zero}
    assert ref.alpha_beta(op, a, R, 1, 0, **innvestigate).R_in == [-(10**7), 0]
    assert ref.alpha_beta(op, a, R, 2, 1, **innvestigate).R_in == [-2 * 10**7, F(1, 2)]


def test_a_cancelling_sum_and_epsilon() -> None:
    op = ref.dense([[1], [-1]], None)
    assert ref.epsilon(op, [1, 1], [1], epsilon=F(1, 10**6)).R_in == [10**6, -(10**6)]
    assert ref.zero(op, [1, 1], [1]).unclaimed == [1]
    with pytest.raises(TypeError, match="epsilon"):
        ref.epsilon(op, [1, 1], [1])  # type: ignore[call-arg]


def test_an_empty_negative_part_creates_relevance() -> None:
    dealt = ref.alpha_beta(ref.dense([[1], [1]], None), [1, 3], [4], 2, 1)
    assert (dealt.R_in, dealt.unclaimed) == ([2, 6], [-4])


def test_alpha_and_beta_are_checked() -> None:
    op = ref.dense([[1], [-1]], None)
    assert ref.alpha_beta(op, [1, 2], [1], 1.4, 0.4) == ref.alpha_beta(op, [1, 2], [1], 1.4, 1.4 - 1)
    for alpha, beta in ((2, 0), (0.5, -0.5), (2, 1 + 1e-14)):
        with pytest.raises(ValueError, match="alpha"):
            ref.alpha_beta(op, [1, 2], [1], alpha, beta)


def test_spread_stays_booked_without_inputs() -> None:
    op = ref.pad((1,), ((1, 0),))
    biased = Operator(op.inputs, op.outputs, op.w, fractions(2, 2))
    dealt = ref.zero(biased, [3], [1, 1], bias="spread", epsilon=1)
    assert (dealt.R_in, dealt.bias, dealt.stabilizer) == ([1], [F(2, 3), 0], [F(1, 3), 0])


def test_pass_on_portions() -> None:
    op = ref.add([(1,), (1,)])
    dealt = ref.pass_(op, [12], {(0, 0): F(1, 2), (1, 0): F(1, 3)})
    assert (dealt.R_in, dealt.unclaimed) == ([6, 4], [2])
    with pytest.raises(ValueError, match="no connection"):
        ref.pass_(ref.identity((2,)), [1, 1], {(0, 1): 1})


def test_generalized_gamma_keeps_its_mask_without_the_bias() -> None:
    op = ref.dense([[1]], [-3])
    dealt = ref.generalized_gamma(op, [1], [1], 1, bias="none")  # z = -2 < 0, though the contribution is 1
    assert dealt.R_in == [1]
    op = ref.dense([[1], [-1]], [-3])
    assert ref.generalized_gamma(op, [2, 1], [1], 1, bias="none").unclaimed == [1]  # 2 - 2 = 0 under the mask
    assert ref.generalized_gamma(op, [4, 1], [1], 1).unclaimed == [1]  # z = 0


# Small networks whose relevances are published


def test_network_whose_bias_terms_cancel() -> None:
    a = list(range(16))
    first = ref.conv([[[[1] * 3] * 3]] * 2, [-50, -75], (1, 4, 4), [1, 1], [(0, 0)] * 2, [1, 1])
    last = ref.dense([[1] * 4] * 5 + [[-1] * 4] * 3, None)
    hidden = [max(F(0), z) for z in ref.forward(first, a)]
    assert ref.forward(last, hidden) == [54] * 4
    R = ref.zero(last, hidden, [54, 0, 0, 0]).R_in
    assert R == [0, 4, 31, 40, 0, 0, -6, -15]
    dealt = ref.zero(first, a, R)
    assert dealt.R_in == [0, 1, 2, 3, 0, 5, 6, 7, 0, 9, 10, 11, 0, 0, 0, 0]
    assert (sum(dealt.bias[:4]), sum(dealt.bias[4:])) == (-150, 150)


def test_networks_of_two_dense_layers() -> None:
    first, last = ref.dense([[-2, 2, 2], [2, 2, 2], [2, 2, 2]], None), ref.dense([[3]] * 3, None)
    a = [1, 2, 3]
    h = ref.forward(first, a)
    z = ref.forward(last, h)
    assert z == [96]
    R = ref.gamma(last, h, z, F(1, 4)).R_in
    assert R == [24, 36, 36]
    assert ref.gamma(first, a, R, 1).R_in == fractions("28/3", "104/3", 52)
    assert ref.z_plus(first, a, ref.z_plus(last, h, z).R_in).R_in == fractions(12, "168/5", "252/5")


def test_network_with_a_concatenation() -> None:
    a, join = [-1, 1], ref.concat([(2,), (2,)], 0)
    left, right = ref.dense([[1, 0], [2, 1]], None), ref.dense([[2, 0], [3, 0]], None)
    h = ref.forward(join, ref.forward(left, a) + ref.forward(right, a))
    last = ref.dense([[1], [4], [5], [0]], None)
    R = ref.zero(last, h, ref.forward(last, h)).R_in
    assert R == [1, 4, 5, 0]
    R = ref.pass_(join, R).R_in
    parts = ref.zero(left, a, R[:2]).R_in, ref.zero(right, a, R[2:]).R_in
    assert [x + y for x, y in zip(*parts, strict=True)] == [-11, 21]


# ----------------------------------------------------------------------------------------------------------
# Stabilizers


def test_stabilizers() -> None:
    z, eps = fractions(-3, 0, "1/2"), F(1)
    assert ref.signed(z, eps) == [-1, 1, 1]
    assert ref.unsigned(z, eps) == [1, 1, 1]
    assert ref.at_zero(z, eps) == [0, 1, 0]
    assert ref.clip(z, eps) == [0, 1, F(1, 2)]
    assert ref.signed_or(5)(z, eps) == [-1, 5, 1]
    z = fractions(-3, 0, 4, 5, "0", "0", "0", "0")  # mean square 50/8 = (5/2)^2
    assert ref.relative()(z, F(1, 5)) == [-F(1, 2)] + [F(1, 2)] * 7
    assert ref.relative(sign=False, plus=1)(z, F(1, 5)) == [F(3, 2)] * 8
    assert ref.relative(plus=1, size=F(10))(z, F(1, 5)) == [-3] + [3] * 7


def test_root_is_correctly_rounded() -> None:
    rng = random.Random(2)
    for _ in range(500):
        square = F(rng.getrandbits(rng.randint(1, 200)) + 1, rng.getrandbits(rng.randint(1, 200)) + 1)
        r = ref.root(square)
        half = F(math.ulp(float(r))) / 2
        assert float(r) == r
        assert (r - half) ** 2 <= square <= (r + half) ** 2
    for x in (0.1, 1.0, 3.0, 12.5, 1e-300, 1e300):
        assert ref.root(F(x)) == F(math.sqrt(x))
    tie = F(1, 2**53)
    assert ref.root((1 + tie) ** 2) == 1
    assert ref.root((1 + 3 * tie) ** 2) == 1 + 4 * tie
    assert ref.root((1 + tie) ** 2 + F(1, 2**500)) == 1 + 2 * tie
    assert ref.root(F(0)) == 0


def test_rms_over_a_sample_or_the_batch() -> None:
    op = ref.dense([[3, 4]], None)
    batch, R = [[1], [7]], [[1, 1], [1, 1]]
    assert ref.rms([fractions(3, 4), fractions(21, 28)]) == ref.root(F(25 * 50, 4))
    together = ref.with_batch_rms(ref.zero, op, batch, R, epsilon=F(1, 10))
    size = ref.rms([fractions(3, 4), fractions(21, 28)])
    alone = ref.zero(op, batch[0], R[0], epsilon=F(1, 10), stabilizer=ref.relative())
    assert together[0] == ref.zero(op, batch[0], R[0], epsilon=size / 10)
    assert alone == ref.zero(op, batch[0], R[0], epsilon=ref.root(F(25, 2)) / 10)


def test_batch_rms_is_taken_per_share() -> None:
    op = ref.dense([[1], [-2]], None)
    dealt = ref.with_batch_rms(ref.alpha_beta, op, [[3, 2], [3, 2]], [[1], [1]], 2, 1, epsilon=1, plus=1)
    assert dealt[0].R_in == [2 * F(3, 3 + 3 + 1), -F(-4, -4 - 4 - 1)]
    assert dealt[1] == dealt[0]


# ----------------------------------------------------------------------------------------------------------
# The books, for every operator, rule and variant

OPERATORS: dict[str, Callable[[random.Random], tuple[Operator, Any]]] = {
    "dense": lambda r: (ref.dense(drawn(r, 4, 3), drawn(r, 3)), drawn(r, 4)),
    "dense of zeros": lambda r: (ref.dense([[0, 0], [0, 1]], [0, 1]), drawn(r, 2)),
    "dense, lead": lambda r: (ref.dense(drawn(r, 2, 2), drawn(r, 2), (2,)), drawn(r, 4)),
    "conv 1d": lambda r: (
        ref.conv(drawn(r, 2, 1, 2), drawn(r, 2), (2, 4), [2], [(1, 2)], [2], 2),
        drawn(r, 8),
    ),
    "conv 2d": lambda r: (
        ref.conv(drawn(r, 2, 1, 2, 2), None, (1, 3, 3), [2, 1], [(1, 1)] * 2, [1, 2]),
        drawn(r, 9),
    ),
    "conv beyond its input": lambda r: (
        ref.conv(drawn(r, 1, 1, 2), drawn(r, 1), (1, 1), [1], [(3, 2)], [1]),
        drawn(r, 1),
    ),
    "conv_transpose": lambda r: (
        ref.conv_transpose(drawn(r, 2, 1, 2), drawn(r, 2), (2, 2), [3], [(1, 0)], [1], 2, [2]),
        drawn(r, 4),
    ),
    "avg_pool": lambda r: (ref.avg_pool((1, 5), [3], [2], [(1, 1)], True, True), drawn(r, 5)),
    "sum_pool": lambda r: (ref.sum_pool((2, 3), [2], [2], [(0, 0)], True), drawn(r, 6)),
    "max_pool": lambda r: frozen(
        lambda a: ref.max_pool(a, (1, 3, 3), [2, 2], [1, 1], [(1, 0)] * 2, [1, 1], False), drawn(r, 9)
    ),
    "max_pool, shared": lambda r: frozen(
        lambda a: ref.max_pool(a, (1, 6), [3], [2], [(1, 1)], [1], True, "shared"), drawn(r, 6)
    ),
    "max_pool_as_average": lambda r: (
        ref.max_pool_as_average((1, 5), [2], [1], [(1, 1)], [2], False),
        drawn(r, 5),
    ),
    "global_avg_pool": lambda r: (ref.global_avg_pool((2, 3)), drawn(r, 6)),
    "global_max_pool": lambda r: frozen(lambda a: ref.global_max_pool(a, (2, 3)), drawn(r, 6)),
    "scale": lambda r: (ref.scale(drawn(r, 2), drawn(r, 2, 2), (2, 2)), drawn(r, 4)),
    "batch_norm": lambda r: (ref.batch_norm(drawn(r, 2), drawn(r, 2), (2, 2)), drawn(r, 4)),
    "add": lambda r: (ref.add([(2, 2), (2,)], drawn(r, 2, 1)), drawn(r, 6)),
    "sub": lambda r: (ref.sub([(2,), (1,)], drawn(r, 2)), drawn(r, 3)),
    "concat": lambda r: (ref.concat([(1, 2), (2, 2)], 0), drawn(r, 6)),
    "sum_over": lambda r: (ref.sum_over((2, 3), [1]), drawn(r, 6)),
    "mean_over": lambda r: (ref.mean_over((2, 3), [0], True), drawn(r, 6)),
    "identity": lambda r: (ref.identity((3,)), drawn(r, 3)),
    "flatten": lambda r: (ref.flatten((2, 2)), drawn(r, 4)),
    "reshape": lambda r: (ref.reshape((2, 2), (4, 1)), drawn(r, 4)),
    "transpose": lambda r: (ref.transpose((2, 3), (1, 0)), drawn(r, 6)),
    "squeeze": lambda r: (ref.squeeze((1, 3), 0), drawn(r, 3)),
    "unsqueeze": lambda r: (ref.unsqueeze((3,), 1), drawn(r, 3)),
    "slice_": lambda r: (ref.slice_((2, 3), [slice(None), slice(None, None, 2)]), drawn(r, 6)),
    "pad": lambda r: (ref.pad((2, 2), ((0, 0), (1, 2))), drawn(r, 4)),
    "upsample": lambda r: (ref.upsample((1, 2, 1), (2, 3)), drawn(r, 2)),
}

RULES: dict[str, tuple[Callable[..., Dealt], Callable[[int], tuple[Any, ...]]]] = {
    "zero": (ref.zero, lambda J: ()),
    "norm": (ref.norm, lambda J: ()),
    "epsilon": (ref.epsilon, lambda J: ()),
    "gamma": (ref.gamma, lambda J: (F(1, 3),)),
    "generalized_gamma": (ref.generalized_gamma, lambda J: (F(1, 3),)),
    "z_plus": (ref.z_plus, lambda J: ()),
    "alpha_beta": (ref.alpha_beta, lambda J: (F(3, 2), F(1, 2))),
    "flat": (ref.flat, lambda J: ()),
    "w_square": (ref.w_square, lambda J: ()),
    "z_box": (ref.z_box, lambda J: ([F(-j, 2) for j in range(J)], 3)),
    "absolute": (ref.absolute, lambda J: ()),
}
STABILIZERS = [ref.signed, ref.unsigned, ref.at_zero, ref.clip, ref.signed_or(F(1, 7)), ref.relative(plus=1)]


def frozen(pool: Callable[[Any], Operator], a: Any) -> tuple[Operator, Any]:
    return pool(a), a


def check_books(op: Operator, R: Sequence[Fraction], dealt: Dealt) -> None:
    K = len(op.b)
    assert dealt.messages.keys() == op.w.keys()
    for j, R_j in enumerate(dealt.R_in):
        assert R_j == sum(m for (i, _), m in dealt.messages.items() if i == j)
    for k in range(K):
        went = sum(m for (_, i), m in dealt.messages.items() if i == k)
        assert R[k] == went + dealt.bias[k] + dealt.stabilizer[k] + dealt.unclaimed[k]
    assert sum(R) == sum(dealt.R_in) + sum(dealt.bias) + sum(dealt.stabilizer) + sum(dealt.unclaimed)


@pytest.mark.parametrize("layer", OPERATORS)
def test_the_books_balance(layer: str) -> None:
    rng = random.Random(layer)
    for name, (rule, parameters) in RULES.items():
        splits: list[dict[str, str]] = [{}]
        if rule in (ref.z_plus, ref.alpha_beta):
            splits = [{"split": "product"}, {"split": "weight"}]
        for split, bias in product(splits, ["rule", "none", "raw", "squared", "spread"]):
            op, a = OPERATORS[layer](rng)
            R = drawn(rng, len(op.b))
            J = math.prod(op.inputs)
            assert len(R) == math.prod(op.outputs)
            plain = rule(op, a, R, *parameters(J), **split, bias=bias, epsilon=0)
            check_books(op, R, plain)
            assert not any(plain.stabilizer), name
            for stabilizer in STABILIZERS:
                dealt = rule(op, a, R, *parameters(J), **split, bias=bias, epsilon=F(1, 5), stabilizer=stabilizer)
                check_books(op, R, dealt)
                if bias == "spread":
                    fed = {k for _, k in op.w}
                    assert not any(dealt.bias[k] or dealt.stabilizer[k] for k in fed)


@pytest.mark.parametrize("layer", OPERATORS)
def test_the_books_of_pass_balance(layer: str) -> None:
    rng = random.Random(layer)
    op, _ = OPERATORS[layer](rng)
    R = drawn(rng, len(op.b))
    check_books(op, R, ref.pass_(op, R, {jk: drawn(rng) for jk in op.w}))
    if all(len(inputs) < 2 for inputs in ref.connected(op)):
        dealt = ref.pass_(op, R)
        check_books(op, R, dealt)
        assert all(message == R[k] for (_, k), message in dealt.messages.items())


# ----------------------------------------------------------------------------------------------------------
# Identities between the rules


def draw(seed: int) -> tuple[Any, Any, list[Fraction], list[Fraction]]:
    rng = random.Random(seed)
    return drawn(rng, 4, 3), drawn(rng, 3), drawn(rng, 4), drawn(rng, 3)


def minus(x: Any) -> Any:
    return [minus(entry) for entry in x] if isinstance(x, list) else -x


@pytest.mark.parametrize("seed", range(8))
def test_identities(seed: int) -> None:
    W, b, a, R = draw(seed)
    op, mirror = ref.dense(W, b), ref.dense(minus(W), minus(b))
    z, g = ref.forward(op, a), F(1, 3)

    # LRP-0 is input times gradient, of sum_k z_k s_k with s_k = R_k / z_k held constant
    quotient = [R_k / z_k if z_k else F(0) for R_k, z_k in zip(R, z, strict=True)]
    gradient = [sum(w * s_k for w, s_k in zip(row, quotient, strict=True)) for row in W]
    assert ref.zero(op, a, R).R_in == [a_j * c_j for a_j, c_j in zip(a, gradient, strict=True)]

    # epsilon only damps R_k
    damped = [R_k * z_k / (z_k + ref.s(z_k) * g) for R_k, z_k in zip(R, z, strict=True)]
    assert ref.epsilon(op, a, R, epsilon=g).R_in == ref.zero(op, a, damped).R_in

    # gamma = 0 is LRP-0; generalized gamma equals gamma on a >= 0, z > 0, and has two mirror symmetries
    assert ref.gamma(op, a, R, 0) == ref.zero(op, a, R)
    assert ref.generalized_gamma(op, a, R, 0) == ref.zero(op, a, R)
    general = ref.generalized_gamma(op, a, R, g)
    assert ref.generalized_gamma(mirror, a, R, g).messages == general.messages
    turned = ref.generalized_gamma(ref.dense(minus(W), b), minus(a), R, g)
    assert turned.messages == general.messages
    up = [abs(x) for x in a]
    positive = [R_k if z_k > 0 else F(0) for R_k, z_k in zip(R, ref.forward(op, up), strict=True)]
    assert ref.generalized_gamma(op, up, positive, g).R_in == ref.gamma(op, up, positive, g).R_in

    # alpha-beta is alpha z+ of (W, b) - beta z+ of (-W, -b); the splits agree on a >= 0
    above, below = ref.z_plus(op, a, R).messages, ref.z_plus(mirror, a, R).messages
    both = ref.alpha_beta(op, a, R, F(3, 2), F(1, 2)).messages
    assert both == {jk: F(3, 2) * above[jk] - F(1, 2) * below[jk] for jk in op.w}
    assert ref.z_plus(op, up, R, split="weight") == ref.z_plus(op, up, R)
    assert ref.alpha_beta(op, up, R, 2, 1, split="weight") == ref.alpha_beta(op, up, R, 2, 1)

    # w^2 is LRP-0 without bias at a := w_k; the box moves along, and the box [0, 0] is LRP-0 without bias
    squares = ref.w_square(op, a, R).messages
    for k in range(3):
        at_weights = ref.zero(op, [row[k] for row in W], R, bias="none").messages
        assert [squares[j, k] for j in range(4)] == [at_weights[j, k] for j in range(4)]
    d = [F(j) for j in range(4)]
    moved = ref.z_box(op, [x + y for x, y in zip(a, d, strict=True)], R, d, [y + 3 for y in d])
    assert moved == ref.z_box(op, a, R, 0, 3)
    assert ref.z_box(op, a, R, 0, 0) == ref.zero(op, a, R, bias="none")


def test_gamma_is_alpha_beta_with_an_alpha_per_neuron() -> None:
    op, a, g = ref.dense([[3], [-1], [2]], [-2]), [1, 2, 1], F(1, 4)
    z_above, z_below = F(5), F(-4)
    alpha = (1 + g) * z_above / (z_above + g * z_above + z_below)
    assert ref.gamma(op, a, [1], g).R_in == ref.alpha_beta(op, a, [1], alpha, alpha - 1).R_in


def test_every_connection_of_a_unit_counts_once() -> None:
    op = ref.conv([[[[1] * 3] * 3]], None, (1, 3, 3), [1, 1], [(1, 1)] * 2, [1, 1])
    assert [len(inputs) for inputs in ref.connected(op)] == [4, 6, 4, 6, 9, 6, 4, 6, 4]
    assert sum(ref.flat(op, [0] * 9, [1] * 9).R_in) == 9


def test_malformed_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="ragged"):
        ref.dense([[1, 2], [3]], None)
    with pytest.raises(ValueError, match="entries"):
        ref.forward(ref.identity((2,)), [1, 2, 3])
    with pytest.raises(ValueError, match="does not fit"):
        ref.conv([[[1]]], None, (2, 3), [1], [(0, 0)], [1])
    with pytest.raises(KeyError, match="maybe"):
        ref.zero(ref.identity((1,)), [1], [1], bias="maybe")  # type: ignore[arg-type]


# ----------------------------------------------------------------------------------------------------------
# Independence


def test_only_the_standard_library_is_imported() -> None:
    tree = ast.parse(Path(ref.__file__).read_text(encoding="utf-8"))
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0
            found.add(node.module or "")
        if isinstance(node, ast.Name):
            assert node.id not in {"__import__", "exec", "eval"}
    assert found
    assert "importlib" not in found
    assert {name.partition(".")[0] for name in found} <= sys.stdlib_module_names


# ----------------------------------------------------------------------------------------------------------
# torch's forward pass in float64. The inputs are quarters, so that its sums are exact.


def quarters(rng: random.Random, *shape: int) -> Any:
    if not shape:
        return rng.randint(-8, 8) / 4
    return [quarters(rng, *shape[1:]) for _ in range(shape[0])]


def tensor(torch: Any, x: Any) -> Any:
    return torch.tensor(x, dtype=torch.float64)


def agree(op: Operator, a: Any, y: Any, rtol: float = 0.0) -> None:
    """y, with a batch axis of 1, is what the operator makes of a."""
    assert op.outputs == tuple(y.shape[1:])
    mine = ref.forward(op, a)
    for z_k, y_k in zip(mine, y.reshape(-1).tolist(), strict=True):
        assert abs(z_k - F(y_k)) <= rtol * max(F(1), abs(z_k))


SIZES = {1: (7,), 2: (5, 6), 3: (3, 4, 3)}
KERNELS = {1: (3,), 2: (2, 3), 3: (2, 1, 2)}
AXES = [1, 2, 3]


@pytest.mark.torch
@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("groups", [1, 2])
def test_torch_conv(axes: int, groups: int) -> None:
    torch = pytest.importorskip("torch")
    conv = getattr(torch.nn.functional, f"conv{axes}d")
    rng = random.Random(axes)
    size, kernel = SIZES[axes], KERNELS[axes]
    for stride, before, after, dilation in product([1, 2], [0, 1], [0, 2], [1, 2]):
        steps, apart = [stride, 1, 2][:axes], [1, dilation, 1][:axes] if axes > 1 else [dilation]
        K, b = quarters(rng, 4, 4 // groups, *kernel), quarters(rng, 4)
        a = quarters(rng, 4, *size)
        op = ref.conv(K, b, (4, *size), steps, [(before, after)] * axes, apart, groups)
        x = torch.nn.functional.pad(tensor(torch, [a]), (before, after) * axes)
        agree(op, a, conv(x, tensor(torch, K), tensor(torch, b), steps, 0, apart, groups))


@pytest.mark.torch
@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("groups", [1, 2])
def test_torch_conv_transpose(axes: int, groups: int) -> None:
    torch = pytest.importorskip("torch")
    conv_transpose = getattr(torch.nn.functional, f"conv_transpose{axes}d")
    rng = random.Random(axes)
    size, kernel = {1: (4,), 2: (2, 3), 3: (2, 3, 2)}[axes], KERNELS[axes]
    for stride, padding, dilation, extra in product([1, 2, 3], [0, 1], [1, 2, 3], [0, 1, 2]):
        steps, apart = [stride, 1, 2][:axes], [dilation, 2, 1][:axes]
        more = [extra, 1, 0][:axes]
        if any(e >= max(s, d) for e, s, d in zip(more, steps, apart, strict=True)):
            continue
        K, b = quarters(rng, 4, 4 // groups, *kernel), quarters(rng, 4)
        a = quarters(rng, 4, *size)
        op = ref.conv_transpose(K, b, (4, *size), steps, [(padding, padding)] * axes, apart, groups, more)
        x, w = tensor(torch, [a]), tensor(torch, K)
        agree(op, a, conv_transpose(x, w, tensor(torch, b), steps, padding, more, groups, apart))


@pytest.mark.torch
@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize("count", [False, True])
def test_torch_avg_pool(axes: int, ceil: bool, count: bool) -> None:
    torch = pytest.importorskip("torch")
    avg_pool = getattr(torch.nn.functional, f"avg_pool{axes}d")
    rng = random.Random(axes)
    for kernel, stride, padding in product([2, 3], [1, 2, 3, 4], [0, 1]):
        for n in (3, 4, 5, 6):
            size = (n, 4, 3)[:axes]
            a = quarters(rng, 2, *size)
            op = ref.avg_pool((2, *size), [kernel] * axes, [stride] * axes, [(padding, padding)] * axes, ceil, count)
            agree(op, a, avg_pool(tensor(torch, [a]), kernel, stride, padding, ceil, count), 1e-15)


@pytest.mark.torch
@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("ceil", [False, True])
def test_torch_max_pool(axes: int, ceil: bool) -> None:
    """Values and, through the gradient, winners: the first of equals."""
    torch = pytest.importorskip("torch")
    max_pool = getattr(torch.nn.functional, f"max_pool{axes}d")
    rng = random.Random(axes)
    for kernel, stride, padding, dilation in product([2, 3], [1, 2, 3], [0, 1], [1, 2]):
        for n in (5, 6, 7):
            size = (n, 6, 5)[:axes]
            a = [[rng.randint(-2, 2) for _ in range(math.prod(size))] for _ in range(2)]
            x = tensor(torch, a).reshape(1, 2, *size).requires_grad_()
            y = max_pool(x, kernel, stride, padding, dilation, ceil)
            op = ref.max_pool(
                a,
                (2, *size),
                [kernel] * axes,
                [stride] * axes,
                [(padding, padding)] * axes,
                [dilation] * axes,
                ceil,
            )
            assert all(ref.connected(op))
            agree(op, a, y.detach())
            R = [rng.randint(-8, 8) for _ in op.b]
            (won,) = torch.autograd.grad(y, x, tensor(torch, R).reshape(y.shape))
            assert ref.pass_(op, R).R_in == [F(r) for r in won.reshape(-1).tolist()]


@pytest.mark.torch
def test_torch_shapes_and_sums() -> None:
    torch = pytest.importorskip("torch")
    rng = random.Random(5)
    a = quarters(rng, 2, 3, 4)
    x = tensor(torch, [a])
    shape = (2, 3, 4)
    for axes in ((2, 0, 1), (1, 2, 0), (0, 2, 1), (2, 1, 0)):
        agree(ref.transpose(shape, axes), a, x.permute(0, *(axis + 1 for axis in axes)))
    agree(ref.upsample(shape, (2, 3)), a, torch.nn.functional.interpolate(x, scale_factor=(2, 3)))
    agree(ref.pad(shape, ((0, 0), (1, 0), (2, 3))), a, torch.nn.functional.pad(x, (2, 3, 1, 0)))
    agree(ref.slice_(shape, [slice(1), slice(1, None), slice(0, 4, 2)]), a, x[:, :1, 1:, ::2])
    agree(ref.sum_over(shape, [0, 2], True), a, x.sum((1, 3), keepdim=True))
    agree(ref.mean_over(shape, [2]), a, x.mean(3))
    agree(ref.global_avg_pool(shape), a, torch.nn.functional.adaptive_avg_pool2d(x, 1), 1e-15)
    c = quarters(rng, 2, 1, 4)
    both = [v for part in (a, c) for v in ref.array(part)[1]]
    agree(ref.add([shape, (2, 1, 4)]), both, x + tensor(torch, [c]))
    agree(ref.concat([shape, (2, 1, 4)], 1), both, torch.cat([x, tensor(torch, [c])], 2))
    W, b = quarters(rng, 4, 5), quarters(rng, 5)
    agree(ref.dense(W, b, (2, 3)), a, torch.nn.functional.linear(x, tensor(torch, W).T, tensor(torch, b)))
    scale, shift, zero, one = quarters(rng, 2), quarters(rng, 2), [0.0, 0.0], [1.0, 1.0]
    normed = torch.nn.functional.batch_norm(x, *(tensor(torch, v) for v in (zero, one, scale, shift)), eps=0.0)
    agree(ref.batch_norm(scale, shift, shape), a, normed)
