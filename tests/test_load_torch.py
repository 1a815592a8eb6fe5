"""Modules of torch as graphs, against torch's own forward pass."""

import copy
import functools
import warnings

import numpy as np
import pytest

import lrp_ref as lrp
from lrp_ref import layers
from lrp_ref.loaders import torch as loader
from lrp_ref.loaders.torch import from_torch

pytestmark = pytest.mark.torch
with warnings.catch_warnings(action="ignore"):  # what an import warns of is no test's failure
    torch = pytest.importorskip("torch", reason="needs torch")
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

BOUND = {torch.float64: 1e-12, torch.float32: 1e-5}


class Of(nn.Module):
    """A module that is one function of its inputs, and of parameters if it names them."""

    def __init__(self, function, **parameters):
        super().__init__()
        self.function = function
        for name, value in parameters.items():
            setattr(self, name, value)

    def forward(self, *inputs):
        own = {**self._parameters, **self._modules}
        return self.function(*inputs, **own)


def seeded(module, dtype=torch.float64):
    """The module with random parameters and statistics, evaluated."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, value in [*module.named_parameters(), *module.named_buffers()]:
            if value.is_floating_point() and value.ndim:
                value.uniform_(0.5, 1.5) if name.endswith("var") else value.normal_(0, 0.5)
    return module.to(dtype).eval()


def numbers(*shapes, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes)


def same(module, *inputs, canonize=False):
    """The graph, whose outputs are the module's."""
    example = inputs if len(inputs) > 1 else inputs[0]
    graph = from_torch(module, example, canonize=canonize, check=False)
    with torch.no_grad():
        theirs = module(*(x.clone() for x in inputs))
    theirs = theirs if isinstance(theirs, tuple) else (theirs,)
    values = graph.forward({name: x.numpy() for name, x in zip(graph.inputs, inputs, strict=True)})
    for name, expected in zip(graph.outputs, theirs, strict=True):
        expected = expected.numpy()
        assert values[name].shape == expected.shape
        assert values[name].dtype == expected.dtype
        assert abs(values[name] - expected).max() <= BOUND[inputs[0].dtype] * abs(expected).max()
    return graph


def kinds(graph):
    return [node.kind for node in graph.nodes]


# --- networks --------------------------------------------------------------------------------------------------------


def conv_bn(inputs, outputs, kernel, act=nn.ReLU, **options):
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, bias=False, **options), nn.BatchNorm2d(outputs), act())


class VGG(nn.Module):
    def __init__(self):
        super().__init__()
        relu = functools.partial(nn.ReLU, inplace=True)
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), relu(), nn.Conv2d(4, 4, 3, padding=1), relu())
        self.features.extend([nn.MaxPool2d(2, 2), nn.Conv2d(4, 6, 3, padding=1), relu(), nn.MaxPool2d(2, 2)])
        self.avgpool = nn.AdaptiveAvgPool2d((3, 3))
        self.classifier = nn.Sequential(nn.Linear(54, 8), relu(), nn.Dropout(), nn.Linear(8, 5))

    def forward(self, x):
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


class BasicBlock(nn.Module):
    def __init__(self, inputs, outputs, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride > 1:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        identity = x if self.downsample is None else self.downsample(x)
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += identity
        return self.relu(out)


class ResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 7, 2, 3, bias=False), nn.BatchNorm2d(4)
        self.relu, self.maxpool = nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(BasicBlock(4, 4), BasicBlock(4, 4))
        self.layer2 = nn.Sequential(BasicBlock(4, 8, 2), BasicBlock(8, 8))
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(8, 5)

    def forward(self, x):
        x = self.layer2(self.layer1(self.maxpool(self.relu(self.bn1(self.conv1(x))))))
        return self.fc(self.avgpool(x).flatten(1))


class DenseNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.dense = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(n), nn.ReLU(), nn.Conv2d(n, 3, 3, padding=1)) for n in (4, 7, 10)
        )
        self.transition = nn.Sequential(nn.BatchNorm2d(13), nn.ReLU(), nn.Conv2d(13, 6, 1), nn.AvgPool2d(2, 2))
        self.norm, self.classifier = nn.BatchNorm2d(6), nn.Linear(6, 5)

    def forward(self, x):
        x = self.stem(x)
        for block in self.dense:
            x = torch.cat([x, block(x)], 1)
        x = F.relu(self.norm(self.transition(x)), inplace=True)
        return self.classifier(torch.flatten(F.adaptive_avg_pool2d(x, (1, 1)), 1))


class Inception(nn.Module):
    def __init__(self):
        super().__init__()
        self.branch1 = conv_bn(3, 2, 1)
        self.branch2 = nn.Sequential(
            conv_bn(3, 2, 1), conv_bn(2, 3, (1, 3), padding=(0, 1)), conv_bn(3, 3, (3, 1), padding=(1, 0))
        )
        self.branch3 = nn.Sequential(nn.MaxPool2d(3, 1, 1, ceil_mode=True), conv_bn(3, 2, 1))
        self.fc = nn.Linear(10, 5)

    def forward(self, x):
        pooled = F.avg_pool2d(x, kernel_size=3, stride=1, padding=1)
        x = torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), pooled], dim=1)
        return self.fc(x.mean((2, 3)))


class InvertedResidual(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Sequential(
            conv_bn(channels, 2 * channels, 1, nn.ReLU6),
            conv_bn(2 * channels, 2 * channels, 3, nn.ReLU6, padding=1, groups=2 * channels),
            nn.Conv2d(2 * channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x):
        return x + self.conv(x)


class SqueezeExcitation(nn.Module):
    def __init__(self, channels, act, gate):
        super().__init__()
        self.avgpool, self.fc1, self.activation = nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, 2, 1), act()
        self.fc2, self.scale_activation = nn.Conv2d(2, channels, 1), gate()

    def forward(self, x):
        return self.scale_activation(self.fc2(self.activation(self.fc1(self.avgpool(x))))) * x


def mobilenet_v2():
    return nn.Sequential(
        conv_bn(3, 4, 3, nn.ReLU6, stride=2),
        InvertedResidual(4),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 5),
    )


def mobilenet_v3():
    return nn.Sequential(
        *(conv_bn(3, 4, 3, nn.Hardswish, stride=2), SqueezeExcitation(4, nn.ReLU, nn.Hardsigmoid)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 6), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(6, 5)),
    )


def efficientnet():
    return nn.Sequential(
        *(
            conv_bn(3, 4, 3, nn.SiLU, stride=2),
            SqueezeExcitation(4, nn.SiLU, nn.Sigmoid),
            conv_bn(4, 5, 1, nn.SiLU),
        ),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 5)),
    )


class UNet(nn.Module):
    def __init__(self, bilinear):
        super().__init__()
        self.inc, self.down = conv_bn(3, 4, 3, padding=1), nn.Sequential(nn.MaxPool2d(2), conv_bn(4, 6, 3, padding=1))
        self.up = nn.ConvTranspose2d(6, 4, 2, stride=2)
        if bilinear:
            self.up = nn.Sequential(
                nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True), nn.Conv2d(6, 4, 1)
            )
        self.out = nn.Conv2d(8, 2, 1)

    def forward(self, x):
        skip = self.inc(x)
        x = self.up(self.down(skip))
        dy, dx = skip.shape[2] - x.shape[2], skip.shape[3] - x.shape[3]
        x = F.pad(x, [dx // 2, dx - dx // 2, dy // 2, dy - dy // 2])
        return self.out(torch.cat([skip, x], dim=1))


def one_dimensional():
    return nn.Sequential(
        *(nn.Conv1d(3, 4, 5, padding="same", dilation=2), nn.BatchNorm1d(4), nn.ELU(), nn.MaxPool1d(2)),
        *(
            nn.ConvTranspose1d(4, 3, 3, stride=2, output_padding=1),
            nn.AvgPool1d(3, 2, 1),
            nn.Flatten(),
            nn.LazyLinear(5),
        ),
    )


def three_dimensional():
    return nn.Sequential(
        *(nn.Conv3d(3, 4, 3, stride=(1, 2, 2), padding=1), nn.BatchNorm3d(4), nn.PReLU(4), nn.MaxPool3d((1, 2, 2))),
        *(nn.ConvTranspose3d(4, 2, 2, groups=2), nn.AdaptiveAvgPool3d((2, 1, 1)), nn.Flatten(), nn.Linear(4, 5)),
    )


NETWORKS = {
    "vgg": (VGG, (2, 3, 16, 16)),
    "resnet": (ResNet, (2, 3, 32, 32)),
    "densenet": (DenseNet, (2, 3, 8, 8)),
    "inception": (Inception, (2, 3, 9, 9)),
    "mobilenet v2": (mobilenet_v2, (2, 3, 12, 12)),
    "mobilenet v3": (mobilenet_v3, (2, 3, 12, 12)),
    "efficientnet": (efficientnet, (2, 3, 12, 12)),
    "u-net": (lambda: UNet(bilinear=False), (2, 3, 9, 11)),
    "bilinear u-net": (lambda: UNet(bilinear=True), (2, 3, 9, 11)),
    "1-d": (one_dimensional, (2, 3, 20)),
    "3-d": (three_dimensional, (2, 3, 4, 9, 9)),
}


@functools.cache
def network(name):
    make, shape = NETWORKS[name]
    module = make()
    module(torch.zeros(shape))
    return seeded(module), numbers(shape)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name):
    module, (x,) = network(name)
    raw = same(module, x)
    assert raw.inputs == ("input",)
    assert {node.layer.weight.dtype for node in raw.nodes if node.kind in ("Conv", "Dense")} == {np.dtype(float)}
    one = same(module, x[:1])
    assert [repr(node.layer) for node in one.nodes] == [repr(node.layer) for node in raw.nodes]


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_in_single_precision_and_canonized(name):
    module, (x,) = network(name)
    module = copy.deepcopy(module).float()
    same(module, x.float(), canonize=True)
    graph = from_torch(module, x, canonize=False)
    assert {node.layer.weight.dtype for node in graph.nodes if node.kind in ("Conv", "Dense")} == {np.dtype("float32")}


def test_names_are_the_modules_paths():
    module, (x,) = network("resnet")
    names = [node.name for node in from_torch(module, x, canonize=False).nodes]
    assert names[:4] == ["conv1", "bn1", "relu", "maxpool"]
    block = ["conv1", "bn1", "relu", "conv2", "bn2", "add", "relu_2"]
    assert names[4:11] == [f"layer1.0.{name}" for name in block]
    assert {"layer2.0.downsample.0", "layer2.0.downsample.1", "layer2.0.add", "avgpool", "flatten", "fc"} < set(names)
    assert len(names) == 4 + 4 * 7 + 2 + 3
    canonized = from_torch(module, x)
    assert not any(node.kind == "BatchNorm" for node in canonized.nodes)
    assert "bn1 folded into conv1" in canonized.notes


def test_relevance_goes_through_a_residual_network():
    module, (x,) = network("resnet")
    graph = from_torch(module, x)
    cases = [(lrp.kind(*{type(node.layer) for node in graph.nodes if not node.layer.wire}), lrp.Epsilon(epsilon=1e-6))]
    e = lrp.explain(graph, x.numpy(), lrp.Composite(cases), target=1)
    assert e.relevance.shape == tuple(x.shape)


# --- operators -------------------------------------------------------------------------------------------------------

W = nn.Parameter
IMAGE, FLAT, LINE, CUBE = (2, 4, 6, 5), (2, 6), (2, 4, 7), (2, 4, 3, 4, 5)
CASES = {  # name: (module or function, shape of the input(s), kinds of the nodes)
    "conv same, even kernel": (nn.Conv2d(4, 3, (2, 4), padding="same", dilation=(1, 2)), IMAGE, ["Conv"]),
    "conv valid": (nn.Conv2d(4, 3, 3, padding="valid", stride=2), IMAGE, ["Conv"]),
    "conv groups": (nn.Conv2d(4, 6, 3, groups=2, padding=(1, 2), dilation=(2, 1)), IMAGE, ["Conv"]),
    "functional conv": (
        Of(lambda x, w: F.conv2d(x, w, stride=2, padding=1), w=W(torch.ones(3, 4, 2, 2))),
        IMAGE,
        ["Conv"],
    ),
    "conv transpose": (
        nn.ConvTranspose2d(4, 6, (3, 2), (2, 3), (1, 0), (1, 2), groups=2, dilation=(2, 1), bias=False),
        IMAGE,
        ["ConvTranspose"],
    ),
    "linear over the last axis": (nn.Linear(5, 3, bias=False), IMAGE, ["Dense"]),
    "matmul": (Of(lambda x, w: x @ w, w=W(torch.ones(6, 3))), FLAT, ["Dense"]),
    "mm": (Of(lambda x, w: torch.mm(x, w.t()), w=W(torch.ones(3, 6))), FLAT, ["Dense"]),
    "addmm": (Of(lambda x, b, w: torch.addmm(b, x, w), w=W(torch.ones(6, 3)), b=W(torch.ones(3))), FLAT, ["Dense"]),
    "weight norm": (nn.utils.parametrizations.weight_norm(nn.Linear(6, 3)), FLAT, ["Dense"]),
    "batch norm, no affine": (nn.BatchNorm2d(4, affine=False, eps=1e-3), IMAGE, ["BatchNorm"]),
    "prelu, one slope": (nn.PReLU(), IMAGE, ["PReLU"]),
    "prelu, a slope a channel": (nn.PReLU(4), IMAGE, ["PReLU"]),
    "leaky relu": (nn.LeakyReLU(0.2, inplace=True), IMAGE, ["LeakyReLU"]),
    "rrelu": (nn.RReLU(), IMAGE, ["LeakyReLU"]),
    "elu": (nn.ELU(0.7), IMAGE, ["ELU"]),
    "selu": (nn.SELU(), IMAGE, ["SELU"]),
    "celu": (nn.CELU(0.6), IMAGE, ["CELU"]),
    "gelu": (nn.GELU(), IMAGE, ["GELU"]),
    "gelu by tanh": (nn.GELU("tanh"), IMAGE, ["GELU"]),
    "silu": (nn.SiLU(), IMAGE, ["SiLU"]),
    "silu written out": (lambda x: x * torch.sigmoid(x), IMAGE, ["SiLU"]),
    "sigmoid and tanh": (lambda x: torch.tanh(torch.sigmoid(x)), IMAGE, ["Sigmoid", "Tanh"]),
    "softplus": (nn.Softplus(2.0), IMAGE, ["Softplus"]),
    "hardtanh": (nn.Hardtanh(-0.5, 0.7), IMAGE, ["Clip"]),
    "relu6": (lambda x: F.relu6(4 * x), IMAGE, ["Scale", "Clip"]),
    "clamp": (lambda x: x.clamp(-1, 0.5).clamp(min=-0.5).clamp(max=0.2), IMAGE, ["Clip"] * 3),
    "clamp_min and clamp_max": (lambda x: x.clamp_min(-0.5).clamp_max(0.2), IMAGE, ["Clip"] * 2),
    "hard swish and sigmoid": (
        lambda x: F.hardsigmoid(F.hardswish(3 * x)),
        IMAGE,
        ["Scale", "HardSwish", "HardSigmoid"],
    ),
    "threshold": (nn.Threshold(0, 0), IMAGE, ["ReLU"]),
    "softmax": (nn.Softmax(1), IMAGE, ["Softmax"]),
    "max pool": (nn.MaxPool2d(3, 2, 1, dilation=2, ceil_mode=True), (2, 3, 8, 11), ["MaxPool"]),
    "max pool 3-d": (lambda x: F.max_pool3d(x, 2, ceil_mode=True), CUBE, ["MaxPool"]),
    "max pool with indices": (lambda x: F.max_pool2d(x, 2, return_indices=True)[0], IMAGE, ["MaxPool"]),
    "max pool 1-d with indices": (lambda x: F.max_pool1d(x, 2, return_indices=True)[0], LINE, ["MaxPool"]),
    "max pool 3-d with indices": (lambda x: F.max_pool3d(x, 2, return_indices=True)[0], CUBE, ["MaxPool"]),
    "avg pool": (nn.AvgPool2d(3, 2, 1, ceil_mode=True), IMAGE, ["AvgPool"]),
    "avg pool without padding": (nn.AvgPool2d((2, 3), 2, 1, count_include_pad=False), IMAGE, ["AvgPool"]),
    "avg pool 3-d": (nn.AvgPool3d(2, ceil_mode=True), CUBE, ["AvgPool"]),
    "adaptive pools": (
        lambda x: F.adaptive_max_pool2d(F.adaptive_avg_pool2d(x, (4, 3)), 2),
        IMAGE,
        ["AdaptiveAvgPool", "AdaptiveMaxPool"],
    ),
    "adaptive pools of one axis": (lambda x: F.adaptive_avg_pool2d(x, (None, 2)), IMAGE, ["AdaptiveAvgPool"]),
    "adaptive pools 1-d": (
        lambda x: F.adaptive_max_pool1d(F.adaptive_avg_pool1d(x, 4), 1),
        LINE,
        ["AdaptiveAvgPool", "GlobalMaxPool"],
    ),
    "adaptive pools 3-d": (
        lambda x: F.adaptive_avg_pool3d(F.adaptive_max_pool3d(x, 2), 1),
        CUBE,
        ["AdaptiveMaxPool", "GlobalAvgPool"],
    ),
    "add": (lambda x: torch.add(x, x.relu(), alpha=2) + 1, IMAGE, ["ReLU", "Scale", "Add", "Add"]),
    "add a constant": (Of(lambda x, w: w + x + 2 + w[0], w=W(torch.ones(4, 1, 5))), IMAGE, ["Add"] * 3),
    "add, broadcast": (lambda x: x + x.mean((2, 3), keepdim=True), IMAGE, ["Mean", "Add"]),
    "sub": (lambda x: torch.sub(x, x.relu(), alpha=3) - 2, IMAGE, ["ReLU", "Scale", "Sub", "Sub"]),
    "sub from a constant": (Of(lambda x, w: 1 - (w - x), w=W(torch.ones(4, 1, 1))), IMAGE, ["Scale"] * 2),
    "neg": (lambda x: -x, IMAGE, ["Scale"]),
    "mul by constants": (
        Of(lambda x, a, b, c: x * 2 * a * b * c, a=W(torch.ones(4, 1, 1)), b=W(torch.ones(5)), c=W(torch.ones(1))),
        IMAGE,
        ["Scale"] * 4,
    ),
    "mul by a gate": (lambda x: torch.sigmoid(x.mean((2, 3), keepdim=True)) * x, IMAGE, ["Mean", "Sigmoid", "Mul"]),
    "div": (Of(lambda x, w: x / 3 / w, w=W(torch.ones(4, 1, 1))), IMAGE, ["Scale"] * 2),
    "cat": (lambda x: torch.cat([x, x.relu(), x], -1), IMAGE, ["ReLU", "Concat"]),
    "flatten": (lambda x: x.flatten(2).flatten(1), IMAGE, ["Reshape", "Flatten"]),
    "view and reshape": (
        lambda x: x.view(x.size(0), -1).view(-1, 4, 30).reshape(2, 2, 2, 30),
        IMAGE,
        ["Flatten", "Reshape", "Reshape"],
    ),
    "unflatten": (lambda x: x.unflatten(1, (2, 2)), IMAGE, ["Reshape"]),
    "permute": (lambda x: x.permute(0, 2, 3, 1).transpose(-1, -2).movedim(1, 3), IMAGE, ["Transpose"] * 3),
    "channel shuffle": (
        lambda x: x.view(2, 2, 2, 6, 5).transpose(1, 2).contiguous().view(2, 4, 6, 5),
        IMAGE,
        ["Reshape", "Transpose", "Reshape"],
    ),
    "squeeze": (
        lambda x: x.unsqueeze(-1)[:, None].squeeze(1).squeeze(2).squeeze(-1),
        IMAGE,
        ["Unsqueeze", "Unsqueeze", "Squeeze", "Squeeze"],
    ),
    "squeeze all": (lambda x: x.mean((2, 3), keepdim=True).squeeze(), IMAGE, ["Mean", "Squeeze"]),
    "expand": (
        lambda x: x * torch.sigmoid(x).mean((2, 3), True).expand_as(x),
        IMAGE,
        ["Sigmoid", "Mean", "Upsample", "Mul"],
    ),
    "sum": (lambda x: x.sum(-1).sum((1, 2), keepdim=True), IMAGE, ["Sum"] * 2),
    "mean": (lambda x: x.mean(-1, keepdim=True).mean(1), IMAGE, ["Mean"] * 2),
    "slices": (lambda x: x[:, 1:, ::2, -3:-1], IMAGE, ["Slice"] * 3),
    "select": (lambda x: x[:, -1][..., 2], IMAGE, ["Slice", "Squeeze"] * 2),
    "narrow": (lambda x: x.narrow(1, 1, 2), IMAGE, ["Slice"]),
    "split": (lambda x: torch.cat(x.split(2, 2)[::-1], 2), (2, 3, 5), ["Slice"] * 3 + ["Concat"]),
    "split by sizes": (lambda x: x.split([1, 4], -1)[1], (2, 3, 5), ["Slice"]),
    "chunk": (lambda x: x.chunk(3, 1)[2], (2, 5), ["Slice"]),
    "unbind": (lambda x: sum(x.unbind(1)), (2, 2, 3), ["Slice", "Squeeze"] * 2 + ["Add"] * 2),
    "pad": (lambda x: F.pad(x, (1, 0, 2, 3)), IMAGE, ["Pad"]),
    "zero pad": (nn.ZeroPad2d((1, 2, 0, 3)), IMAGE, ["Pad"]),
    "nearest, whole factors": (nn.Upsample(scale_factor=(2, 3)), IMAGE, ["Upsample"]),
    "nearest, by scale": (nn.Upsample(scale_factor=1.5), IMAGE, ["Resize"]),
    "nearest, by size": (nn.Upsample(size=(7, 4)), IMAGE, ["Resize"]),
    "nearest 1-d": (nn.Upsample(scale_factor=0.5), LINE, ["Resize"]),
    "nearest 3-d": (nn.Upsample(scale_factor=2), CUBE, ["Upsample"]),
    "bilinear": (nn.Upsample(scale_factor=2, mode="bilinear"), IMAGE, ["Resize"]),
    "bilinear, by scale": (nn.Upsample(scale_factor=1.7, mode="bilinear"), IMAGE, ["Resize"]),
    "bilinear, by size": (nn.Upsample(size=(3, 9), mode="bilinear"), IMAGE, ["Resize"]),
    "bilinear, corners aligned": (nn.Upsample(size=(9, 1), mode="bilinear", align_corners=True), IMAGE, ["Resize"]),
    "linear 1-d": (nn.Upsample(scale_factor=2, mode="linear"), LINE, ["Resize"]),
    "trilinear": (nn.Upsample(size=(2, 5, 7), mode="trilinear"), CUBE, ["Resize"]),
    "pixel shuffle": (
        lambda x: F.pixel_unshuffle(F.pixel_shuffle(x, 2), 2) * 2,
        IMAGE,
        ["DepthToSpace", "SpaceToDepth", "Scale"],
    ),
    "nothing": (
        Of(lambda x, a: a(x.clone()).contiguous().detach().to(x.dtype).type_as(x) + 1, a=nn.Dropout()),
        IMAGE,
        ["Add"],
    ),
    "relu in place": (lambda x: F.relu_(x + 1) * 2, IMAGE, ["Add", "ReLU", "Scale"]),
}


@functools.cache
def case(name):
    """The graph of a case, and the operators that were read."""
    what, shape, _ = CASES[name]
    read, operators = set(), loader.OPERATORS
    spy = {key: (lambda *a, key=key, **k: read.add(key) or operators[key](*a, **k)) for key in operators}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loader, "OPERATORS", spy)
        return same(seeded(what if isinstance(what, nn.Module) else Of(what)), *numbers(shape)), read


@pytest.mark.parametrize("name", CASES)
def test_operators(name):
    graph, _ = case(name)
    assert kinds(graph) == CASES[name][2]


def test_every_operator_is_tested():
    read = set().union(*(case(name)[1] for name in CASES))
    read |= {"conv1d", "conv3d", "conv_transpose1d", "conv_transpose3d", "max_pool1d", "avg_pool1d"}  # in the networks
    assert set(loader.OPERATORS) - read <= {"_to_copy", "alias", "t"}  # in what is refused, or by the version of torch


def test_what_is_changed_in_place_is_followed():
    def forward(x):
        y = x * 2
        F.relu_(y[:, :2])
        return y + 1

    x = torch.full((2, 4), -1.0)
    with pytest.raises(lrp.UnsupportedOp, match="slice_scatter"):
        from_torch(Of(forward), x)
    graph = same(Of(lambda x: (y := x * 2, F.relu_(y), y + 1)[2]), x)
    assert kinds(graph) == ["Scale", "ReLU", "Add"]
    same(Of(lambda x: F.relu_(x) + x), x)
    from_torch(Of(lambda x: F.relu_(x) + x), x)
    assert (x == -1).all()


# --- inputs and outputs ----------------------------------------------------------------------------------------------


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(3, 4), nn.Linear(5, 4)

    def forward(self, image, tabular, scale=None):
        both = self.left(image) + self.right(tabular)
        return {"logits": both, "others": (F.relu(both), None)}


def test_several_inputs_and_outputs():
    module = seeded(TwoInputs())
    image, tabular = numbers((2, 3), (2, 5))
    for example in ((image, tabular), {"image": image, "tabular": tabular}, (image.numpy(), tabular.numpy())):
        graph = from_torch(module, example)
        assert graph.inputs == ("image", "tabular")
        assert graph.outputs == ("add", "relu")
    assert from_torch(module, {"tabular": tabular, "image": image}).forward(
        {"image": image.numpy(), "tabular": tabular.numpy()}
    )
    assert same(Of(lambda x: (x, x + 1)), image).outputs == ("identity", "add")


def test_gates_stand_second_and_other_products_are_noted():
    x, y = numbers((2, 4), (2, 4))
    for product in (
        lambda x, y: x * torch.sigmoid(y),
        lambda x, y: F.softmax(y, 1)[:, :] * x,
        lambda x, y: F.relu6(y + 3) / 6 * x,
    ):
        graph = same(Of(product).eval(), x, y)
        assert graph.nodes[-1].inputs[0] == graph.inputs[0]
        assert not graph.notes
    graph = same(Of(lambda x, y: y * x).eval(), x, y)
    assert list(graph.notes) == ["mul: of the product of inputs_1 and inputs_0 the first is taken as the signal"]
    squeeze = same(Of(lambda x: torch.sigmoid(x.mean((2, 3))).view(2, 4, 1, 1) * x), *numbers(IMAGE))
    assert squeeze.nodes[-1].inputs == ("input", "reshape")


def test_training_mode_half_precision_and_copies():
    module, (x,) = network("resnet")
    module = copy.deepcopy(module).train()
    graph = from_torch(module, x)
    assert module.training
    assert graph.notes[0] == "the module was in training mode: the graph is of a copy in evaluation mode"
    before = graph.forward(x.numpy())[graph.outputs[0]]
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    assert (graph.forward(x.numpy())[graph.outputs[0]] == before).all()

    half = seeded(nn.Linear(4, 3), torch.bfloat16)
    graph = from_torch(half, x[:, 0, 0, :4])
    assert half.weight.dtype == torch.bfloat16
    assert graph.nodes[0].layer.weight.dtype == np.float32
    assert (half.weight.float().detach().numpy() == graph.nodes[0].layer.weight.T).all()
    assert list(graph.notes) == ["parameters in torch.bfloat16 were converted to float32, their values unchanged"]
    from_torch(nn.ReLU().eval(), x.half())


def test_a_wrong_graph_is_refused(monkeypatch):
    module, (x,) = seeded(nn.Linear(4, 3)), numbers((2, 4))
    wrong = {"linear": lambda c, x, w, b: layers.Dense(w.T, b * (1 + 1e-10))}
    monkeypatch.setattr(loader, "OPERATORS", loader.OPERATORS | wrong)
    with pytest.raises(lrp.LoadError, match=r'output "linear" differs from torch\'s by \d\.?\d*e-1\d of the greatest'):
        from_torch(module, x)
    from_torch(module, x, check=False)
    monkeypatch.setattr(loader, "OPERATORS", loader.OPERATORS | {"linear": lambda c, x, w, b: layers.Dense(w.T[:, :2])})
    with pytest.raises(lrp.LoadError, match=r'output "linear" has shape \(2, 2\), in torch \(2, 3\)'):
        from_torch(module, x)


# --- refusals --------------------------------------------------------------------------------------------------------

BATCH = "axis 0 is the batch"
REFUSED = {  # name: (function or module, shape, what the message says)
    "layer norm": (nn.LayerNorm(5), IMAGE, r"aten\.layer_norm .*: no layer does this"),
    "log-softmax": (nn.LogSoftmax(1), FLAT, r"aten\.log_softmax .*return the logits"),
    "always dropout": (lambda x: F.dropout(x, 0.5, training=True), FLAT, r"pass training=self\.training"),
    "batch statistics": (nn.BatchNorm1d(6, track_running_stats=False), FLAT, "running statistics"),
    "divisor": (lambda x: F.avg_pool2d(x, 2, divisor_override=3), IMAGE, "divisor_override=3"),
    "circular": (nn.Conv2d(4, 3, 3, padding=1, padding_mode="circular"), IMAGE, "only zeros have a layer"),
    "pad with ones": (lambda x: F.pad(x, (1, 1), value=1.0), IMAGE, "only zeros have a layer"),
    "crop by padding": (lambda x: F.pad(x, (-1, 1)), IMAGE, "slice instead"),
    "flatten the batch": (lambda x: x.flatten(0, 1), IMAGE, BATCH),
    "flatten all": (lambda x: x.flatten(), IMAGE, BATCH),
    "permute the batch": (lambda x: x.permute(1, 0, 2, 3), IMAGE, BATCH),
    "transpose the batch": (lambda x: x.t(), FLAT, BATCH),
    "mean over the batch": (lambda x: x - x.mean(0, keepdim=True), FLAT, BATCH),
    "mean over everything": (lambda x: x.mean(), FLAT, BATCH),
    "softmax over the batch": (lambda x: x.softmax(0), FLAT, BATCH),
    "cat along the batch": (lambda x: torch.cat([x, x]), FLAT, BATCH),
    "one sample": (lambda x: x[:1], FLAT, BATCH),
    "first sample": (lambda x: x[0], FLAT, BATCH),
    "constant a sample": (Of(lambda x, w: x + w, w=W(torch.ones(2, 1))), FLAT, "batch axis"),
    "factor a sample": (Of(lambda x, w: x * w, w=W(torch.ones(2, 1))), FLAT, "batch axis"),
    "dynamic weights": (lambda x: F.linear(x, x), FLAT, "depend on the data"),
    "attention": (lambda x: x @ x.transpose(1, 2), LINE, "constant matrix"),
    "division": (lambda x: x / x.sum(1, keepdim=True), FLAT, "division by a constant"),
    "division of a constant": (lambda x: 1 / x, FLAT, "reciprocal"),
    "cast": (lambda x: x.float(), FLAT, "one arithmetic"),
    "cat with a constant": (Of(lambda x, w: torch.cat([x, w], 1), w=W(torch.ones(2, 1))), FLAT, "constant"),
    "gather": (lambda x: x[:, torch.tensor([1, 0])], FLAT, r"aten\.index "),
    "where": (lambda x: torch.where(x > 0, x, 2 * x), FLAT, r"aten\.(gt|where) "),
    "indices": (lambda x: F.max_pool2d(x, 2, return_indices=True)[1] * 1.0, IMAGE, "places of maxima"),
    "threshold": (nn.Threshold(1, 0), FLAT, "ReLU"),
    "rrelu": (lambda x: F.rrelu(x, training=True), FLAT, "rrelu"),
    "clamp by tensor": (Of(lambda x, w: x.clamp(min=w), w=W(torch.ones(6))), FLAT, "bounds are tensors"),
    "lstm": (Of(lambda x, lstm: lstm(x)[0], lstm=nn.LSTM(7, 3, batch_first=True)), LINE, "no layer does this|depend"),
}


MIXING = [name for name, (_, _, words) in REFUSED.items() if words == BATCH]


@pytest.mark.parametrize(("name", "batch"), [(name, 2) for name in REFUSED] + [(name, 1) for name in MIXING])
def test_refusals_say_what_where_and_what_now(name, batch):
    what, shape, words = REFUSED[name]
    module = seeded(nn.Sequential(nn.Identity(), what if isinstance(what, nn.Module) else Of(what)))
    with pytest.raises(lrp.UnsupportedOp, match=words) as refused:
        from_torch(module, numbers((batch, *shape[1:]))[0])
    assert 'in module "1' in str(refused.value)
    assert ": return " in str(refused.value).partition("in module")[2]


def test_the_line_of_the_program_is_named():
    class Net(nn.Module):
        def forward(self, x):
            return torch.erf(x)  # this line

    with pytest.raises(lrp.UnsupportedOp, match=r"test_load_torch\.py:\d+: return torch\.erf\(x\)") as refused:
        from_torch(Net(), torch.ones(2, 3))
    assert str(refused.value).startswith("aten.erf in the module's own forward (")


def test_what_is_no_network_is_refused():
    with pytest.raises(lrp.LoadError, match=r"need a torch\.nn\.Module, got a function"):
        from_torch(lambda x: x, torch.ones(2, 3))
    with pytest.raises(lrp.LoadError, match=r"example of torch\.int64 cannot be explained"):
        from_torch(nn.Linear(3, 2), torch.ones(2, 3, dtype=int))
    with pytest.raises(lrp.LoadError, match=r"torch\.export cannot trace Linear"):
        from_torch(nn.Linear(3, 2), torch.ones(2, 4))
    with pytest.raises(lrp.LoadError, match=r"torch\.export cannot trace Of .*branch on values"):
        from_torch(Of(lambda x: x if x.sum() > 0 else -x), torch.ones(2, 4))
    with pytest.raises(lrp.LoadError, match="does not depend on the input"):
        from_torch(Of(lambda x: torch.ones(2, 3)), torch.ones(2, 4))
    with pytest.raises(lrp.LoadError, match="has no axes"):
        from_torch(Of(lambda x: x + 1), torch.tensor(1.0))
