"""The conformance vectors: what ships is what the generator makes, is right, and covers what it says.

Expected values are held against the literal loops (every single layer), against numbers that others printed (in the
generator), and against lrp_ref reading nothing but the files. The default tier makes a part of the files anew, the full
tier all.
"""

import copy
import dataclasses
import hashlib
import inspect
import json
import random
import re
import subprocess
import sys
from collections import defaultdict
from fractions import Fraction
from pathlib import Path

import by_definition
import numpy as np
import pytest
import vector_loops as loops
from vector_files import (
    Vector,
    composite,
    enclosed,
    exactly,
    explained,
    files,
    group,
    inputs,
    manifest,
    network,
    rule,
    tensors,
    vectors,
)

import lrp_ref as lrp
from lrp_ref import cli
from lrp_ref.oracle import vectors as shipped
from lrp_ref.oracle.balls import working
from lrp_ref.oracle.settings import Setting
from lrp_ref.oracle.variants import CATALOGUE, of_statistics
from lrp_ref.oracle.vectors import compute, coverage, generate, margins, numbers, schema, singles, spelled
from lrp_ref.oracle.vectors.cases import CONDITIONS, conditions
from lrp_ref.oracle.vectors.instances import GROUP, instances

onnx = pytest.importorskip("onnx")

README = Path(shipped.__file__).parent / "README.md"
SINGLES = [vector for vector in vectors() if vector.single]
NETWORKS = [vector for vector in vectors() if not vector.single and vector.group != "smooth"]
SMOOTH = [vector for vector in vectors() if vector.group == "smooth"]


def sampled(values, step, first=0):
    return list(values)[first::step]


# --- the files ------------------------------------------------------------------------------------------------------


def test_counts_and_sizes():
    assert manifest()["numberOfTests"] == len(vectors()) >= 1500
    assert {name: about["tests"] for name, about in manifest()["groups"].items()} == {
        name: sum(vector.group == name for vector in vectors()) for name in generate.ORDER
    }
    assert [vector.test["tcId"] for vector in vectors()] == list(range(1, len(vectors()) + 1))
    assert len({vector.test["id"] for vector in vectors()}) == len(vectors())
    assert all(group(name)["numberOfTests"] == manifest()["groups"][name]["tests"] for name in generate.ORDER)
    size = sum(map(len, files().values()))
    print(f"{len(vectors())} tests, {len(files())} files, {size / 1e6:.2f} MB")
    assert size < 25e6


def test_every_file_of_an_export_is_listed_or_is_the_list():
    assert set(files()) - set(manifest()["files"]) == {"README.md", "manifest.json"}
    assert {part["onnx"] for name in generate.ORDER for part in group(name)["testGroups"]} == {
        name for name in files() if name.endswith(".onnx")
    }


CASES = generate.cases()


@pytest.mark.parametrize("number", range(1, len(CASES) + 1, 60))
def test_a_case_made_anew_is_the_same_to_the_byte(number):
    vector, case = vectors()[number - 1], CASES[number - 1]
    made = compute.computed(case)
    line = generate.dumped(generate.test(number, case, made))
    assert (
        line in files()[f"{case.group}.json"].decode().splitlines()[1:]
        or f"{line}," in files()[f"{case.group}.json"].decode().splitlines()
    )
    for name, array in generate.tensors(number, made).items():
        stored = tensors(vector.group)[name]
        assert (stored.dtype, stored.shape, stored.tobytes()) == (array.dtype, array.shape, array.tobytes())
    assert generate.onnx_file(case) == files()[f"networks/{case.network.name}.onnx"]


@pytest.mark.parametrize("number", [1, 700, len(CASES) - 100])
def test_the_standard_librarys_rationals_make_the_same(number, monkeypatch):
    monkeypatch.setitem(sys.modules, "flint", None)
    made = compute.computed(CASES[number - 1])
    assert json.loads(generate.dumped(made.data)).items() <= vectors()[number - 1].test.items()


def test_the_schemas_made_anew_are_the_same_to_the_byte():
    for name, made in (("group", schema.group()), ("manifest", schema.manifest(generate.ORDER))):
        assert files()[f"{name}.schema.json"] == generate._indented(made)


@pytest.mark.full
def test_all_files_made_anew_are_the_same_to_the_byte():
    made = generate.files()
    assert set(made) == {path.name for path in shipped.files.DATA.iterdir()}
    for name, content in made.items():
        assert content == (shipped.files.DATA / name).read_bytes(), name


def test_the_surface():
    public = {name for name, part in vars(shipped).items() if name[0] != "_" and not inspect.ismodule(part)}
    assert public - {"annotations"} == set(shipped.__all__)


def test_drawn_numbers_are_those_of_sha256():
    words = b"".join(hashlib.sha256(b"some label/%d" % i).digest() for i in range(2))
    expected = [int.from_bytes(words[i : i + 4]) * 10 >> 32 for i in range(0, 64, 4)]
    draw, again = numbers.Draw("some label"), numbers.Draw("some label")
    assert [draw.below(10) for _ in range(16)] == expected
    assert again.of(range(10), (2, 8)).tolist() == [expected[:8], expected[8:]]


# --- the schema -----------------------------------------------------------------------------------------------------


def objects(value):
    """Every schema of an object in a schema."""
    if isinstance(value, dict):
        if value.get("type") == "object":
            yield value
        for part in value.values():
            yield from objects(part)
    elif isinstance(value, list):
        for part in value:
            yield from objects(part)


SCHEMAS = ["group", "manifest"]


@pytest.mark.parametrize("name", SCHEMAS)
def test_no_object_may_have_properties_of_no_name(name):
    found = list(objects(json.loads(files()[f"{name}.schema.json"])))
    assert found
    assert all(one["additionalProperties"] is False for one in found)


def validator(name):
    jsonschema = pytest.importorskip("jsonschema", reason="needs jsonschema (group test)")
    about = json.loads(files()[f"{name}.schema.json"])
    jsonschema.Draft202012Validator.check_schema(about)
    return jsonschema.Draft202012Validator(about)


def test_the_manifest_fits_its_schema():
    check = validator("manifest")
    check.validate(manifest())
    wrong = {**manifest(), "more": 1}
    assert not check.is_valid(wrong)


@pytest.mark.parametrize("name", generate.ORDER)
def test_a_test_of_each_network_fits_the_schema(name):
    check = validator("group")
    for part in group(name)["testGroups"]:
        check.validate({**group(name), "testGroups": [{**part, "tests": part["tests"][:1]}]})


@pytest.mark.full
@pytest.mark.parametrize("name", generate.ORDER)
def test_a_group_fits_its_schema(name):
    validator("group").validate(group(name))


def broken(change):
    """The smallest group, changed."""
    made = copy.deepcopy({**group("dense"), "testGroups": group("dense")["testGroups"][:1]})
    made["testGroups"][0]["tests"] = made["testGroups"][0]["tests"][:2]
    change(made["testGroups"][0]["tests"][1], made["testGroups"][0])
    return made


WRONG = {
    "a property more": lambda test, part: test.update(more=1),
    "a property less": lambda test, part: test.pop("margin"),
    "a rule without its bias": lambda test, part: test["rules"]["layer"].pop("bias"),
    "a rule of no such name": lambda test, part: test["rules"]["layer"].update(rule="Delta"),
    "a parameter of another rule": lambda test, part: test["rules"]["layer"].update(gamma=1),
    "a number for a rational": lambda test, part: test["relevance"]["input"]["values"].append(0.5),
    "a decimal for a rational": lambda test, part: test["relevance"]["input"]["values"].append("0.5"),
    "a rational of 401 characters": lambda test, part: test["relevance"]["input"]["values"].append("1" * 401),
    "a ball without a radius": lambda test, part: test["relevance"]["input"]["values"].append(
        {"float64": 0.5, "mid": "1/2"}
    ),
    "a condition of no such name": lambda test, part: test["conditions"].append("sunny"),
    "an option more": lambda test, part: part["graph"]["nodes"][0]["options"].update(bias=True),
    "a layer of no such name": lambda test, part: part["graph"]["nodes"][0].update(layer="Denser"),
    "a stabilizer with a parameter of another": lambda test, part: test["rules"]["layer"]["stabilizer"].update(plus=1),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_does_not_fit_the_schema(name):
    check = validator("group")
    assert check.is_valid(broken(lambda test, part: None))
    assert not check.is_valid(broken(WRONG[name]))


# --- the numbers ----------------------------------------------------------------------------------------------------


def test_rationals_are_short_and_in_lowest_terms_and_balls_prove_their_float():
    texts = balls = 0
    for vector in vectors():
        for part in ("start", "mask", "relevance", "ledger", "accept"):
            for entry in entries_of(vector.test[part]):
                if isinstance(entry, str):
                    texts += 1
                    assert len(entry) <= 400
                    assert str(Fraction(entry)) == entry
                else:
                    balls += 1
                    mid, radius = Fraction(entry["mid"]), Fraction(entry["radius"])
                    assert float(mid - radius) == float(mid + radius) == entry["float64"]
                    assert radius > 0
                    for part_of_ball in (mid, radius):
                        assert part_of_ball.denominator & (part_of_ball.denominator - 1) == 0
    print(f"{texts} rationals, {balls} balls")
    assert texts > 100_000
    assert balls > 1000


def entries_of(value):
    """The numbers in tensors and books."""
    if isinstance(value, dict):
        if "values" in value:
            yield from value["values"]
        elif "came" in value:
            for key in ("came", "bias", "stabilizer", "unclaimed", "masked"):
                yield from value[key]
            for amounts in value["went"].values():
                yield from amounts
        else:
            for part in value.values():
                yield from entries_of(part)
    elif isinstance(value, list):
        for part in value:
            if isinstance(part, (dict, list)):
                yield from entries_of(part)


def rounded(entry):
    return float(Fraction(entry)) if isinstance(entry, str) else entry["float64"]


def test_the_tensors_hold_what_the_json_says_correctly_rounded():
    for vector in vectors():
        stored, key = tensors(vector.group), vector.test["tcId"]
        for kind, part in (("start", vector.test["start"]), ("R", vector.test["relevance"])):
            for name, tensor in part.items():
                array = stored[f"{key}/{kind}/{name}"]
                assert list(array.shape) == tensor["shape"]
                assert array.reshape(-1).tolist() == [rounded(entry) for entry in tensor["values"]]
        for name, shape in vector.graph["inputs"].items():
            assert list(stored[f"{key}/x/{name}"].shape) == [vector.test["batch"], *shape]
            assert stored[f"{key}/x/{name}"].dtype == np.float32


def test_the_two_descriptions_of_a_network_agree():
    for name in generate.ORDER:
        for part in group(name)["testGroups"]:
            graph, about = network(part["network"]), part["graph"]
            assert [*about["inputs"]] == [*graph.inputs]
            assert about["outputs"] == [*graph.outputs]
            for node, said in zip(graph.nodes, about["nodes"], strict=True):
                assert (said["name"], said["inputs"]) == (node.name, [*node.inputs])
                assert json.loads(generate.dumped(spelled.spelled_layer(node.layer))) == {
                    key: said[key] for key in ("layer", "options")
                }
                arrays = spelled.arrays(node.layer)
                assert [*arrays] == said["arrays"]
                for key, array in arrays.items():
                    stored = tensors(name)[f"network/{part['network']}/{node.name}/{key}"]
                    assert (stored.shape, stored.tobytes()) == (array.shape, array.tobytes())


@pytest.mark.parametrize(
    "value", [Fraction(1, 3), Fraction(-(10**300), 7), Fraction(3**600, 2**700), -Fraction(1, 10**200)]
)
def test_a_ball_encloses_its_value(value):
    ball = numbers.ball(value)
    assert abs(value - Fraction(ball["mid"])) <= Fraction(ball["radius"])
    assert ball["float64"] == float(value)


def test_a_ball_near_a_tie_takes_more_bits_and_a_tie_has_none():
    tie = 1 + Fraction(1, 2**53)
    near = tie + Fraction(1, 2**120)
    ball = numbers.ball(near)
    assert Fraction(ball["mid"]).denominator > 2**100
    assert ball["float64"] == float(near) == 1 + 2**-52
    with pytest.raises(lrp.LrpError, match="no ball"):
        numbers.ball(tie)


def test_long_rationals_are_balls():
    assert numbers.entry(Fraction(1, 10**397)) == f"1/{10**397}"  # 400 characters
    assert numbers.entry(Fraction(1, 10**398)) == numbers.ball(Fraction(1, 10**398))


@pytest.mark.parametrize("name", sampled(sorted(n for n in files() if n.endswith(".onnx")), 9))
def test_a_network_computes_the_same_in_another_tool(name):
    from onnx.reference import ReferenceEvaluator

    model = onnx.load_from_string(files()[name])
    onnx.checker.check_model(model, full_check=True)
    vector = next(v for v in vectors() if f"networks/{v.test['network']}.onnx" == name)
    (theirs,) = ReferenceEvaluator(model).run(None, inputs(vector))
    graph = network(vector.test["network"])
    ours = graph.forward({key: a.astype(np.float64) for key, a in inputs(vector).items()})[graph.outputs[0]]
    np.testing.assert_allclose(theirs, ours, rtol=1e-5, atol=1e-5)


# --- what is expected, by the literal loops -------------------------------------------------------------------------


def by_loops(vector):
    """The relevance of the inputs and the books, of a single layer, from the files and the literal loops."""
    test = vector.test
    layer = network(test["network"])["layer"].layer
    x = inputs(vector)
    shapes = [tuple(shape) for shape in vector.graph["inputs"].values()]
    samples = [[v for a in x.values() for v in a[n].astype(float).reshape(-1).tolist()] for n in range(test["batch"])]
    R = exactly(test["start"]["layer"])
    relevances = [R[n].reshape(-1).tolist() for n in range(test["batch"])]
    return loops.dealt(layer, shapes, test["rules"]["layer"], samples, relevances), relevances


def check_by_loops(vector):
    """Relevance, and each column of the books, with == (or, where a ball stands for it, within the ball)."""
    dealt, R = by_loops(vector)
    test, start = vector.test, 0
    (book,) = test["ledger"]
    assert book["came"] == [str(sum(map(Fraction, r))) for r in R]
    for name, shape in vector.graph["inputs"].items():
        stop = start + int(np.prod(shape, dtype=int))
        check_numbers(test["relevance"][name]["values"], [r for one in dealt for r in one.R_in[start:stop]], test["id"])
        check_numbers(book["went"][name], [sum(one.R_in[start:stop], Fraction(0)) for one in dealt], test["id"])
        start = stop
    for column in ("bias", "stabilizer", "unclaimed"):
        check_numbers(book[column], [sum(getattr(one, column), Fraction(0)) for one in dealt], f"{test['id']} {column}")
    assert book["masked"] == ["0"] * test["batch"]


def check_numbers(expected, found, what):
    assert len(expected) == len(found)
    for entry, value in zip(expected, found, strict=True):
        assert encloses(entry, value), f"{what}: {value}, expected is {entry}"


def encloses(entry, value):
    """Whether an entry of the files stands for that number."""
    if isinstance(entry, str):
        return Fraction(entry) == value
    return abs(value - Fraction(entry["mid"])) <= Fraction(entry["radius"]) and float(value) == entry["float64"]


@pytest.mark.parametrize("name", sorted(set(GROUP.values())))
def test_single_layers_by_definition(name):
    some = [vector for vector in SINGLES if vector.group == name]
    assert some
    for vector in some:
        check_by_loops(vector)


def changed(vector, change):
    test = copy.deepcopy(vector.test)
    change(test)
    return vector._replace(test=test)


def test_the_check_by_loops_sees_one_wrong_number():
    vector = next(v for v in SINGLES if v.test["id"] == "dense/dense/Epsilon")
    check_by_loops(vector)

    def relevance(test):
        test["relevance"]["input"]["values"][3] = str(
            Fraction(test["relevance"]["input"]["values"][3]) + Fraction(1, 999)
        )

    def bias(test):
        test["ledger"][0]["bias"][0] = "1/7"

    def swapped(test):
        test["rules"]["layer"]["epsilon"] = 0.5

    for change in (relevance, bias, swapped):
        with pytest.raises(AssertionError):
            check_by_loops(changed(vector, change))


# --- what is expected, by lrp_ref from the files alone --------------------------------------------------------------


def check_from_files(vector):
    e, test = explained(vector), vector.test
    for name, tensor in test["relevance"].items():
        found = lrp.fractions(e.at(name))
        assert list(found.shape) == tensor["shape"]
        assert all(map(encloses, tensor["values"], found.reshape(-1))), (test["id"], name)
    books = [json.loads(generate.dumped(book)) for book in compute.books(e.ledger)]
    assert books == test["ledger"], test["id"]
    assert (margins.margin(e)) == test["margin"], test["id"]


@pytest.mark.parametrize("vector", sampled(NETWORKS, 3), ids=lambda vector: vector.test["id"])
def test_networks_from_the_files_alone(vector):
    check_from_files(vector)


@pytest.mark.full
@pytest.mark.parametrize("vector", [*SINGLES, *NETWORKS], ids=lambda vector: vector.test["id"])
def test_all_from_the_files_alone(vector):
    check_from_files(vector)


def around(entry):
    """Two ends between which the number lies, and the float64 that it is nearest to."""
    if isinstance(entry, str):
        return Fraction(entry), Fraction(entry), float(Fraction(entry))
    return (*(Fraction(entry["mid"]) + sign * Fraction(entry["radius"]) for sign in (-1, 1)), entry["float64"])


def meet(entry, other):
    """Whether two entries can be the same number, and round alike."""
    (low, high, nearest), (low_, high_, nearest_) = around(entry), around(other)
    return max(low, low_) <= min(high, high_) and nearest == nearest_


def check_enclosed(vector):
    """In balls of another precision, from the files alone; and in float64, which is near."""
    test = vector.test
    with working(compute.BITS + 200):
        e = enclosed(vector)
        for name, tensor in test["relevance"].items():
            found = numbers.tensor(e.at(name))
            assert found["shape"] == tensor["shape"]
            assert all(map(meet, tensor["values"], found["values"])), (test["id"], name)
        books = json.loads(generate.dumped(compute.books(e.ledger)))
        assert [book["node"] for book in books] == [book["node"] for book in test["ledger"]]
        assert all(map(meet, entries_of(books), entries_of(test["ledger"]))), test["id"]
    x = {name: a.astype(float) for name, a in inputs(vector).items()}
    (start,) = test["start"].values()
    ours = lrp.explain(network(test["network"]), x, composite(vector), exactly(start).astype(float)).relevance
    expected = tensors("smooth")[f"{test['tcId']}/R/input"]
    assert abs(ours - expected).max() <= 1e-12 * abs(expected).max()


@pytest.mark.parametrize("vector", sampled(SMOOTH, 5), ids=lambda vector: vector.test["id"])
def test_smooth_networks_from_the_files_alone(vector):
    check_enclosed(vector)


@pytest.mark.full
@pytest.mark.parametrize("vector", SMOOTH, ids=lambda vector: vector.test["id"])
def test_all_smooth_networks_from_the_files_alone(vector):
    check_enclosed(vector)


def test_the_check_in_balls_sees_a_wrong_number_and_a_wrong_rule():
    vector = next(v for v in SMOOTH if v.test["id"] == "smooth/tanh/epsilon")

    def relevance(test):
        entry = next(e for e in test["relevance"]["input"]["values"] if not isinstance(e, str))
        entry["mid"] = str(Fraction(entry["mid"]) + 4 * Fraction(entry["radius"]))

    def rules(test):
        test["rules"]["0.dense"]["epsilon"] = 0.2500001

    for change in (relevance, rules):
        with pytest.raises(AssertionError):
            check_enclosed(changed(vector, change))


def test_single_layers_from_the_files_alone():
    for vector in sampled(SINGLES, 17):
        check_from_files(vector)


def test_the_books_of_every_test_close():
    def value(entry):
        return Fraction(entry) if isinstance(entry, str) else None

    closed = 0
    for vector in vectors():
        for book in vector.test["ledger"]:
            for n in range(vector.test["batch"]):
                parts = [value(book[key][n]) for key in ("bias", "stabilizer", "unclaimed", "masked")]
                parts += [value(amounts[n]) for amounts in book["went"].values()]
                came = value(book["came"][n])
                if came is not None and None not in parts:
                    closed += 1
                    assert came == sum(parts), vector.test["id"]
    assert closed > 5000


def test_hand_facts_are_there():
    ids = {vector.test["id"].split("/", 1)[1] for vector in NETWORKS if vector.group == "hand"}
    for name in ("julia-dense", "julia-residual/0", "crp/all", "captum-basic/0", "captum-multi-inputs", "captum-skip"):
        assert name in ids
    witness = {name: vector for vector in NETWORKS if (name := vector.test["id"]).startswith("hand/witness-a/")}
    assert len(witness) == 27
    z_plus = witness["hand/witness-a/z+"].test
    assert z_plus["relevance"]["input"]["values"] == ["-1", "0"]
    (captum,) = [a for a in z_plus["accept"] if "captum's Alpha1_Beta0" in a["variants"]]
    assert captum["relevance"]["input"]["values"] == ["-1000000000", "0"]


def test_a_published_number_that_is_not_met_is_refused():
    case = next(case for case in CASES if case.name == "julia-dense")
    with pytest.raises(lrp.LrpError, match="published is"):
        compute.explained(dataclasses.replace(case, published={"input": [[Fraction(1), Fraction(2)]]}))


# --- margins --------------------------------------------------------------------------------------------------------

MARGINS = {
    "hand/witness-a/LRP-0": {"distance": "1", "node": "0.dense", "kink": "denominator"},
    "hand/witness-a/zennit's Epsilon(1)": {"distance": "1", "node": "0.dense", "kink": "denominator"},
    "hand/witness-a/its pole at z = -epsilon": {"distance": "0", "node": "0.dense", "kink": "denominator"},
    "hand/witness-a/zennit's Gamma": {"distance": "1", "node": "0.dense", "kink": "sign"},
    "hand/cancellation": {"distance": "0", "node": "0.dense", "kink": "denominator"},
    "hand/empty part": {"distance": "0", "node": "0.dense", "kink": "denominator"},
    "hand/captum-max-pool-1d/first": {"distance": "0", "node": "1.maxpool", "kink": "maximum"},
    "hand/captum-max-pool-2d/Pass": {"distance": "1", "node": "0.maxpool", "kink": "maximum"},
    "hand/julia-max-pool/first": {"distance": "1", "node": "0.maxpool", "kink": "maximum"},
    "hand/captum-basic/0": {"distance": "4", "node": "0.conv", "kink": "denominator"},
}


@pytest.mark.parametrize("name", MARGINS)
def test_margins_that_fit_on_paper(name):
    (vector,) = [vector for vector in NETWORKS if vector.test["id"] == name]
    found = vector.test["margin"]
    assert found["distance"] == MARGINS[name]["distance"]
    assert (found["node"], found["kink"]) == (MARGINS[name]["node"], MARGINS[name]["kink"])


def test_margins_of_rules_that_divide_by_z_are_the_least_of_its_magnitudes():
    compared = 0
    for vector in SINGLES:
        said, layer = vector.test["rules"]["layer"], vector.graph["nodes"][0]["layer"]
        plain = said.get("bias") == "rule" and said["stabilizer"]["form"] == "Signed"
        if layer in ("Dense", "Conv", "ConvTranspose") and said["rule"] in ("Zero", "Epsilon", "Norm") and plain:
            x = inputs(vector)["input"]
            shape, loop = tuple(x.shape[1:]), network(vector.test["network"])["layer"].layer
            z = []
            for sample in x:
                a = sample.astype(float).reshape(-1).tolist()
                op = loops.operator(loop, [shape], a)
                fed = {k for _, k in op.w}
                z += [abs(z_k) for k, z_k in enumerate(by_definition.forward(op, a)) if k in fed]
            assert vector.test["margin"]["distance"] == str(min(z)), vector.test["id"]
            compared += 1
    assert compared > 40


def test_margins_of_networks_are_no_more_than_to_the_nearest_bend_of_a_relu():
    at_a_bend = 0
    for vector in NETWORKS:
        graph = network(vector.test["network"])
        values = graph.forward({name: lrp.exact(a) for name, a in inputs(vector).items()})
        relus = [node for node in graph.nodes if isinstance(node.layer, lrp.layers.ReLU)]
        bends = [abs(a) for node in relus for a in lrp.fractions(values[node.inputs[0]]).reshape(-1)]
        margin = vector.test["margin"]
        if bends:
            assert Fraction(margin["distance"]) <= min(bends)
            if margin["kink"] == "activation":
                at_a_bend += 1
                assert Fraction(margin["distance"]) == min(bends)
    assert at_a_bend > 10


def test_ties_and_cancellations_sit_on_a_kink_and_wires_that_pass_have_none():
    none = 0
    for vector in SINGLES:
        test = vector.test
        winner = vector.graph["nodes"][0]["options"].get("frozen_as") == "winner"
        rule_name = test["rules"]["layer"]["rule"]
        if ("ties" in test["conditions"] and winner) or (
            "cancellation" in test["conditions"]
            and rule_name in ("Zero", "Epsilon", "Norm")
            and test["rules"]["layer"]["bias"] == "rule"
        ):
            assert test["margin"]["distance"] == "0", test["id"]
        if vector.graph["nodes"][0]["layer"] in ("Flatten", "Identity") and rule_name == "Pass":
            assert test["margin"] is None
            none += 1
    assert none >= 4
    assert len({vector.test["margin"]["distance"] for vector in vectors() if vector.test["margin"]}) > 40


# --- coverage -------------------------------------------------------------------------------------------------------


def rows():
    for case, vector in zip(CASES, vectors(), strict=True):
        assert vector.test["id"] == f"{case.group}/{case.name}"
        if case.kind is not None:
            yield coverage.row(case.kind, case.label, case.network.shapes, vector.test["conditions"])


def check_coverage(rows):
    found = coverage.filled(rows)
    for cell, shapes in found.items():
        why = coverage.why_empty(cell)
        if why is None:
            assert len(set(shapes)) >= 2, f"{cell}: cases of shapes {shapes}"
        else:
            assert not shapes, f"{cell} has cases although {why}"
    return found


def test_each_cell_has_two_cases_of_differing_shape_or_a_reason():
    found = check_coverage(rows())
    assert len(found) == len(GROUP) * len(singles.RULES) * (1 + len(CONDITIONS))
    print(f"{sum(map(bool, found.values()))} of {len(found)} cells are filled")


def test_the_check_of_coverage_sees_a_cell_of_one_shape_and_a_wrong_reason():
    every = list(rows())
    one = [row for row in every if (row["kind"], row["label"]) != ("Conv", "Flat")]
    one += [row for row in every if (row["kind"], row["label"]) == ("Conv", "Flat")][:1]
    with pytest.raises(AssertionError, match="cases of shapes"):
        check_coverage(one)
    with pytest.raises(AssertionError, match="although"):
        check_coverage([*every, coverage.row("Dense", "Pass", {"input": (3,)}, [])])


def test_reasons_that_say_refused_are_true_and_no_other_rule_is_refused():
    for i, instance in enumerate(instances()):
        for one in singles.basic(i, instance):
            why = singles.reason(instance.kind, type(one).__name__)
            refused = singles.refusal(instance, one)
            if why is not None:
                assert refused is not None, (instance.name, one)
            elif refused is not None:  # of this shape, not of the kind
                assert type(one).__name__ == "Pass", (instance.name, one)


def test_conditions_are_what_the_inputs_have():
    layer = lrp.layers.Conv([[[1.0, 1.0]], [[-1.0, -1.0]]], [1.0, 0.0], padding=1, dilation=2)
    x = np.array([[[1.0, 0.0, -1.0]]])
    found = conditions(layer, [x], np.ones((1, 2, 3)))
    assert found == [  # the outputs read (padding, 0), (1, -1) and (0, padding): one is 0 by cancellation, two are dead
        *("signed", "zeros", "dead window", "cancellation", "bias 0", "bias +", "padding", "dilation", "R != output")
    ]
    pool = lrp.layers.MaxPool(2)
    assert "ties" in conditions(pool, [np.array([[[2.0, 2.0]]])], np.ones(1))
    assert "ties" not in conditions(pool, [np.array([[[2.0, 1.0]]])], np.ones(1))
    assert "dead window" in conditions(pool, [np.zeros((1, 1, 2))], np.ones(1))


def structure(vector: Vector):
    """A test without its numbers: the network's layers and options, sizes, rules, conditions, target."""
    nodes = [(n["layer"], json.dumps(n["options"]), tuple(n["inputs"])) for n in vector.graph["nodes"]]
    shapes = [
        tensors(vector.group)[f"network/{vector.test['network']}/{n['name']}/{key}"].shape
        for n in vector.graph["nodes"]
        for key in n["arrays"]
    ]
    told = {key: vector.test[key] for key in ("batch", "rules", "conditions")}
    return json.dumps(
        [nodes, shapes, vector.graph["inputs"], told, vector.test["target"]["from"], [*vector.test["mask"]]]
    )


def alike(some):
    """Pairs of tests with equal flags that differ in numbers only."""
    seen = defaultdict(list)
    for vector in some:
        seen[tuple(vector.test["flags"]), structure(vector)].append(vector.test["id"])
    return [ids for ids in seen.values() if len(ids) > 1]


def test_no_two_tests_with_equal_flags_differ_only_by_their_numbers():
    """Hand facts apart, in which nothing is drawn: there the numbers are the fact."""
    drawn = [vector for vector in vectors() if vector.group != "hand"]
    assert len(drawn) > 1800
    assert not alike(drawn)


def test_that_check_sees_two_seeds():
    vector = SINGLES[0]
    assert alike([vector, vector._replace(test={**vector.test, "id": "again"})])


# --- variants -------------------------------------------------------------------------------------------------------

VARIANTS = (*CATALOGUE, *of_statistics(compute.STATISTICS))
TOLD = [variant for variant in VARIANTS if variant.name not in compute.NOT_TOLD]


def test_flags_are_variants_or_stand_among_the_notes():
    assert {flag for vector in vectors() for flag in vector.test["flags"]} <= set(manifest()["notes"])
    for name, note in manifest()["notes"].items():
        assert note["numberOfTests"] == sum(name in vector.test["flags"] for vector in vectors())
    for vector in vectors():
        assert {name for a in vector.test["accept"] for name in a["variants"]} <= set(vector.test["flags"])


def faulty(variant, number, dtype):
    """What a framework computes that has this fault: in floats, from the case."""
    case = CASES[number]
    x = {name: a.astype(dtype) for name, a in case.inputs.items()}
    graph = case.network.graph.like(x)
    start = compute._target(case)
    rules = compute.as_composite(case.rules)
    setting = Setting.of(graph, x, rules, start)
    if case.unfolded is not None:
        folding = lrp.Composite(rules.cases, canonize=[compute.batch_norm_folded])
        setting = Setting.of(case.unfolded.like(x), x, folding, start)
    changed = variant.everywhere(setting)
    assert changed is not None
    e = changed.explain()
    return {name: e.at(name) for name in case.network.graph.inputs}


READER = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
SPACE: dict = {}
exec(READER[0], SPACE)
judge = SPACE["judge"]


def judged(vector, relevance, tolerance):
    return judge(vector.test, flattened(relevance), tolerance)


def flattened(relevance):
    return {name: np.asarray(a, dtype=float).reshape(-1).tolist() for name, a in relevance.items()}


@pytest.mark.parametrize("variant", TOLD, ids=lambda variant: variant.name)
def test_a_consumer_with_a_published_fault_fails_what_is_flagged_with_it(variant):
    flagged = [i for i, vector in enumerate(vectors()) if variant.name in vector.test["flags"]]
    assert len(flagged) >= 3
    mute = variant.name in (*compute.MISTAKES, *compute.OTHERWISE)
    for i in random.Random(variant.name).sample(flagged, min(6, len(flagged))):
        vector, relevance = vectors()[i], faulty(variant, i, np.float64)
        assert judged(vector, relevance, 1e-9) != ["agrees"], vector.test["id"]
        accepted = [a["relevance"] for a in vector.test["accept"] if variant.name in a["variants"]]
        assert not (accepted and mute)
        for expected in accepted:
            assert SPACE["agrees"](flattened(relevance), expected, 1e-9), vector.test["id"]


@pytest.mark.full
@pytest.mark.parametrize("variant", TOLD, ids=lambda variant: variant.name)
def test_a_consumer_with_a_published_fault_fails_all_that_is_flagged_with_it(variant):
    for i, vector in enumerate(vectors()):
        if variant.name in vector.test["flags"]:
            assert judged(vector, faulty(variant, i, np.float64), 1e-9) != ["agrees"], vector.test["id"]


def test_lrp_ref_in_floats_agrees():
    """In float64 and float32, wherever the margin is not 0; on single layers everywhere."""
    for dtype, tolerance, step in ((np.float64, 1e-9, 7), (np.float32, 1e-4, 11)):
        for i in range(0, len(CASES), step):
            case, vector = CASES[i], vectors()[i]
            margin = vector.test["margin"]
            if case.mask or (margin is not None and margin["distance"] == "0" and not vector.single):
                continue
            x = {name: a.astype(dtype) for name, a in case.inputs.items()}
            start = case.start if isinstance(case.start, (lrp.logit, lrp.one)) else lrp.exact(case.start)
            target = start if isinstance(start, (lrp.logit, lrp.one)) else lrp.fractions(start).astype(dtype)
            e = lrp.explain(case.network.graph.like(x), x, composite(vector), target)
            relevance = {name: e.at(name) for name in case.network.graph.inputs}
            assert judged(vector, relevance, tolerance) == ["agrees"], (vector.test["id"], dtype)


def test_a_rule_read_from_the_json_is_the_rule():
    for case, vector in zip(CASES, vectors(), strict=True):
        if case.kind is not None:
            assert rule(vector.test["rules"]["layer"]) == case.rules.cases[0][1]
            assert vector.test["rules"]["layer"]["rule"] == case.label


# --- consumers without lrp_ref --------------------------------------------------------------------------------------

CONSUMER = """
import sys
for name in ("lrp_ref", "numpy"):
    try:
        __import__(name)
    except ImportError:
        continue
    sys.exit(name + " can be imported")
{reader}
{dense}
from collections import Counter
verdicts = Counter()
for test, graph, arrays in tests(sys.argv[1]):
    own = {{name: [float(number(e)) for e in test["relevance"][name]["values"]] for name in graph["inputs"]}}
    verdicts["own", *judge(test, own)] += 1
    wrong = {{name: [2 * value + 1 for value in values] for name, values in own.items()}}
    verdicts["wrong", *judge(test, wrong)] += 1
    (said, *_), layer = test["rules"].values(), graph["nodes"][0]
    plain = said["rule"] in ("Zero", "Epsilon") and said["bias"] == "rule" and said["stabilizer"]["form"] == "Signed"
    if plain and layer["name"] == "layer" and layer["layer"] == "Dense" and len(graph["inputs"]["input"]) == 1:
        verdicts["dense", *judge(test, dense(test, graph, arrays))] += 1
        arrays = {{name: a for name, a in arrays.items() if not name.endswith("/bias")}}
        verdicts["without bias", *judge(test, dense(test, graph, arrays))] += 1
for key, count in sorted(verdicts.items()):
    print(*key, count, sep="|")
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return shipped.export(tmp_path_factory.mktemp("vectors") / "out")


def test_the_reader_in_the_readme_runs_where_lrp_ref_is_not(exported, tmp_path):
    reader, dense = READER
    assert sum(bool(line.strip()) for line in reader.splitlines()) <= 40
    assert max(map(len, reader.splitlines())) <= 100
    program = tmp_path / "consumer.py"
    program.write_text(CONSUMER.format(reader=reader, dense=dense))
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(program), str(exported)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    verdicts = {tuple(line.split("|")[:-1]): int(line.split("|")[-1]) for line in done.stdout.splitlines()}
    assert verdicts["own", "agrees"] == len(vectors())
    assert ("wrong", "agrees") not in verdicts
    assert verdicts["dense", "agrees"] == sum(count for key, count in verdicts.items() if key[0] == "dense") >= 5
    assert verdicts["without bias", "bias dropped"] >= 2
    assert ("without bias", "differs") not in verdicts


def test_the_export_holds_every_file_and_overwrites_nothing(exported, tmp_path, capsys):
    found = {path.relative_to(exported).as_posix(): path.read_bytes() for path in exported.rglob("*") if path.is_file()}
    assert found == files()
    for folder in (exported, README):
        with pytest.raises(lrp.LrpError, match="nothing is overwritten"):
            shipped.export(folder)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert shipped.export(empty) == empty
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty"]
    assert cli.main(["vectors", "export", str(exported)]) == 2
    assert "nothing is overwritten" in capsys.readouterr().err


def test_the_command_says_what_it_wrote(tmp_path, capsys):
    assert cli.main(["vectors", "export", str(tmp_path / "new" / "vectors")]) == 0
    said = capsys.readouterr().out
    assert f"vectors {shipped.VERSION}: {len(vectors())} tests (dense " in said
    assert (tmp_path / "new" / "vectors" / "networks" / "dense.onnx").read_bytes() == files()["networks/dense.onnx"]


def test_damaged_files_are_not_exported(tmp_path, monkeypatch):
    data = tmp_path / "data"
    data.mkdir()
    for path in shipped.files.DATA.iterdir():
        (data / path.name).write_bytes(path.read_bytes())
    (tmp_path / "README.md").write_bytes(README.read_bytes())
    (data / "dense.json").write_bytes(files()["dense.json"].replace(b'"1/2"', b'"1/3"', 1))
    monkeypatch.setattr(shipped.files, "DATA", data)
    with pytest.raises(lrp.LrpError, match=r"dense\.json is not the one that was shipped"):
        shipped.export(tmp_path / "out")
    (data / "dense.json").unlink()
    with pytest.raises(lrp.LrpError, match=r"dense\.json is missing"):
        shipped.export(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_export_that_breaks_off_leaves_nothing(tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", stop)
    with pytest.raises(KeyboardInterrupt):
        shipped.export(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
