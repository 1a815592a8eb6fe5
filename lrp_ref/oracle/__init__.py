"""The oracle: what other frameworks compute under the same names, and which of it explains their numbers.

The conformance vectors, which any framework can be held to, are in :mod:`lrp_ref.oracle.vectors`.
"""

from . import vectors
from .diagnosis import (
    Apart,
    Cause,
    Diagnosis,
    Hypothesis,
    diagnose,
)
from .variants import (
    CATALOGUE,
    Setting,
    Statistics,
    Step,
    Variant,
    named,
    of_statistics,
)

__all__ = [
    "CATALOGUE",
    "Apart",
    "Cause",
    "Diagnosis",
    "Hypothesis",
    "Setting",
    "Statistics",
    "Step",
    "Variant",
    "diagnose",
    "named",
    "of_statistics",
    "vectors",
]  # fmt: skip
