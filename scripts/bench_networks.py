"""The networks of the benchmark as torch modules with random weights, and what the peers do with them.

The architectures are written from their papers' tables. Weights are He's from a seed; batch norms take the statistics
of one random batch, then some noise, so that activations keep a sane size in every layer; the last one of a residual
branch has a small gain. :func:`folded` puts each batch norm behind a convolution into it, its epsilon included: zennit
merges batch norms without their epsilon, and all sides are to see the same weights.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

with warnings.catch_warnings(action="ignore"):  # what an import warns of is no news of the benchmark
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError):  # built for another torch; zennit imports it, and uses none of its operators
        OPERATORS = torch.library.Library("torchvision", "DEF")
        for _name in ("nms", "qnms"):
            OPERATORS.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    from zennit import composites as zennit_composites
    from zennit import rules as zennit_rules
    from zennit.layer import Sum as ZennitSum
    from zennit.types import AvgPool as ZennitAvgPool
    from zennit.types import Linear as ZennitLinear

CLASSES = 1000
EPSILON = 0.1
"""Where a composite has epsilon everywhere: in float32 a much smaller one leaves the sides little in common."""
Call = Callable[[], Any]


# --- parts ----------------------------------------------------------------------------------------------------------


class ConvNorm(nn.Module):
    """A convolution without bias, and its batch norm."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, gain: tuple[float, ...] = ()
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(outputs)
        self.gain = gain or (0.8, 1.2)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


class Add(nn.Module):
    """The sum of two branches, as a module so that it can be exchanged for zennit's."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b


class SummedByZennit(nn.Module):
    """The same by the module to which zennit's composites give a rule."""

    def __init__(self) -> None:
        super().__init__()
        self.sum = ZennitSum()

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.sum(torch.stack([a, b], dim=-1))


SMALL = (0.2, 0.4)
"""The gain of a residual branch's last batch norm: the sum grows slowly."""


# --- networks -------------------------------------------------------------------------------------------------------


def vgg16(size: int) -> nn.Module:
    """Simonyan and Zisserman 2015, configuration D; the first dense layer fits the image's size."""
    layers: list[nn.Module] = []
    channels = 3
    for width, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
    layers += [nn.Flatten(), nn.Linear(512 * (size // 32) ** 2, 4096), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, CLASSES))


class Bottleneck(nn.Module):
    """1x1, 3x3 with the stride, 1x1; beside it nothing, or a 1x1 with the stride."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            ConvNorm(inputs, width, 1), nn.ReLU(), ConvNorm(width, width, 3, stride), nn.ReLU(),
            ConvNorm(width, 4 * width, 1, gain=SMALL),
        )  # fmt: skip
        same = stride == 1 and inputs == 4 * width
        self.shortcut = nn.Identity() if same else ConvNorm(inputs, 4 * width, 1, stride)
        self.add, self.relu = Add(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.add(self.branch(x), self.shortcut(x)))


def resnet50(size: int) -> nn.Module:
    """He et al. 2016, with the stride in the 3x3 convolutions."""
    blocks: list[nn.Module] = [ConvNorm(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    channels = 64
    for width, count, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for i in range(count):
            blocks.append(Bottleneck(channels, width, stride if i == 0 else 1))
            channels = 4 * width
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES))


class InvertedResidual(nn.Module):
    """1x1 to more channels, depthwise, 1x1 to fewer; added to its input where it has the input's shape."""

    def __init__(self, inputs: int, outputs: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = inputs * expand
        wider = [] if expand == 1 else [ConvNorm(inputs, hidden, 1), nn.ReLU6()]
        self.add = Add() if stride == 1 and inputs == outputs else None
        self.branch = nn.Sequential(
            *wider, ConvNorm(hidden, hidden, 3, stride, groups=hidden), nn.ReLU6(),
            ConvNorm(hidden, outputs, 1, gain=SMALL if self.add else ()),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.branch(x) if self.add is None else self.add(x, self.branch(x))


def mobilenet_v2(size: int) -> nn.Module:
    """Sandler et al. 2018."""
    blocks: list[nn.Module] = [ConvNorm(3, 32, 3, 2), nn.ReLU6()]
    channels = 32
    stages = (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)
    for expand, width, count, stride in stages:
        for i in range(count):
            blocks.append(InvertedResidual(channels, width, stride if i == 0 else 1, expand))
            channels = width
    blocks += [ConvNorm(channels, 1280, 1), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*blocks, nn.Linear(1280, CLASSES))


class Fire(nn.Module):
    """1x1 to few channels, then 1x1 and 3x3 side by side."""

    def __init__(self, inputs: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Sequential(nn.Conv2d(inputs, squeezed, 1), nn.ReLU())
        self.one = nn.Sequential(nn.Conv2d(squeezed, expanded, 1), nn.ReLU())
        self.three = nn.Sequential(nn.Conv2d(squeezed, expanded, 3, padding=1), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze(x)
        return torch.cat([self.one(x), self.three(x)], 1)


def squeezenet(size: int) -> nn.Module:
    """Iandola et al. 2016, version 1.0."""
    layers: list[nn.Module] = [nn.Conv2d(3, 96, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True)]
    channels = 96
    for squeezed, expanded, pooled in (
        (16, 64, False), (16, 64, False), (32, 128, True), (32, 128, False),
        (48, 192, False), (48, 192, False), (64, 256, True), (64, 256, False),
    ):  # fmt: skip
        layers.append(Fire(channels, squeezed, expanded))
        channels = 2 * expanded
        if pooled:
            layers.append(nn.MaxPool2d(3, 2, ceil_mode=True))
    return nn.Sequential(*layers, nn.Conv2d(channels, CLASSES, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


class DenseLayer(nn.Module):
    """Norm, 1x1, norm, 3x3; its output behind its input."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.BatchNorm2d(inputs), nn.ReLU(), ConvNorm(inputs, 4 * growth, 1), nn.ReLU(),
            nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.branch(x)], 1)


def densenet121(size: int) -> nn.Module:
    """Huang et al. 2017; the batch norms behind concatenations cannot be folded."""
    layers: list[nn.Module] = [ConvNorm(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    channels = 64
    for i, count in enumerate((6, 12, 24, 16)):
        for _ in range(count):
            layers.append(DenseLayer(channels, 32))
            channels += 32
        layers += [nn.BatchNorm2d(channels), nn.ReLU()]
        if i < 3:
            layers += [nn.Conv2d(channels, channels // 2, 1, bias=False), nn.AvgPool2d(2)]
            channels //= 2
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES))


class SqueezeExcite(nn.Module):
    """Each channel times a gate that is computed from the channels' means."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, squeezed, 1), nn.SiLU(),
            nn.Conv2d(squeezed, channels, 1), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)


class MBConv(nn.Module):
    """An inverted residual with SiLU and squeeze-excite."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = inputs * expand
        wider = [] if expand == 1 else [ConvNorm(inputs, hidden, 1), nn.SiLU()]
        self.add = Add() if stride == 1 and inputs == outputs else None
        self.branch = nn.Sequential(
            *wider, ConvNorm(hidden, hidden, kernel, stride, groups=hidden), nn.SiLU(),
            SqueezeExcite(hidden, max(1, inputs // 4)), ConvNorm(hidden, outputs, 1, gain=SMALL if self.add else ()),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.branch(x) if self.add is None else self.add(self.branch(x), x)


def efficientnet_b0(size: int) -> nn.Module:
    """Tan and Le 2019."""
    blocks: list[nn.Module] = [ConvNorm(3, 32, 3, 2), nn.SiLU()]
    channels = 32
    for expand, width, count, stride, kernel in (
        (1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3),
        (6, 112, 3, 1, 5), (6, 192, 4, 2, 5), (6, 320, 1, 1, 3),
    ):  # fmt: skip
        for i in range(count):
            blocks.append(MBConv(channels, width, kernel, stride if i == 0 else 1, expand))
            channels = width
    blocks += [ConvNorm(channels, 1280, 1), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*blocks, nn.Linear(1280, CLASSES))


def mlp(size: int) -> nn.Module:
    """784 - 3 x 1024 - 10, whatever the size of images."""
    layers: list[nn.Module] = []
    for inputs in (784, 1024, 1024):
        layers += [nn.Linear(inputs, 1024), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(1024, 10))


NETWORKS: Mapping[str, Callable[[int], nn.Module]] = {
    "vgg16": vgg16,
    "resnet50": resnet50,
    "mobilenet": mobilenet_v2,
    "squeezenet": squeezenet,
    "densenet121": densenet121,
    "efficientnet": efficientnet_b0,
    "mlp": mlp,
}


def network(name: str, size: int, seed: int = 0) -> nn.Module:
    """The named network for images of `size` x `size`, batch norms folded, ready to be run and not to be trained."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(like: Tensor, least: float, most: float) -> Tensor:
        return torch.rand(like.shape, generator=generator) * (most - least) + least

    model = NETWORKS[name](size)
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            fan_in = module.weight[0].numel()
            module.weight.data = torch.randn(module.weight.shape, generator=generator) * (2 / fan_in) ** 0.5
            if module.bias is not None:
                module.bias.data = torch.randn(module.bias.shape, generator=generator) * 0.05
        elif isinstance(module, nn.BatchNorm2d):
            module.weight.data, module.bias.data = uniform(module.weight, 0.8, 1.2), uniform(module.bias, -0.1, 0.1)
            module.momentum = 1.0  # the statistics of the one batch below
    for module in model.modules():
        if isinstance(module, ConvNorm):
            module.norm.weight.data = uniform(module.norm.weight, *module.gain)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    if norms:
        with torch.no_grad():
            model.train()(torch.rand((4, 3, 64, 64), generator=generator))
        for norm in norms:
            norm.running_var *= uniform(norm.running_var, 0.8, 1.2)
    return folded(model.eval()).requires_grad_(False)


def folded(model: nn.Module) -> nn.Module:
    """The model with each :class:`ConvNorm`'s batch norm in its convolution, epsilon included."""
    for module in model.modules():
        if isinstance(module, ConvNorm):
            conv, norm = module.conv, module.norm
            gain = norm.weight.data / (norm.running_var + norm.eps).sqrt()
            conv.weight.data = conv.weight.data * gain[:, None, None, None]
            conv.bias = nn.Parameter(norm.bias.data - norm.running_mean * gain)
            module.norm = nn.Identity()
    return model


# --- peers ----------------------------------------------------------------------------------------------------------


def summed_by_zennit(model: nn.Module) -> nn.Module:
    """A copy that shares the weights, in which sums have a module that zennit knows."""
    model = copy.deepcopy(model, {id(parameter): parameter for parameter in model.parameters()})
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, Add):
                setattr(module, name, SummedByZennit())
    return model


def zennit_composite(name: str, x: Tensor) -> Any:
    """zennit's composite of the benchmark's name for it; activations pass relevance on in all."""
    if name == "egb":
        low, high = torch.zeros_like(x), torch.ones_like(x)
        return zennit_composites.EpsilonGammaBox(low=low, high=high)
    if name == "epf":
        return zennit_composites.EpsilonPlusFlat()
    if name == "ab":
        return zennit_composites.EpsilonAlpha2Beta1()
    if name == "zplus":
        rule = zennit_rules.ZPlus(stabilizer=1e-6)
        return zennit_composites.LayerMapComposite([(ZennitLinear, rule), *zennit_composites.layer_map_base()])
    if name != "epsilon":
        raise ValueError(f"no composite {name!r}")
    cases = [
        (ZennitLinear, zennit_rules.Epsilon(epsilon=EPSILON)),
        ((ZennitSum, ZennitAvgPool), zennit_rules.Norm(stabilizer=EPSILON)),
    ]
    return zennit_composites.LayerMapComposite([*cases, *zennit_composites.layer_map_base()])


def zennit_call(model: nn.Module, x: np.ndarray, name: str, target: int) -> Call:
    """One explanation by zennit: the composite's hooks, a forward pass, a backward pass."""
    known, image = summed_by_zennit(model), torch.from_numpy(x)
    composite = zennit_composite(name, image)

    def call() -> np.ndarray:
        leaf = image.clone().requires_grad_(True)
        with composite.context(known) as hooked:
            output = hooked(leaf)
            start = torch.zeros_like(output)
            start[:, target] = output[:, target].detach()
            return torch.autograd.grad(output, leaf, start)[0].numpy()

    return call


def captum_call(model: nn.Module, x: np.ndarray, target: int) -> Call:
    """One explanation of a chain by captum's LRP with epsilon 0.1 everywhere."""
    from captum.attr import LRP
    from captum.attr._utils.lrp_rules import EpsilonRule

    known, image = copy.deepcopy(model, {id(p): p for p in model.parameters()}), torch.from_numpy(x)

    def call() -> np.ndarray:
        for module in known.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear, nn.Flatten)):
                module.rule = EpsilonRule(epsilon=EPSILON)  # captum takes the rules off again
        return LRP(known).attribute(image.clone(), target=target).detach().numpy()

    return call


def forward_call(model: nn.Module, x: np.ndarray) -> Call:
    """torch's forward pass alone."""
    image = torch.from_numpy(x)

    def call() -> Tensor:
        with torch.no_grad():
            return model(image)

    return call


def gradient_call(model: nn.Module, x: np.ndarray, target: int) -> Call:
    """torch's gradient of one logit by the input."""
    image = torch.from_numpy(x)

    def call() -> Tensor:
        leaf = image.clone().requires_grad_(True)
        return torch.autograd.grad(model(leaf)[:, target].sum(), leaf)[0]

    return call
