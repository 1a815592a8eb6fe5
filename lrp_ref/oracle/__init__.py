"""The oracle: what is certain about a relevance, and why another's differs.

:func:`certify` encloses the exactly computed relevance, and bounds how far any other is from it.
"""

from .balls import Ball
from .certify import Certificate, certify

__all__ = [
    "Ball",
    "Certificate",
    "certify",
]
