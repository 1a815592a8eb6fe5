"""Removable speed: the same rules and layers, computed by other means. Nothing in the core imports it but `explain`.

A prepared graph has one step a node. Convolutions and dense layers are fused with their rule: the denominators ride the
forward pass, and each way back is a division in one pass and one product. What is not known here is left to the
readable path, node by node; the explanation's `engine` says which.
"""

from .engine import Prepared

__all__ = ["Prepared"]
