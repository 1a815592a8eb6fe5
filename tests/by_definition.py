"""Every formula of LRP once more, as literal loops over j and k in exact rational arithmetic.

This file is the referee of the library's tensor code. It is written from the mathematics alone, imports
nothing but the standard library, and knows no tensors: a layer is the list of its connections, a rule is a
loop over them.

Notation of the chapter (Montavon et al. 2019): a_j are the inputs of a layer, w_jk its weights, b_k its
biases, z_k = sum_j a_j w_jk + b_k its outputs, R_k their relevance, R_{j<-k} the message from k to j.
x+ = max(0, x), x- = min(0, x), and s(x) = +1 if x >= 0 else -1.

Conventions
-----------
* One sample at a time: no shape has a batch axis, every axis number counts without it.
* Vectors are in C order. Where a vector or an array goes in, numbers, nested lists or tuples and anything
  with ``.tolist()`` are accepted; floats are taken at their exact binary value.
* Padding is no part of the domain: a padded cell has no j, hence no connection and no message.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from typing import Any, Literal, TypeAlias

Shape: TypeAlias = tuple[int, ...]
Vector: TypeAlias = list[Fraction]
Number: TypeAlias = int | float | Fraction
Nested: TypeAlias = "Number | Sequence[Nested]"
Padding: TypeAlias = Sequence[tuple[int, int]]
Stabilizer: TypeAlias = Callable[[Vector, Fraction], Vector]
Bias: TypeAlias = Literal["rule", "none", "raw", "squared", "spread"]
Split: TypeAlias = Literal["product", "weight"]
Ties: TypeAlias = Literal["first", "shared"] | tuple[Literal["near"], Number]

ZERO, ONE = Fraction(0), Fraction(1)


# ----------------------------------------------------------------------------------------------------------
# Numbers, vectors, indices


def pos(x: Fraction) -> Fraction:
    """x+ = max(0, x)."""
    return max(ZERO, x)


def neg(x: Fraction) -> Fraction:
    """x- = min(0, x)."""
    return min(ZERO, x)


def s(x: Fraction) -> int:
    """The sign with s(0) = +1."""
    return 1 if x >= 0 else -1


def array(x: Any) -> tuple[Shape, Vector]:
    """Shape and C-order entries of a number or of nested lists."""
    if hasattr(x, "tolist"):
        x = x.tolist()
    if not isinstance(x, list | tuple):
        return (), [Fraction(x)]
    rows = [array(row) for row in x]
    shapes = {shape for shape, _ in rows} or {()}
    if len(shapes) > 1:
        raise ValueError(f"ragged array: {shapes}")
    return (len(rows), *shapes.pop()), [entry for _, row in rows for entry in row]


def vector(x: Any, shape: Shape) -> Vector:
    """The entries of x, whose number must be that of the shape."""
    entries = array(x)[1]
    if len(entries) != math.prod(shape):
        raise ValueError(f"{len(entries)} entries for the shape {shape}")
    return entries


def indices(shape: Iterable[int]) -> Iterator[Shape]:
    """Every index of an array of this shape, in C order."""
    return product(*(range(n) for n in shape))


def number(index: Iterable[int], shape: Iterable[int]) -> int:
    """The C-order number of an index."""
    found = 0
    for i, n in zip(index, shape, strict=True):
        if not 0 <= i < n:
            raise IndexError(f"{i} is outside an axis of {n}")
        found = found * n + i
    return found


def inside(index: Iterable[int], shape: Iterable[int]) -> bool:
    """Whether an index lies in an array of this shape."""
    return all(0 <= i < n for i, n in zip(index, shape, strict=True))


def tap(y: Iterable[int], t: Iterable[int], stride: Sequence[int], padding: Padding, dilation: Sequence[int]) -> Shape:
    """The cell under tap t of a kernel at position y: y * stride - before + t * dilation, per axis."""
    axes = zip(y, t, stride, padding, dilation, strict=True)
    return tuple(i * step - before + j * apart for i, j, step, (before, _), apart in axes)


# ----------------------------------------------------------------------------------------------------------
# Operators


@dataclass(frozen=True)
class Operator:
    """A layer that is linear up to a bias, for one sample: z_k = sum_j a_j w_jk + b_k.

    ``w`` holds exactly the structurally connected pairs (j, k), also where the weight is 0. For a layer with
    several inputs (add, sub, concat) the inputs are the concatenation of the flattened operands, in order.
    """

    inputs: Shape
    outputs: Shape
    w: dict[tuple[int, int], Fraction]
    b: Vector


def forward(op: Operator, a: Any) -> Vector:
    """z_k = sum_j a_j w_jk + b_k."""
    a = vector(a, op.inputs)
    z = list(op.b)
    for (j, k), w_jk in op.w.items():
        z[k] += a[j] * w_jk
    return z


def connected(op: Operator) -> list[list[int]]:
    """For every k the inputs j that are connected to it."""
    to: list[list[int]] = [[] for _ in op.b]
    for j, k in op.w:
        to[k].append(j)
    return to


def _biases(b: Any, n: int) -> Vector:
    return [ZERO] * n if b is None else vector(b, (n,))


def dense(W: Nested, b: Nested | None, lead: Shape = ()) -> Operator:
    """z[.., k] = sum_j a[.., j] W[j][k] + b[k].

    W is (inputs, outputs); ``lead`` are the sample's axes before the last.
    """
    (J, K), weights = array(W)
    bias = _biases(b, K)
    w = {}
    for row in range(math.prod(lead)):
        for j in range(J):
            for k in range(K):
                w[row * J + j, row * K + k] = weights[j * K + k]
    return Operator((*lead, J), (*lead, K), w, bias * math.prod(lead))


def conv(
    K: Nested,
    b: Nested | None,
    shape: Shape,
    stride: Sequence[int],
    padding: Padding,
    dilation: Sequence[int],
    groups: int = 1,
) -> Operator:
    """z[o, y] = sum_{i, t} a[i, y * stride - before + t * dilation] K[o, i, t] + b[o] (nothing is flipped).

    K is (outputs, inputs / groups, *kernel), the shape (channels, *spatial).
    """
    K_shape, K_flat = array(K)
    (O, I_group, *kernel), (channels, *size) = K_shape, shape
    if channels != I_group * groups or O % groups:
        raise ValueError(f"a kernel {K_shape} in {groups} groups does not fit {shape}")
    out = [
        (n + before + after - d * (t - 1) - 1) // step + 1
        for n, t, step, (before, after), d in zip(size, kernel, stride, padding, dilation, strict=True)
    ]
    bias, b_all, w = _biases(b, O), [], {}
    for o in range(O):
        group = o // (O // groups)
        for y in indices(out):
            k = number((o, *y), (O, *out))
            b_all.append(bias[o])
            for i in range(I_group):
                for t in indices(kernel):
                    x = tap(y, t, stride, padding, dilation)
                    if inside(x, size):
                        j = number((group * I_group + i, *x), shape)
                        w[j, k] = K_flat[number((o, i, *t), K_shape)]
    return Operator(shape, (O, *out), w, b_all)


def conv_transpose(
    K: Nested,
    b: Nested | None,
    shape: Shape,
    stride: Sequence[int],
    padding: Padding,
    dilation: Sequence[int],
    groups: int = 1,
    output_padding: Sequence[int] | None = None,
) -> Operator:
    """z[o, y] = b[o] + sum of a[i, x] K[i, o, t] over all x, t with y = x * stride - before + t * dilation.

    K is (inputs, outputs / groups, *kernel). The size of the output is
    (in - 1) * stride - before - after + dilation * (kernel - 1) + output_padding + 1.
    """
    K_shape, K_flat = array(K)
    (I, O_group, *kernel), (channels, *size) = K_shape, shape
    extra = [0] * len(size) if output_padding is None else output_padding
    if channels != I or channels % groups:
        raise ValueError(f"a kernel {K_shape} in {groups} groups does not fit {shape}")
    O = O_group * groups
    out = [
        (n - 1) * step - before - after + d * (t - 1) + more + 1
        for n, t, step, (before, after), d, more in zip(size, kernel, stride, padding, dilation, extra, strict=True)
    ]
    bias, w = _biases(b, O), {}
    for i in range(I):
        group = i // (I // groups)
        for x in indices(size):
            j = number((i, *x), shape)
            for o in range(O_group):
                for t in indices(kernel):
                    y = tap(x, t, stride, padding, dilation)
                    if inside(y, out):
                        k = number((group * O_group + o, *y), (O, *out))
                        w[j, k] = K_flat[number((i, o, *t), K_shape)]
    return Operator(shape, (O, *out), w, [bias[o] for o in range(O) for _ in indices(out)])


def windows(
    shape: Shape,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Padding,
    dilation: Sequence[int],
    ceil: bool,
) -> tuple[Shape, list[tuple[list[int], int]]]:
    """The windows of a pooling layer on (channels, *spatial): the shape of the output, and for every k the
    real cells of its window, in C order, with the number of its cells inside input + padding.

    With ``ceil`` the last window may hang over the padded input; one that starts beyond input + left padding
    is dropped.
    """
    channels, *size = shape
    out = []
    for n, m, step, (before, after), d in zip(size, kernel, stride, padding, dilation, strict=True):
        room = n + before + after - d * (m - 1) - 1
        count = (-(-room // step) if ceil else room // step) + 1
        while ceil and count > 0 and (count - 1) * step >= n + before:
            count -= 1
        out.append(count)
    found = []
    for c in range(channels):
        for y in indices(out):
            cells: list[int] = []
            counted = 0
            for t in indices(kernel):
                x = tap(y, t, stride, padding, dilation)
                if inside(x, size):
                    cells.append(number((c, *x), shape))
                counted += all(-before <= i < n + after for i, n, (before, after) in zip(x, size, padding, strict=True))
            found.append((cells, counted))
    return (channels, *out), found


def avg_pool(
    shape: Shape,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Padding,
    ceil: bool,
    count_include_pad: bool,
) -> Operator:
    """z_k = sum of a_j / n_k over the window.

    n_k counts the window's cells inside input + padding, or (without ``count_include_pad``) inside the input;
    what hangs over never counts.
    """
    outputs, found = windows(shape, kernel, stride, padding, [1] * len(kernel), ceil)
    w = {}
    for k, (cells, counted) in enumerate(found):
        for j in cells:
            w[j, k] = Fraction(1, counted if count_include_pad else len(cells))
    return Operator(shape, outputs, w, [ZERO] * len(found))


def sum_pool(shape: Shape, kernel: Sequence[int], stride: Sequence[int], padding: Padding, ceil: bool) -> Operator:
    """z_k = sum of a_j over the window."""
    outputs, found = windows(shape, kernel, stride, padding, [1] * len(kernel), ceil)
    w = {(j, k): ONE for k, (cells, _) in enumerate(found) for j in cells}
    return Operator(shape, outputs, w, [ZERO] * len(found))


def winners(a: Vector, cells: Sequence[int], ties: Ties) -> dict[int, Fraction]:
    """Who wins a window of real cells (padding never does), and with which weight.

    "first": the first maximum. "shared": each of n equal maxima with weight 1/n. ("near", rtol): the first
    cell with |v - max| <= rtol * max(|v|, |max|), whose value then is the output.
    """
    if not cells:
        return {}
    top = max(a[j] for j in cells)
    equal = [j for j in cells if a[j] == top]
    if ties == "first":
        return {equal[0]: ONE}
    if ties == "shared":
        return {j: Fraction(1, len(equal)) for j in equal}
    kind, rtol = ties
    assert kind == "near", ties
    near = (j for j in cells if abs(a[j] - top) <= Fraction(rtol) * max(abs(a[j]), abs(top)))
    return {next(near): ONE}


def max_pool(
    a: Any,
    shape: Shape,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Padding,
    dilation: Sequence[int],
    ceil: bool,
    ties: Ties = "first",
) -> Operator:
    """z_k = max of a_j over the real cells of the window, frozen at a: wires from the winners.

    A window without any real cell has no wire and the value 0.
    """
    a = vector(a, shape)
    outputs, found = windows(shape, kernel, stride, padding, dilation, ceil)
    w = {(j, k): v for k, (cells, _) in enumerate(found) for j, v in winners(a, cells, ties).items()}
    return Operator(shape, outputs, w, [ZERO] * len(found))


def max_pool_as_average(
    shape: Shape,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Padding,
    dilation: Sequence[int],
    ceil: bool,
) -> Operator:
    """The average over the real cells of the windows of a max pool."""
    outputs, found = windows(shape, kernel, stride, padding, dilation, ceil)
    w = {(j, k): Fraction(1, len(cells)) for k, (cells, _) in enumerate(found) for j in cells}
    return Operator(shape, outputs, w, [ZERO] * len(found))


def adaptive_windows(shape: Shape, sizes: Sequence[int]) -> tuple[Shape, list[list[int]]]:
    """The cells of every output of an adaptive pool on (channels, *spatial): on an axis of n cells and m outputs,
    output i reads the cells from floor(i n / m) up to, but not including, ceil((i + 1) n / m).
    """
    channels, *size = shape
    found = []
    for c in range(channels):
        for y in indices(sizes):
            bounds = [
                (math.floor(Fraction(i * n, m)), math.ceil(Fraction((i + 1) * n, m)))
                for i, n, m in zip(y, size, sizes, strict=True)
            ]
            found.append([number((c, *x), shape) for x in product(*(range(*bound) for bound in bounds))])
    return (channels, *sizes), found


def adaptive_avg_pool(shape: Shape, sizes: Sequence[int]) -> Operator:
    """z_k = the mean of the cells of window k."""
    outputs, found = adaptive_windows(shape, sizes)
    w = {(j, k): Fraction(1, len(cells)) for k, cells in enumerate(found) for j in cells}
    return Operator(shape, outputs, w, [ZERO] * len(found))


def adaptive_max_pool(a: Any, shape: Shape, sizes: Sequence[int], ties: Ties = "first") -> Operator:
    """z_k = the maximum of the cells of window k, frozen at a: wires from the winners."""
    a = vector(a, shape)
    outputs, found = adaptive_windows(shape, sizes)
    w = {(j, k): v for k, cells in enumerate(found) for j, v in winners(a, cells, ties).items()}
    return Operator(shape, outputs, w, [ZERO] * len(found))


def _channel_cells(shape: Shape) -> tuple[Shape, list[range]]:
    channels, *size = shape
    n = math.prod(size)
    return (channels, *(1 for _ in size)), [range(c * n, (c + 1) * n) for c in range(channels)]


def global_avg_pool(shape: Shape) -> Operator:
    """The mean over all spatial axes, which are kept with size 1."""
    outputs, found = _channel_cells(shape)
    w = {(j, c): Fraction(1, len(cells)) for c, cells in enumerate(found) for j in cells}
    return Operator(shape, outputs, w, [ZERO] * len(found))


def global_max_pool(a: Any, shape: Shape, ties: Ties = "first") -> Operator:
    """The maximum over all spatial axes, which are kept with size 1, frozen at a."""
    a = vector(a, shape)
    outputs, found = _channel_cells(shape)
    w = {(j, c): v for c, cells in enumerate(found) for j, v in winners(a, cells, ties).items()}
    return Operator(shape, outputs, w, [ZERO] * len(found))


def _everywhere(x: Any, shape: Shape) -> Vector:
    """One value per input from a number, one number per channel (axis 0), or an array of the shape."""
    x_shape, values = array(x)
    J = math.prod(shape)
    if x_shape == ():
        return values * J
    if x_shape == shape:
        return values
    if x_shape == shape[:1]:
        return [values[j // (J // shape[0])] for j in range(J)]
    raise ValueError(f"{x_shape} is neither a number, nor one per channel, nor of the shape {shape}")


def scale(weight: Nested, bias: Nested | None, shape: Shape) -> Operator:
    """z_j = a_j weight_j + bias_j."""
    w, b = _everywhere(weight, shape), _everywhere(0 if bias is None else bias, shape)
    return Operator(shape, shape, {(j, j): w_j for j, w_j in enumerate(w)}, b)


def batch_norm(scale: Sequence[Number], shift: Sequence[Number], shape: Shape) -> Operator:
    """z[c, ..] = a[c, ..] scale[c] + shift[c]: one number per channel (axis 0 of the sample)."""
    channels, cells = shape[0], math.prod(shape[1:])
    w, b = vector(scale, (channels,)), vector(shift, (channels,))
    return Operator(
        shape,
        shape,
        {(j, j): w[j // cells] for j in range(channels * cells)},
        [b[j // cells] for j in range(channels * cells)],
    )


def _broadcast(shapes: Sequence[Shape]) -> Shape:
    """The common shape of several, aligned at the right; an axis of 1 is stretched."""
    out = []
    for axis in range(max(len(shape) for shape in shapes), 0, -1):
        sizes = {shape[-axis] for shape in shapes if len(shape) >= axis} - {1} or {1}
        if len(sizes) > 1:
            raise ValueError(f"shapes {shapes} do not broadcast")
        out.append(sizes.pop())
    return tuple(out)


def _source(index: Shape, shape: Shape) -> int:
    """Which entry of an operand stands at an index of the broadcast shape."""
    tail = index[len(index) - len(shape) :]
    return number((0 if n == 1 else i for i, n in zip(tail, shape, strict=True)), shape)


def _signed_sum(shapes: Sequence[Shape], signs: Sequence[int], constant: Any, constant_sign: int) -> Operator:
    c_shape, c = array(0 if constant is None else constant)
    outputs = _broadcast([*shapes, c_shape])
    w, b = {}, []
    for k, index in enumerate(indices(outputs)):
        start = 0
        for shape, sign in zip(shapes, signs, strict=True):
            w[start + _source(index, shape), k] = Fraction(sign)
            start += math.prod(shape)
        b.append(constant_sign * c[_source(index, c_shape)])
    return Operator((sum(math.prod(shape) for shape in shapes),), outputs, w, b)


def add(shapes: Sequence[Shape], constant: Nested | None = None) -> Operator:
    """The sum of the operands with these shapes, which broadcast; the constant is the bias.

    The inputs are the concatenation of the flattened operands.
    """
    return _signed_sum(shapes, [1] * len(shapes), constant, 1)


def sub(shapes: Sequence[Shape], constant: Nested | None = None, constant_first: bool = False) -> Operator:
    """The first operand minus the others, which broadcast; the constant, subtracted, is the bias (times -1).
    With ``constant_first`` the constant minus every operand.

    The inputs are the concatenation of the flattened operands.
    """
    if constant_first:
        return _signed_sum(shapes, [-1] * len(shapes), constant, 1)
    return _signed_sum(shapes, [1] + [-1] * (len(shapes) - 1), constant, -1)


def concat(shapes: Sequence[Shape], axis: int) -> Operator:
    """The operands with these shapes, one after the other along an axis.

    The inputs are the concatenation of the flattened operands.
    """
    axis %= len(shapes[0])
    if len({(*shape[:axis], *shape[axis + 1 :]) for shape in shapes}) > 1:
        raise ValueError(f"{shapes} do not fit together along axis {axis}")
    outputs = (*shapes[0][:axis], sum(shape[axis] for shape in shapes), *shapes[0][axis + 1 :])
    w, start, offset = {}, 0, 0
    for shape in shapes:
        for j, index in enumerate(indices(shape)):
            moved = (*index[:axis], index[axis] + offset, *index[axis + 1 :])
            w[start + j, number(moved, outputs)] = ONE
        start += math.prod(shape)
        offset += shape[axis]
    return Operator((start,), outputs, w, [ZERO] * math.prod(outputs))


def _reduce(shape: Shape, axes: Sequence[int], keepdims: bool, mean: bool) -> Operator:
    over = {axis % len(shape) for axis in axes}
    kept = tuple(1 if i in over else n for i, n in enumerate(shape))
    outputs = kept if keepdims else tuple(n for i, n in enumerate(shape) if i not in over)
    value = Fraction(1, math.prod(shape[i] for i in over)) if mean else ONE
    w = {}
    for j, index in enumerate(indices(shape)):
        w[j, number((0 if i in over else p for i, p in enumerate(index)), kept)] = value
    return Operator(shape, outputs, w, [ZERO] * math.prod(kept))


def sum_over(shape: Shape, axes: Sequence[int], keepdims: bool = False) -> Operator:
    """The sum over some axes."""
    return _reduce(shape, axes, keepdims, mean=False)


def mean_over(shape: Shape, axes: Sequence[int], keepdims: bool = False) -> Operator:
    """The mean over some axes."""
    return _reduce(shape, axes, keepdims, mean=True)


# Wires: every output is one input, or nothing.


def _wires(inputs: Shape, outputs: Shape, source: Callable[[Shape], Sequence[int]]) -> Operator:
    """Wires from the input at source(index), if there is one, to the output at every index."""
    w = {}
    for k, index in enumerate(indices(outputs)):
        x = source(index)
        if inside(x, inputs):
            w[number(x, inputs), k] = ONE
    return Operator(inputs, outputs, w, [ZERO] * math.prod(outputs))


def identity(shape: Shape) -> Operator:
    """z_j = a_j."""
    return _wires(shape, shape, lambda index: index)


def reshape(shape: Shape, new: Shape) -> Operator:
    """The same entries in another shape."""
    n = math.prod(shape)
    if n != math.prod(new):
        raise ValueError(f"{shape} does not reshape to {new}")
    return Operator(shape, new, {(j, j): ONE for j in range(n)}, [ZERO] * n)


def flatten(shape: Shape) -> Operator:
    """The same entries on one axis."""
    n = math.prod(shape)
    return Operator(shape, (n,), {(j, j): ONE for j in range(n)}, [ZERO] * n)


def transpose(shape: Shape, axes: Sequence[int]) -> Operator:
    """Axis i of the output is axis axes[i] of the input."""
    if sorted(axes) != list(range(len(shape))):
        raise ValueError(f"{axes} is no order of the axes of {shape}")
    place = {axis: i for i, axis in enumerate(axes)}
    return _wires(
        shape,
        tuple(shape[axis] for axis in axes),
        lambda index: [index[place[axis]] for axis in range(len(shape))],
    )


def squeeze(shape: Shape, axis: int) -> Operator:
    """Without an axis of size 1."""
    axis %= len(shape)
    if shape[axis] != 1:
        raise ValueError(f"axis {axis} of {shape} is not 1")
    return _wires(shape, (*shape[:axis], *shape[axis + 1 :]), lambda index: (*index[:axis], 0, *index[axis:]))


def unsqueeze(shape: Shape, axis: int) -> Operator:
    """With a new axis of size 1, which is the given axis of the output."""
    axis %= len(shape) + 1
    return _wires(shape, (*shape[:axis], 1, *shape[axis:]), lambda index: (*index[:axis], *index[axis + 1 :]))


def slice_(shape: Shape, slices: Sequence[slice]) -> Operator:
    """One slice per axis; axes without one are kept whole."""
    taken = [range(n)[cut] for n, cut in zip(shape, slices, strict=False)]
    taken += [range(n) for n in shape[len(taken) :]]
    return _wires(shape, tuple(len(r) for r in taken), lambda index: [r[i] for r, i in zip(taken, index, strict=True)])


def pad(shape: Shape, padding: Padding) -> Operator:
    """Zeros before and after every axis; no input feeds them. A negative number cuts."""
    outputs = tuple(before + n + after for n, (before, after) in zip(shape, padding, strict=True))
    return _wires(shape, outputs, lambda index: [i - before for i, (before, _) in zip(index, padding, strict=True)])


def upsample(shape: Shape, factors: Sequence[int]) -> Operator:
    """Nearest neighbour on (channels, *spatial), one factor per spatial axis: z[c, y] = a[c, y // factor]."""
    every = (1, *factors)
    return _wires(
        shape,
        tuple(n * factor for n, factor in zip(shape, every, strict=True)),
        lambda index: [i // factor for i, factor in zip(index, every, strict=True)],
    )


def _block(shape: Shape, block: int, mode: str, moved: Shape, y: Shape) -> Shape:
    """Where channel c of cell y of the spread-out array lies in the deep one, whose channels the mode orders:
    block offset first and c last ("DCR"), or c first ("CRD").
    """
    c, *cell = y
    offset = number((i % block for i in cell), (block,) * len(cell))
    deep = offset * moved[0] + c if mode == "DCR" else c * block ** len(cell) + offset
    return (deep, *(i // block for i in cell))


def depth_to_space(shape: Shape, block: int, mode: str) -> Operator:
    """z[c, y * block + d] = a[deep channel of (c, d), y] for every offset d in a block of cells."""
    channels, *size = shape
    moved = (channels // block ** len(size), *(n * block for n in size))
    return _wires(shape, moved, lambda index: _block(shape, block, mode, moved, index))


def space_to_depth(shape: Shape, block: int, mode: str) -> Operator:
    """The same wires, the other way round."""
    channels, *size = shape
    deep = (channels * block ** len(size), *(n // block for n in size))
    back = depth_to_space(deep, block, mode)
    return Operator(shape, deep, {(k, j): w for (j, k), w in back.w.items()}, [ZERO] * len(back.b))


def coordinate(i: int, n: int, m: int, step: Fraction, coordinates: str) -> Fraction:
    """Where output i of m lies on an axis of n cells; outputs lie `step` cells apart, unless corners are aligned."""
    match coordinates:
        case "half_pixel":
            return (i + Fraction(1, 2)) * step - Fraction(1, 2)
        case "pytorch_half_pixel":
            return (i + Fraction(1, 2)) * step - Fraction(1, 2) if m > 1 else ZERO
        case "align_corners":
            return Fraction(i * (n - 1), m - 1) if m > 1 else ZERO
        case "asymmetric":
            return i * step
    raise ValueError(coordinates)


def resampled(x: Fraction, n: int, mode: str, rounding: str) -> dict[int, Fraction]:
    """The cells of an axis of n that are read at the coordinate x, with their weights.

    "linear": max(0, 1 - |x - j|), where that is not 0. "nearest": the last cell that is not above x, the first
    that is not below, or the nearest, and of two equally near the lower or the upper. Beyond the ends: the end.
    """
    x = min(max(x, ZERO), Fraction(n - 1))
    if mode == "linear":
        return {j: 1 - abs(x - j) for j in range(n) if abs(x - j) < 1}
    match rounding:
        case "floor":
            return {max(j for j in range(n) if j <= x): ONE}
        case "ceil":
            return {min(j for j in range(n) if j >= x): ONE}
        case "round_prefer_floor":
            return {min(range(n), key=lambda j: (abs(x - j), j)): ONE}
        case "round_prefer_ceil":
            return {min(range(n), key=lambda j: (abs(x - j), -j)): ONE}
    raise ValueError(rounding)


def resize(
    shape: Shape, sizes: Sequence[int], steps: Sequence[Fraction], mode: str, coordinates: str, rounding: str
) -> Operator:
    """z[c, y] = sum_x a[c, x] prod_d w_d(x_d), with the weights of each axis at the coordinate of y_d."""
    channels, *size = shape
    outputs, w = (channels, *sizes), {}
    for k, (c, *y) in enumerate(indices(outputs)):
        axes = zip(y, size, sizes, steps, strict=True)
        read = [resampled(coordinate(i, n, m, step, coordinates), n, mode, rounding) for i, n, m, step in axes]
        for x in product(*read):
            w[number((c, *x), shape), k] = math.prod((cells[j] for cells, j in zip(read, x, strict=True)), start=ONE)
    return Operator(shape, outputs, w, [ZERO] * math.prod(outputs))


# ----------------------------------------------------------------------------------------------------------
# Stabilizers: from the z_k of one share of a rule (all k of the sample) to the e_k that are added to them


def signed(z: Vector, epsilon: Fraction) -> Vector:
    """e_k = epsilon * s(z_k), with s(0) = +1."""
    return [epsilon * s(z_k) for z_k in z]


def unsigned(z: Vector, epsilon: Fraction) -> Vector:
    """e_k = epsilon."""
    return [epsilon for _ in z]


def at_zero(z: Vector, epsilon: Fraction) -> Vector:
    """e_k = epsilon where z_k == 0, else 0."""
    return [epsilon if z_k == 0 else ZERO for z_k in z]


def clip(z: Vector, epsilon: Fraction) -> Vector:
    """e_k = s(z_k) max(|z_k|, epsilon) - z_k."""
    return [s(z_k) * max(abs(z_k), epsilon) - z_k for z_k in z]


def signed_or(eps0: Number) -> Stabilizer:
    """e_k = epsilon * sign(z_k) with sign(0) = 0, and eps0 where z_k == 0."""

    def stabilizer(z: Vector, epsilon: Fraction) -> Vector:
        return [Fraction(eps0) if z_k == 0 else epsilon * s(z_k) for z_k in z]

    return stabilizer


def root(square: Fraction) -> Fraction:
    """The square root, rounded to the nearest float64 (to even in a tie), as an exact number.

    r = floor(2^t root) has at least 64 bits, so no number halfway between two floats lies strictly between
    r and r + 1: r + 1/2 stands for all of them, and the one rounding is that of the exact quotient.
    """
    p, q = square.numerator, square.denominator
    t = max(0, 66 + (q.bit_length() - p.bit_length()) // 2)
    r = math.isqrt(p * 4**t // q)
    exact = r * r * q == p * 4**t
    return Fraction((2 * r + (not exact)) / 2 ** (t + 1))


def rms(samples: Sequence[Vector]) -> Fraction:
    """The float64-rounded root of the exact mean square of all entries of all the samples."""
    entries = [z_k for z in samples for z_k in z]
    return root(sum((z_k * z_k for z_k in entries), ZERO) / len(entries)) if entries else ZERO


def relative(sign: bool = True, plus: Number = 0, size: Fraction | None = None) -> Stabilizer:
    """e_k = (epsilon * rms + plus) * s(z_k), or the same without the sign.

    The rms is that of the sample's z (all k of the share), or ``size`` where it is given.
    """

    def stabilizer(z: Vector, epsilon: Fraction) -> Vector:
        e = epsilon * (rms([z]) if size is None else size) + Fraction(plus)
        return [e * s(z_k) if sign else e for z_k in z]

    return stabilizer


# ----------------------------------------------------------------------------------------------------------
# The universal shape of a rule, and its books


@dataclass(frozen=True)
class Share:
    """One quotient of a rule: the portion of R_k that it deals out, and its numerators n_jk and n_0k."""

    portion: Vector
    n: dict[tuple[int, int], Fraction]
    n_0: Vector


@dataclass(frozen=True)
class Dealt:
    """What a rule made of R: what every input got, every message, and per output what went elsewhere.

    R_k == sum_j messages[j, k] + bias[k] + stabilizer[k] + unclaimed[k] for every k.
    """

    R_in: Vector
    messages: dict[tuple[int, int], Fraction]
    bias: Vector
    stabilizer: Vector
    unclaimed: Vector


def deal(op: Operator, R: Any, shares: Sequence[Share], epsilon: Number, stabilizer: Stabilizer, spread: bool) -> Dealt:
    """The sum over the shares of R_{j<-k} = n_jk / d_k (portion_k R_k), where d_k = z_k + e_k and
    z_k = sum_j n_jk + n_0k.

    Books: bias n_0k / d_k (portion_k R_k), stabilizer e_k / d_k (portion_k R_k). Where d_k == 0 every message
    is 0 and portion_k R_k is unclaimed; (1 - sum of the portions) R_k is unclaimed always. With ``spread``
    the part of bias and stabilizer is dealt out equally to the inputs connected to k instead of booked, if
    there are any.
    """
    R = vector(R, op.outputs)
    K = len(op.b)
    to = connected(op)
    messages = dict.fromkeys(op.w, ZERO)
    to_bias, to_stabilizer, unclaimed = [ZERO] * K, [ZERO] * K, [ZERO] * K
    for share in shares:
        z = list(share.n_0)
        for (_, k), n_jk in share.n.items():
            z[k] += n_jk
        e = stabilizer(z, Fraction(epsilon))
        for k in range(K):
            d_k, dealt = z[k] + e[k], share.portion[k] * R[k]
            if d_k == 0:
                unclaimed[k] += dealt
                continue
            for j in to[k]:
                messages[j, k] += share.n[j, k] / d_k * dealt
            if spread and to[k]:
                for j in to[k]:
                    messages[j, k] += (share.n_0[k] + e[k]) / d_k * dealt / len(to[k])
            else:
                to_bias[k] += share.n_0[k] / d_k * dealt
                to_stabilizer[k] += e[k] / d_k * dealt
    for k in range(K):
        unclaimed[k] += (1 - sum(share.portion[k] for share in shares)) * R[k]
    return Dealt(received(op, messages), messages, to_bias, to_stabilizer, unclaimed)


def received(op: Operator, messages: dict[tuple[int, int], Fraction]) -> Vector:
    """R_j = sum_k R_{j<-k}."""
    R_in = [ZERO] * math.prod(op.inputs)
    for (j, _), message in messages.items():
        R_in[j] += message
    return R_in


def bias_numerators(op: Operator, bias: Bias, own: Callable[[Fraction], Fraction]) -> Vector:
    """n_0k, what enters a share's denominator for the bias.

    "rule" and "spread": the rule's own; "none": 0; "raw": b_k; "squared": b_k^2.
    """
    forms: dict[str, Callable[[Fraction], Fraction]] = {
        "rule": own,
        "spread": own,
        "none": lambda b_k: ZERO,
        "raw": lambda b_k: b_k,
        "squared": lambda b_k: b_k * b_k,
    }
    return [forms[bias](b_k) for b_k in op.b]


# ----------------------------------------------------------------------------------------------------------
# Rules


def zero(
    op: Operator, a: Any, R: Any, *, epsilon: Number = 0, stabilizer: Stabilizer = signed, bias: Bias = "rule"
) -> Dealt:
    """LRP-0: R_{j<-k} = a_j w_jk / (sum_j a_j w_jk + b_k) R_k."""
    a = vector(a, op.inputs)
    n = {(j, k): a[j] * w_jk for (j, k), w_jk in op.w.items()}
    n_0 = bias_numerators(op, bias, lambda b: b)
    return deal(op, R, [Share([ONE] * len(op.b), n, n_0)], epsilon, stabilizer, bias == "spread")


def epsilon(
    op: Operator, a: Any, R: Any, *, epsilon: Number, stabilizer: Stabilizer = signed, bias: Bias = "rule"
) -> Dealt:
    """LRP-epsilon: R_{j<-k} = a_j w_jk / (z_k + epsilon s(z_k)) R_k, z_k = sum_j a_j w_jk + b_k."""
    return zero(op, a, R, epsilon=epsilon, stabilizer=stabilizer, bias=bias)


def norm(
    op: Operator, a: Any, R: Any, *, epsilon: Number = 0, stabilizer: Stabilizer = signed, bias: Bias = "rule"
) -> Dealt:
    """Norm: R_{j<-k} = a_j w_jk / z_k R_k, the name of LRP-0 on layers without parameters."""
    return zero(op, a, R, epsilon=epsilon, stabilizer=stabilizer, bias=bias)


def gamma(
    op: Operator,
    a: Any,
    R: Any,
    gamma: Number,
    *,
    epsilon: Number = 0,
    stabilizer: Stabilizer = signed,
    bias: Bias = "rule",
) -> Dealt:
    """LRP-gamma, the chapter's: R_{j<-k} = a_j (w_jk + gamma w_jk+) / sum_{0,j} a_j (w_jk + gamma w_jk+) R_k.

    The bias is w_0k with a_0 = 1: n_0k = b_k + gamma b_k+.
    """
    a, g = vector(a, op.inputs), Fraction(gamma)
    n = {(j, k): a[j] * (w_jk + g * pos(w_jk)) for (j, k), w_jk in op.w.items()}
    n_0 = bias_numerators(op, bias, lambda b: b + g * pos(b))
    return deal(op, R, [Share([ONE] * len(op.b), n, n_0)], epsilon, stabilizer, bias == "spread")


def generalized_gamma(
    op: Operator,
    a: Any,
    R: Any,
    gamma: Number,
    *,
    epsilon: Number = 0,
    stabilizer: Stabilizer = signed,
    bias: Bias = "rule",
) -> Dealt:
    """Generalized LRP-gamma, with m_jk = a_j w_jk:

    z_k > 0: n_jk = m_jk + gamma m_jk+, n_0k = b_k + gamma b_k+;
    z_k < 0: n_jk = m_jk + gamma m_jk-, n_0k = b_k + gamma b_k-;
    z_k = 0: R_k is unclaimed.

    z_k = sum_j m_jk + b_k is the original pre-activation with its bias, whatever ``bias`` is. Two shares with
    the portions [z_k > 0] and [z_k < 0]; a stabilizer sees the denominators of a share for all k.
    """
    a, g = vector(a, op.inputs), Fraction(gamma)
    z = forward(op, a)
    m = {(j, k): a[j] * w_jk for (j, k), w_jk in op.w.items()}
    above = Share(
        [Fraction(z_k > 0) for z_k in z],
        {jk: m_jk + g * pos(m_jk) for jk, m_jk in m.items()},
        bias_numerators(op, bias, lambda b: b + g * pos(b)),
    )
    below = Share(
        [Fraction(z_k < 0) for z_k in z],
        {jk: m_jk + g * neg(m_jk) for jk, m_jk in m.items()},
        bias_numerators(op, bias, lambda b: b + g * neg(b)),
    )
    return deal(op, R, [above, below], epsilon, stabilizer, bias == "spread")


def _part(
    op: Operator, a: Vector, sign: Callable[[Fraction], Fraction], split: Split
) -> dict[tuple[int, int], Fraction]:
    """The positive (or negative) part of the contributions: (a_j w_jk)+, or a_j w_jk+ with unsplit inputs."""
    if split == "product":
        return {(j, k): sign(a[j] * w_jk) for (j, k), w_jk in op.w.items()}
    if split == "weight":
        return {(j, k): a[j] * sign(w_jk) for (j, k), w_jk in op.w.items()}
    raise ValueError(f"split: {split!r}")


def z_plus(
    op: Operator,
    a: Any,
    R: Any,
    *,
    epsilon: Number = 0,
    stabilizer: Stabilizer = signed,
    bias: Bias = "rule",
    split: Split = "product",
) -> Dealt:
    """z+: R_{j<-k} = (a_j w_jk)+ / (sum_j (a_j w_jk)+ + b_k+) R_k.

    split="weight": a_j w_jk+ in the place of (a_j w_jk)+.
    """
    n = _part(op, vector(a, op.inputs), pos, split)
    n_0 = bias_numerators(op, bias, pos)
    return deal(op, R, [Share([ONE] * len(op.b), n, n_0)], epsilon, stabilizer, bias == "spread")


def z_minus(
    op: Operator,
    a: Any,
    R: Any,
    *,
    epsilon: Number = 0,
    stabilizer: Stabilizer = signed,
    bias: Bias = "rule",
    split: Split = "product",
) -> Dealt:
    """z-: R_{j<-k} = (a_j w_jk)- / (sum_j (a_j w_jk)- + b_k-) R_k.

    split="weight": a_j w_jk- in the place of (a_j w_jk)-.
    """
    n = _part(op, vector(a, op.inputs), neg, split)
    n_0 = bias_numerators(op, bias, neg)
    return deal(op, R, [Share([ONE] * len(op.b), n, n_0)], epsilon, stabilizer, bias == "spread")


def alpha_beta(
    op: Operator,
    a: Any,
    R: Any,
    alpha: Number,
    beta: Number,
    *,
    epsilon: Number = 0,
    stabilizer: Stabilizer = signed,
    bias: Bias = "rule",
    split: Split = "product",
) -> Dealt:
    """LRP-alpha-beta: R_{j<-k} = [alpha (a_j w_jk)+ / Z+_k - beta (a_j w_jk)- / Z-_k] R_k, with
    Z+_k = sum_j (a_j w_jk)+ + b_k+ and Z-_k = sum_j (a_j w_jk)- + b_k-.

    Two shares with the portions alpha and -beta, each with its own denominator and its own stabilizer; an
    empty part leaves its portion unclaimed. alpha >= 1 and beta >= 0; beta, which must be alpha - 1 within
    4 ulp of alpha, is then made alpha - 1 exactly.
    split="weight": a_j w_jk+ and a_j w_jk- in the places of (a_j w_jk)+ and (a_j w_jk)-.
    """
    a, alpha, beta = vector(a, op.inputs), Fraction(alpha), Fraction(beta)
    if alpha < 1 or beta < 0 or abs(alpha - beta - 1) > 4 * Fraction(math.ulp(float(alpha))):
        raise ValueError(f"alpha >= 1, beta >= 0 and alpha - beta = 1, not {alpha} and {beta}")
    beta = alpha - 1
    K = len(op.b)
    shares = [
        Share([alpha] * K, _part(op, a, pos, split), bias_numerators(op, bias, pos)),
        Share([-beta] * K, _part(op, a, neg, split), bias_numerators(op, bias, neg)),
    ]
    return deal(op, R, shares, epsilon, stabilizer, bias == "spread")


def flat(
    op: Operator, a: Any, R: Any, *, epsilon: Number = 0, stabilizer: Stabilizer = signed, bias: Bias = "rule"
) -> Dealt:
    """Flat: R_{j<-k} = R_k / (number of inputs connected to k), where a weight of 0 counts. No bias."""
    n = dict.fromkeys(op.w, ONE)
    n_0 = bias_numerators(op, bias, lambda b: ZERO)
    return deal(op, R, [Share([ONE] * len(op.b), n, n_0)], epsilon, stabilizer, bias == "spread")


def w_square(
    op: Operator, a: Any, R: Any, *, epsilon: Number = 0, stabilizer: Stabilizer = signed, bias: Bias = "rule"
) -> Dealt:
    """w^2: R_{j<-k} = w_jk^2 / sum_j w_jk^2 R_k. No bias."""
    n = {jk: w_jk * w_jk for jk, w_jk in op.w.items()}
    n_0 = bias_numerators(op, bias, lambda b: ZERO)
    return deal(op, R, [Share([ONE] * len(op.b), n, n_0)], epsilon, stabilizer, bias == "spread")


def z_box(
    op: Operator,
    a: Any,
    R: Any,
    low: Nested,
    high: Nested,
    *,
    epsilon: Number = 0,
    stabilizer: Stabilizer = signed,
    bias: Bias = "rule",
) -> Dealt:
    """zB: R_{j<-k} = n_jk / sum_j n_jk R_k, n_jk = a_j w_jk - l_j w_jk+ - h_j w_jk-. The bias cancels.

    low and high are one number, or one number per input j.
    """
    a = vector(a, op.inputs)
    J = math.prod(op.inputs)
    l, h = (x * J if shape == () else vector(x, op.inputs) for shape, x in (array(low), array(high)))
    n = {(j, k): a[j] * w_jk - l[j] * pos(w_jk) - h[j] * neg(w_jk) for (j, k), w_jk in op.w.items()}
    n_0 = bias_numerators(op, bias, lambda b: ZERO)
    return deal(op, R, [Share([ONE] * len(op.b), n, n_0)], epsilon, stabilizer, bias == "spread")


def absolute(
    op: Operator, a: Any, R: Any, *, epsilon: Number = 0, stabilizer: Stabilizer = signed, bias: Bias = "rule"
) -> Dealt:
    """|z|: R_{j<-k} = |a_j w_jk| / (sum_j |a_j w_jk| + |b_k|) R_k, for batch norm and residual sums."""
    a = vector(a, op.inputs)
    n = {(j, k): abs(a[j] * w_jk) for (j, k), w_jk in op.w.items()}
    n_0 = bias_numerators(op, bias, abs)
    return deal(op, R, [Share([ONE] * len(op.b), n, n_0)], epsilon, stabilizer, bias == "spread")


def pass_(op: Operator, R: Any, portions: Mapping[tuple[int, int], Number] | None = None) -> Dealt:
    """Pass: R_{j<-k} = p_jk R_k, weights and biases ignored; (1 - sum_j p_jk) R_k is unclaimed.

    p_jk is 1 on every connection, which asks for at most one input per output, or as ``portions`` say (op.w
    itself for a max pool whose ties share).
    """
    R = vector(R, op.outputs)
    if portions is None:
        if any(len(inputs) > 1 for inputs in connected(op)):
            raise ValueError("an output has more than one input: say which portions they get")
        portions = dict.fromkeys(op.w, 1)
    p = {jk: Fraction(p_jk) for jk, p_jk in portions.items()}
    if not p.keys() <= op.w.keys():
        raise ValueError("a portion where there is no connection")
    messages = {(j, k): p.get((j, k), ZERO) * R[k] for j, k in op.w}
    claimed = [ZERO] * len(R)
    for (_, k), p_jk in p.items():
        claimed[k] += p_jk
    unclaimed = [(1 - c) * R_k for c, R_k in zip(claimed, R, strict=True)]
    return Dealt(received(op, messages), messages, [ZERO] * len(R), [ZERO] * len(R), unclaimed)


def multiply(shapes: Sequence[Shape], factors: Sequence[Any]) -> Vector:
    """z_k = u_k v_k, the factors broadcast to each other."""
    values = [vector(factor, shape) for factor, shape in zip(factors, shapes, strict=True)]
    found = []
    for index in indices(_broadcast(shapes)):
        found.append(math.prod((v[_source(index, shape)] for v, shape in zip(values, shapes, strict=True)), start=ONE))
    return found


def product_rule(shapes: Sequence[Shape], R: Any, portion: Number) -> list[Vector]:
    """Product: of each R_k the portion to the first factor, the rest to the second: R_u = p R, R_v = (1 - p) R."""
    outputs, p = _broadcast(shapes), Fraction(portion)
    R_in = [[ZERO] * math.prod(shape) for shape in shapes]
    for index, R_k in zip(indices(outputs), vector(R, outputs), strict=True):
        for of_factor, shape, part in zip(R_in, shapes, (p, 1 - p), strict=True):
            of_factor[_source(index, shape)] += part * R_k
    return R_in


# ----------------------------------------------------------------------------------------------------------
# A stabilizer that looks at the whole batch


def denominators(rule: Callable[..., Dealt], op: Operator, a: Any, *parameters: Any, **variant: Any) -> list[Vector]:
    """The z of every share of a rule, in order, as its stabilizer sees them."""
    seen: list[Vector] = []

    def record(z: Vector, epsilon: Fraction) -> Vector:
        seen.append(z)
        return [ZERO] * len(z)

    rule(op, a, [ZERO] * len(op.b), *parameters, **variant, stabilizer=record)
    return seen


def with_batch_rms(
    rule: Callable[..., Dealt],
    op: Operator | Sequence[Operator],
    batch: Sequence[Any],
    relevances: Sequence[Any],
    *parameters: Any,
    sign: bool = True,
    plus: Number = 0,
    **variant: Any,
) -> list[Dealt]:
    """A rule on every sample of a batch, each share stabilized relative to its rms over the whole batch.

    The operator is one for all, or one per sample (a max pool frozen at each).
    """
    ops = [op] * len(batch) if isinstance(op, Operator) else op
    seen = [denominators(rule, op_i, a, *parameters, **variant) for op_i, a in zip(ops, batch, strict=True)]
    sizes = [rms(samples) for samples in zip(*seen, strict=True)]
    dealt = []
    for op_i, a, R in zip(ops, batch, relevances, strict=True):
        share = iter([relative(sign, plus, size) for size in sizes])

        def stabilizer(z: Vector, epsilon: Fraction, share: Iterator[Stabilizer] = share) -> Vector:
            return next(share)(z, epsilon)

        dealt.append(rule(op_i, a, R, *parameters, **variant, stabilizer=stabilizer))
    return dealt


# ----------------------------------------------------------------------------------------------------------
# Deep Taylor decomposition


def directions(rule: str, op: Operator, a: Any, *parameters: Any) -> dict[tuple[int, int], Fraction]:
    """v_jk of the line a - t v on which neuron k's root lies, by the rule's own formula; 0 where w_jk = 0.

    zero, epsilon, norm: a_j. gamma: a_j (1 + gamma [w_jk > 0]). generalized_gamma: a_j (1 + gamma [a_j w_jk z_k > 0]).
    z_plus: a_j [a_j w_jk > 0]. w_square: w_jk. flat: 1 / w_jk. z_box: a_j - low_j where w_jk > 0, else a_j - high_j.
    """
    a = vector(a, op.inputs)
    z = forward(op, a)
    v = {}
    for (j, k), w in op.w.items():
        if w == 0:
            v[j, k] = ZERO
        elif rule in ("zero", "epsilon", "norm"):
            v[j, k] = a[j]
        elif rule == "gamma":
            v[j, k] = a[j] * (1 + Fraction(parameters[0])) if w > 0 else a[j]
        elif rule == "generalized_gamma":
            v[j, k] = a[j] * (1 + Fraction(parameters[0])) if a[j] * w * z[k] > 0 else a[j]
        elif rule == "z_plus":
            v[j, k] = a[j] if a[j] * w > 0 else ZERO
        elif rule == "w_square":
            v[j, k] = w
        elif rule == "flat":
            v[j, k] = 1 / w
        elif rule == "z_box":
            low, high = (each if isinstance(each, (list, tuple)) else [each] * len(a) for each in parameters)
            v[j, k] = a[j] - Fraction(low[j] if w > 0 else high[j])
        else:
            raise ValueError(f"{rule} has no root of this form")
    return v


@dataclass(frozen=True)
class Expanded:
    """The expansion of one neuron's relevance model z c at a~, over the inputs connected to it."""

    point: dict[int, Fraction]
    residual: Fraction
    first: dict[int, Fraction]
    zero_order: Fraction


def expanded(op: Operator, a: Any, R_k: Fraction, k: int, v: dict[tuple[int, int], Fraction], t: Fraction) -> Expanded:
    """At a~_j = a_j - t v_jk: residual sum_j a~_j w_jk + b_k, terms (a_j - a~_j) w_jk c, zero order residual c."""
    a = vector(a, op.inputs)
    c = R_k / forward(op, a)[k]
    point, first, residual = {}, {}, op.b[k]
    for (j, unit), w in op.w.items():
        if unit == k:
            point[j] = a[j] - t * v[j, k]
            first[j] = (a[j] - point[j]) * w * c
            residual += point[j] * w
    return Expanded(point, residual, first, residual * c)
