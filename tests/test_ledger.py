"""The books of one node and of a network, by hand: what is summed, over what, and how it prints."""

import itertools

import pytest

import lrp_ref as lrp
from lrp_ref.ledger import Absorbed, Ledger, entry

CAME = [[8, 4, -2], [1, 0, 0]]
GIVEN = [[3, 1], [0, 0]]

FIRST = """\
node  layer    came  went  bias  stabilizer  unclaimed  edited  amplified
join  Add      10    7     1     2           -3         2       0.75       zero denominators: 1, empty parts: 2
a     (input)  4                                        4
b     (input)  -1                                       .
c     (input)  .                                        .
"""
SECOND = """\
node  layer    came  went  bias  stabilizer  unclaimed  edited  amplified
join  Add      1     1     .     .           .          -2      0.33333    empty parts: 1
a     (input)  .                                        .
b     (input)  1                                        .
c     (input)  .                                        .
"""


def absorbed(exact, *, poles, empty):
    nothing, marks = exact(CAME) * 0, exact(CAME) != exact(CAME)
    bias, stabilizer, unclaimed = nothing.copy(), nothing.copy(), nothing.copy()
    bias[0], stabilizer[0], unclaimed[0] = exact([1, 0, 0]), exact([0, 2, 0]), exact([0, 0, -3])
    marks_of = [marks.copy(), marks.copy()]
    for mark, where in zip(marks_of, (poles, empty), strict=True):
        for sample, unit in where:
            mark[sample, unit] = True
    return Absorbed(bias, stabilizer, unclaimed, *marks_of)


def node(exact, dealt=None, poles=(), empty=()):
    """One node of three outputs that reads `a` twice and `b` once."""
    came = exact(CAME)
    R_in = [exact(GIVEN), exact([[-1], [1]]), exact(GIVEN)]
    books = absorbed(exact, poles=poles, empty=empty)
    return entry("join", "Add", came, came if dealt is None else exact(dealt), ["a", "b", "a"], R_in, books)


def test_each_sample_is_summed_over_its_own_units(exact):
    line = node(exact, poles=[(0, 0), (0, 1), (1, 2)], empty=[(0, 2)])
    assert (line.node, line.kind) == ("join", "Add")
    assert lrp.fractions(line.came).tolist() == [10, 1]
    assert {name: lrp.fractions(part).tolist() for name, part in line.sent.items()} == {"a": [8, 0], "b": [-1, 1]}
    assert lrp.fractions(line.went).tolist() == [7, 1]
    parts = (line.bias, line.stabilizer, line.unclaimed, line.edited, line.absorbed)
    assert [lrp.fractions(part).tolist() for part in parts] == [[1, 0], [2, 0], [-3, 0], [0, 0], [0, 0]]
    assert lrp.fractions(line.magnitude_out).tolist() == [14, 1]
    assert lrp.fractions(line.magnitude_in).tolist() == [9, 1]
    assert [str(v) for v in lrp.fractions(line.amplification)] == ["9/14", "1"]
    assert lrp.fractions(line.balance()).tolist() == [3, 0]
    assert (line.poles.tolist(), line.empty.tolist()) == ([2, 1], [1, 0])


def test_what_a_mask_took_is_came_minus_dealt(exact):
    line = node(exact, dealt=[[8, 2, -2], [3, 0, 0]])
    assert lrp.fractions(line.edited).tolist() == [2, -2]
    assert lrp.fractions(line.came).tolist() == [10, 1]
    assert lrp.fractions(line.magnitude_out).tolist() == [12, 3]


@pytest.mark.parametrize("sources", [["a"], ["a", "b", "a"]])
def test_every_source_has_relevance_or_it_is_an_error(exact, sources):
    came = exact(CAME)
    with pytest.raises(ValueError, match=r"shorter|longer"):
        entry("join", "Add", came, came, sources, [exact(GIVEN)] * 2, absorbed(exact, poles=[], empty=[]))


def ledger(exact):
    """`join` after a mask, then the inputs: `a` masked, `b`, and `c`, which nothing reads."""
    line = node(exact, dealt=[[8, 2, -2], [3, 0, 0]], poles=[(0, 0)], empty=[(0, 0), (0, 2), (1, 1)])
    arrived = {"a": exact([4, 0]), "b": exact([-1, 1]), "c": exact([0, 0])}
    return Ledger([line], {"join": exact([10, 1])}, arrived, {"a": exact([4, 0])})


def test_the_table_has_a_row_for_each_node_and_input(exact):
    """0 is a dot, but a factor of 0; a sample has its own numbers and its own marks."""
    books = ledger(exact)
    assert books.table() + "\n" == FIRST
    assert str(books) == books.table(0)
    assert books.table(1) + "\n" == SECOND


def test_no_relevance_is_amplified_by_0_in_the_table(exact):
    came = exact([[0]])
    nothing, never = came * 0, came != came
    line = entry("n", "Dense", came, came, ["a"], [came], Absorbed(nothing, nothing, nothing, never, never))
    rows = Ledger([line], {"n": exact([0])}, {"a": exact([0])}, {}).table().splitlines()
    assert rows[1].split() == ["n", "Dense", *"......", "0"]
    assert rows[2].split() == ["a", "(input)", ".", "."]


def test_fan_in_is_what_came_minus_what_was_sent_and_put_in(exact):
    """The input `c`, to which nothing was sent, is there too."""
    books = ledger(exact)
    differences = {name: lrp.fractions(part).tolist() for name, part in books.fan_in().items()}
    assert differences == {"join": [0, 0], "a": [0, 0], "b": [0, 0], "c": [0, 0]}
    twice = Ledger(books.entries, {"join": exact([7, 1]), "b": exact([5, 0])}, books.arrived, books.edited_inputs)
    differences = {name: lrp.fractions(part).tolist() for name, part in twice.fan_in().items()}
    assert differences == {"join": [3, 0], "a": [0, 0], "b": [-5, 0], "c": [0, 0]}


def test_the_books_closed_end_to_end(exact):
    books = ledger(exact)
    assert lrp.fractions(books.absorbed).tolist() == [6, -2]
    assert lrp.fractions(books.balance()).tolist() == [1, 2]
    assert (len(books), list(books), books["join"]) == (1, books.entries, books.entries[0])
    with pytest.raises(KeyError, match=r'no relevance passed a node "dense"; the ledger has \[.*join.*\]'):
        books["dense"]


def test_two_shares_are_booked_together(exact):
    """Numbers add up, and a mark of either share is a mark."""
    yes, no = exact([1]) == exact([1]), exact([1]) != exact([1])
    for marks in itertools.product((yes, no), repeat=4):
        one = Absorbed(exact([1]), exact([2]), exact([3]), *marks[:2])
        other = Absorbed(exact([10]), exact([20]), exact([30]), *marks[2:])
        both = one + other
        assert [lrp.fractions(part).tolist() for part in (both.bias, both.stabilizer, both.unclaimed)] == [
            [11],
            [22],
            [33],
        ]
        assert [*both.poles, *both.empty] == [marks[0] or marks[2], marks[1] or marks[3]]
