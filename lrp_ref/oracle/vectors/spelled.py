"""Rules, layers and networks as JSON, with every choice that decides a number spelled out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from ...arrays import Array
from ...errors import LrpError
from ...graph import Graph
from ...layers import Layer, Near
from ...loaders.onnx_write import option_types
from ...propagate import Rule
from ...stabilize import Stabilizer
from .numbers import float32, text

UNDIVIDED = ("Gradient", "Pass", "Product")
"""Rules that divide nothing, so that epsilon, stabilizer and bias have no effect."""

ALWAYS: Mapping[str, Any] = {"zero_denominator": "unclaimed", "sign_of_zero": 1, "padding": "gets nothing"}
"""What lrp_ref always does where a rule divides: messages of an output whose denominator is exactly 0 are 0 and its
relevance is booked as unclaimed; a stabilizer takes 0 as positive; padded cells are no inputs, a z-box bounds them by
0."""

FORMULAS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "Zero": ("R_j = sum_k a_j w_jk / (sum_j a_j w_jk + b_k + e_k) R_k", ("bach2015",)),
    "Epsilon": ("R_j = sum_k a_j w_jk / (sum_j a_j w_jk + b_k + e_k) R_k", ("bach2015",)),
    "Norm": ("R_j = sum_k a_j w_jk / (sum_j a_j w_jk + b_k + e_k) R_k", ("bach2015",)),
    "Gamma": (
        "R_j = sum_k a_j (w_jk + gamma w_jk^+) / (sum_j a_j (w_jk + gamma w_jk^+) + b_k + gamma b_k^+ + e_k) R_k",
        ("montavon2019",),
    ),
    "GeneralizedGamma": (
        "R_j = sum_k (m_jk + gamma m_jk^s) / (sum_j (m_jk + gamma m_jk^s) + b_k + gamma b_k^s + e_k) R_k with "
        "m_jk = a_j w_jk, z_k = sum_j m_jk + b_k, s = + where z_k > 0 and - where z_k < 0; all unclaimed where z_k = 0",
        ("andeol2021",),
    ),
    "ZPlus": (
        "R_j = sum_k p_jk / (sum_j p_jk + b_k^+ + e_k) R_k; split product: p_jk = (a_j w_jk)^+; weight: a_j w_jk^+",
        ("montavon2017",),
    ),
    "ZMinus": (
        "R_j = sum_k n_jk / (sum_j n_jk + b_k^- + e_k) R_k; split product: n_jk = (a_j w_jk)^-; weight: a_j w_jk^-",
        ("bach2015",),
    ),
    "AlphaBeta": (
        "R_j = sum_k (alpha p_jk / (sum_j p_jk + b_k^+ + e_k) - beta n_jk / (sum_j n_jk + b_k^- + e_k)) R_k, with p_jk "
        "and n_jk as for ZPlus and ZMinus, and e_k of each denominator by itself",
        ("bach2015",),
    ),
    "Flat": ("R_j = sum_k 1 / (n_k + e_k) R_k over the n_k connected inputs, weights of 0 too", ("lapuschkin2019",)),
    "WSquare": ("R_j = sum_k w_jk^2 / (sum_j w_jk^2 + e_k) R_k", ("montavon2017",)),
    "ZBox": (
        "R_j = sum_k n_jk / (sum_j n_jk + e_k) R_k with n_jk = a_j w_jk - low_j w_jk^+ - high_j w_jk^-",
        ("montavon2017",),
    ),
    "Pass": ("R_j = sum_k R_k over the outputs k that input j alone feeds; shared maxima by their shares", ()),
    "Product": ("R_u = p R_k to the first factor of z_k = u_k v_k, and (1 - p) R_k to the second", ("arras2019",)),
    "Gradient": ("R_j = sum_k dz_k/da_j R_k, which is no rule of LRP", ()),
}  # fmt: skip
"""Of each rule: the formula, and whose it is."""

SOURCES: Mapping[str, str] = {
    "bach2015": "Bach, Binder, Montavon, Klauschen, Müller, Samek 2015, doi 10.1371/journal.pone.0130140",
    "montavon2017": "Montavon, Lapuschkin, Binder, Samek, Müller 2017, arXiv 1512.02479",
    "montavon2019": "Montavon, Binder, Lapuschkin, Samek, Müller 2019, doi 10.1007/978-3-030-28954-6_10",
    "lapuschkin2019": "Lapuschkin, Wäldchen, Binder, Montavon, Samek, Müller 2019, doi 10.1038/s41467-019-08987-4",
    "andeol2021": "Andéol, Kawakami, Wada, Kanamori, Müller, Montavon 2021",
    "arras2019": "Arras, Arjona-Medina, Widrich, Montavon, Gillhofer, Müller, Hochreiter, Samek 2019, arXiv 1909.12114",
    "zennit": "composites of zennit, github.com/chr5tphr/zennit",
    "tutorial": "the authors' tutorial to Montavon et al. 2019, git.tu-berlin.de/gmontavon/lrp-tutorial",
    "julia": "analytic tests of RelevancePropagation.jl, github.com/Julia-XAI/RelevancePropagation.jl",
    "zennit-crp": "tests/test_attribution.py of github.com/rachtibat/zennit-crp",
    "captum": "tests/attr/test_lrp.py and tests/attr/layer/test_layer_lrp.py of github.com/pytorch/captum",
    "witness": "github.com/chr5tphr/zennit issue 107 and github.com/albermax/innvestigate issue 273",
    "by hand": "worked out by hand from the formula",
}


def spelled_rule(rule: Rule) -> dict[str, Any]:
    """The rule's name and all its parameters."""
    name = type(rule).__name__
    if name not in FORMULAS:
        raise LrpError(f"the vectors have no word for {rule!r}")
    own = {f.name: getattr(rule, f.name) for f in dataclasses.fields(rule)}
    common = {"epsilon": own.pop("epsilon"), "stabilizer": own.pop("stabilizer"), "bias": own.pop("bias")}
    said = {"rule": name, **{key: parameter(given) for key, given in own.items()}}
    if not rule.shares():
        return said
    stabilizer = spelled_stabilizer(common["stabilizer"])
    return {**said, "epsilon": parameter(common["epsilon"]), "stabilizer": stabilizer, "bias": common["bias"], **ALWAYS}


def spelled_stabilizer(form: Stabilizer) -> dict[str, Any]:
    """Its form, and all its parameters."""
    given: Any = form
    return {"form": type(form).__name__} | {f.name: parameter(getattr(form, f.name)) for f in dataclasses.fields(given)}


def parameter(given: Any) -> Any:
    """Words and numbers as they are (a number is the float64 that it reads as), other rationals as text."""
    if isinstance(given, (list, tuple)):
        return [parameter(part) for part in given]
    if given is None or isinstance(given, (bool, str, int, float)):
        return given
    return text(Fraction(given))


def spelled_layer(layer: Layer) -> dict[str, Any]:
    """The layer's class, and all its options, those too that are as usual."""
    options = {name: _option(getattr(layer, name)) for name in option_types(type(layer))[0]}
    return {"layer": type(layer).__name__, "options": options}


def _option(given: Any) -> Any:
    if isinstance(given, Sequence) and not isinstance(given, str):
        return [_option(part) for part in given]
    if isinstance(given, Near):
        return {"Near": given.rtol}
    if isinstance(given, Fraction):
        return {"Fraction": [given.numerator, given.denominator]}
    return given


def arrays(layer: Layer) -> dict[str, Array]:
    """The layer's weights and other arrays, in float32, which holds them exactly."""
    return {name: float32(value) for name, value in layer._arrays() if name in option_types(type(layer))[1]}


def spelled_network(graph: Graph, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """Inputs with the shape of a sample, outputs, and the nodes in an order in which they can be computed."""
    return {
        "inputs": {name: list(shapes[name]) for name in graph.inputs},
        "outputs": list(graph.outputs),
        "nodes": [
            {
                "name": node.name,
                **spelled_layer(node.layer),
                "arrays": list(arrays(node.layer)),
                "inputs": list(node.inputs),
            }
            for node in graph.nodes
        ],
    }
