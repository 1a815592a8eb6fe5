"""Composites by name: the chapter's, its tutorial's, and zennit's, with their numbers.

The zennit presets have its names and its 1e-6 in every rule. `first` is a fact of the data flow: the first
convolution for the box, the first convolution or dense layer for flat; convolutions include transposed ones;
batch norm (if it was not folded) takes Pass; sums, scales, average pools and linear resizing take Norm; in a product
the first input, the signal, takes all (Product), as if the second, the gate, were a constant.
"""

from __future__ import annotations

from typing import Any

from .canonize import average_pooled
from .composites import Composite, Predicate, _NotWire, depth, first, kind
from .layers import (
    Add,
    BatchNorm,
    Conv,
    ConvTranspose,
    Dense,
    Mean,
    Mul,
    Resize,
    Scale,
    Sub,
    Sum,
    SumPool,
)
from .layers.pool import AVERAGE_POOLS, MAX_POOLS
from .propagate import Rule
from .rules import AlphaBeta, Epsilon, Flat, Gamma, GeneralizedGamma, Norm, Pass, Product, ZBox, Zero, ZPlus
from .stabilize import Relative, Unsigned

EPSILON = 1e-6
"""zennit's stabilizer."""

_CONVS = (Conv, ConvTranspose)
_SUMS = (Add, Sub, Sum, Mean, *AVERAGE_POOLS, SumPool, Scale, Resize)
_POOLS = (*MAX_POOLS, *AVERAGE_POOLS)

Case = tuple[Predicate, Rule]


def _zennit(*cases: Case) -> Composite:
    common = [
        (kind(BatchNorm), Pass()),
        (kind(*_SUMS) & _NotWire(), Norm(epsilon=EPSILON)),
        (kind(Mul), Product(portions=(1, 0))),
    ]
    return Composite([*cases, *common])


def epsilon_plus() -> Composite:
    """z+ on convolutions, epsilon on dense layers (zennit's EpsilonPlus)."""
    return _zennit((kind(*_CONVS), ZPlus(epsilon=EPSILON)), (kind(Dense), Epsilon(epsilon=EPSILON)))


def epsilon_plus_flat() -> Composite:
    """As epsilon_plus, with flat on the first convolution or dense layer (zennit's EpsilonPlusFlat)."""
    return _with_flat(epsilon_plus())


def epsilon_alpha2_beta1() -> Composite:
    """alpha-beta (2, 1) on convolutions, epsilon on dense layers (zennit's EpsilonAlpha2Beta1)."""
    return _zennit((kind(*_CONVS), AlphaBeta(alpha=2, epsilon=EPSILON)), (kind(Dense), Epsilon(epsilon=EPSILON)))


def epsilon_alpha2_beta1_flat() -> Composite:
    """As epsilon_alpha2_beta1, with flat on the first convolution or dense layer (zennit's EpsilonAlpha2Beta1Flat)."""
    return _with_flat(epsilon_alpha2_beta1())


def epsilon_gamma_box(*, low: Any, high: Any, gamma: float = 0.25) -> Composite:
    """z-box on the first convolution, generalized gamma on the others, epsilon on dense layers (zennit's
    name).

    `low` and `high` bound the network's inputs: a scalar, one number a channel, or the sample's shape.
    """
    return _zennit(
        (first(*_CONVS), ZBox(low=low, high=high, epsilon=EPSILON)),
        (kind(*_CONVS), GeneralizedGamma(gamma=gamma, epsilon=EPSILON)),
        (kind(Dense), Epsilon(epsilon=EPSILON)),
    )


def excitation_backprop() -> Composite:
    """z+ on convolutions and dense layers (zennit's ExcitationBackprop, which keeps b+)."""
    return _zennit((kind(*_CONVS, Dense), ZPlus(epsilon=EPSILON)))


def _with_flat(composite: Composite) -> Composite:
    return Composite([(first(*_CONVS, Dense), Flat(epsilon=EPSILON)), *composite.cases])


def chapter_vgg16(*, low: Any, high: Any) -> Composite:
    """The chapter's composite for VGG-16, by depth: z-box, gamma 0.25, epsilon 0.25 rms(z), and LRP-0 at the
    top.

    Convolutions 2 to 7 and the pools among them take gamma, convolutions 8 to 13 and their pools epsilon,
    with the rms of each sample; dense layers take LRP-0; all pools deal out as average pools. Sums
    and batch norms have no case: behind them pre-activations keep their sign, which the chapter's gamma is not made for
    (see epsilon_gamma_box). Montavon et al. 2019, section 10.3.
    """
    return _by_depth(
        first_rule=ZBox(low=low, high=high),
        lower=Gamma(gamma=0.25),
        middle=Epsilon(epsilon=0.25, stabilizer=Relative(over="sample")),
        top=Zero(),
    )


def tutorial_vgg16(*, low: Any, high: Any) -> Composite:
    """The same as the chapter's tutorial computes it: 1e-9 added everywhere, without a sign, and the rms of
    the batch.

    One sample's relevance depends on the others in its batch, through that rms.
    """
    tiny = Unsigned()
    return _by_depth(
        first_rule=ZBox(low=low, high=high, epsilon=1e-9, stabilizer=tiny),
        lower=Gamma(gamma=0.25, epsilon=1e-9, stabilizer=tiny),
        middle=Epsilon(epsilon=0.25, stabilizer=Relative(over="batch", signed=False, plus=1e-9)),
        top=Zero(epsilon=1e-9, stabilizer=tiny),
    )


def _by_depth(*, first_rule: Rule, lower: Rule, middle: Rule, top: Rule) -> Composite:
    layers = kind(Conv, *_POOLS)
    return Composite(
        [
            (first(Conv), first_rule),
            (layers & depth(Conv, at_most=7), lower),
            (layers, middle),
            (kind(Dense), top),
        ],
        canonize=[average_pooled],
    )


def tutorial_mlp(*, low: Any = -1.0, high: Any = 1.0) -> Composite:
    """The chapter's tutorial on a dense network for MNIST: z-box, gamma 0.1, epsilon 0.1 rms of the batch,
    LRP-0.

    By position among the dense layers: the first, second and third, and all behind.
    """
    tiny = Unsigned()
    return Composite(
        [
            (first(Dense), ZBox(low=low, high=high, epsilon=1e-9, stabilizer=tiny)),
            (kind(Dense) & depth(Dense, at_most=2), Gamma(gamma=0.1, epsilon=1e-9, stabilizer=tiny)),
            (
                kind(Dense) & depth(Dense, at_most=3),
                Epsilon(epsilon=0.1, stabilizer=Relative(over="batch", signed=False, plus=1e-9)),
            ),
            (kind(Dense), Zero(epsilon=1e-9, stabilizer=tiny)),
        ]
    )
