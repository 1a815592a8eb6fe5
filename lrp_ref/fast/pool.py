"""Max pools without a copy of their windows: one pass over the input for each tap."""

from __future__ import annotations

from ..arrays import Array, namespace
from ..layers import MaxPool
from ..layers.window import Window
from ..values import value


@value
class QuickMaxPool(MaxPool):
    """A :class:`MaxPool` whose first maximum takes all."""

    def forward(self, *inputs: Array) -> Array:
        """The maxima."""
        (a,) = inputs
        xp, (window, positions) = namespace(a), self._windows(a.shape)
        cells = _whole(a, window, positions, -xp.inf)
        first, *others = (cells[tap] for tap in window._taps(positions))
        z = first.copy()
        for tap in others:
            xp.maximum(z, tap, out=z)
        return z

    def routed(self, a: Array, z: Array, R: Array) -> Array:
        """Each output's relevance at the first cell of its window that has its value."""
        xp, (window, positions) = namespace(a), self._windows(a.shape)
        cells = _whole(a, window, positions, -xp.inf)
        R_in = xp.zeros(cells.shape, R.dtype)
        waiting = xp.ones(z.shape, dtype=bool)
        for tap in window._taps(positions):
            wins = (cells[tap] == z) & waiting
            waiting &= ~wins
            R_in[tap] += R * wins
        return R_in[window._inside(a.shape[2:])]


def _whole(a: Array, window: Window, positions: tuple[int, ...], beyond: float) -> Array:
    """The input with its padding and what hangs over the end, `beyond` everywhere there."""
    extent = window._extent(a.shape[2:], positions)
    if extent == a.shape[2:]:
        return a
    whole = namespace(a).full((*a.shape[:2], *extent), beyond, dtype=a.dtype)
    whole[window._inside(a.shape[2:])] = a
    return whole
