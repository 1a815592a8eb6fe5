"""Random networks of torch, and what zennit or captum is asked to do at each of their modules: all from one seed."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

import lrp_ref as lrp

with warnings.catch_warnings(action="ignore"):  # what an import warns of is no test's failure
    try:
        import torchvision  # noqa: F401
    except RuntimeError:  # compiled for another build of torch; zennit imports it, and uses none of its operators
        OPERATORS = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            OPERATORS.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    from captum.attr._utils.custom_modules import Addition_Module
    from zennit import composites as zennit_composites
    from zennit import rules as zennit_rules
    from zennit.canonizers import SequentialMergeBatchNorm
    from zennit.core import Composite, Stabilizer
    from zennit.layer import Sum

FORMS: Mapping[str, tuple[Mapping[str, Any], Any]] = {
    "signed": ({}, lrp.Signed()),
    "clip": ({"clip": True}, lrp.Clipped()),
    "norm_scale": ({"norm_scale": True}, lrp.Relative(over="sample")),
    "norm_scale of channels": ({"norm_scale": True, "dim": (1,)}, lrp.Relative(over=(1,))),
}
"""Stabilizers: the arguments of zennit's, and ours. Its clip with norm_scale has no value here."""

LINEAR = (nn.Linear, *(getattr(nn, f"Conv{way}{d}d") for way in ("", "Transpose") for d in (1, 2, 3)))
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
ACTIVATIONS = (nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.ELU, nn.GELU, nn.Softplus, nn.Sigmoid, nn.SiLU)
MAXIMA = tuple(getattr(nn, f"{kind}MaxPool{d}d") for kind in ("", "Adaptive") for d in (1, 2, 3))
COMPOSITES = {
    "EpsilonPlus": lrp.presets.epsilon_plus,
    "EpsilonPlusFlat": lrp.presets.epsilon_plus_flat,
    "EpsilonAlpha2Beta1": lrp.presets.epsilon_alpha2_beta1,
    "EpsilonAlpha2Beta1Flat": lrp.presets.epsilon_alpha2_beta1_flat,
    "EpsilonGammaBox": lrp.presets.epsilon_gamma_box,
    "ExcitationBackprop": lrp.presets.excitation_backprop,
}
"""zennit's name: ours."""


class Residual(nn.Module):
    """A branch added to its input, or to another branch, by a module."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module | None, total: nn.Module) -> None:
        super().__init__()
        self.branch, self.shortcut, self.total = branch, shortcut, total

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = self.branch(x), x if self.shortcut is None else self.shortcut(x)
        if isinstance(self.total, Sum):  # which sums over the last axis
            return self.total(torch.cat([part.unsqueeze(-1) for part in parts], -1))
        return self.total(*parts)


class Branches(nn.Module):
    """Branches side by side, with their input if it is kept."""

    def __init__(self, branches: list[nn.Module], keep: bool) -> None:
        super().__init__()
        self.branches, self.keep = nn.ModuleList(branches), keep

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([*([x] if self.keep else []), *(branch(x) for branch in self.branches)], 1)


class Flattened(nn.Module):
    """Flatten that is no module, which captum would want a rule for, and what comes behind."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.flatten(x, 1))


@dataclass
class Draw:
    """A network, its input, and what the peer is asked for."""

    peer: str
    net: nn.Module
    x: torch.Tensor
    R: Any
    """Relevance at the output; for captum, which starts from a logit, the indices of one for each sample."""
    asked: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """By module; empty under a composite."""
    composite: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    merge: bool = False
    """Whether zennit merges batch norms."""
    plus: float = 0.0
    """An absolute part of stabilizers that have none: with norm_scale."""

    def leaves(self) -> dict[str, nn.Module]:
        """The modules that have rules."""
        return {name: module for name, module in self.net.named_modules() if not list(module.children())}

    def said(self) -> str:
        """What the peer is asked for, line by line."""
        asked = self.asked or {self.composite: self.options}
        return "\n".join(f"{name}: {rule}" for name, rule in ({"merge": self.merge} | asked).items())


def passed(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """What comes out, without gradients."""
    with torch.no_grad():
        return module(x)


@dataclass
class Pen:
    """Draws, so that every module takes the output of the one before."""

    peer: str
    rng: np.random.Generator

    def one(self, *options: Any) -> Any:
        return options[self.rng.integers(len(options))]

    def number(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def chance(self, p: float) -> bool:
        return bool(self.rng.random() < p)

    # --- modules

    def made(self, module: nn.Module) -> nn.Module:
        """The module with random parameters and statistics."""
        for name, value in [*module.named_parameters(), *module.named_buffers()]:
            if not value.is_floating_point():
                continue
            if name.endswith("running_var"):
                new = self.rng.uniform(0.5, 2, value.shape)
            else:
                fan_in = np.prod(value.shape[1:]) if value.ndim > 1 else 2
                new = self.rng.normal(0, 1 / np.sqrt(fan_in), value.shape)
            value.data = torch.from_numpy(new)
        return module.double().eval()

    def linear(self, x: torch.Tensor, outputs: int | None = None, same: bool = False) -> nn.Module:
        """Linear or convolution; the `same` keeps spatial sizes."""
        bias, inputs = self.chance(0.8), x.shape[1]
        if x.ndim == 2:
            return self.made(nn.Linear(inputs, outputs or self.number(2, 8), bias=bias))
        d = x.ndim - 2
        groups = self.one(1, 1, *(g for g in (2, 3, inputs) if inputs % g == 0 and (outputs or 0) % g == 0))
        outputs = outputs or groups * self.number(1, 3)
        if same:
            kernel = self.one(1, 3)
            options = {"padding": kernel // 2, "groups": groups, "bias": bias}
            return self.made(getattr(nn, f"Conv{d}d")(inputs, outputs, kernel, **options))
        padding = tuple(self.number(0, 2) for _ in range(d))
        stride = tuple(self.number(1, 2) for _ in range(d))
        dilation = tuple(self.number(1, 2) for _ in range(d))
        if self.chance(0.2) and max(x.shape[2:]) <= 8:
            kernel = tuple(self.number(2, 3) for _ in range(d))
            extra = tuple(self.number(0, max(s, t) - 1) for s, t in zip(stride, dilation, strict=True))
            padding = tuple(p if n > 3 else 0 for p, n in zip(padding, x.shape[2:], strict=True))
            options = {"stride": stride, "padding": padding, "output_padding": extra, "dilation": dilation}
            options |= {"bias": bias, "groups": groups}
            return self.made(getattr(nn, f"ConvTranspose{d}d")(inputs, outputs, kernel, **options))
        room = zip(x.shape[2:], padding, dilation, strict=True)
        kernel = tuple(min(self.number(1, 3), (n + 2 * p - 1) // t + 1) for n, p, t in room)
        options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups, "bias": bias}
        return self.made(getattr(nn, f"Conv{d}d")(inputs, outputs, kernel, **options))

    def normalized(self, x: torch.Tensor, linear: nn.Module) -> list[nn.Module]:
        """A linear module, with a batch norm behind it or not."""
        y = passed(linear, x)
        if not self.chance(0.35) or (getattr(linear, "transposed", False) and linear.groups > 1):
            return [linear]  # zennit cannot merge into groups of a transposed convolution
        norm = getattr(nn, f"BatchNorm{max(1, y.ndim - 2)}d")(y.shape[1], eps=self.one(1e-5, 1e-30, 1e-30))
        return [linear, self.made(norm)]

    def activation(self) -> nn.Module:
        if self.peer == "captum":
            return self.one(nn.ReLU, nn.ReLU, nn.ReLU, nn.Tanh)()
        return nn.ReLU() if self.chance(0.7) else self.one(*ACTIVATIONS)()

    def pool(self, x: torch.Tensor) -> nn.Module:
        d, sizes = x.ndim - 2, x.shape[2:]
        kind = self.one("Max", "Avg")
        if self.chance(0.3):
            return getattr(nn, f"Adaptive{kind}Pool{d}d")(tuple(self.number(1, n) for n in sizes))
        kernel = tuple(min(n, self.number(1, 3)) for n in sizes)
        padding = tuple(self.number(0, k // 2) for k in kernel)
        options: dict[str, Any] = {"stride": self.one(None, 1, 2), "padding": padding, "ceil_mode": self.chance(0.3)}
        if kind == "Avg":
            options["count_include_pad"] = self.chance(0.5)
        else:
            room = zip(sizes, padding, kernel, strict=True)
            options["dilation"] = tuple(self.number(1, 2) if n + 2 * p >= 2 * k - 1 else 1 for n, p, k in room)
        if options["ceil_mode"] and kind == "Max":
            options |= {"padding": 0, "dilation": 1}  # a window wholly in the padding has no maximum
        return getattr(nn, f"{kind}Pool{d}d")(kernel, **options)

    def block(self, x: torch.Tensor) -> nn.Module:
        """One stage of a network."""
        kind = self.one("plain", "plain", "residual", "branches", *(["pool"] * 2 if x.ndim > 2 else []))
        if kind == "pool":
            return self.pool(x)
        if kind == "plain":
            return nn.Sequential(*self.normalized(x, self.linear(x)), self.activation())
        branches = [self.linear(x, x.shape[1], same=True) for _ in range(2)]
        if kind == "residual":
            branch = nn.Sequential(*self.normalized(x, branches[0]), *([self.activation()] if self.chance(0.5) else []))
            shortcut = nn.Sequential(*self.normalized(x, branches[1])) if self.chance(0.4) else None
            total = Addition_Module() if self.peer == "captum" else Sum()
            return nn.Sequential(Residual(branch, shortcut, total), *([self.activation()] if self.chance(0.6) else []))
        made = [nn.Sequential(branch, *([self.activation()] if self.chance(0.7) else [])) for branch in branches]
        return Branches(made, keep=self.peer == "zennit" and self.chance(0.4))

    def network(self) -> tuple[nn.Module, torch.Tensor]:
        """A network and its input."""
        d = self.one(0, 1, 1, 2, 2, 2, 3)
        sizes = [self.number(4, 10)] if d == 0 else [self.number(1, 3), *(self.number(5, 9 - d) for _ in range(d))]
        x = self.rng.normal(size=(self.number(1, 4), *sizes))
        if self.chance(0.3):
            x = abs(x) if self.chance(0.5) else np.maximum(x, 0)
        x = torch.from_numpy(x)
        layers = [nn.Sequential(*self.normalized(x, self.linear(x)), self.activation())]
        y = passed(layers[0], x)
        for _ in range(self.number(1, 3)):
            layers.append(self.block(y))
            y = passed(layers[-1], y)
        if d == 0 or self.chance(0.8):
            flat = y.flatten(1)
            head: list[nn.Module] = []
            if self.chance(0.4):
                head = [self.linear(flat), self.activation()]
                flat = passed(nn.Sequential(*head), flat)
            head.append(self.linear(flat, self.number(2, 5)))
            if d == 0:
                layers += head
            elif self.peer == "captum":
                layers.append(Flattened(nn.Sequential(*head)))
            else:
                layers += [nn.Flatten(), *head]
        return nn.Sequential(*layers), x

    # --- rules

    def stabilizer(self) -> dict[str, Any]:
        how = self.one("signed", "signed", *FORMS)
        return {"stabilizer": self.one(1e-2, 0.25) if how != "signed" else self.one(1e-9, 1e-6, 1e-3, 0.25), "how": how}

    def zennit(self, module: nn.Module, x: torch.Tensor, merge: bool) -> dict[str, Any]:
        """What zennit is asked to do at a module, which has the input x."""
        asked: dict[str, Any] = {"module": type(module).__name__} | self.stabilizer()
        if isinstance(module, LINEAR):
            names = ("Epsilon", "Gamma", "ZPlus", "AlphaBeta", "ZBox", "WSquare", "Flat", "Norm")
            name = self.one(*names, *names, "none")
            asked |= {"zero_params": self.one(None, "bias")} if name not in ("Norm", "none") else {}
        elif isinstance(module, ACTIVATIONS):
            name = self.one("Pass", "Pass", "none")
        elif isinstance(module, NORMS):
            name = "Pass" if merge else self.one("Pass", "none", "Norm", "Epsilon")
        elif isinstance(module, MAXIMA):
            name = self.one("none", "none", "Norm")
        else:
            name = "none" if isinstance(module, nn.Flatten) else self.one("Norm", "Epsilon", "none")
        match name:
            case "Epsilon":
                asked["epsilon"] = asked.pop("stabilizer")
            case "Gamma":
                asked["gamma"] = self.one(0.0, 0.25, 1.0, 10.0)
            case "AlphaBeta":
                asked |= {"alpha": (alpha := self.one(1.0, 1.5, 2.0, 3.0)), "beta": alpha - 1}
            case "ZBox":
                asked |= dict(zip(("low", "high"), self.box(x), strict=True))
            case "Pass" | "none":
                del asked["how"], asked["stabilizer"]
        return asked | {"rule": name}

    def box(self, x: torch.Tensor) -> tuple[Any, Any]:
        """Bounds of x: numbers, one a channel, or one an element."""
        keep = {"number": (), "channel": (1,), "element": range(1, x.ndim)}[self.one("number", "channel", "element")]
        over = tuple(axis for axis in range(x.ndim) if axis not in keep)
        low, high = x.numpy().min(over, keepdims=True) - 0.5, x.numpy().max(over, keepdims=True) + 0.5
        if not keep:
            return low.item(), high.item()
        return (low[0].tolist(), high[0].tolist()) if len(keep) > 1 else ({"tensor": low}, {"tensor": high})

    def captum(self, module: nn.Module, x: torch.Tensor, merge: bool) -> dict[str, Any]:
        """What captum is asked to do at a module; activations have no rule."""
        asked: dict[str, Any] = {"module": type(module).__name__, "rule": "EpsilonRule", "stability_factor": 1e-9}
        if isinstance(module, (nn.ReLU, nn.Tanh)):
            return {"module": asked["module"], "rule": "none"}
        if isinstance(module, LINEAR):
            asked["rule"] = self.one("EpsilonRule", "GammaRule", "Alpha1_Beta0_Rule")
            if asked["rule"] != "EpsilonRule":
                asked["set_bias_to_zero"] = self.chance(0.5)
        if isinstance(module, NORMS) and self.chance(0.5):
            asked["rule"] = "IdentityRule"
        if asked["rule"] == "EpsilonRule":
            asked["stability_factor"] = self.one(1e-9, 1e-6, 1e-2)
        if asked["rule"] == "GammaRule":
            asked["gamma"] = self.one(0.0, 0.25, 1.0, 10.0)
        return asked


def draw(peer: str, seed: int) -> Draw:
    """What a seed gives."""
    pen = Pen(peer, np.random.default_rng([seed, *peer.encode()]))
    net, x = pen.network()
    leaves = {name: module for name, module in net.named_modules() if not list(module.children())}
    inputs: dict[str, torch.Tensor] = {}
    handles = [
        module.register_forward_pre_hook(lambda _, args, name=name: inputs.__setitem__(name, args[0]))
        for name, module in leaves.items()
    ]
    y = passed(net, x)
    for handle in handles:
        handle.remove()
    merge = peer == "zennit" and pen.chance(0.5) and any(isinstance(module, NORMS) for module in leaves.values())
    if peer == "captum":
        places = [[pen.number(0, n - 1) for n in y.shape[1:]] for _ in x]
        R: Any = [tuple(place) if y.ndim > 2 else place[0] for place in places]
    else:
        R = torch.from_numpy(pen.rng.normal(size=y.shape))
        greatest = R.amax(tuple(range(1, R.ndim)), keepdim=True)
        R = pen.one(R, R, y, y * (greatest == R))
    made = Draw(peer, net, x, R, merge=merge)
    if peer == "zennit" and pen.chance(0.4):
        made.composite = pen.one(*COMPOSITES)
        if made.composite == "EpsilonGammaBox":
            low, high = pen.box(x)
            made.options = {"low": low, "high": high, "gamma": pen.one(0.25, 0.5)}
    else:
        ask = pen.captum if peer == "captum" else pen.zennit
        made.asked = {name: ask(module, inputs[name], merge) for name, module in leaves.items()}
    return made


# --- what zennit is given -------------------------------------------------------------------------------------------


def tensor(bound: Any) -> Any:
    """A bound of a box as zennit takes it."""
    if isinstance(bound, Mapping):
        return torch.from_numpy(bound["tensor"])
    return torch.tensor(bound, dtype=torch.float64)[None] if isinstance(bound, list) else bound


def hook(asked: Mapping[str, Any], plus: float) -> Any:
    """zennit's rule as it was asked for; None for none."""
    if asked["rule"] == "none":
        return None
    names = ("gamma", "alpha", "beta", "zero_params", "low", "high")
    given = {name: tensor(asked[name]) if name in ("low", "high") else asked[name] for name in names if name in asked}
    for name in {"epsilon", "stabilizer"} & set(asked):
        options = FORMS[asked["how"]][0]
        form = Stabilizer(asked[name], **options) if options else asked[name]
        given[name] = raised(form, plus) if plus and "norm_scale" in options else form
    return getattr(zennit_rules, asked["rule"])(**given)


def raised(form: Stabilizer, plus: float) -> Callable[[torch.Tensor], torch.Tensor]:
    """What a stabilizer makes of denominators, further from 0 by `plus`."""
    return lambda z: form(z) + torch.where(z < 0, -plus, plus)


def stabilizer(asked: Mapping[str, Any], plus: float) -> Any:
    """Ours."""
    form = FORMS[asked["how"]][1]
    return dataclasses.replace(form, plus=plus) if isinstance(form, lrp.Relative) else form


def composite(made: Draw) -> Composite:
    """zennit's composite: one of its own, or the rules by name."""
    canonizers = [SequentialMergeBatchNorm()] if made.merge else []
    if made.composite:
        options = {name: tensor(value) for name, value in made.options.items()}
        return getattr(zennit_composites, made.composite)(**options, canonizers=canonizers)
    hooks = {name: hook(asked, made.plus) for name, asked in made.asked.items()}
    return Composite(lambda ctx, name, module: hooks.get(name), canonizers=canonizers)
