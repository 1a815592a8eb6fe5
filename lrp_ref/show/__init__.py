"""Relevance for the eye: heatmaps, and two numbers to put under them."""

from .heatmap import channel_sum, colors, figure, grid, save_heatmap
from .measures import entropy, negative_share

__all__ = ["channel_sum", "colors", "entropy", "figure", "grid", "negative_share", "save_heatmap"]
