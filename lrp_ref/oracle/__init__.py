"""The oracle: what is certain about a relevance, what other frameworks compute under the same names, and which of it
explains their numbers.

:func:`certify` encloses the exactly computed relevance, and bounds how far any other is from it; :func:`diagnose` names
what makes another differ. The conformance vectors, which any framework can be held to, are in
:mod:`lrp_ref.oracle.vectors`, and :func:`conform` holds one to them; adapters are in :mod:`lrp_ref.oracle.peers`.
"""

from . import vectors
from .answers import Apart, Cause, Diagnosis, Hypothesis
from .balls import Ball
from .certify import Certificate, certify
from .conform import (
    Cannot,
    Report,
    Verdict,
    conform,
)
from .diagnosis import diagnose
from .settings import Setting, Step, Variant
from .variants import CATALOGUE, Statistics, of_statistics, variant_named
from .vectors.read import Case

__all__ = [
    "CATALOGUE",
    "Apart",
    "Ball",
    "Cannot",
    "Case",
    "Cause",
    "Certificate",
    "Diagnosis",
    "Hypothesis",
    "Report",
    "Setting",
    "Statistics",
    "Step",
    "Variant",
    "Verdict",
    "certify",
    "conform",
    "diagnose",
    "of_statistics",
    "variant_named",
    "vectors",
]  # fmt: skip
