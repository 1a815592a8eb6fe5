"""The messages R_jk: what input j receives from output k."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..arrays import Array, namespace, zeros
from ..errors import ShapeError
from ..layers import Layer
from ..propagate import Rule

LIMIT = 2**27
"""The most entries that are computed."""


def messages(layer: Layer, rule: Rule, a: Array | Sequence[Array], R: Array, *, block: int = 256) -> Array:
    """R_{j<-k} of one sample: how much of each output's relevance each input receives.

    Rules are linear in R, so the messages of output k are the relevance of the inputs when only R_k is put
    in.

    Parameters
    ----------
    layer : Layer
    rule : Rule
    a : array (1, *input), or a sequence of them for a layer of several inputs of equal shape
    R : array (1, *output), the relevance of the outputs
    block : how many outputs are computed at once

    Returns
    -------
    array (*input, *output); (inputs, *input, *output) for several inputs

    Raises
    ------
    ShapeError
        for more than one sample, and above 2^27 entries.
    """
    inputs = tuple(a) if isinstance(a, (tuple, list)) else (a,)
    if any(len(x) != 1 for x in (*inputs, R)) or len({x.shape for x in inputs}) > 1:
        raise ShapeError(f"messages: need one sample and inputs of equal shape, got {[x.shape for x in (*inputs, R)]}")
    size, units = R.shape[1:], math.prod(R.shape[1:])
    entries = len(inputs) * math.prod(inputs[0].shape[1:]) * units
    if entries > LIMIT:
        raise ShapeError(f"messages: {entries} entries, more than {LIMIT}: take a part of the layer")
    xp, rows = namespace(R), []
    for begin in range(0, units, block):
        count = min(block, units - begin)
        alone = zeros((count, units), R)
        index = xp.arange(count)
        alone[index, begin + index] = R.reshape(-1)[begin : begin + count]
        copies = [xp.repeat(x, count, axis=0) for x in inputs]
        R_in, _ = rule.back(layer, copies, alone.reshape(count, *size))
        rows.append(xp.stack(R_in, axis=1))
    each = xp.concatenate(rows) if rows else zeros((0, len(inputs), *inputs[0].shape[1:]), R)
    each = xp.moveaxis(each, 0, -1).reshape(len(inputs), *inputs[0].shape[1:], *size)
    return each if isinstance(a, (tuple, list)) else each[0]
