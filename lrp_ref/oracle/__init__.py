"""The oracle: what is certain about a relevance, what other frameworks compute under the same names, and which of it
explains their numbers.

:func:`certify` encloses the exactly computed relevance, and bounds how far any other is from it; :func:`diagnose` names
what makes another differ. The conformance vectors, which any framework can be held to, are in
:mod:`lrp_ref.oracle.vectors`.
"""

from . import vectors
from .balls import Ball
from .certify import Certificate, certify
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
    "Ball",
    "Cause",
    "Certificate",
    "Diagnosis",
    "Hypothesis",
    "Setting",
    "Statistics",
    "Step",
    "Variant",
    "certify",
    "diagnose",
    "named",
    "of_statistics",
    "vectors",
]  # fmt: skip
