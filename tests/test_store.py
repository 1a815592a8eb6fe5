"""Explanations in files: nothing is lost, nothing is pickled, bad files are one clear error."""

import io
import json
import zipfile
from fractions import Fraction

import numpy as np
import pytest
from checks import check_books

import lrp_ref as lrp
from lrp_ref.layers import Add, Conv, Dense, Flatten, ReLU
from lrp_ref.store import parse

RNG = np.random.default_rng(5)
NET = lrp.Graph(
    [
        lrp.Node(
            "../conv/1", Conv(weight=RNG.integers(-4, 5, (2, 2, 3, 3)) / 4, bias=[0.5, -0.25], padding=1), "input"
        ),
        lrp.Node("relu", ReLU(), "../conv/1"),
        lrp.Node("sum", Add(), "relu", "input"),
        lrp.Node("flat", Flatten(), "sum"),
        lrp.Node("dense", Dense(weight=RNG.integers(-4, 5, (18, 3)) / 4), "flat"),
    ],
    outputs="dense",
)
X = RNG.integers(-4, 5, (2, 2, 3, 3)) / 4
BOX = lrp.presets.epsilon_gamma_box(low=(-1, -1), high=np.ones(2))


@pytest.mark.parametrize("to", [np.float32, np.float64, np.longdouble, lrp.exact], ids=lambda f: f.__name__)
def test_what_was_saved_is_read(to, tmp_path):
    x = lrp.exact(X) if to is lrp.exact else X.astype(to)
    e = lrp.explain(NET, x, BOX, target=[1, 2], edit={"input": 0.5})
    e.save(tmp_path / "e.npz")
    back = lrp.read(tmp_path / "e.npz")
    assert [file.name for file in tmp_path.iterdir()] == ["e.npz"]
    assert back.rules == e.rules
    assert str(back.rules) == str(e.rules)
    assert str(back.ledger) == str(e.ledger)
    assert list(back.relevances) == list(e.relevances)
    pairs = [(back.relevance, e.relevance), (back.output, e.output)]
    pairs += [(back.at(name), e.at(name)) for name in e.relevances]
    pairs += [(back.activations[name], e.activations[name]) for name in e.activations]
    pairs += [(b.absorbed, a.absorbed) for b, a in zip(back.ledger, e.ledger, strict=True)]
    for read, saved in pairs:
        assert read.dtype == saved.dtype
        assert read.shape == saved.shape
        assert (lrp.fractions(read) == lrp.fractions(saved)).all()
    if to is lrp.exact:
        check_books(back)


def test_several_inputs_come_back_as_a_dict(tmp_path):
    net = lrp.Graph([lrp.Node("sum", Add(), "a", "b")], outputs="sum", inputs=["a", "b"])
    x = np.array([[1.0, 2.0]])
    e = lrp.explain(net, {"a": x, "b": 3 * x}, lrp.Zero(), target=x)
    e.save(tmp_path / "e.npz")
    back = lrp.read(tmp_path / "e.npz")
    np.testing.assert_array_equal(back.relevance["b"], e.relevance["b"])


def test_a_failed_save_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "e.npz"
    e = lrp.explain(NET, X, BOX)
    e.save(path)
    before = path.read_bytes()
    monkeypatch.setattr("lrp_ref.store.json.dumps", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        e.save(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["e.npz"]


class Half(lrp.Rule):
    """A rule of somebody else's."""

    def shares(self):
        return (lrp.Share((lrp.Term(),), portion=0.5),)


def test_rules_of_others_are_read_if_they_are_named(tmp_path):
    lrp.explain(NET, X, Half(epsilon=0.5)).save(tmp_path / "e.npz")
    with pytest.raises(lrp.LrpError, match="Half in 'Half"):
        lrp.read(tmp_path / "e.npz")
    assert lrp.read(tmp_path / "e.npz", constructors={"Half": Half}).rules["dense"] == Half(epsilon=0.5)


@pytest.mark.parametrize(
    "rule",
    [
        lrp.Epsilon(epsilon=Fraction(1, 5)),
        lrp.Epsilon(epsilon=0.5, stabilizer=lrp.SignedOrZero(at_zero=Fraction(1, 3))),
        lrp.Epsilon(epsilon=np.float32(0.1), stabilizer=lrp.Relative(plus=np.longdouble("0.1"))),
        lrp.Gamma(gamma=np.longdouble("0.1")),
        lrp.ZBox(low=(Fraction(-4, 3), -1), high=np.array([1, 2])),
    ],
    ids=str,
)
def test_numbers_of_every_kind_are_read_back_as_what_they_are(rule, tmp_path):
    assert repr(parse(repr(rule))) == repr(rule)  # NumPy compares a longdouble and a Fraction as float64
    lrp.explain(NET, X, lrp.Composite([(lrp.first(Conv), rule), (lrp.kind(Dense, Conv, Add), lrp.Zero())])).save(
        tmp_path / "e.npz"
    )
    assert repr(lrp.read(tmp_path / "e.npz").rules["../conv/1"]) == repr(rule)


def test_a_rational_of_flint_is_read_back_as_a_fraction():
    flint = pytest.importorskip("flint")
    assert repr(lrp.Epsilon(epsilon=flint.fmpq(1, 5))) == "Epsilon(epsilon=Fraction(1, 5))"


@pytest.mark.parametrize(
    "text",
    ["__import__('os').system('true')", "Gamma(0.25)", "Gamma(gamma=print())", "open('x')", "(lambda: 1)()", "Gamma("]
    + [f"Gamma(gamma=Fraction({of}))" for of in ("1, 0", "'1e999999999'", "0.5", "x", "*[1, 2]", "1, 2, 3")],
)
def test_only_rules_are_parsed(text):
    with pytest.raises((lrp.LrpError, ValueError, SyntaxError)):
        parse(text)


def damaged(tmp_path, change):
    """A saved explanation with its members changed."""
    path = tmp_path / "e.npz"
    lrp.explain(NET, X, BOX).save(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    how = change(members) or zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", how) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def npy(array, **options):
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def edited(key, value):
    return lambda members: members.update(
        {"about.json": json.dumps(json.loads(members["about.json"]) | {key: value}).encode()}
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda members: members.update({"0.npy": npy(np.array([{}], dtype=object), allow_pickle=True)}),
        lambda members: members.update({"0.npy": members["0.npy"][:-8]}),
        lambda members: members.update({"0.npy": members["0.npy"].replace(b"(2, 2, 3, 3)", b"(9999999999,)")}),
        lambda members: members.pop("0.npy") and None,
        lambda members: members.pop("about.json") and None,
        lambda members: members.update({"about.json": b"{"}),
        lambda members: members.update({"about.json": b"[]"}),
        lambda members: zipfile.ZIP_DEFLATED,
        edited("format", 2),
        edited("rules", {"dense": ["Zeros()", "", ""]}),
        edited("rules", {"dense": ["Gamma(gamma=-1)", "", ""]}),
        edited("entries", [{"node": "a"}]),
        edited("relevance", {"array": "../../0"}),
    ],
    ids=[
        *("pickle", "truncated", "huge", "missing", "no json", "bad json", "list", "compressed"),
        *("format", "unknown rule", "bad rule", "entry", "path"),
    ],
)
def test_a_bad_file_is_one_clear_error(tmp_path, change):
    path = damaged(tmp_path, change)
    with pytest.raises(lrp.LrpError, match=r"e\.npz|Zeros") as caught:
        lrp.read(path)
    assert "\n" not in str(caught.value)


def test_what_is_no_zip_is_refused(tmp_path):
    (tmp_path / "x.npz").write_bytes(b"no zip")
    with pytest.raises(lrp.LrpError, match="not an explanation"):
        lrp.read(tmp_path / "x.npz")
    with pytest.raises(FileNotFoundError):
        lrp.read(tmp_path / "y.npz")
