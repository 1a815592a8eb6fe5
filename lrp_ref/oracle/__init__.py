"""The oracle: what other frameworks compute under the same names, and which of it explains their numbers."""

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
    "Setting",
    "Statistics",
    "Step",
    "Variant",
    "named",
    "of_statistics",
]  # fmt: skip
