"""Memory that is used again: a block comes back with its last view, no sooner, and goes with its Memory."""

import gc
import weakref

import numpy as np

from lrp_ref.fast.memory import Memory, Scratch
from lrp_ref.fast.sweep import MANY, RUN, dots, sums

LIKE = np.zeros(1, np.float32)
LARGE = (128, 1024)


def address(a):
    return a.__array_interface__["data"][0]


def test_a_block_comes_back_with_its_last_view_and_no_sooner():
    memory = Memory()
    first = memory.array(LARGE, LIKE)
    place, view = address(first), first[1:].reshape(-1)[5:]
    assert (first.dtype, first.shape) == (np.float32, LARGE)
    assert first.flags.c_contiguous
    assert first.flags.writeable
    del first
    assert address(memory.array(LARGE, LIKE)) != place
    del view
    assert address(memory.array((*LARGE[::-1],), LIKE)) == place


def test_an_array_outlives_its_memory_and_unused_blocks_do_not():
    gc.disable()
    try:
        memory = Memory()
        kept, other = memory.array(LARGE, LIKE), memory.array((2, *LARGE), LIKE)
        kept[...] = 7
        gone = weakref.ref(memory)
        del other, memory
        assert gone() is None
        assert (kept == 7).all()
    finally:
        gc.enable()


def test_small_arrays_are_the_allocators():
    assert Memory().array((3, 4), LIKE).base is None


def test_scratch_is_one_array_for_blocks_of_any_shape():
    scratch = Scratch(Memory())
    large, small = scratch.like(np.empty(LARGE, np.float32)), scratch.like(np.empty((3, 50), np.float32))
    assert small.shape == (3, 50)
    assert address(small) == address(large)
    assert scratch.like(np.empty((129, 1024), np.float32)).size == 129 * 1024


def by_hand(block, weight, samples):
    product = block.astype(float) * (1 if weight is None else weight.astype(float))
    return product.reshape(samples, -1).sum(axis=1)


def test_sums_are_close_to_those_of_float64_and_few_numbers_exact():
    rng = np.random.default_rng(0)
    for samples, rows, columns in [(1, 700, 96), (2, 512, 64), (3, 33, 640), (1, 1, 9000), (2, 5, 7), (1, 9000, 5)]:
        whole = rng.standard_normal((samples * rows, 2 * columns)).astype(np.float32)
        for block in (np.ascontiguousarray(whole[:, :columns]), whole[:, columns:]):
            weight = rng.standard_normal(block.shape).astype(np.float32)
            for w in (None, weight):
                found, right = dots(block, w, samples), by_hand(block, w, samples)
                size = by_hand(abs(block), None if w is None else abs(w), samples)
                assert (found.dtype, found.shape) == (np.float64, (samples,))
                assert (abs(found - right) <= 8 * np.finfo(np.float32).eps * size).all()
            if block.size < MANY:
                np.testing.assert_array_equal(sums(block, samples), block.reshape(samples, -1).sum(1, dtype=float))
    assert MANY > RUN
