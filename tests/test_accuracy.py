"""Floats against exact arithmetic, on the shipped networks, under every preset that has a rule for all their layers."""

import sys
from fractions import Fraction

import numpy as np
import pytest
from checks import check_books
from zennit_composites import BOX, ZENNIT

import lrp_ref as lrp
from lrp_ref.data import digits, digits_cnn, digits_mlp

DATA = digits()
NETWORKS = {"mlp": digits_mlp(), "cnn": digits_cnn()}
PRESETS = {
    **ZENNIT,
    "chapter_vgg16": lrp.presets.chapter_vgg16(**BOX),
    "tutorial_vgg16": lrp.presets.tutorial_vgg16(**BOX),
    "tutorial_mlp": lrp.presets.tutorial_mlp(**BOX),
}
REFUSED = {("cnn", "chapter_vgg16"), ("cnn", "tutorial_vgg16"), ("cnn", "tutorial_mlp")}
PAIRS = [(net, preset) for net in NETWORKS for preset in PRESETS if (net, preset) not in REFUSED]
NEED_THE_AMPLIFICATION: set[tuple[str, str]] = set()
"""Pairs whose error exceeds the fixed bound and is held to 16 u A instead: at most two may ever stand here."""
FIXED = {"float32": 5e-6, "float64": 1e-14}


def amplification(net, ledger):
    """The greatest product of sum|R_in| / sum|R_out| over the ways from the output to the input."""
    product = dict.fromkeys(net.outputs, 1.0)
    for entry in ledger:
        for source in entry.sent:
            product[source] = max(product.get(source, 0.0), product[entry.node] * float(entry.amplification[0]))
    return product["input"]


def check_floats(name, preset, count):
    """Every relevance of the first digits of the test rows within the bound of the exact one, relative to max|R|."""
    net, composite = NETWORKS[name], PRESETS[preset]
    assert len(NEED_THE_AMPLIFICATION) <= 2
    for row in DATA.test[:count]:
        x, target = DATA.images[row : row + 1], int(DATA.labels[row])
        exact = lrp.explain(net, lrp.exact(x), composite, target)
        check_books(exact)
        truth = lrp.fractions(exact.relevance)
        for dtype, fixed in FIXED.items():
            e = lrp.explain(net, x.astype(dtype), composite, target)
            error = float(abs(lrp.fractions(e.relevance) - truth).max() / abs(truth).max())
            bound = fixed
            if (name, preset) in NEED_THE_AMPLIFICATION:
                bound = max(fixed, 16 * np.finfo(dtype).eps / 2 * amplification(net, e.ledger))
            assert error <= bound, f"row {row}, {dtype}: {error:.2g} of max|R|"


@pytest.mark.parametrize(("name", "preset"), PAIRS)
def test_floats_are_near_the_exact_relevance(name, preset):
    check_floats(name, preset, count=3)


@pytest.mark.full
@pytest.mark.parametrize(("name", "preset"), PAIRS)
def test_floats_are_near_the_exact_relevance_on_many_digits(name, preset):
    check_floats(name, preset, count=60)


@pytest.mark.parametrize(("name", "preset"), sorted(REFUSED))
def test_presets_made_for_other_networks_say_which_layer_they_do_not_know(name, preset):
    with pytest.raises(lrp.NoRule, match=r"no rule for node \"(bn1|conv1)\""):
        lrp.explain(NETWORKS[name], DATA.images[:1], PRESETS[preset])


@pytest.mark.parametrize(("name", "preset"), PAIRS)
def test_both_carriers_give_the_same_rationals(name, preset, monkeypatch):
    pytest.importorskip("flint")
    row = DATA.test[0]

    def explained():
        x = lrp.exact(DATA.images[row : row + 1])
        return lrp.explain(NETWORKS[name], x, PRESETS[preset], int(DATA.labels[row]))

    quick = explained()
    monkeypatch.setitem(sys.modules, "flint", None)
    plain = explained()
    check_books(plain)
    assert {type(v) for v in plain.relevance.flat} == {Fraction}
    assert {type(v) for v in quick.relevance.flat} != {Fraction}
    assert (lrp.fractions(plain.relevance) == lrp.fractions(quick.relevance)).all()
