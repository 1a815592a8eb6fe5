"""The ways of a convolution's products beside a literal sum, row by row and at once, and the product that adds."""

import itertools

import numpy as np
import pytest

from lrp_ref.fast import conv
from lrp_ref.fast.blas import adding_product
from lrp_ref.fast.memory import Memory
from lrp_ref.layers import Conv

U = {np.float64: 2.0**-53, np.float32: 2.0**-24}
FORMS = {
    "3 x 3": ((9, 7), {"kernel": (3, 3), "padding": 1}),
    "1 x 3": ((5, 8), {"kernel": (1, 3), "padding": ((0, 0), (1, 1))}),
    "3 x 1": ((5, 8), {"kernel": (3, 1), "padding": ((1, 1), (0, 0))}),
    "5 x 3, dilated": ((9, 10), {"kernel": (5, 3), "padding": ((4, 4), (3, 3)), "dilation": (2, 3)}),
    "4 x 2, uneven": ((7, 6), {"kernel": (4, 2), "padding": ((1, 2), (1, 0))}),
    "one row": ((1, 9), {"kernel": (1, 3), "padding": ((0, 0), (1, 1))}),
}


def literally(x, weight, window):
    """(batch, *positions, outputs): one cell after the other."""
    outputs, channels, *kernel = weight.shape
    positions = window.positions(x.shape[1:-1])
    z = np.zeros((len(x), *positions, outputs))
    for n, *p in np.ndindex(len(x), *positions):
        for tap in np.ndindex(*kernel):
            cell = [q + t * d - b for q, t, d, (b, _) in zip(p, tap, window.dilation, window.padding, strict=True)]
            if all(0 <= c < size for c, size in zip(cell, x.shape[1:-1], strict=True)):
                for j in range(channels):
                    z[(n, *p)] += float(x[(n, *cell, j)]) * weight[(slice(None), j, *tap)].astype(float)
    return z


def made(form, dtype, channels=3, outputs=4):
    size, options = FORMS[form]
    rng = np.random.default_rng(len(form))
    options = dict(options)
    kernel = options.pop("kernel")
    weights = [rng.normal(size=(outputs, channels, *kernel)).astype(dtype) for _ in range(2)]
    layers = [Conv(weight=w, **options) for w in weights]
    return rng.normal(size=(2, *size, channels)).astype(dtype), layers, weights


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("tile", [1, 2**23], ids=["a row", "whole"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("way", ["columns", "bands", "shifts"])
def test_every_way_is_the_sum_over_taps(way, form, tile, dtype, monkeypatch):
    x, layers, weights = made(form, dtype)
    x = x[:1] if way == "bands" else x  # a tile of theirs is of one image
    kernel, memory = conv.Kernel.of(layers[0]), Memory()
    positions = kernel.window.positions(x.shape[1:-1])
    assert conv._keeps_size(x, kernel, positions)
    outs = [np.full((x[..., 0].size, len(w)), np.nan, dtype) for w in weights]
    matrices = [conv.Kernel.of(layer).matrix(layer.weight) for layer in layers]
    finished = []
    monkeypatch.setattr(conv, "TILE", tile)

    def finish(first, last):
        assert not any(np.isnan(out[first:last]).any() for out in outs)
        finished.extend(range(first, last))

    if way == "shifts":
        add = adding_product(np.dtype(dtype)) or (lambda a, b, out: np.add(out, a @ b, out=out))
        conv._by_shifts(x, kernel, matrices, outs, memory, add, finish)
    elif way == "bands":
        conv._by_bands(x, kernel, positions, matrices, outs, memory, finish)
    else:
        conv._by_columns(x, kernel, positions, matrices, outs, memory, finish)
    assert finished == list(range(len(outs[0])))
    for w, out in zip(weights, outs, strict=True):
        size = literally(abs(x), abs(w), kernel.window).reshape(out.shape)
        terms = w[0].size + 2
        assert (abs(out - literally(x, w, kernel.window).reshape(out.shape)) <= terms * U[dtype] * size).all()


def test_what_has_no_form_of_its_own_goes_by_columns():
    x = np.zeros((1, 40, 40, 8), np.float32)
    outs = [np.zeros((1600, 32), np.float32)]
    like = {"weight": np.zeros((32, 8, 3, 3), np.float32)}
    for wanted, layer in [
        (True, Conv(**like, padding=1)),
        (True, Conv(**like, padding=2, dilation=2)),
        (False, Conv(**like)),
        (False, Conv(**like, padding=1, stride=2)),
        (False, Conv(**like, padding=((2, 0), (1, 1)), dilation=2)),
        (False, Conv(weight=np.zeros((33, 8, 3, 3), np.float32), padding=1)),
        (False, Conv(weight=np.zeros((32, 4, 3, 3), np.float32), padding=1, groups=2)),
    ]:
        kernel = conv.Kernel.of(layer)
        several = [np.zeros((1600, kernel.outputs), np.float32)] if kernel.outputs != 32 else outs
        assert conv._shifts(x, kernel, kernel.window.positions(x.shape[1:-1]), several) is wanted, layer
    kernel = conv.Kernel.of(Conv(**like, padding=1))
    assert not conv._shifts(x, kernel, (40, 40), 2 * outs)
    assert not conv._shifts(x[:, :20, :20], kernel, (20, 20), outs)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_product_that_adds(dtype):
    add = adding_product(np.dtype(dtype))
    if add is None:
        pytest.skip("NumPy's library does not show its BLAS")
    rng = np.random.default_rng(0)
    for a, b, out in [(3, 2, 2), (2, 3, 2), (2, 2, 3)]:
        with pytest.raises(ValueError, match="contiguous rows"):
            add(np.zeros((2, a), dtype), np.zeros((b, 2), dtype), np.zeros((2, out), dtype))
    with pytest.raises(ValueError, match="int64"):
        add(np.zeros((2, 2), int), np.zeros((2, 2), dtype), np.zeros((2, 2), dtype))
    with pytest.raises(ValueError, match="contiguous rows"):
        add(np.zeros((2, 4), dtype)[:, ::2], np.zeros((2, 2), dtype), np.zeros((2, 2), dtype))
    for rows, depth, columns in itertools.product((0, 1, 5), repeat=3):
        whole = [rng.integers(-9, 9, size=(8, 16)).astype(dtype) for _ in range(3)]
        a, b, out = (
            whole[0][1 : 1 + rows, 2 : 2 + depth],
            whole[1][:depth, :columns],
            whole[2][2 : 2 + rows, 1 : 1 + columns],
        )
        expected = whole[2].copy()
        expected[2 : 2 + rows, 1 : 1 + columns] += a @ b
        add(a, b, out)
        np.testing.assert_array_equal(whole[2], expected)
