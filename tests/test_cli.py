"""The command line: what it prints is what the library computes, and what is wrong is one line and an exit code."""

import dataclasses
import inspect
import json
import os
import subprocess
import sys
from fractions import Fraction
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

import lrp_ref as lrp
from lrp_ref import cli, presets
from lrp_ref.arrays import floats
from lrp_ref.data import digits, digits_cnn, digits_mlp
from lrp_ref.show import save_heatmap, taylor
from lrp_ref.show.page import save
from lrp_ref.theory import dtd

MODELS = {"digits-cnn": digits_cnn, "digits-mlp": digits_mlp}
CASES = [(model, name) for model in MODELS for name in cli.COMPOSITES]
WITHOUT_A_RULE = {
    ("digits-cnn", "chapter_vgg16"): "bn1",
    ("digits-cnn", "tutorial_vgg16"): "bn1",
    ("digits-cnn", "tutorial_mlp"): "conv1",
}
ROW = 3


def x(rows=(ROW,)):
    return digits().images[list(rows)].astype(np.float64)


def rules_of(name):
    if name not in cli.COMPOSITES:
        return lrp.store.parse(name)
    preset = getattr(presets, name)
    return preset(low=0, high=1) if "low" in inspect.signature(preset).parameters else preset()


@pytest.fixture
def explain(run):
    """`lrp-ref explain` that goes well and says nothing on standard error."""

    def explain(*argv, row=ROW):
        code, out, err = run("explain", "--input", row, *argv)
        assert (code, err) == (0, "")
        return out

    return explain


def refused(said, message, code=2):
    assert said[:2] == (code, "")
    assert said[2].startswith("lrp-ref: ")
    assert said[2].count("\n") == 1
    assert said[2].endswith("\n")
    assert message in said[2]


def subprocess_of(*argv, code="sys.exit(main())", stdout=subprocess.PIPE):
    command = [sys.executable, "-c", f"import sys\nfrom lrp_ref.cli import main\n{code}", *map(str, argv)]
    return subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False)


# --- one explanation -------------------------------------------------------------------------------------------------


def test_the_text_holds_prediction_rules_books_and_total(explain):
    out = explain("--composite", "epsilon_plus")
    e = lrp.explain(digits_cnn(), x(), presets.epsilon_plus())
    winner = int(e.output[0].argmax())
    first, logits, *_ = out.splitlines()
    assert first == f"digits-cnn, row {ROW} (label {digits().labels[ROW]}): class {winner}"
    assert f"{winner}: {e.output[0, winner]:.4g}" in logits
    assert f"explained: logit {winner} by epsilon_plus" in out
    assert str(e.rules) in out
    assert str(e.ledger) in out
    taken = {part: sum(getattr(entry, part)[0] for entry in e.ledger) for part in ("bias", "stabilizer", "unclaimed")}
    parts = ", ".join(f"{part} {amount:.6g}" for part, amount in taken.items())
    total = f"{e.output[0, winner]:.6g} put in = {e.relevance.sum():.6g} arrived at the input"
    assert f"total: {total} + {sum(taken.values()):.6g} absorbed ({parts}); left over: " in out


@pytest.mark.parametrize(("model", "name"), CASES)
def test_the_json_is_what_the_library_computes(run, model, name):
    said = run("explain", "--model", model, "--input", ROW, "--composite", name, "--json")
    if node := WITHOUT_A_RULE.get((model, name)):
        return refused(said, f'no rule for node "{node}"')
    assert (said[0], said[2]) == (0, "")
    found, e = json.loads(said[1]), lrp.explain(MODELS[model](), x(), rules_of(name))
    np.testing.assert_array_equal(found["relevance"], e.relevance[0])
    np.testing.assert_array_equal(found["prediction"]["logits"], e.output[0])
    assert found["prediction"]["class"] == found["target"] == e.output[0].argmax()
    assert found["rules"] == {node: repr(rule) for node, rule in e.rules.items()}
    assert found["start"] == e.output[0].max()
    assert found["arrived"] == pytest.approx(np.sum(found["relevance"]), rel=1e-12)
    assert found["start"] == pytest.approx(found["arrived"] + found["absorbed"], rel=1e-12)
    assert [line["node"] for line in found["ledger"]] == [entry.node for entry in e.ledger]
    for line in found["ledger"]:
        assert line["went"] == pytest.approx(sum(line["sent"].values()))
        taken = line["bias"] + line["stabilizer"] + line["unclaimed"] + line["edited"]
        assert line["came"] == pytest.approx(line["went"] + taken, abs=1e-9)
        assert line["balance"] == pytest.approx(0, abs=1e-9)
    assert found["versions"]["lrp_ref"] == lrp.__version__
    assert "exact" not in found


def number(text):
    return Fraction(*(int(part, 16) for part in text.split("/")))


@pytest.mark.parametrize(
    ("model", "name"),
    [case for case in CASES if case not in WITHOUT_A_RULE]
    + [(model, "Epsilon(epsilon=0.25, stabilizer=Relative(over='sample'))") for model in MODELS],
)
def test_exact_books_balance_with_equality(explain, exact, model, name):
    found = json.loads(explain("--model", model, "--composite", name, "--json", "--exact"))
    told = found["exact"]
    R = np.vectorize(number, otypes=[object])(told["relevance"])
    came = {line["node"]: number(line["came"]) for line in told["ledger"]}
    came["input"] = number(told["arrived"])
    sent = {told["ledger"][0]["node"]: number(told["start"])}
    absorbed = 0
    for line in told["ledger"]:
        parts = [number(line[part]) for part in ("bias", "stabilizer", "unclaimed", "edited")]
        assert came[line["node"]] == number(line["went"]) + sum(parts)
        assert number(line["balance"]) == 0
        absorbed += sum(parts)
        for source, amount in line["sent"].items():
            sent[source] = sent.get(source, 0) + number(amount)
    assert came == sent
    assert R.sum() == came["input"] == number(told["start"]) - absorbed
    np.testing.assert_array_equal(R.astype(float), found["relevance"])
    assert (told["carrier"] == "fractions.Fraction") == (sys.modules["flint"] is None)

    assert (lrp.fractions(lrp.explain(MODELS[model](), exact(x()), rules_of(name)).relevance[0]) == R).all()
    approximate = json.loads(explain("--model", model, "--composite", name, "--json"))["relevance"]
    np.testing.assert_allclose(approximate, found["relevance"], rtol=0, atol=1e-9 * float(abs(R).max()))


def test_exact_says_how_long_it_took_and_that_the_books_balance(explain):
    out = explain("--exact")
    assert " s in rationals (" in out
    assert "the books balance with == at every node, at every fan-in and end to end" in out
    assert "left over: 0\n" in out


def with_entry(ledger, node, **changes):
    return dataclasses.replace(
        ledger, entries=[dataclasses.replace(e, **changes) if e.node == node else e for e in ledger]
    )


OFF = lrp.exact([2.0**-60])
TAMPERED = {
    'node "add", came - went - absorbed': lambda books: with_entry(books, "add", bias=books["add"].bias + OFF),
    'node "bn2", came - sent by its readers': lambda books: with_entry(
        books, "add", sent={name: R + (OFF if name == "bn2" else -OFF) for name, R in books["add"].sent.items()}
    ),
    'node "input", came': lambda books: dataclasses.replace(books, arrived={"input": books.arrived["input"] + OFF}),
}


@pytest.mark.parametrize("place", TAMPERED)
def test_books_that_do_not_balance_exit_with_1_and_name_the_node(run, monkeypatch, place):
    honest = lrp.explain

    def explain(*arguments):
        explanation = honest(*arguments)
        return dataclasses.replace(explanation, ledger=TAMPERED[place](explanation.ledger))

    monkeypatch.setattr(sys.modules["lrp_ref.explain"], "explain", explain)
    refused(run("explain", "--input", ROW, "--exact", "--json"), f"the books do not balance: {place}", code=1)


def test_a_map_that_is_not_what_arrived_is_found():
    explanation = lrp.explain(digits_mlp(), lrp.exact(x()), presets.epsilon_plus())
    assert cli.unbalanced(explanation) is None
    R = explanation.relevance.copy()
    R[0, 0, 0, 0] = R[0, 0, 0, 0] + lrp.exact([1.0])[0]
    wrong = dataclasses.replace(explanation, relevances={**explanation.relevances, "input": R})
    assert cli.unbalanced(wrong) == 'input "input", sum of the map - arrived is 1, not 0'


@pytest.mark.parametrize("target", [0, 7, -1])
def test_a_target_is_a_class(explain, target):
    found = json.loads(explain("--target", target, "--json"))
    e = lrp.explain(digits_cnn(), x(), rules_of("epsilon_gamma_box"), target)
    assert found["target"] == target % 10
    np.testing.assert_array_equal(found["relevance"], e.relevance[0])


@pytest.mark.parametrize("text", ["Epsilon(epsilon=0.1)", "ZBox(low=-99, high=99.5)", " ZPlus( ) "])
def test_a_rule_in_its_printed_form_is_uniform(explain, text):
    found = json.loads(explain("--composite", text, "--json"))
    e = lrp.explain(digits_cnn(), x(), lrp.store.parse(text))
    np.testing.assert_array_equal(found["relevance"], e.relevance[0])


def test_bounds_reach_the_box(explain):
    found = json.loads(explain("--low", "-0.5", "--high", "1.5", "--json"))
    e = lrp.explain(digits_cnn(), x(), presets.epsilon_gamma_box(low=-0.5, high=1.5))
    np.testing.assert_array_equal(found["relevance"], e.relevance[0])


def test_every_preset_can_be_named():
    made = {name: f for name, f in vars(presets).items() if inspect.isfunction(f) and not name.startswith("_")}
    found = {name: f for name, f in made.items() if inspect.signature(f).return_annotation == "Composite"}
    assert found == cli.COMPOSITES


@pytest.mark.parametrize("overlay", [False, True])
def test_the_picture_is_the_heatmap(explain, tmp_path, overlay):
    path, expected = tmp_path / "new folder" / "map.png", tmp_path / "expected.png"
    out = explain("--out", path, *["--overlay"] * overlay)
    assert f"picture: {path}" in out
    e = lrp.explain(digits_cnn(), x(), rules_of("epsilon_gamma_box"))
    title = f"row {ROW} (label {digits().labels[ROW]}): logit {e.output[0].argmax()}, epsilon_gamma_box"
    save_heatmap(expected, e.relevance, image=x(), overlay=overlay, title=title)
    assert path.read_bytes() == expected.read_bytes()
    assert [file.name for file in path.parent.iterdir()] == ["map.png"]


# --- inputs from files -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "models"),
    [((8, 8), MODELS), ((1, 8, 8), MODELS), ((1, 1, 8, 8), MODELS), ((64,), ["digits-mlp"])],
)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, ">f8"])
def test_an_npy_file_is_as_good_as_a_row(run, explain, tmp_path, shape, models, dtype):
    path = tmp_path / "x.npy"
    np.save(path, x().reshape(shape).astype(dtype))
    for model in MODELS:
        said = run("explain", "--model", model, "--input", path, "--json")
        if model not in models:
            refused(said, " of shape (64,); need numbers of shape (8, 8) or (1, 8, 8) or (1, 1, 8, 8)\n")
            continue
        found, expected = json.loads(said[1]), json.loads(explain("--model", model, "--json"))
        assert found.pop("input") == "x.npy"
        assert expected.pop("input") == f"row {ROW} (label {digits().labels[ROW]})"
        assert found == expected


class Pickled:
    def __reduce__(self):
        return os.mkdir, ("unpickled",)


def test_a_pickle_is_refused_and_not_run(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.full((8, 8), Pickled(), dtype=object), allow_pickle=True)
    refused(run("explain", "--input", "x.npy"), "x.npy: ")
    assert os.listdir() == ["x.npy"]


def raw(shape):
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.ones((7, 8)), "float64 of shape (7, 8); need numbers of shape (8, 8) or"),
        (np.ones((2, 1, 8, 8)), "shape (2, 1, 8, 8)"),
        (np.ones((8, 8), complex), "complex128"),
        (np.ones((8, 8), "U3"), "<U3"),
        (np.full((8, 8), np.nan), "64 NaN or infinite values"),
        (b"no array", "the magic string is not correct"),
        (b"", "reading magic string"),
        (raw((8, 8)), "x.npy: "),  # a header, and no numbers
        (raw((10**6, 10**6)), "x.npy: "),
        (None, "No such file"),
    ],
)
def test_a_bad_file_is_refused_by_name(run, tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    if isinstance(content, bytes):
        Path("x.npy").write_bytes(content)
    elif content is not None:
        np.save("x.npy", content)
    refused(run("explain", "--input", "x.npy"), message)


def test_an_input_beyond_the_box_is_a_warning(run, tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.full((8, 8), 2, dtype=np.uint8))
    code, out, err = run("explain", "--input", path)
    assert code == 0
    assert "total: " in out
    assert (
        err == "lrp-ref: warning: ZBox: 64 input values lie beyond high, the worst by 1: the box must hold the data\n"
    )


# --- wrong use -------------------------------------------------------------------------------------------------------

NEAREST = "the nearest names are 'epsilon_plus', 'epsilon_plus_flat', 'epsilon_alpha2_beta1'\n"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("", "required: demo | explain | verify | certify | vectors | conform | compare (see lrp-ref --help)"),
        ("demos", "invalid choice: 'demos'"),
        ("explain", "required: --input (see lrp-ref explain --help)"),
        ("explain --inp 3", "required: --input"),
        ("explain --input 3 --what", "unrecognized arguments: --what"),
        ("explain --input 1797", "--input 1797: the digits have rows 0 to 1796"),
        ("explain --input -1", "--input -1: the digits have rows 0 to 1796"),
        (
            "explain --input 3 --model digits-rnn",
            "no model 'digits-rnn'; the nearest names are 'digits-cnn', 'digits-m",
        ),
        ("explain --input 3 --composite epsilon_pluss", f"no composite 'epsilon_pluss'; {NEAREST}"),
        ("explain --input 3 --composite Epsilom(epsilon=1)", "no rule 'Epsilom'; the nearest names are 'Epsilon', '"),
        ("explain --input 3 --composite Signed()", "no rule 'Signed'"),
        ("explain --input 3 --composite Epsilon()", "missing 1 required keyword-only argument: 'epsilon'"),
        ("explain --input 3 --composite Epsilon(epsilon=-1)", "epsilon=-1, need a finite number >= 0"),
        ("explain --input 3 --composite Epsilon(epsilon=1", "is no rule as it prints"),
        ("explain --input 3 --composite Epsilon(epsilon=print(1))", "print"),
        ("explain --input 3 --target 10", "target 10: the output has 10 classes"),
        ("explain --input 3 --target tree", "--target tree: give a class such as 3, or argmax"),
        ("explain --input 3 --low zero", "argument --low: invalid float value: 'zero'"),
        ("explain --input 3 --low 2", "low=2.0, need at most high=1"),
        ("explain --input 3 --low nan", "low=nan, need finite numbers"),
        ("explain --input 3 --composite epsilon_plus --low 0", "epsilon_plus takes no bounds"),
        ("explain --input 3 --composite Zero() --high 1", "Zero() takes no bounds"),
        ("explain --input 3 --overlay", "--out"),
        ("explain --input 3 --out map.jpg", "map.jpg: pictures are written as PNG"),
        ("explain --input 3 --out file/map.png", "file"),
        ("demo --out file", "file"),
    ],
)
def test_wrong_use_is_one_line_and_exits_with_2(run, tmp_path, monkeypatch, argv, message):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    refused(run(*argv.split()), message)
    assert os.listdir() == ["file"]


def test_the_traceback_is_shown_when_asked_for(run):
    code, out, err = run("explain", "--input", ROW, "--target", 10, "--traceback")
    assert (code, out) == (2, "")
    assert err.startswith("Traceback (most recent call last):\n")
    assert err.endswith("\nlrp-ref: target 10: the output has 10 classes\n")


@pytest.mark.parametrize("argv", ["demo", "explain --input 3 --out map.png"])
def test_a_missing_matplotlib_is_one_line_that_names_the_extra(run, tmp_path, monkeypatch, argv):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    refused(run(*argv.split()), 'pip install "lrp_ref[plot]"')
    assert os.listdir() == []


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (KeyboardInterrupt(), 130, "lrp-ref: interrupted\n"),
        (KeyError("a\nb"), 2, "lrp-ref: KeyError: 'a\\nb'\n"),
        (ValueError("a\n  b"), 2, "lrp-ref: a b\n"),
    ],
)
def test_whatever_happens_is_one_line(run, monkeypatch, error, code, line):
    def broken(options):
        raise error

    monkeypatch.setattr(cli, "_explain", broken)
    assert run("explain", "--input", ROW) == (code, "", line)


# --- from outside ----------------------------------------------------------------------------------------------------


def test_the_command_is_installed():
    (script,) = entry_points(group="console_scripts", name="lrp-ref")
    assert script.load() is cli.main


def test_outside_it_exits_with_the_code():
    good = subprocess_of("explain", "--input", ROW, "--model", "digits-mlp", "--exact")
    assert (good.returncode, good.stderr) == (0, "")
    assert "the books balance with ==" in good.stdout
    bad = subprocess_of("explain", "--input", "no.npy")
    refused((bad.returncode, bad.stdout, bad.stderr), "No such file")


def test_help_loads_no_more_than_numpy():
    said = subprocess_of("explain", "--help", code="try: main()\nfinally: print(*sys.modules, file=sys.stderr)")
    assert said.returncode == 0
    assert all(name in said.stdout for name in [*cli.COMPOSITES, *MODELS])
    loaded = {name.partition(".")[0] for name in said.stderr.split()}
    assert "numpy" in loaded
    assert not loaded & {"scipy", "matplotlib", "flint"}
    assert not {"lrp_ref.data", "lrp_ref.show"} & set(said.stderr.split())


def test_a_reader_who_has_enough_is_no_error():
    read, write = os.pipe()
    os.close(read)
    said = subprocess_of("explain", "--input", ROW, stdout=write)
    os.close(write)
    assert (said.returncode, said.stderr) == (0, "")


# --- the demo --------------------------------------------------------------------------------------------------------


def test_the_demo_writes_pictures_and_a_summary(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = run("demo")
    assert (code, err) == (0, "")
    assert sorted(os.listdir("demo-output")) == ["digits.png", "summary.md"]
    assert "maps: demo-output/digits.png\nnumbers and books: demo-output/summary.md\n" in out.replace("\\", "/")
    assert str(tmp_path) not in out

    shipped, graph = digits(), digits_cnn()
    said = graph.forward(floats(shipped.images[shipped.test]))["logits"].argmax(axis=1)
    right = said == shipped.labels[shipped.test]
    assert f"{right.sum()} of {len(right)} test rows are classified correctly ({right.mean():.2%})" in out

    rows = [
        next(r for r, ok in zip(shipped.test, right, strict=True) if ok and shipped.labels[r] == d) for d in range(10)
    ]
    summary = Path("demo-output/summary.md").read_text(encoding="utf-8")
    rule_sets = {
        "uniform LRP-0": lrp.Zero(),
        "uniform epsilon, 0.25 rms": lrp.Epsilon(epsilon=0.25, stabilizer=lrp.Relative(over="sample")),
        "uniform gamma, 0.25 generalized": lrp.GeneralizedGamma(gamma=0.25),
        "composite, epsilon_gamma_box": presets.epsilon_gamma_box(low=0, high=1),
    }
    for name, rules in rule_sets.items():
        shares, bits = [], []
        for digit, row in enumerate(rows):
            e = lrp.explain(graph, x([row]), rules, digit)
            p = abs(e.relevance.ravel()) / abs(e.relevance).sum()
            shares.append(p[e.relevance.ravel() < 0].sum())
            bits.append(-sum(part * np.log2(part) for part in p if part))
            cell = f"{shares[-1]:.0%} negative, {bits[-1]:.2f} bits"
            (line,) = (line for line in summary.splitlines() if line.startswith(f"| {row} | {digit} |"))
            assert line.split(" | ")[3 + list(rule_sets).index(name)].removesuffix(" |") == cell
        mean = [name, f"{np.mean(shares):.1%}", f"{np.mean(bits):.2f}"]
        assert f"| {' | '.join(mean)} |\n" in summary
        assert mean in [[name, *line.removeprefix(name).split()] for line in out.splitlines() if line.startswith(name)]
    books = lrp.explain(graph, x(rows), rules)
    assert (
        f"{books.rules}\n```\n\n```\n{books.ledger.table(3)}\n```\n\ntotal: {books.output[3, 3]:.6g} put in = "
        in summary
    )

    tall, wide, _ = imread("demo-output/digits.png").shape
    assert tall > wide > 1000


def test_the_demo_goes_where_it_is_told(run, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    code, out, _ = run("demo", "--out", tmp_path / "there")
    assert code == 0
    assert f"maps: {Path('..', 'there', 'digits.png')}\n" in out
    assert sorted(os.listdir(tmp_path / "there")) == ["digits.png", "summary.md"]


def test_a_summary_is_written_whole_or_not_at_all(run, tmp_path, monkeypatch):
    assert run("demo", "--out", tmp_path)[0] == 0
    before = (tmp_path / "summary.md").read_bytes()

    def replace(part, path):
        if path.suffix == ".md":
            raise OSError("no space left")
        os.replace(part, path)

    monkeypatch.setattr(Path, "replace", replace)
    refused(run("demo", "--out", tmp_path), "no space left")
    assert (tmp_path / "summary.md").read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["digits.png", "summary.md"]


# --- its deep Taylor decomposition -----------------------------------------------------------------------------------


def without_numbers_json_lacks(text):
    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.fixture(params=[False, True], ids=["text", "json"])
def as_json(request):
    return ["--json"] * request.param


@pytest.mark.parametrize("reading", ["extended", "physical"])
@pytest.mark.parametrize("model", MODELS)
def test_verify_prints_and_writes_what_the_library_finds(run, model, reading):
    argv = ["verify", "--model", model, "--input", ROW, "--reading", reading]
    report = dtd.verify(lrp.explain(MODELS[model](), x(), rules_of("epsilon_gamma_box")), reading)
    code, out, err = run(*argv)
    assert (code, err) == (0, "")
    assert f"\n\n{report}\n" in out
    for node in report.nodes:
        rows = [line for line in out.splitlines() if line.split()[:2] == [node.name, node.kind]]
        assert len(rows) == (node.reason is None)
        assert (f'"{node.name}" ({node.kind}, {node.rule!r})' in out) == (node.reason is not None)

    code, out, err = run(*argv, "--json")
    assert (code, err, out.count("\n")) == (0, "", 1)
    found = without_numbers_json_lacks(out)
    assert {name: found[name] for name in report.to_dict()} == report.to_dict()
    assert (found["model"], found["target"], found["composite"]) == (model, ROW, "epsilon_gamma_box")
    assert found["prediction"]["class"] == ROW
    assert found["versions"]["lrp_ref"] == lrp.__version__
    assert "exact" not in found


OPTIONS = {
    "--target 7": {},
    "--domain R": {"domain": dtd.Real()},
    "--domain R+": {"domain": dtd.Positive()},
    "--domain=-1,0.5": {"domain": dtd.Box(-1, 0.5)},
    "--nodes dense1,logits": {"nodes": ["dense1", "logits"]},
    "--units 2": {"units": 2},
    "--no-context": {"context": False},
}


@pytest.mark.parametrize("option", OPTIONS)
def test_options_of_verify_reach_the_library(run, option):
    code, out, err = run("verify", "--model", "digits-mlp", "--input", ROW, "--json", *option.split())
    assert (code, err) == (0, "")
    target = 7 if "target" in option else None
    e = lrp.explain(digits_mlp(), x(), rules_of("epsilon_gamma_box"), target)
    expected, found = dtd.verify(e, **OPTIONS[option]).to_dict(), without_numbers_json_lacks(out)
    assert {name: found[name] for name in expected} == expected
    if "target" not in option and "domain" not in option:
        assert expected != dtd.verify(e).to_dict()


def test_full_is_asked_for_and_otherwise_left_to_the_library(run, monkeypatch):
    honest, asked = dtd.verify, []
    monkeypatch.setattr(dtd, "verify", lambda *a, full, **k: asked.append(full) or honest(*a, full=False, **k))
    for option in ([], ["--full"]):
        assert run("verify", "--model", "digits-mlp", "--input", ROW, *option)[0] == 0
    assert asked == [None, True]


@pytest.mark.parametrize(("model", "units"), [("digits-cnn", 3), ("digits-mlp", 99)])
def test_verify_in_rationals_finds_zeros(run, model, units, exact):
    argv = ["verify", "--model", model, "--input", ROW, "--exact", "--no-context", "--units", units]
    code, out, err = run(*argv, "--json")
    assert (code, err) == (0, "")
    found, counted = without_numbers_json_lacks(out), 0
    for node in found["nodes"]:
        if "neurons" in node:
            counted += node["neurons"]
            for identity in ("terms_less_messages", "zero_order_less_absorbed", "sum_error"):
                assert node[identity] == {"least": 0, "median": 0, "greatest": 0}
    assert counted > 10
    assert (found["exact"]["carrier"] == "fractions.Fraction") == (sys.modules["flint"] is None)


def test_verify_in_rationals_says_how_long_it_took(run):
    code, out, err = run("verify", "--model", "digits-mlp", "--input", ROW, "--exact")
    assert (code, err) == (0, "")
    assert "\nexact: " in out
    assert " s in rationals (" in out


def test_an_identity_that_is_broken_is_reported_and_exits_with_1(run, monkeypatch, as_json):
    honest = dtd.verify

    def verify(*arguments, **options):
        report = honest(*arguments, **options)
        nodes = [
            node
            if node.name != "dense2"
            else dataclasses.replace(
                node, neurons=dataclasses.replace(node.neurons, difference=node.neurons.difference + 1e-3)
            )
            for node in report.nodes
        ]
        return dataclasses.replace(report, nodes=nodes)

    monkeypatch.setattr(dtd, "verify", verify)
    code, out, err = run("verify", "--model", "digits-mlp", "--input", ROW, *as_json)
    assert code == 1
    line = '"dense2": terms = messages fails at 4 of 4 neurons'
    assert err == f"lrp-ref: the extended reading does not hold: {line}\n"
    if as_json:
        found = without_numbers_json_lacks(out)
        assert (found["holds"], found["broken"]) == (False, [line])
    else:
        assert out.endswith(f"{line}\n")


def test_numbers_that_json_lacks_are_null(run, monkeypatch):
    honest = dtd.verify

    def verify(*arguments, **options):
        report = honest(*arguments, **options)
        nodes = [
            node
            if node.neurons is None
            else dataclasses.replace(
                node, neurons=dataclasses.replace(node.neurons, distance=node.neurons.distance + np.inf)
            )
            for node in report.nodes
        ]
        return dataclasses.replace(report, nodes=nodes)

    monkeypatch.setattr(dtd, "verify", verify)
    code, out, _ = run("verify", "--model", "digits-mlp", "--input", ROW, "--json")
    assert code == 0
    found = {node["node"]: node for node in without_numbers_json_lacks(out)["nodes"]}
    assert found["dense1"]["distance"] == {"least": None, "median": None, "greatest": None}


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("--reading extendd", "no reading 'extendd'; the nearest names are 'extended', 'physical'\n"),
        ("--domain Q", "no domain 'Q'; the nearest names are 'R+', 'R'; a box is LOW,HIGH, such as 0,1\n"),
        ("--domain low,high", "--domain low,high: give R, R+ or a box LOW,HIGH"),
        ("--domain 0,1,2", "--domain 0,1,2: give R, R+ or a box LOW,HIGH"),
        ("--domain 2,1", "--domain 2,1: LOW,HIGH are finite numbers, LOW at most HIGH"),
        ("--domain 0,inf", "--domain 0,inf: LOW,HIGH are finite numbers"),
        ("--nodes conv1,con2", "no node \"con2\"; the nearest names are 'conv2', 'conv1', '"),
        ("--units 0", "--units 0: give 1 or more"),
        ("--units many", "argument --units: invalid int value: 'many'"),
        ("--overlay", "unrecognized arguments: --overlay"),
        ("--composite epsilon_pluss", f"no composite 'epsilon_pluss'; {NEAREST}"),
        ("--target 10", "target 10: the output has 10 classes"),
        ("--out map.jpg", "map.jpg: pictures are written as PNG"),
        ("--out file", "file"),
    ],
)
def test_wrong_use_of_verify_is_one_line_and_exits_with_2(run, tmp_path, monkeypatch, argv, message):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    refused(run("verify", "--input", ROW, *argv.split()), message)
    assert os.listdir() == ["file"]


def test_verify_writes_a_page_around_its_picture(run, tmp_path):
    there = tmp_path / "new"
    code, out, err = run("verify", "--input", ROW, "--nodes", "conv1,logits,relu1", "--out", there)
    assert (code, err) == (0, "")
    assert out.endswith(f"picture: {there / 'taylor.png'}\npage: {there / 'taylor.md'}\n")
    assert sorted(os.listdir(there)) == ["taylor.md", "taylor.png"]
    report = dtd.verify(
        lrp.explain(digits_cnn(), x(), rules_of("epsilon_gamma_box")), nodes=["conv1", "logits", "relu1"]
    )
    save(taylor(report), tmp_path / "expected.png")
    assert (there / "taylor.png").read_bytes() == (tmp_path / "expected.png").read_bytes()
    page = (there / "taylor.md").read_text(encoding="utf-8")
    assert f"```\n{report}\n```\n" in page
    assert "](taylor.png)" in page
    share, t = report["conv1"].root_in_domain, np.median(report["conv1"].neurons.t)
    row = f"| conv1 | Conv | {report['conv1'].rule!r} | 94 | box | {share:.1%} | 100.0% | {t:.3g} ("
    assert row in page
    assert "messages equal the first-order terms of the relevance model at the point a~" in page


def test_a_name_that_ends_in_png_is_the_picture_alone(run, tmp_path):
    code, out, _ = run("verify", "--model", "digits-mlp", "--input", ROW, "--out", tmp_path / "roots.png", "--json")
    assert code == 0
    assert os.listdir(tmp_path) == ["roots.png"]
    found = json.loads(out)
    assert found["picture"] == str(tmp_path / "roots.png")
    assert "page" not in found


# --- certify -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extra", [[], ["--exact"], ["--dtype", "float32"]], ids=lambda e: " ".join(e) or "float64")
@pytest.mark.parametrize("model", MODELS)
def test_certify_prints_what_is_certain(run, tmp_path, model, extra):
    pytest.importorskip("flint")
    argv = ["certify", "--model", model, "--input", ROW, "--top", 4, *extra]
    code, out, err = run(*argv, "--json", "--out", tmp_path / "R.npz")
    assert (code, err) == (0, "")
    said = json.loads(out)
    exact = lrp.explain(MODELS[model](), lrp.exact(x()), rules_of("epsilon_gamma_box"))
    if "float32" in extra:
        exact = lrp.explain(MODELS[model]().like(x().astype("f")), lrp.exact(x()), rules_of("epsilon_gamma_box"))
    R = lrp.fractions(exact.relevance)
    with np.load(tmp_path / "R.npz") as file:
        for middle, radius, number in zip(file["midpoint"].flat, file["radius"].flat, R.flat, strict=True):
            assert abs(Fraction(float(middle)) - number) <= Fraction(float(radius)) + abs(number) / 2**52
    order = sorted(np.ndindex(R.shape), key=lambda i: R[i], reverse=True)
    assert [tuple(entry["index"]) for entry in said["greatest"]] == [i[1:] for i in order[:4]]
    assert said["certain_places"] == 4
    assert said["signs"] == {
        "positive": int((R > 0).sum()), "negative": int((R < 0).sum()), "zero": int((R == 0).sum()), "undetermined": 0,
    }  # fmt: skip
    assert said["total"]["midpoint"] == pytest.approx(float(R.sum()), rel=1e-15)
    assert said["radius"] <= 2.0**-60
    assert said["engine"] == ("rationals" if "--exact" in extra or model == "digits-mlp" else "balls")
    if "--exact" not in extra:
        assert 0 < said["error"] < (1e-5 if "float32" in extra else 1e-14)
    code, text, _ = run(*argv)
    assert code == 0
    for part in ("enclosed in", "total: ", "0 undetermined", "the first 4 in certain order", "(0, "):
        assert part in text


@pytest.mark.parametrize(
    ("argv", "message"),
    [("--top 0", "--top 0: give 1 or more"), ("--radius 2", "radius=2.0: need a number between 0 and 1")],
)
def test_wrong_use_of_certify_is_one_line_and_exits_with_2(run, argv, message):
    refused(run("certify", "--input", ROW, *argv.split()), message)
