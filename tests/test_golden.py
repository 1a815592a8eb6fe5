"""scripts/golden.py on files written here, with numbers worked out here, and with those of the cases: their own."""

import importlib.util
import itertools
from pathlib import Path

import numpy as np
import pytest
from case_rules import arrays

import lrp_ref as lrp
from lrp_ref import theory
from lrp_ref.oracle.peers import golden as files

h5py = pytest.importorskip("h5py")

ROOT = Path(__file__).parents[1]
CASES = ROOT.parent / "shared" / "cases"
needs_the_cases = pytest.mark.skipif(
    not CASES.exists(), reason="needs the cases of other frameworks: ../shared/cases beside the checkout"
)


@pytest.fixture(scope="module")
def golden():
    spec = importlib.util.spec_from_file_location("golden", ROOT / "scripts" / "golden.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(golden, tmp_path, capsys):
    def run(kind):
        status = golden.main([kind, str(tmp_path)])
        return status, capsys.readouterr().out.splitlines()

    return run


def write(path, **datasets):
    """A file with datasets, whose names may hold slashes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, value in datasets.items():
            file[name] = value


def verdict(lines, name):
    (line,) = [line for line in lines if line.split()[:1] == [name]]
    return line.split()[-1]


# --- iNNvestigate ---------------------------------------------------------------------------------------------------


def dense_z(x, w, b):
    """LRP-0 of the greatest output of a dense layer on the last axis, from its definition."""
    y = x @ w + b
    R = np.zeros_like(x)
    for n in range(len(x)):
        *place, k = np.unravel_index(y[n].argmax(), y[n].shape)
        cell = (n, *place)
        R[cell] = x[cell] * w[:, k] / y[(*cell, k)] * y[n].max()
    return y.reshape(len(x), -1), R


def flat_conv(x, w):
    """Equal shares of the greatest output of a convolution, channels last, from its definition."""
    n, height, width = len(x), x.shape[1] - w.shape[0] + 1, x.shape[2] - w.shape[1] + 1
    y = np.zeros((n, height, width, w.shape[3]))
    for i, j in itertools.product(range(height), range(width)):
        y[:, i, j] = np.einsum("nabc,abck->nk", x[:, i : i + w.shape[0], j : j + w.shape[1]], w)
    R = np.zeros_like(x)
    for sample in range(n):
        i, j, _ = np.unravel_index(y[sample].argmax(), y[sample].shape)
        R[sample, i : i + w.shape[0], j : j + w.shape[1]] = y[sample].max() / w[..., 0].size
    return y.reshape(n, -1), R


def test_innvestigate(run, tmp_path):
    rng = np.random.default_rng(3)
    x, w, kernel = rng.random((2, 4, 4, 3)), rng.normal(size=(3, 5)), rng.normal(size=(2, 3, 3, 4))
    bias = rng.normal(size=5)
    y, R = dense_z(x, w, bias)
    y_flat, R_flat = flat_conv(x, kernel)
    dense = {"weights/0": w, "weights/1": bias, "output": y}
    right = {f"Dense/{name}": value for name, value in (dense | {"attribution": R}).items()}
    wrong = {f"Dense_relu/{name}": value for name, value in (dense | {"attribution": R * (1 + 1e-4)}).items()}
    write(tmp_path / "LRPZ.hdf5", input=x, **right, **wrong)
    conv = {"weights/0": kernel, "weights/1": np.zeros(4), "output": y_flat, "attribution": R_flat.astype("float32")}
    write(tmp_path / "LRPFlat.hdf5", input=x, **{f"Conv2D/{name}": value for name, value in conv.items()})
    write(tmp_path / "SmoothGrad.hdf5", input=x, **right)
    status, lines = run("innvestigate")
    assert status == 1
    assert verdict(lines, "LRPZ/Dense") == verdict(lines, "LRPFlat/Conv2D") == "agrees"
    assert verdict(lines, "LRPZ/Dense_relu") == "DIFFERS"
    assert "left out: SmoothGrad/Dense: SmoothGrad is no analyzer by LRP, or not known" in lines
    assert lines[-1] == "3 compared, 1 differ, 1 left out"


@needs_the_cases
def test_innvestigates_own_numbers(run, tmp_path):
    for folder in sorted((CASES / "innvestigate_layers").iterdir()):
        data = {name.replace("weight", "weights/"): value for name, value in arrays(folder / "data.npz").items()}
        write(tmp_path / f"{folder.name}.hdf5", **data)
    status, lines = run("innvestigate")
    assert status == 0
    assert lines[-1] == "66 compared, 0 differ, 6 left out"


# --- RelevancePropagation.jl ----------------------------------------------------------------------------------------


def test_julia(run, tmp_path):
    s = np.random.default_rng(5).normal(size=216).astype("float32")
    x, w, b = s[:8].reshape(2, 4).astype(float), s[:12].reshape(4, 3).astype(float), s[:3].astype(float)
    z = x @ w + b
    R = x * ((np.maximum(z, 0) / z) @ w.T)
    conv = np.zeros((2, 3, 6, 6))  # flat: each output in equal parts to 27 inputs
    for k, i, j in itertools.product(range(4), range(4), range(4)):
        patch = s.reshape(2, 3, 6, 6).astype(float)[:, :, i : i + 3, j : j + 3]
        kernel = s[:108].reshape(4, 3, 3, 3)[k, :, ::-1, ::-1].astype(float)
        y = (patch * kernel).sum(axis=(1, 2, 3)) + s[k]
        conv[:, :, i : i + 3, j : j + 3] += y.reshape(2, 1, 1, 1) / 27
    write(tmp_path / "rules/ZeroRule/Dropout.jld2", R=s.reshape(2, 3, 6, 6))
    write(tmp_path / "rules/ZeroRule/Dense_relu.jld2", R=R.astype("float32"))
    write(tmp_path / "rules/ZeroRule/Dense_identity.jld2", R=R.astype("float32"))
    write(tmp_path / "rules/FlatRule/Conv.jld2", R=conv)
    write(tmp_path / "rules/LayerNormRule/Conv.jld2", R=conv)
    status, lines = run("julia")
    assert status == 1
    for name in ("ZeroRule/Dropout", "ZeroRule/Dense_relu", "FlatRule/Conv"):
        assert verdict(lines, name) == "agrees", lines
    assert verdict(lines, "ZeroRule/Dense_identity") == "DIFFERS"
    assert lines[-1] == "4 compared, 1 differ, 1 left out"


@pytest.mark.parametrize("layer", ["Scale_relu", "MeanPool", "GlobalMaxPool"])
def test_the_layers_that_no_case_has(run, tmp_path, layer):
    s = np.random.default_rng(6).normal(size=216).astype("float32")
    images = s.reshape(2, 3, 6, 6).astype(float)
    if layer == "Scale_relu":
        x = s[:8].reshape(2, 4)
        z = x * s[:4] + s[:4]
        R = x * s[:4] / z * np.maximum(z, 0)
    elif layer == "MeanPool":
        R = images / 9
    else:
        R = images * (images == images.max(axis=(2, 3), keepdims=True))
    write(tmp_path / "rules/ZeroRule/flatten.jld2", R=images.astype("float32"))
    write(tmp_path / f"rules/ZeroRule/{layer}.jld2", R=R.astype("float32"))
    assert run("julia")[0] == 0


def test_julias_files_need_the_one_that_all_is_read_from(run, tmp_path):
    write(tmp_path / "rules/ZeroRule/Conv.jld2", R=np.zeros((2, 3, 6, 6)))
    with pytest.raises(SystemExit, match=r"ZeroRule/Dropout\.jld2 is missing"):
        run("julia")


@needs_the_cases
def test_julias_own_numbers(run, tmp_path):
    for folder in sorted((CASES / "julia_rules").iterdir()):
        rule, _, layer = folder.name.partition("_")
        write(tmp_path / f"rules/{rule}/{layer}.jld2", R=arrays(folder / "data.npz")["R_in"])
    status, lines = run("julia")
    assert status == 0
    assert lines[-1] == "44 compared, 0 differ, 4 left out"


@needs_the_cases
def test_the_generator_is_the_one_of_julias_numbers():
    """A normal number has the sign of its word's last bit, and is the rest times an entry of a table that rises.

    The first five are; behind them comes one that took more than one word.
    """
    numbers = arrays(CASES / "julia_rules" / "ZeroRule_Dropout" / "data.npz")["R_in"].ravel()[:5]
    parts = [(word & 1, (word >> 1) % 2**51, (word >> 1) % 2**8) for word in itertools.islice(files.words(123), 5)]
    assert [bool(sign) for sign, _, _ in parts] == list(numbers < 0)
    entries = sorted((place, abs(float(z)) / rest) for (_, rest, place), z in zip(parts, numbers, strict=True))
    assert entries == sorted(entries, key=lambda entry: entry[1])


def test_uniform_numbers_are_the_low_bits_of_words():
    first = next(files.words(123))
    assert files.uniform(1)[0] == np.float32((first % 2**23) / 2**23)
    assert (files.uniform(2, 3).ravel() == files.uniform(6)).all()
    drawn = files.uniform(2000)
    assert drawn.dtype == np.float32
    assert 0 <= drawn.min() < 0.01 < 0.48 < drawn.mean() < 0.52 < 0.99 < drawn.max() < 1


@pytest.mark.parametrize("name", ["LRPZero_max", "LRPZero_ns1", "LRPZero_COC_max"])
def test_julias_network(run, tmp_path, name):
    """LRP-0 is gradient x input over the logit that it starts from, as 1."""
    network = files.cnn(name, np.zeros((1, 3, 32, 32)), files.FLUX_TIES)
    logits = network.graph.forward(network.x)[network.graph.outputs[0]]
    k = 0 if name.endswith("ns1") else int(logits.argmax())
    expected = theory.gradient_x_input(network.graph, network.x, lrp.logit(k)) / logits[0, k]
    zeros = np.zeros((2, 3, 6, 6), dtype="float32")
    write(tmp_path / "rules/ZeroRule/Dropout.jld2", R=zeros)
    write(tmp_path / f"cnn/{name}.jld2", expl=expected.astype("float32"))
    write(tmp_path / "cnn/LRPEpsilonAlpha2Beta1Flat_max.jld2", expl=expected.astype("float32"))
    write(tmp_path / "cnn/CRP_max.jld2", expl=expected)
    status, lines = run("julia")
    assert status == 1
    assert verdict(lines, f"cnn/{name}") == verdict(lines, "ZeroRule/Dropout") == "agrees"
    assert verdict(lines, "cnn/LRPEpsilonAlpha2Beta1Flat_max") == "DIFFERS"
    assert "left out: cnn/CRP_max: the concepts of CRP are not chosen here" in lines


def test_weights_are_those_of_flux():
    w = files.glorot(8, 3, 3, 3)
    bound = np.sqrt(6 / (9 * 11))
    assert w.dtype == np.float32
    assert 0.98 * bound < abs(w).max() <= bound
    assert files.glorot(1024, 512).shape == (1024, 512)


# --- what a user may get wrong --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["innvestigate", "julia"])
def test_a_folder_without_golden_files_is_refused(run, kind):
    with pytest.raises(SystemExit, match=r"no golden files|is missing"):
        run(kind)


def test_h5py_missing_is_said_in_one_line(run, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(SystemExit, match="needs h5py: pip install"):
        run("julia")
