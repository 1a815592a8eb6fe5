"""The surface and the house: names, import directions, what an import costs, where each equation stands."""

import ast
import dataclasses
import inspect
import os
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import lrp_ref
from lrp_ref import layers, oracle, presets, rules, theory

ROOT = Path(lrp_ref.__file__).parent
MODULES = {path: ast.parse(path.read_text()) for path in sorted(ROOT.rglob("*.py"))}


# --- names ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [lrp_ref, layers, oracle, theory], ids=lambda m: m.__name__)
def test_the_surface_is_what_is_listed(module):
    visible = {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and (not inspect.ismodule(value) or name in module.__all__)
    }
    assert visible == set(module.__all__)


def test_everything_public_is_documented():
    for module in (lrp_ref, layers, oracle, presets, rules, theory):
        for name, value in vars(module).items():
            if not name.startswith("_") and (inspect.isclass(value) or inspect.isfunction(value)):
                assert inspect.getdoc(value), name


def test_options_of_rules_and_presets_are_keyword_only():
    for name in rules.__all__:
        fields = dataclasses.fields(getattr(rules, name))
        assert all(field.kw_only for field in fields), name
        assert {"epsilon", "stabilizer", "bias"} <= {field.name for field in fields}
    for name, value in vars(presets).items():
        if inspect.isfunction(value) and value.__annotations__.get("return") == "Composite" and name[0] != "_":
            kinds = {parameter.kind for parameter in inspect.signature(value).parameters.values()}
            assert kinds <= {inspect.Parameter.KEYWORD_ONLY}, name


# --- the equations -------------------------------------------------------------------------------------------------

EQUATIONS = {  # in the docstring of each rule: what of the chapter's equation must stand there
    "Zero": r"a_j w_{jk}}{\sum_j a_j w_{jk} + b_k",
    "Epsilon": r"z_k + \varepsilon\, s(z_k)",
    "Gamma": r"a_j (w_{jk} + \gamma w_{jk}^+)",
    "GeneralizedGamma": r"m_{jk} + \gamma m_{jk}^\pm",
    "ZPlus": r"(a_j w_{jk})^+}{\sum_j (a_j w_{jk})^+ + b_k^+",
    "AlphaBeta": r"- \beta \frac{(a_j w_{jk})^-}",
    "Flat": r"\frac{1}{n_k",
    "WSquare": r"\frac{w_{jk}^2}{\sum_j w_{jk}^2",
    "ZBox": r"a_j w_{jk} - l_j w_{jk}^+ - h_j w_{jk}^-",
    "Norm": r"a_j w_{jk}}{\sum_j a_j w_{jk}",
    "Pass": r"R_j = \sum_k",
    "ZMinus": r"(a_j w_{jk})^-}{\sum_j (a_j w_{jk})^- + b_k^-",
    "Gradient": r"\frac{\partial z_k}{\partial a_j} R_k",
    "Product": r"R_{u} = p\, R_k",
}


def equations():
    """Rule -> (file, line of its equation)."""
    path = ROOT / "rules.py"
    lines = path.read_text().splitlines()
    found = {}
    for node in MODULES[path].body:
        if isinstance(node, ast.ClassDef) and node.name in EQUATIONS:
            span = range(node.lineno, node.end_lineno)
            found[node.name] = next((path.name, i + 1) for i in span if ".. math::" in lines[i])
    return found


def test_each_rule_states_its_equation_with_source_and_place():
    places = equations()
    assert set(places) == set(EQUATIONS) == set(rules.__all__)
    for name, formula in EQUATIONS.items():
        documentation = getattr(rules, name).__doc__
        assert formula in documentation, name
        print(f"{name:18} {places[name][0]}:{places[name][1]}")


# --- the house -----------------------------------------------------------------------------------------------------

BELOW = {  # module: what it may import of the package, besides errors, files, text and values
    "arrays": set(),
    "errors": set(),
    "text": set(),
    "values": set(),
    "files": set(),
    "layers": {"arrays"},
    "graph": {"arrays", "layers"},
    "stabilize": {"arrays"},
    "ledger": {"arrays"},
    "propagate": {"arrays", "ledger", "stabilize"},
    "rules": {"arrays", "ledger", "propagate"},
    "audit": {"arrays", "propagate"},
    "composites": {"graph", "layers", "propagate", "rules"},
    "canonize": {"arrays", "graph", "layers"},
    "presets": {"canonize", "composites", "layers", "propagate", "rules", "stabilize"},
    "targets": {"arrays", "graph", "layers"},
    "signs": {"graph", "layers"},
    "explain": {"arrays", "audit", "composites", "fast", "graph", "layers", "ledger", "propagate", "targets", "store"},
    "fast": {
        "arrays",
        "composites",
        "explain",
        "graph",
        "layers",
        "ledger",
        "propagate",
        "rules",
        "signs",
        "stabilize",
    },
    "store": {"arrays", "composites", "explain", "ledger", "propagate", "rules", "stabilize"},
    "io": {"arrays", "graph", "loaders"},
    "loaders": {"arrays", "canonize", "graph", "layers"},
    "data": {"graph", "layers"},
    "show": {"arrays"},
    "theory": {"arrays", "explain", "graph", "layers", "propagate", "rules", "signs", "targets"},
    "oracle": {
        "arrays",
        "audit",
        "canonize",
        "composites",
        "explain",
        "graph",
        "layers",
        "ledger",
        "loaders",
        "presets",
        "propagate",
        "rules",
        "stabilize",
        "targets",
    },
    "testing": {"oracle"},
}
INSIDE_FUNCTIONS = {("explain", "fast"), ("explain", "store"), ("io", "loaders")}


def imports(tree):
    """(module, whether inside a function) for every import, those for type checkers only left out."""
    typing_only = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for child in ast.walk(node)
    }
    top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, 0, id(node) not in top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names = [node.module] if node.module else [alias.name for alias in node.names]
            yield from ((name, node.level, id(node) not in top) for name in names)


def room(path):
    parts = path.relative_to(ROOT).parts
    return parts[0].removesuffix(".py")


def test_imports_go_one_way():
    for path, tree in MODULES.items():
        here, depth = room(path), len(path.relative_to(ROOT).parts)
        if here in ("__init__", "cli", "__main__"):
            continue
        for name, level, inside in imports(tree):
            if level < depth:
                continue  # within the room, or not of the package
            target = name.split(".")[0]
            if target in ("errors", "files", "text", "values", "__version__"):
                continue
            assert target in BELOW[here], f"{path.name} imports {target}"
            assert inside == ((here, target) in INSIDE_FUNCTIONS) or inside, f"{path.name} imports {target} at the top"
            if (here, target) in INSIDE_FUNCTIONS:
                assert inside


def test_third_party_libraries_are_imported_inside_functions_and_numpy_by_one_door():
    core = {"layers", "graph", "stabilize", "ledger", "propagate", "rules", "audit", "composites", "presets"}
    core |= {"targets", "explain", "text", "errors", "values"}
    for path, tree in MODULES.items():
        for name, level, inside in imports(tree):
            library = name.split(".")[0]
            if level or library in sys.stdlib_module_names:
                continue
            if library == "numpy":
                assert room(path) not in core, f"{path.name} imports numpy: use arrays.py"
            else:
                assert inside, f"{path.name} imports {library} at the top"


def test_pickle_is_never_loaded():
    for path in MODULES:
        text = path.read_text()
        assert "import pickle" not in text
        assert "allow_pickle=True" not in text


def test_only_wires_stand_without_a_case():
    """Activations, reshapes, dropout and winners take Pass unasked; everything else needs a case."""
    examples = [
        *(layers.ReLU(), layers.LeakyReLU(), layers.PReLU(slope=0.1), layers.ELU(), layers.Softplus(), layers.SiLU()),
        *(layers.GELU(), layers.Tanh(), layers.Sigmoid(), layers.Clip(low=0), layers.Identity(), layers.Dropout()),
        *(layers.Flatten(), layers.Reshape(shape=(2, 2)), layers.Transpose(axes=(0, 1)), layers.Squeeze(axis=1)),
        *(layers.Unsqueeze(axis=1), layers.Slice(axis=1), layers.Pad(padding=((1, 1),)), layers.Upsample(factor=2)),
        *(layers.SELU(), layers.CELU(), layers.HardSigmoid(), layers.HardSwish(), layers.Softmax()),
        *(layers.DepthToSpace(block=2), layers.SpaceToDepth(block=2), layers.Resize(size=2, mode="nearest")),
        *(layers.MaxPool(kernel=2), layers.GlobalMaxPool(), layers.Concat(), layers.SoftMinPool()),
        layers.AdaptiveMaxPool(size=2),
        layers.Given(layers.Tanh(), np.ones(2)),
    ]
    assert all(layer.wire for layer in examples)
    abstract = {"Activation", "Layer", "Linear", "Wires", "Diagonal", "Near"}
    needs_a_case = set(layers.__all__) - {type(layer).__name__ for layer in examples} - abstract
    assert needs_a_case == {
        *("Add", "AvgPool", "BatchNorm", "Conv", "ConvTranspose", "Dense", "GlobalAvgPool", "Mean", "Scale", "Sub"),
        *("Sum", "SumPool", "AdaptiveAvgPool", "Mul"),
    }
    assert not layers.MaxPool(kernel=2, frozen_as="average").wire
    assert not layers.AdaptiveMaxPool(size=2, frozen_as="average").wire
    assert not layers.Resize(size=2).wire
    assert not any(layer.wire for layer in (layers.Add(), layers.AvgPool(kernel=2), layers.Scale(weight=2.0)))


def test_layers_and_rules_accept_no_other_attributes():
    for one in (layers.ReLU(), layers.Scale(weight=2.0), lrp_ref.Gamma(), lrp_ref.Signed(), lrp_ref.kind(layers.ReLU)):
        with pytest.raises(dataclasses.FrozenInstanceError):
            one.colour = "red"
        with pytest.raises(dataclasses.FrozenInstanceError):
            del one.colour
    scale = layers.Scale(weight=2.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        scale.weight = 3.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        del scale.weight
    assert scale.weight == 2.0


def test_a_rule_of_a_users_is_a_standard_dataclass():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Mine(lrp_ref.Rule):
        strength: float = 1.0

    assert Mine(strength=2) == Mine(strength=2) != Mine()
    assert len({Mine(), Mine(strength=1.0), Mine(strength=2)}) == 2


# --- what an import costs ------------------------------------------------------------------------------------------

PROBE = """
import sys, time
start = time.process_time()
import {module}
seconds = time.process_time() - start
with open("/proc/self/status") as status:
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
print(seconds, peak, *sorted(sys.modules))
"""


def probe(module):
    """Seconds to import it in a fresh process that may use bytecode, the process's peak in kB, the modules loaded.

    Seconds of the processor, which do not grow while others have it, and of one thread: numpy's BLAS starts more.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["OPENBLAS_NUM_THREADS"] = "1"
    command = [sys.executable, "-c", PROBE.format(module=module)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    seconds, peak, *modules = done.stdout.split()
    return float(seconds), int(peak), modules


def test_importing_loads_numpy_and_nothing_heavy():
    extra = {name.split(".")[0] for name in set(probe("lrp_ref")[2]) - set(probe("numpy")[2])}
    assert "lrp_ref" in extra
    assert not extra - {"lrp_ref"} - sys.stdlib_module_names


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc to read a process's peak memory")
def test_importing_costs_little_more_than_numpy():
    probe("lrp_ref")
    runs = [(probe("numpy"), probe("lrp_ref")) for _ in range(15)]
    ratio = statistics.median(ours[0] / numpy[0] for numpy, ours in runs)  # of neighbours, which are disturbed alike
    megabytes = statistics.median(ours[1] - numpy[1] for numpy, ours in runs) / 1024
    print(f"import lrp_ref: {ratio:.2f} x import numpy, {megabytes:.1f} MB more")
    assert ratio <= 1.6
    assert 0 < megabytes <= 12
