"""Single layers of the conformance vectors by the literal loops: from the JSON and the network's file, not from the
library's propagation."""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction
from typing import Any

import by_definition as by
import numpy as np
from grid import around, each, kept, loops_ties

from lrp_ref import layers as L

Shape = tuple[int, ...]


def operator(layer: Any, shapes: list[Shape], a: list[Any]) -> by.Operator:
    """What the layer freezes to at one sample's inputs (flat, one after the other)."""
    shape = shapes[0]
    n = len(shape) - 1
    match layer:
        case L.Dense(weight=W, bias=b):
            return by.dense(W.tolist(), listed(b), shape[:-1])
        case L.Conv(weight=K, bias=b):
            options = layer.stride, layer.padding, layer.dilation, layer.groups
            return by.conv(K.tolist(), flat(b), shape, *options)
        case L.ConvTranspose(weight=K, bias=b):
            options = layer.stride, layer.padding, layer.dilation, layer.groups, layer.output_padding
            return by.conv_transpose(K.tolist(), flat(b), shape, *options)
        case L.AvgPool():
            return by.avg_pool(shape, *pooled(layer, n), layer.ceil, layer.count_include_pad)
        case L.SumPool():
            return by.sum_pool(shape, *pooled(layer, n), layer.ceil)
        case L.MaxPool():
            window = *pooled(layer, n), each(layer.dilation, n)
            if layer.frozen_as == "average":
                return by.max_pool_as_average(shape, *window, layer.ceil)
            return by.max_pool(a, shape, *window, layer.ceil, loops_ties(layer.ties))
        case L.GlobalMaxPool(frozen_as="winner"):
            return by.global_max_pool(a, shape, loops_ties(layer.ties))
        case L.GlobalAvgPool() | L.GlobalMaxPool():
            return by.global_avg_pool(shape)
        case L.AdaptiveMaxPool(frozen_as="winner"):
            return by.adaptive_max_pool(a, shape, kept(layer.size, shape), loops_ties(layer.ties))
        case L.AdaptiveAvgPool() | L.AdaptiveMaxPool():
            return by.adaptive_avg_pool(shape, kept(layer.size, shape))
        case L.BatchNorm():
            return by.batch_norm(layer.scale.tolist(), layer.shift.tolist(), shape)
        case L.Scale():
            return by.scale(layer.weight.tolist(), listed(layer.bias), shape)
        case L.Add():
            return by.add(shapes, listed(layer.constant))
        case L.Sub():
            return by.sub(shapes, listed(layer.constant))
        case L.Concat():
            return by.concat(shapes, layer.axis - 1 if layer.axis > 0 else layer.axis)
        case L.Sum():
            return by.sum_over(shape, axes(layer), layer.keepdims)
        case L.Mean():
            return by.mean_over(shape, axes(layer), layer.keepdims)
        case L.Resize():
            return resized(layer, shape)
        case L.Upsample():
            return by.upsample(shape, each(layer.factor, n))
        case L.Flatten():
            return by.flatten(shape)
        case L.Reshape():
            known = math.prod(k for k in layer.shape if k != -1)
            return by.reshape(shape, tuple(math.prod(shape) // known if k == -1 else k for k in layer.shape))
        case L.Transpose():
            return by.transpose(shape, tuple(axis - 1 for axis in layer.axes[1:]))
        case L.Squeeze():
            gone = {axis % (n + 2) - 1 for axis in ([layer.axis] if isinstance(layer.axis, int) else layer.axis)}
            return by.reshape(shape, tuple(k for i, k in enumerate(shape) if i not in gone))
        case L.Unsqueeze():
            return by.unsqueeze(shape, layer.axis % (n + 3) - 1)
        case L.Slice():
            cut = [slice(None)] * len(shape)
            cut[layer.axis % (n + 2) - 1] = slice(layer.start, layer.stop, layer.step)
            return by.slice_(shape, cut)
        case L.Pad():
            return by.pad(shape, layer.padding)
        case L.DepthToSpace():
            return by.depth_to_space(shape, layer.block, layer.mode)
        case L.SpaceToDepth():
            return by.space_to_depth(shape, layer.block, layer.mode)
        case L.Activation() | L.Identity() | L.Softmax():
            return by.identity(shape)
    raise TypeError(layer)


def listed(array: Any) -> Any:
    return None if array is None else array.tolist()


def flat(array: Any) -> Any:
    """A convolution's bias, one number a channel."""
    return None if array is None else array.reshape(-1).tolist()


def pooled(layer: Any, n: int) -> tuple[Any, Any, Any]:
    stride = layer.kernel if layer.stride is None else layer.stride
    return each(layer.kernel, n), each(stride, n), around(layer.padding, n)


def axes(layer: Any) -> list[int]:
    given = [layer.axes] if isinstance(layer.axes, int) else layer.axes
    return [axis - 1 if axis > 0 else axis for axis in given]


def resized(layer: Any, shape: Shape) -> by.Operator:
    size = shape[1:]
    if layer.size is None:
        scales = [Fraction(factor) for factor in each(layer.scale, len(size))] if isinstance(layer.scale, int) else None
        scales = scales or [Fraction(factor) for factor in layer.scale]
        sizes = [math.floor(n * factor) for n, factor in zip(size, scales, strict=True)]
        steps = [1 / factor for factor in scales]
    else:
        sizes = each(layer.size, len(size))
        steps = [Fraction(n, m) for n, m in zip(size, sizes, strict=True)]
    return by.resize(shape, sizes, steps, layer.mode, layer.coordinates, layer.rounding)


def derivative(layer: Any, shapes: list[Shape], a: list[Any]) -> by.Operator:
    """The map whose matrix is the layer's Jacobian at one sample's inputs."""
    if isinstance(layer, (L.MaxPool, L.GlobalMaxPool, L.AdaptiveMaxPool)):
        return operator(dataclasses.replace(layer, frozen_as="winner"), shapes, a)
    if not isinstance(layer, L.Activation):
        return operator(layer, shapes, a)
    (shape,) = shapes
    cells = math.prod(shape[1:])
    slopes = [slope(layer, Fraction(x), j // cells) for j, x in enumerate(a)]
    w = {(j, j): d for j, d in enumerate(slopes)}
    return by.Operator(shape, shape, w, [Fraction(0)] * len(slopes))


def slope(layer: Any, x: Fraction, channel: int) -> Fraction:
    """The derivative of an activation."""
    match layer:
        case L.ReLU():
            return Fraction(x > 0)
        case L.LeakyReLU():
            return Fraction(1) if x > 0 else Fraction(layer.slope)
        case L.PReLU():
            given = layer.slope.reshape(-1).tolist()
            return Fraction(1) if x > 0 else Fraction(given[channel % len(given)])
        case L.Clip():
            inside = (layer.low is None or x > layer.low) and (layer.high is None or x < layer.high)
            return Fraction(inside)
        case L.HardSigmoid():
            rate = Fraction(layer.slope)
            return rate if 0 < rate * x + Fraction(layer.offset) < 1 else Fraction(0)
        case L.HardSwish():
            return x / 3 + Fraction(1, 2) if -3 < x < 3 else Fraction(x >= 3)
    raise TypeError(layer)


# --- rules, as the JSON spells them


def numbers(given: Any) -> Any:
    """A parameter: the float that the number reads as, or a rational as text."""
    if isinstance(given, list):
        return [numbers(part) for part in given]
    return Fraction(given)


def bound(layer: Any, given: Any, shapes: list[Shape]) -> Any:
    """A box's bound for every input of the operator."""
    if not isinstance(given, list):
        return numbers(given)
    if isinstance(layer, (L.Add, L.Sub)):  # the branches are the channels
        branches = zip(given, shapes, strict=True)
        return [numbers(of_branch) for of_branch, shape in branches for _ in range(math.prod(shape))]
    joined = layer.join(*map(zero, shapes)).shape[1:]
    column = np.array(given).reshape((-1,) + (1,) * (len(joined) - 1))
    parts = layer.split(np.broadcast_to(column, joined)[None], [(1, *shape) for shape in shapes])
    return [Fraction(value) for part in parts for value in part.reshape(-1).tolist()]


def zero(shape: Shape) -> Any:
    return np.zeros((1, *shape))


def stabilizer(said: dict[str, Any]) -> Any:
    match said["form"]:
        case "Signed":
            return by.signed
        case "Unsigned":
            return by.unsigned
        case "AtZero":
            return by.at_zero
        case "Clipped":
            return by.clip
        case "SignedOrZero":
            return by.signed_or(numbers(said["at_zero"]))
        case "Relative":
            assert said["over"] == "sample"
            return by.relative(said["signed"], numbers(said["plus"]))
    raise ValueError(said)


FUNCTIONS = {
    "Zero": (by.zero, ()),
    "Epsilon": (by.epsilon, ()),
    "Norm": (by.norm, ()),
    "Gamma": (by.gamma, ("gamma",)),
    "GeneralizedGamma": (by.generalized_gamma, ("gamma",)),
    "ZPlus": (by.z_plus, ()),
    "ZMinus": (by.z_minus, ()),
    "AlphaBeta": (by.alpha_beta, ("alpha", "beta")),
    "Flat": (by.flat, ()),
    "WSquare": (by.w_square, ()),
    "ZBox": (by.z_box, ()),
}


def dealt(layer: Any, shapes: list[Shape], rule: dict[str, Any], samples: list[list[Any]], R: list[Any]) -> list[Any]:
    """What the rule deals out, sample by sample; the inputs of a sample flat, one after the other."""
    name = rule["rule"]
    if name == "Product":
        portion = numbers(rule["portions"])[0]
        return [product(shapes, r, portion) for r in R]
    if name == "Gradient":
        if layer.product:
            return [product_gradient(shapes, a, r) for a, r in zip(samples, R, strict=True)]
        maps = [derivative(layer, shapes, a) for a in samples]
        return [by.pass_(op, r, op.w) for op, r in zip(maps, R, strict=True)]
    maps = [operator(layer, shapes, a) for a in samples]
    if name == "Pass":
        shared = getattr(layer, "ties", None) == "shared"
        return [by.pass_(op, r, op.w if shared else None) for op, r in zip(maps, R, strict=True)]
    function, keys = FUNCTIONS[name]
    parameters = [numbers(rule[key]) for key in keys]
    if name == "ZBox":
        parameters = [bound(layer, rule[side], shapes) for side in ("low", "high")]
    options = {"epsilon": numbers(rule["epsilon"]), "bias": rule["bias"]}
    if "split" in rule:
        options["split"] = rule["split"]
    form = rule["stabilizer"]
    if form == {"form": "Relative", "over": "batch", "signed": form.get("signed"), "plus": form.get("plus")}:
        relative = {"sign": form["signed"], "plus": numbers(form["plus"])}
        return by.with_batch_rms(function, maps, samples, R, *parameters, **relative, **options)
    options["stabilizer"] = stabilizer(form)
    return [function(op, a, r, *parameters, **options) for op, a, r in zip(maps, samples, R, strict=True)]


def product(shapes: list[Shape], R: list[Any], portion: Fraction) -> by.Dealt:
    """Both factors' relevance, one after the other; nothing is absorbed."""
    R_in = [r for part in by.product_rule(shapes, R, portion) for r in part]
    nothing = [Fraction(0)] * len(R)
    return by.Dealt(R_in, {}, nothing, nothing, nothing)


def product_gradient(shapes: list[Shape], a: list[Any], R: list[Any]) -> by.Dealt:
    """v_k R_k to u and u_k R_k to v, summed where a factor is broadcast; (1 - u_k - v_k) R_k is unclaimed."""
    cut = math.prod(shapes[0])
    factors, outputs = [a[:cut], a[cut:]], by._broadcast(shapes)
    R_in = [[Fraction(0)] * len(factor) for factor in factors]
    unclaimed = []
    for index, r in zip(by.indices(outputs), R, strict=True):
        places = [by._source(index, shape) for shape in shapes]
        u, v = (Fraction(factor[place]) for factor, place in zip(factors, places, strict=True))
        R_in[0][places[0]] += v * Fraction(r)
        R_in[1][places[1]] += u * Fraction(r)
        unclaimed.append((1 - u - v) * Fraction(r))
    nothing = [Fraction(0)] * len(R)
    return by.Dealt([r for part in R_in for r in part], {}, nothing, nothing, unclaimed)
