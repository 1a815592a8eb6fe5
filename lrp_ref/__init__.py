"""lrp_ref: the reference implementation of Layer-wise Relevance Propagation, in NumPy and CuPy.

>>> import lrp_ref as lrp
>>> e = lrp.explain(graph, x, lrp.presets.epsilon_gamma_box(low=0, high=1), target=3)  # doctest: +SKIP
"""

from . import layers, presets
from .arrays import exact, fractions
from .canonize import canonize
from .composites import Composite, after, before, depth, first, kind, last, named
from .errors import (
    ArithmeticMismatch,
    GraphError,
    LoadError,
    LrpError,
    NoRule,
    NotExact,
    Pole,
    ShapeError,
    Undecided,
    UnsuitableRule,
    UnsupportedOp,
)
from .explain import Explanation, explain, prepare, read
from .graph import Graph, Node, chain, given
from .io import from_keras, from_onnx, from_sklearn, from_torch, load, save
from .propagate import Rule, Share, Term, four_steps
from .rules import (
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
from .stabilize import AtZero, Clipped, Relative, Signed, SignedOrZero, Unsigned
from .targets import (
    argmax,
    contrast,
    log_odds,
    log_probability,
    logit,
    one,
    probability,
    with_contrast,
    with_log_odds,
)

__version__ = "0.1.0"

__all__ = [
    "AlphaBeta", "ArithmeticMismatch", "AtZero", "Clipped", "Composite", "Epsilon", "Explanation", "Flat",
    "Gamma", "GeneralizedGamma", "Gradient", "Graph", "GraphError", "LoadError", "LrpError", "NoRule",
    "Node", "Norm", "NotExact", "Pass", "Pole", "Product", "Relative", "Rule", "ShapeError", "Share",
    "Signed", "SignedOrZero", "Term", "Undecided", "Unsigned", "UnsuitableRule", "UnsupportedOp", "WSquare", "ZBox",
    "ZMinus", "ZPlus", "Zero", "after", "argmax", "before", "canonize", "chain", "contrast", "depth",
    "exact", "explain", "first", "four_steps", "fractions", "from_keras", "from_onnx", "from_sklearn",
    "from_torch", "given", "kind", "last", "layers", "load", "log_odds", "log_probability", "logit", "named",
    "one", "prepare", "presets", "probability", "read", "save", "with_contrast", "with_log_odds",
]  # fmt: skip
