"""What other frameworks call their rules, and what they ran: the files of a case in terms of lrp_ref.

`networks(folder)` gives the networks of a case, each with what the peer did at which node and with what came out;
`nominal(peer, asked)` is the rule of lrp_ref of the same name and parameters. Where the same name means another formula
over there, the difference is no business of this translation: it is a variant, listed in known_differences.toml.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import json
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

import lrp_ref as lrp
from lrp_ref import layers as L
from lrp_ref import stabilize, theory
from lrp_ref.oracle.conform import Cannot as NoSuchValue
from lrp_ref.oracle.peers import golden
from lrp_ref.oracle.peers.golden import TO_NCHW, TO_NHWC

Asked = Mapping[str, Any]
"""A rule as the peer was asked for it: its name there ("none" for none), the kind of layer, and parameters; for a layer
without a rule whether it is a wire here."""


# --- the rules of the peers -----------------------------------------------------------------------------------------


def zennit(asked: Asked) -> lrp.Rule:
    """zennit's rules, and for modules without one the plain gradient; its Gamma is the generalized one."""
    kept = {"bias": "none"} if asked.get("zero_params") == "bias" else {}
    common = {"epsilon": asked.get("stabilizer", 0.0), **kept}
    match asked["rule"]:
        case "Epsilon":
            return lrp.Epsilon(epsilon=asked["epsilon"], **kept)
        case "Gamma":
            return lrp.GeneralizedGamma(gamma=asked["gamma"], **common)
        case "AlphaBeta":
            return lrp.AlphaBeta(alpha=asked["alpha"], beta=asked["beta"], **common)
        case "ZBox":
            return lrp.ZBox(low=_bound(asked["low"]), high=_bound(asked["high"]), **common)
        case "ZPlus" | "Flat" | "WSquare" | "Norm" as name:
            return getattr(lrp, name)(**common)
        case "Pass":
            return lrp.Pass()
        case "none":
            return gradient(asked)
    raise NoSuchValue(f"zennit: {asked}")


def _bound(value: Any) -> Any:
    """A bound of zennit's ZBox: a number, or a tensor (1, channels, 1, 1)."""
    return np.ravel(value["tensor"]).tolist() if isinstance(value, Mapping) else value


def gradient(asked: Asked) -> lrp.Rule:
    """What zennit does on a module without a rule."""
    return lrp.Gradient()


def captum(asked: Asked) -> lrp.Rule:
    """captum's rules; activations, and what is not a module, hand relevance on."""
    common = {"epsilon": asked.get("stability_factor", 0.0)} | (
        {"bias": "none"} if asked.get("set_bias_to_zero") else {}
    )
    match asked["rule"]:
        case "EpsilonRule":
            return lrp.Epsilon(**common)
        case "GammaRule":
            return lrp.Gamma(gamma=asked["gamma"], **common)
        case "Alpha1_Beta0_Rule":
            return lrp.ZPlus(**common)
        case "IdentityRule" | "none":
            return lrp.Pass()
    raise NoSuchValue(f"captum: {asked}")


def toolbox(asked: Asked) -> lrp.Rule:
    """lrp_toolbox's rules, pools included; a max pool knows of flat and ww alone, and hands on to the winner else."""
    name, parameter, kind = asked["rule"], asked.get("parameter"), asked["module"]
    if name == "none" or (kind == "MaxPool" and name in ("simple", "epsilon", "alphabeta")):
        return lrp.Pass()
    match name:
        case "simple":
            return lrp.Zero(epsilon=1e-12 if kind == "SumPool" else 1e-16)
        case "epsilon":
            return lrp.Epsilon(epsilon=parameter)
        case "alphabeta":
            return lrp.AlphaBeta(alpha=parameter, epsilon=1e-16) if parameter else lrp.ZMinus(epsilon=1e-16)
        case "flat":
            return lrp.Flat()
        case "ww":
            return lrp.WSquare()
    raise NoSuchValue(f"lrp_toolbox: {asked}")


PEERS = {
    "zennit": zennit,
    "zennit-crp": zennit,
    "captum": captum,
    "lrp_toolbox": toolbox,
    "iNNvestigate": golden.innvestigate_rule,
    "RelevancePropagation.jl": golden.julia_rule,
}
FLOAT32 = ("zennit-crp", "iNNvestigate", "RelevancePropagation.jl")
"""Peers that computed in float32."""


def nominal(peer: str, asked: Asked) -> lrp.Rule:
    """The rule of lrp_ref that has the name and the parameters of what the peer was asked for."""
    return PEERS[peer](asked)


# --- known differences ----------------------------------------------------------------------------------------------

CONSTRUCTORS = {
    **{name: getattr(lrp, name) for name in lrp.__all__},
    **{
        name: getattr(stabilize, name)
        for name in ("AtZero", "Clipped", "Relative", "Signed", "SignedOrZero", "Unsigned")
    },
    **{name: getattr(L, name) for name in L.__all__},
}


@dataclass(frozen=True)
class Variant:
    """What lrp_ref must be asked for where a peer means another formula: parameters of a rule, or of a layer."""

    peer: str
    rules: Sequence[str]
    """Its names there."""
    value: str
    """A rule or layer of lrp_ref as it is written; parameters take the place of the translation's defaults."""
    why: str
    cases: Sequence[str]
    """Those that differ without it, by name, and no others."""
    on: str = ""
    """The kind of layer there, if it is not every."""

    def fits(self, peer: str, asked: Asked) -> bool:
        """Whether this is said of what the peer was asked for."""
        return peer == self.peer and asked["rule"] in self.rules and self.on in ("", asked["module"])

    @property
    def parts(self) -> tuple[type, dict[str, Any]]:
        """The class written in `value`, and its arguments."""
        call = ast.parse(self.value, mode="eval").body
        return CONSTRUCTORS[call.func.id], {k.arg: _built(k.value) for k in call.keywords}

    @property
    def of_a_layer(self) -> bool:
        """Whether a layer is changed, and not the rule."""
        return issubclass(self.parts[0], L.Layer)

    def applied(self, rule_or_layer: Any) -> Any:
        """The value with this variant's parameters where it has its defaults; or a rule of this variant's class."""
        kind, given = self.parts
        if type(rule_or_layer) is not kind:
            return kind(**given)
        defaults = {f.name: f.default for f in dataclasses.fields(kind)}
        free = {name: value for name, value in given.items() if getattr(rule_or_layer, name) == defaults[name]}
        return dataclasses.replace(rule_or_layer, **free)


def _built(node: ast.expr) -> Any:
    if isinstance(node, ast.Call):
        return CONSTRUCTORS[node.func.id](**{k.arg: _built(k.value) for k in node.keywords})
    return ast.literal_eval(node)


@dataclass(frozen=True)
class Known:
    """known_differences.toml."""

    total: int
    excluded: Sequence[Mapping[str, Any]]
    variants: Sequence[Variant]
    beyond: Sequence[Mapping[str, Any]]

    @classmethod
    def read(cls, path: Path) -> Known:
        """The file."""
        found = tomllib.loads(path.read_text(encoding="utf-8"))
        found["variants"] = [Variant(**entry) for entry in found.pop("variant")]
        return cls(**found)

    def exclusion(self, case: str) -> str | None:
        """Why the case is not run, if it is not."""
        reasons = [entry["why"] for entry in self.excluded if any(fnmatchcase(case, p) for p in entry["cases"])]
        return reasons[0] if reasons else None


# --- the networks ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Network:
    """One explanation that a peer made."""

    peer: str
    graph: lrp.Graph
    asked: Mapping[str, Asked]
    """By node, for every node."""
    x: Any
    target: Any
    expected: Mapping[str, tuple[str, Any]]
    """What the peer computed, by its name there: the node or input here, and the relevance at its output."""
    output: Any = None
    """The peer's own forward pass."""
    sums: Mapping[str, tuple[str, Any]] = field(default_factory=dict)
    """Totals of relevance a sample, where the arrays are too large to be kept."""
    edit: Mapping[str, Any] = field(default_factory=dict)
    gradient: Callable[..., Any] | None = None
    """For analyzers that are no LRP: what of lrp_ref.theory does the same."""

    def explain(self, variants: Sequence[Variant] = (), *, x: Any = None) -> lrp.Explanation:
        """Our explanation, under the rules of the same names, or with these variants; at another x if one is given."""
        cases, layers = [], {}
        for node in self.graph.nodes:
            asked = self.asked[node.name]
            rule, layer = nominal(self.peer, asked), node.layer
            for variant in variants:
                if variant.fits(self.peer, asked):
                    if not variant.of_a_layer:
                        rule = variant.applied(rule)
                    elif isinstance(layer, variant.parts[0]):
                        layer = layers[node.name] = variant.applied(layer)
            cases.append((lrp.named(node.name), rule))
        graph = self.graph.with_layers(layers)
        x = self.x if x is None else x
        return lrp.explain(graph, x, lrp.Composite(cases), self.target, edit=self.edit)

    def used(self, variants: Sequence[Variant]) -> list[Variant]:
        """The variants that are said of something here."""
        return [v for v in variants if any(v.fits(self.peer, asked) for asked in self.asked.values())]


def networks(folder: Path) -> Iterator[Network]:
    """What the peer explained in this case."""
    case, data = about(folder), arrays(folder / "data.npz")
    peer = peer_of(case)
    match peer:
        case "zennit" | "captum":
            yield (network := _torch_network(folder, peer, case, data))
            if "R_in_exactmerge" in data:
                yield _as_shipped(network, folder.parent, {"R_in as shipped": (network.graph.inputs[0], data["R_in"])})
        case "zennit-crp":
            yield from _conditional(folder, case, data)
        case "lrp_toolbox":
            yield _toolbox_network(folder, case, data)
        case "iNNvestigate":
            yield from _innvestigate_networks(folder.name, data)
        case "RelevancePropagation.jl":
            yield of_golden(golden.julia_network(case["rule"], case["layer"], data))
        case _:
            raise NoSuchValue(f"{peer}: its cases cannot be read")


def about(folder: Path) -> Mapping[str, Any]:
    """case.json."""
    return dict(json.loads((folder / "case.json").read_text(encoding="utf-8")))


def peer_of(about: Mapping[str, Any]) -> str:
    """The framework that made the case."""
    return str(about["framework"]).split()[0]


def arrays(path: Path) -> dict[str, Any]:
    """All arrays of an npz file."""
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


# --- networks of zennit and captum


def _torch_network(folder: Path, peer: str, about: Mapping[str, Any], data: Mapping[str, Any]) -> Network:
    graph, model = read_network(folder.parent, merges=bool(about.get("canonizers")))

    def at(module: str) -> str:
        return place(graph, model, module)

    names = {node.name for node in graph.nodes}
    asked: dict[str, Asked] = {}
    for module, rule in about["rules"].items():
        for name in [at(module), *(f"{module}_{i}" for i in range(1, 5) if f"{module}_{i}" in names)]:
            node = graph[name]
            if rule["module"].startswith("BatchNorm") and node.kind != "BatchNorm":
                continue  # merged
            assert asked.setdefault(node.name, rule) == rule, f"{module} and another module are both node {node.name}"
    for node in graph.nodes:
        asked.setdefault(node.name, {"rule": "none", "module": node.kind, "wire": node.layer.wire})
    expected = {"R_in": (graph.inputs[0], data.get("R_in_exactmerge", data.get("R_in")))}
    expected |= {key: (at(key.removeprefix("R/")), R) for key, R in data.items() if key.startswith("R/")}
    kinds = {layer["name"]: layer["type"] for layer in model["layers"]}
    sums = {
        module: (behind(graph, at(module), asked), np.array(total))
        for module, total in about.get("relevance_sum_at_module_output", {}).items()
        if f"R/{module}" not in data and kinds.get(module) != "Dropout"  # which is in no ONNX file
    }
    return Network(peer, graph, asked, data["x"], data["R_out"], expected, data["y"], sums)


def behind(graph: lrp.Graph, name: str, asked: Mapping[str, Asked]) -> str:
    """Where zennit notes the relevance of a module's output: behind a ReLU that is no module, which works in place."""
    readers = [node for node in graph.nodes if graph.resolve(name) in node.inputs]
    in_place = len(readers) == 1 and readers[0].kind == "ReLU" and asked[readers[0].name]["rule"] == "none"
    return readers[0].name if in_place else name


def place(graph: lrp.Graph, model: Mapping[str, Any], module: str) -> str:
    """Where the output of a torch module is: by its tensor, else by its name; "relu#2" is call 2 of it, from 0."""
    tensor = model.get("module_to_onnx_tensor", {}).get(module)
    if tensor in graph.aliases:
        return str(tensor)
    name, _, call = module.partition("#")
    name = name if call in ("", "0") else f"{name}_{call}"
    block, _, last = name.rpartition(".")
    if last in ("sum", "canonizer_sum") and name not in {
        node.name for node in graph.nodes
    }:  # a + written in the code of the block
        return f"{block}.add" if block else "add"
    return name


@functools.cache
def read_network(folder: Path, merges: bool) -> tuple[lrp.Graph, Mapping[str, Any]]:
    """The network of a folder of cases, from ONNX or from its layers and weights, with what model.json says of it."""
    model = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    if (folder / "model.onnx").exists():
        graph = lrp.from_onnx(folder / "model.onnx", canonize=False, check=False)
        return merged(graph) if merges else graph, model
    weights = arrays(folder / "weights.npz")
    nodes, source = [], "input"
    for about in model["layers"]:
        nodes.append(lrp.Node(about["name"], torch_layer(about, weights), source))
        source = about["name"]
    return lrp.Graph(nodes, outputs=source), model


def torch_layer(about: Mapping[str, Any], weights: Mapping[str, Any]) -> L.Layer:
    """A torch module of a model without ONNX file."""
    name = about["name"]
    match about["type"]:
        case "Conv2d":
            options = {option: about[option] for option in ("stride", "padding", "dilation", "groups")}
            return L.Conv(weight=weights[f"{name}.weight"], bias=weights[f"{name}.bias"], **options)
        case "Linear":
            return L.Dense(weight=weights[f"{name}.weight"].T, bias=weights[f"{name}.bias"])
        case "AdaptiveAvgPool2d":
            return L.AdaptiveAvgPool(size=about["output_size"])
        case "AdaptiveMaxPool2d":
            return L.AdaptiveMaxPool(size=about["output_size"])
        case "ReLU":
            return L.ReLU()
        case "Flatten":
            return L.Flatten()
    raise NoSuchValue(f"torch's {about['type']}")


def merged(graph: lrp.Graph) -> lrp.Graph:
    """Batch norms merged into the linear layer that they follow; zennit leaves others, which canonize would fold."""
    linear = (L.Conv, L.ConvTranspose, L.Dense)
    follow = {node.name for node in graph.nodes if isinstance(node.layer, linear)}
    others = [node.name for node in graph.nodes if node.kind == "BatchNorm" and node.inputs[0] not in follow]
    held = dataclasses.replace(graph, outputs=(*graph.outputs, *others))  # no output of a network is folded away
    return dataclasses.replace(lrp.canonize(held, strip_output=False), outputs=graph.outputs)


def _as_shipped(network: Network, folder: Path, expected: Mapping[str, tuple[str, Any]]) -> Network:
    """The same on the network that zennit makes: it leaves merged batch norms their epsilon, 1 / sqrt(1 + epsilon)."""
    graph, model = network.graph, read_network(folder, merges=True)[1]
    epsilons = {layer["name"]: layer["eps"] for layer in model["layers"] if layer["type"].startswith("BatchNorm")}
    left = {graph.resolve(name): name for name in epsilons if name in graph.aliases}
    nodes, asked = [], dict(network.asked)
    for node in graph.nodes:
        nodes.append(lrp.Node(node.name, node.layer, *(left.get(source, source) for source in node.inputs)))
        if node.name in left:
            name = left[node.name]
            nodes.append(lrp.Node(name, L.Scale(weight=1 / np.sqrt(1 + epsilons[name])), node.name))
            asked[name] = {"rule": "Pass", "module": "BatchNorm"}
    return dataclasses.replace(
        network,
        graph=lrp.Graph(
            nodes,
            outputs=[left.get(name, name) for name in graph.outputs],
            inputs=graph.inputs,
            aliases={alias: name for alias, name in graph.aliases.items() if alias not in epsilons},
        ),
        asked=asked,
        expected=expected,
        output=None,
        sums={},
    )


# --- zennit-crp


def _conditional(folder: Path, about: Mapping[str, Any], data: Mapping[str, Any]) -> Iterator[Network]:
    """A network for each condition: relevance at the outputs of some layers is kept in some channels alone.

    Its older zennit has no rule for batch norm, so that a merged one multiplies relevance by what is left of it.
    """
    about = {**about, "canonizers": ["SequentialMergeBatchNorm"], "rules": _epsilon_plus(folder.parent)}
    exact = _torch_network(folder, "zennit-crp", about, {"x": data["x"], "R_out": None, "y": None, "R_in": None})
    base = _as_shipped(exact, folder.parent, {})
    kept = {node.name: node.layer.weight for node in base.graph.nodes if node.kind == "Scale"}
    logits = base.graph.forward(data["x"])[base.graph.outputs[0]]
    for i, condition in enumerate(about["conditions"]):
        start, masks = np.zeros_like(logits), {}
        start[:, condition["y"]] = abs(logits[:, condition["y"]])
        for module, channels in condition.items():
            if module != "y":
                masks[module] = np.zeros((1, 16, 1, 1))
                masks[module][:, channels] = 1
        expected = {
            f"heatmaps[{i}]": (base.graph.inputs[0], data["heatmaps"][i][None, None]),
            f"conv1_relevances[{i}]": ("conv1", data["conv1_relevances"][i][None]),
        }
        yield dataclasses.replace(base, target=start, edit={**kept, **masks}, expected=expected)


def _epsilon_plus(folder: Path) -> dict[str, Asked]:
    """zennit's EpsilonPlus on a network, module by module."""
    rules = {
        "Conv2d": {"rule": "ZPlus", "stabilizer": 1e-6},
        "Linear": {"rule": "Epsilon", "epsilon": 1e-6},
        "BatchNorm2d": {"rule": "Pass"},
        "ReLU": {"rule": "Pass"},
        "Sum": {"rule": "Norm", "stabilizer": 1e-6},
    }
    layers = json.loads((folder / "model.json").read_text(encoding="utf-8"))["layers"]
    return {one["name"]: {"module": one["type"], **rules[one["type"]]} for one in layers if one["type"] in rules}


# --- lrp_toolbox


def _toolbox_network(folder: Path, about: Mapping[str, Any], data: Mapping[str, Any]) -> Network:
    weights = arrays(folder.parent / "weights.npz")
    model = json.loads((folder.parent / "model.json").read_text(encoding="utf-8"))
    (first, *parameter), (others, *other) = about["rules"]["first_linear"], about["rules"]["others"]
    nodes, asked, source = [], {}, "input"

    def add(name: str, layer: L.Layer, **rule: Any) -> None:
        nonlocal source
        nodes.append(lrp.Node(name, layer, source))
        asked[name] = {"rule": "none", "module": type(layer).__name__, **rule}
        source = name

    add("to_nchw", TO_NCHW)
    for layer in model["layers"]:
        name, kind = str(layer["i"]), layer["type"]
        rule = {"rule": others, "parameter": (*other, None)[0], "module": kind}
        if kind in ("Convolution", "Linear") and not any(node.kind in ("Conv", "Dense") for node in nodes):
            rule |= {"rule": first, "parameter": (*parameter, None)[0]}
        match kind:
            case "Convolution":
                weight = weights[f"{name}.W"].transpose(3, 2, 0, 1)
                add(name, L.Conv(weight=weight, bias=weights[f"{name}.B"], stride=layer["stride"]), **rule)
            case "Linear":
                add(name, L.Dense(weight=weights[f"{name}.W"], bias=weights[f"{name}.B"]), **rule)
            case "SumPool":  # its sum is divided by the root of the window's size
                add(f"{name}.sum", L.SumPool(kernel=layer["pool"], stride=layer["stride"]), **rule)
                add(name, L.Scale(weight=1 / np.sqrt(np.prod(layer["pool"]))))
            case "MaxPool":
                add(name, L.MaxPool(kernel=layer["pool"], stride=layer["stride"]), **rule)
            case "Flatten":
                add("to_nhwc", TO_NHWC)
                add(name, L.Flatten())
            case "Rect":
                add(name, L.ReLU())
            case "Tanh":
                add(name, L.Tanh())
    expected = {"R_in": ("input", data["R_in"])}
    for key, R in data.items():
        layer = key.removeprefix("R_in_of_layer/")
        if layer not in (key, "0"):
            expected[key] = (str(int(layer) - 1), R.transpose(0, 3, 1, 2) if R.ndim == 4 else R)
    return Network(
        "lrp_toolbox", lrp.Graph(nodes, outputs=source), asked, data["x"], data["R_out"], expected, data["y"]
    )


# --- iNNvestigate


def _innvestigate_networks(analyzer: str, data: Mapping[str, Any]) -> Iterator[Network]:
    """One layer and Flatten for each group of the file; relevance starts at the greatest output."""
    for kind in ("Dense", "Conv2D", "AveragePooling2D", "MaxPooling2D"):
        for group in (kind, f"{kind}_relu"):
            if f"{group}/output" in data:
                parameters = [data[f"{group}/{name}"] for name in ("weight0", "weight1") if f"{group}/{name}" in data]
                y, R_in = data[f"{group}/output"], data[f"{group}/attribution"]
                yield of_golden(golden.innvestigate_network(analyzer, group, data["input"], parameters, y, R_in))


def of_golden(found: golden.Golden) -> Network:
    """A golden reference as a network."""
    (asked, *_) = [asked["rule"] for asked in found.asked.values() if asked["rule"] != "none"]
    gradients = {"Gradient": theory.gradient, "InputTimesGradient": theory.gradient_x_input}
    expected = {found.place: (found.graph.inputs[0], found.R_in)}
    return Network(
        found.peer, found.graph, found.asked, found.x, found.target, expected, found.y, gradient=gradients.get(asked)
    )
