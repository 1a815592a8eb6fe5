"""Relevance for the eye: heatmaps, two numbers to put under them, and what deep Taylor decomposition finds."""

from .heatmap import channel_sum, colors, figure, grid, save_heatmap
from .measures import entropy, negative_share
from .taylor import taylor

__all__ = ["channel_sum", "colors", "entropy", "figure", "grid", "negative_share", "save_heatmap", "taylor"]
