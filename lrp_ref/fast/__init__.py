"""Removable speed: the same rules and layers, computed by other means. Nothing in the core imports it but `explain`.

:func:`kernels` puts layers in place of a graph's that compute the same maps in tiles; :func:`back` is
``Rule.back`` with what need not be computed left out. Both say what they did, node by node.
"""

from .kernels import kernels
from .step import back

__all__ = ["back", "kernels"]
