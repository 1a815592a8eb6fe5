"""Small networks whose activations have no rational values: their relevance is enclosed in balls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ...composites import Composite, as_composite, kind
from ...graph import Graph, Node, chain
from ...layers import (
    ELU,
    GELU,
    Add,
    AvgPool,
    Flatten,
    GlobalAvgPool,
    Mul,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    SoftMinPool,
    Softplus,
    Tanh,
)
from ...propagate import Rule
from ...rules import Product
from ...targets import one
from .cases import Case, Network
from .networks import PIXELS, PRESETS, RULES, Shape, _conv, _dense
from .numbers import Draw


def _gated() -> Graph:
    return Graph(
        [
            Node("conv", _conv("gated/0", 2, 1, 2, 2), "input"),
            Node("silu", SiLU(), "conv"),
            Node("squeeze", GlobalAvgPool(), "silu"),
            Node("excite", _conv("gated/1", 2, 2, 1, 1), "squeeze"),
            Node("gate", Sigmoid(), "excite"),
            Node("scaled", Mul(), "silu", "gate"),
            Node("flat", Flatten(), "scaled"),
            Node("logits", _dense("gated/2", 8, 2), "flat"),
        ],
        outputs="logits",
    )


def _residual() -> Graph:
    return Graph(
        [
            Node("conv0", _conv("smooth-residual/0", 2, 1, 3, 3, padding=1), "input"),
            Node("gelu", GELU(), "conv0"),
            Node("conv1", _conv("smooth-residual/1", 2, 2, 1, 1), "gelu"),
            Node("add", Add(), "conv1", "gelu"),
            Node("mean", GlobalAvgPool(), "add"),
            Node("flat", Flatten(), "mean"),
            Node("logits", _dense("smooth-residual/2", 2, 2), "flat"),
        ],
        outputs="logits",
    )


NETWORKS: Mapping[str, tuple[Graph, Shape]] = {
    "tanh": (
        chain(_dense("tanh/0", 4, 3), Tanh(), _dense("tanh/1", 3, 3), Tanh(), _dense("tanh/2", 3, 2)),
        (4,),
    ),
    "sigmoid": (
        chain(
            _conv("sigmoid/0", 2, 1, 2, 2), Sigmoid(), AvgPool(2, stride=1), Flatten(), _dense("sigmoid/1", 8, 2),
        ),
        (1, 4, 4),
    ),
    "softplus-elu": (
        chain(_dense("elu/0", 3, 4), Softplus(), _dense("elu/1", 4, 3), ELU(), _dense("elu/2", 3, 2)),
        (3,),
    ),
    "softmax": (chain(_dense("softmax/0", 4, 3), Softmax(), _dense("softmax/1", 3, 2)), (4,)),
    "log-odds": (
        chain(_dense("log-odds/0", 4, 4), ReLU(), _dense("log-odds/1", 4, 3), SoftMinPool(share="z")), (4,),
    ),
    "gelu-residual": (_residual(), (1, 3, 3)),
    "silu-gate": (_gated(), (1, 3, 3)),
}  # fmt: skip


def cases() -> Iterator[Case]:
    """Each network under each rule and preset, from relevance 1 of the first class."""
    for name, (graph, shape) in NETWORKS.items():
        assigned: list[dict[str, Rule]] = []
        for label, rules in {**RULES, **PRESETS}.items():
            composite = Composite([(kind(Mul), Product()), *as_composite(rules).cases])
            here = dict(composite.assign(graph))
            if here in assigned:  # what differs in convolutions only is one on a dense network
                continue
            assigned.append(here)
            x = Draw(f"smooth/{name}/{label}").of(PIXELS, (2 if label == "zero" else 1, *shape))
            yield Case(
                group="smooth",
                name=f"{name}/{label}",
                comment=f"{label} on the network {name}, whose activations have no rational values",
                network=Network(f"smooth-{name}", graph, {"input": shape}),
                inputs={"input": x},
                start=one(0),
                rules=composite,
                sources=("zennit",) if label in PRESETS else (),
            )
