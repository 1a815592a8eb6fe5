"""Files that are broken, or made to do harm: each is refused in one line, in bounded time and memory."""

import os
import random
import re
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import lrp_ref as lrp
from lrp_ref import io
from lrp_ref.errors import LoadError, UnsupportedOp

onnx = pytest.importorskip("onnx", reason="needs onnx")
from onnx import TensorProto, helper  # noqa: E402
from onnx_models import STATISTICS, build, ints, n, numbers  # noqa: E402

from lrp_ref.loaders.onnx import from_onnx  # noqa: E402

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"
SECONDS, MEGABYTES = 5, 256


def refused(path, words, error=LoadError, traced=True, **options):
    """Reading the file raises that error with those words, in one line, quickly and in little memory."""
    began = time.perf_counter()
    with pytest.raises(error) as caught:
        from_onnx(path, **options)
    assert time.perf_counter() - began < SECONDS
    assert re.search(words, str(caught.value)), str(caught.value)
    if traced:  # which takes several times as long
        tracemalloc.start()
        try:
            with pytest.raises(error):
                from_onnx(path, **options)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < MEGABYTES * 2**20
    assert type(caught.value) is error
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 3000


@pytest.fixture
def refuse(tmp_path):
    """The same for a model or bytes, whether it is to be checked or not."""

    def refuse(model, words, error=LoadError, traced=True):
        path = tmp_path / "model.onnx"
        path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
        for check in (None, True, False):
            refused(path, words, error, traced and check is True, check=check)

    return refuse


def relu(**options):
    return build([n("Relu", "x")], **options)


# --- not even ONNX -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["m.pt", "m.pth", "m.pkl", "m.PICKLE", "m.joblib", "m.ckpt", "m.bin"])
def test_no_pickle_is_ever_loaded(tmp_path, name):
    """The pickle would make a file if anything loaded it."""
    made, path = tmp_path / "made", tmp_path / name
    path.write_bytes(b"cposix\nsystem\n(S'touch %s'\ntR." % bytes(made))
    for given in (path, str(path)):
        with pytest.raises(LoadError, match="a pickle can run anything when it is loaded, and is never read"):
            io.load(given)
    (tmp_path / "m.onnx").write_bytes(path.read_bytes())
    refused(tmp_path / "m.onnx", "no ONNX file, or a broken one")
    assert not made.exists()
    import pickle

    pickle.loads(path.read_bytes())
    assert made.exists(), "the pickle does no harm, so this test could not fail"


def test_no_file_and_files_that_are_none(tmp_path, refuse):
    refused(tmp_path / "nowhere.onnx", "no file, or an empty one")
    refused(tmp_path, "no file, or an empty one")
    refuse(b"", "no file, or an empty one")
    refuse(b"\0", "no ONNX file, or a broken one")
    refuse(b"\x08\x0a", "opset 0")
    refuse(b"PK\x03\x04" + bytes(100), "no ONNX file, or a broken one")
    refuse(b"\xff" * 1000, "no ONNX file, or a broken one")


def test_random_bytes(tmp_path):
    rng = random.Random(0)
    path = tmp_path / "m.onnx"
    for _ in range(300):
        path.write_bytes(rng.randbytes(rng.choice((1, 10, 100, 1000))))
        refused(path, "")


def test_files_cut_off_anywhere(tmp_path):
    data = build([n("Conv", "x w", "a"), n("Relu", "a")], {"w": numbers(20, 3, 3, 3)}).SerializeToString()
    assert len(data) > 2000
    path = tmp_path / "m.onnx"
    for length in [*range(0, 300, 7), *range(300, len(data), 101), len(data) - 1]:
        path.write_bytes(data[:length])
        refused(path, "")


def test_names_that_are_no_text(refuse):
    data = build([n("Relu", "x", "yyyy", name="name")], outputs="yyyy").SerializeToString()
    assert data.count(b"name") == 1
    refuse(data.replace(b"name", b"n\xffme"), "is no text")


def test_a_message_of_very_many_parts(refuse):
    refuse(b"\x42\x00" * 2_000_000, "more than 400000 parts", traced=False)


# --- initializers --------------------------------------------------------------------------------------------------


def with_weight(**changes):
    model = build([n("Gemm", "x w", transB=1)], inputs={"x": ("N", 5)})
    tensor = model.graph.initializer.add(name="w", data_type=TensorProto.FLOAT)
    tensor.dims.extend(changes.pop("dims", (4, 5)))
    for name, value in changes.items():
        getattr(tensor, name).extend(value) if isinstance(value, list) else setattr(tensor, name, value)
    return model


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dims": (2**20, 2**20), "raw_data": b"1234"}, "claims the shape"),
        ({"dims": (2**15, 2**15), "raw_data": b"1234"}, "holds 4 bytes, and claims 4294967296"),
        ({"dims": (2**62, 2**62, 4)}, "claims the shape"),
        ({"dims": (-4, -5), "raw_data": bytes(80)}, "claims the shape"),
        ({"dims": (1,) * 17, "raw_data": bytes(4)}, "claims the shape"),
        ({"raw_data": bytes(79)}, "holds 79 bytes, and claims 80"),
        ({"raw_data": bytes(84)}, "holds 84 bytes, and claims 80"),
        ({"raw_data": bytes(4000)}, "holds 4000 bytes, and claims 80"),
        ({"float_data": [1.0] * 19}, "cannot reshape"),
        ({"dims": (2**15, 2**15), "float_data": [1.0]}, "cannot reshape"),
        ({"raw_data": np.full((4, 5), np.nan, "float32").tobytes()}, "NaN or infinite"),
        ({"raw_data": np.full((4, 5), np.inf, "float32").tobytes()}, "NaN or infinite"),
        ({"data_type": TensorProto.STRING, "string_data": [b"a"] * 20}, "a data type that cannot be read"),
        ({"data_type": 99, "raw_data": bytes(80)}, "a data type that cannot be read"),
        ({"data_type": TensorProto.INT4, "raw_data": bytes(10)}, "a data type that cannot be read"),
    ],
)
def test_tensors_that_are_not_what_they_claim(refuse, changes, words):
    refuse(with_weight(**changes), words)


def test_nan_weights_that_are_large_enough_to_be_mapped(refuse):
    weight = numbers(40, 50)
    weight[-1, -1] = np.nan
    refuse(build([n("Gemm", "x w", transB=1)], {"w": weight}, inputs={"x": ("N", 50)}), "NaN or infinite")
    refuse(build([n("BatchNormalization", "x s b m v")], STATISTICS | {"v": -STATISTICS["v"]}), "must be positive")


def test_initializers_twice_sparse_or_without_a_name(refuse):
    model = with_weight(raw_data=bytes(80))
    model.graph.initializer.append(model.graph.initializer[0])
    refuse(model, 'initializer "w" is there twice')
    model = with_weight(raw_data=bytes(80))
    model.graph.sparse_initializer.add().dims.append(2**40)
    refuse(model, "sparse initializers")
    model = with_weight(raw_data=bytes(80))
    model.graph.initializer.append(helper.make_tensor("", TensorProto.FLOAT, [1], [1.0]))
    refuse(model, "has no name")


def test_an_initializer_that_nothing_reads_does_no_harm(tmp_path):
    model = relu()
    model.graph.initializer.append(helper.make_tensor("alone", TensorProto.FLOAT, [1], [1.0]))
    onnx.save(model, tmp_path / "m.onnx")
    assert len(from_onnx(tmp_path / "m.onnx", check=True).nodes) == 1


# --- data in other files -------------------------------------------------------------------------------------------


def external(folder, location, **entries):
    model = with_weight(data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **entries}.items():
        entry = model.graph.initializer[0].external_data.add()
        entry.key, entry.value = key, str(value)
    path = folder / "model" / "m.onnx"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "model" / "inner").mkdir(parents=True)
    for name in ("outside.bin", "model/w.bin", "model/inner/w.bin"):
        (tmp_path / name).write_bytes(numbers(4, 5).tobytes())
    (tmp_path / "model" / "link.bin").symlink_to("w.bin")
    (tmp_path / "model" / "out.bin").symlink_to(tmp_path / "outside.bin")
    (tmp_path / "model" / "folder").symlink_to("inner")
    (tmp_path / "model" / "up").symlink_to("..")
    return tmp_path


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("/etc/passwd", "outside the model's folder"),
        ("../outside.bin", "outside the model's folder"),
        ("inner/../../outside.bin", "outside the model's folder"),
        ("inner/../w.bin", "outside the model's folder"),
        ("", "outside the model's folder"),
        (".", "outside the model's folder"),
        ("w\0.bin", "outside the model's folder"),
        ("up/outside.bin", "outside the model's folder"),
        ("out.bin", "outside the model's folder"),
        ("link.bin", "is no file, or a link"),
        ("folder/w.bin", "is no file, or a link"),
        ("inner", "is no file, or a link"),
        ("nowhere.bin", "is no file, or a link"),
        ("\x1b[31m.bin", r"is no file, or a link"),
    ],
)
def test_data_elsewhere_than_beside_the_model(folder, location, words):
    for check in (None, True, False):
        refused(external(folder, location), words, check=check)


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"offset": 4}, "beyond the end"),
        ({"offset": 2**70}, "beyond the end"),
        ({"offset": -4}, "beyond the end"),
        ({"length": 84}, "beyond the end"),
        ({"length": 76}, "holds 76 bytes, and claims 80"),
        ({"length": -80}, "beyond the end"),
        ({"offset": "x"}, "is not a number"),
        ({"length": "1e3"}, "is not a number"),
    ],
)
def test_data_beyond_the_end(folder, entries, words):
    refused(external(folder, "w.bin", **entries), words)


def test_data_beside_the_model_are_read(folder):
    for location in ("w.bin", "inner/w.bin"):
        weight = from_onnx(external(folder, location, offset=0, length=80), check=True).nodes[0].layer.weight
        assert np.array_equal(weight.T, numbers(4, 5))


def test_a_constant_with_its_data_elsewhere(refuse, tmp_path, monkeypatch):
    """onnx itself would read it from the working directory."""
    (tmp_path / "w.bin").write_bytes(bytes(80))
    monkeypatch.chdir(tmp_path)
    value = TensorProto(name="v", data_type=TensorProto.FLOAT, dims=(5, 4), data_location=TensorProto.EXTERNAL)
    value.external_data.add(key="location", value="w.bin")
    refuse(build([n("Constant", "", "w", value=value), n("MatMul", "x w")], inputs={"x": ("N", 5)}), "")
    (tmp_path / "w.bin").unlink()
    refuse(build([n("Constant", "", "w", value=value), n("MatMul", "x w")], inputs={"x": ("N", 5)}), "")


# --- functions and subgraphs ---------------------------------------------------------------------------------------


def own(kind, inputs="a", outputs="b"):
    return helper.make_node(kind, inputs.split(), outputs.split(), domain="own")


def functions(*bodies):
    """Function f0, f1, ... with the nodes given, and a model that calls the last."""
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    made = [helper.make_function("own", f"f{i}", ["a"], ["b"], body, opsets) for i, body in enumerate(bodies)]
    return build([own(f"f{len(made) - 1}", "x", "y")], domains=("own",), functions=tuple(made))


def twice(i):
    return [own(f"f{i}", "a", "t"), own(f"f{i}", "t", "b")]


def test_functions_are_read(tmp_path):
    onnx.save(functions([n("Relu", "a", "b")], twice(0), twice(1)), tmp_path / "m.onnx")
    assert [node.kind for node in from_onnx(tmp_path / "m.onnx", check=True).nodes] == ["ReLU"] * 4


def test_functions_that_double_each_other(refuse):
    refuse(functions([n("Relu", "a", "b")], *(twice(i) for i in range(17))), "deep")
    wide = [[n("Relu", "a", "b")], *([own(f"f{i}", "a", "b")] * 100 for i in range(10))]
    refuse(functions(*wide), "more than 100000 nodes")


def test_functions_that_repeat_a_large_constant(refuse):
    value = helper.make_tensor("v", TensorProto.FLOAT, [2**16], [1.0] * 2**16)
    body = [n("Constant", "", "c", value=value), n("Relu", "a", "b")]
    refuse(
        functions(body, [own("f0", "a", f"t{i}") for i in range(1, 3000)] + [own("f0", "a", "b")]), "bytes, once its"
    )


def test_functions_that_call_themselves(refuse):
    refuse(functions([own("f0", "a", "b")]), "deep")
    refuse(functions([own("f1", "a", "b")], [own("f0", "a", "b")]), "deep")


def test_subgraphs_in_functions_and_out_of_them(refuse):
    """A branch that calls a function twice would double in the dark."""
    out = [helper.make_tensor_value_info("o", TensorProto.FLOAT, None)]
    branch = helper.make_graph([own("f0", "a", "t"), own("f0", "t", "o")], "branch", [], out)
    body = [n("Constant", "", "c", value=helper.make_tensor("c", TensorProto.BOOL, [], [True]))]
    body.append(helper.make_node("If", ["c"], ["b"], then_branch=branch, else_branch=branch))
    refuse(functions([n("Relu", "a", "b")], body), "subgraphs cannot be read", UnsupportedOp)
    deep = helper.make_graph([n("Relu", "x", "o")], "deep", [], out)
    for _ in range(20):
        node = helper.make_node("If", ["c"], ["o"], then_branch=deep, else_branch=deep)
        deep = helper.make_graph([node], "deep", [], out) if len(deep.SerializeToString()) < 10**6 else deep
    model = build([helper.make_node("If", ["c"], ["y"], then_branch=deep, else_branch=deep)], {"c": np.array(True)})
    refuse(model, "subgraphs cannot be read", UnsupportedOp, traced=False)


def test_messages_within_messages(refuse):
    body = b""
    for _ in range(5000):  # a graph in an attribute of a node of a graph ...
        for tag in (b"\x32", b"\x2a", b"\x0a"):
            length, head = len(body), b""
            while length > 127:
                head, length = head + bytes([length & 127 | 128]), length >> 7
            body = tag + head + bytes([length]) + body
        if len(body) > 100_000:
            break
    refuse(b"\x08\x0a\x3a" + varint(len(body)) + body, "no ONNX file, or a broken one")


def varint(value):
    head = b""
    while value > 127:
        head, value = head + bytes([value & 127 | 128]), value >> 7
    return head + bytes([value])


# --- bombs ---------------------------------------------------------------------------------------------------------

HUGE = {"huge": ints(2**20, 2**20), "c": np.float32(1), "end": np.int64(2**40), "zero": np.int64(0), "one": np.int64(1)}
BOMBS = {
    "ConstantOfShape": [n("ConstantOfShape", "huge", "z")],
    "Expand": [n("Expand", "c huge", "z")],
    "Expand of a column": [n("Expand", "column row_shape", "z")],
    "Tile": [n("Tile", "square huge", "z")],
    "Range": [n("Range", "zero end one", "z")],
    "Add": [n("Add", "column row", "z")],
    "Where": [n("Where", "column_true row column", "z")],
    "Gather": [n("Gather", "wide indices", "z")],
    "doubling": [n("Concat", " ".join([f"d{i - 1}" if i else "row"] * 2), f"d{i}", axis=1) for i in range(40)]
    + [n("Identity", "d39", "z")],
}
ARRAYS = {
    "column": np.ones((20_000, 1), "float32"),
    "row": np.ones((1, 20_000), "float32"),
    "square": np.ones((2, 2), "float32"),
    "column_true": np.ones((20_000, 1), bool),
    "row_shape": ints(1, 20_000),
    "wide": np.ones((2, 20_000), "float32"),
    "indices": np.zeros(20_000, np.int64),
}


@pytest.mark.parametrize("name", BOMBS)
def test_constants_that_grow(refuse, name):
    model = build([*BOMBS[name], n("Add", "x z")], HUGE | ARRAYS)
    refuse(model, "would make a constant of")


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_that_no_output_needs_do_not_go_off(tmp_path, name):
    """Neither while reading nor in the check."""
    model = build([*BOMBS[name], n("Relu", "x")], HUGE | ARRAYS)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    tracemalloc.start()
    try:
        assert len(from_onnx(tmp_path / "m.onnx", check=True).nodes) == 1
        assert tracemalloc.get_traced_memory()[1] < MEGABYTES * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (n("Resize", "x - - big", "y"), "resizes"),
        (n("Resize", "x - scale", "y"), "resizes"),
        (n("Pad", "x pads", "y"), "elements a sample|does not fit|elements"),
        (n("ConvTranspose", "x w", "y", strides=[2**30, 2**30]), "elements"),
        (n("Conv", "x w", "y", pads=[2**30] * 4, strides=[2**30, 2**30]), "elements"),
        (n("Conv", "x w", "y", pads=[2**62] * 4), "elements"),
        (n("AveragePool", "x", "y", kernel_shape=[60_000, 60_000], pads=[59_999] * 4), "cells, more than"),
        (n("MaxPool", "x", "y", kernel_shape=[2**40, 2**40], pads=[2**39] * 4), "cells, more than|elements"),
        (n("DepthToSpace", "x", "y", blocksize=2**31), ""),
    ],
)
def test_layers_that_claim_too_much(refuse, node, words):
    constants = {
        "big": ints(2, 3, 2**30, 2**30),
        "scale": np.array([1, 1, 1e30, 1], "float32"),
        "w": numbers(3, 3, 1, 1),
    }
    constants["pads"] = ints(0, 0, 2**40, 2**40, 0, 0, 0, 0)
    refuse(build([node], constants), words)


@pytest.mark.parametrize("shape", [("N", 2**40), ("N", 0, 2**62, 2**62), (2**62, 2**62), ("N", *[2**8] * 5)])
def test_inputs_that_claim_too_much(refuse, shape):
    refuse(relu(inputs={"x": shape}), "elements a sample, more than")


def test_a_batch_that_claims_too_much_is_not_checked(tmp_path):
    onnx.save(relu(inputs={"x": (2**40, 3)}), tmp_path / "m.onnx")
    for check in (None, False):
        assert len(from_onnx(tmp_path / "m.onnx", check=check).nodes) == 1


# --- graphs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ([n("Relu", "k", "y"), n("Relu", "y", "k")], "a cycle"),
        ([n("Add", "x y", "y")], "itself: a cycle"),
        ([n("Relu", "k", "y"), n("Relu", "x", "k")], "a later node"),
        ([n("Relu", "nowhere", "y")], '"nowhere" is read, and nothing makes it'),
        ([n("Relu", "x", "k")], '"y" is read, and nothing makes it'),
        ([], '"y" is read, and nothing makes it'),
        ([n("Relu", "x", "y"), n("Relu", "x", "y")], "made twice"),
        ([n("Relu", "x", "y"), n("Relu", "y", "x")], "made twice"),
        ([n("Relu", "x", "y"), n("Relu", "y", "w")], "made twice"),
        ([n("Relu", "-", "y")], "none by onnx's definition"),
        ([n("Relu", "", "y")], "none by onnx's definition"),
        ([n("Relu", "x x", "y")], "none by onnx's definition"),
        ([n("Conv", "x w", "y", strides=1)], "none by onnx's definition"),
        ([n("Conv", "x w", "y", strides=[0, 1])], "stride"),
        ([n("Conv", "x w", "y", strides=[0, 0], auto_pad="SAME_UPPER")], "stride 0"),
        ([n("Conv", "x w", "y", strides=[-1, 1])], "stride"),
        ([n("Conv", "x w", "y", strides=[1])], "1 strides"),
        ([n("Conv", "x w", "y", pads=[-1, 0, 0, 0])], "negative pads"),
        ([n("Conv", "x w", "y", pads=[1, 1])], "2 pads for 2 axes"),
        ([n("Conv", "x w", "y", dilations=[0, 1])], "dilation"),
        ([n("Conv", "x w", "y", group=0)], "groups"),
        ([n("Conv", "x w", "y", group=-3)], "groups"),
        ([n("Conv", "x w", "y", kernel_shape=[5, 5])], "kernel_shape"),
        ([n("Conv", "x w", "y", auto_pad="SAME")], "auto_pad"),
        ([n("Conv", "x c", "y")], ""),
        ([n("MaxPool", "x", "y", kernel_shape=[9, 9])], "does not fit"),
        ([n("MaxPool", "x", "y", kernel_shape=[0, 1])], "kernel"),
        ([n("MaxPool", "x", "y", kernel_shape=[2])], "kernel of shape"),
        ([n("Pad", "x p", "y")], "negative pads"),
        ([n("Elu", "x", "y", alpha=float("nan"))], "is nan"),
        ([n("LeakyRelu", "x", "y", alpha=float("inf"))], "is inf"),
        ([n("BatchNormalization", "x w w w w", "y", epsilon=float("nan"))], "is nan"),
        ([n("Gather", "x i", "y", axis=9)], "axis 9"),
        ([n("Gather", "x i", "y", axis=1)], "of 3"),
        ([n("Split", "x s", "y k", axis=1)], "splits 3 into"),
        ([n("Reshape", "x t", "y")], "asks for the shape"),
        ([n("Transpose", "x", "y", perm=[0, 0, 1, 2])], ""),
        ([n("Slice", "x i i i z", "y")], "not positive|step"),
    ],
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_graphs_that_are_none(refuse, nodes, words):
    constants = {
        "w": numbers(3, 3, 1, 1),
        "c": np.float32(1),
        "p": ints(0, 0, 0, 0, 0, 0, -1, 0),
        "i": ints(3),
        "s": ints(-1, 4),
        "t": ints(-1, -1, 3),
        "z": ints(0),
    }
    model = build(nodes, constants)
    path = nodes and nodes[0].op_type == "Slice"
    refuse(model, words, UnsupportedOp if path else LoadError)


def test_outputs_and_inputs_twice_or_none(refuse):
    refuse(relu(outputs="y y"), '"y" is an output twice')
    model = relu()
    model.graph.input.append(model.graph.input[0])
    refuse(model, '"x" is an input twice')
    model = relu()
    del model.graph.output[:]
    refuse(model, "no outputs")
    model = relu()
    model.ClearField("graph")
    refuse(model, "no outputs")


def test_names_with_control_characters_are_escaped(tmp_path):
    nasty = "a\x1b[31m\nb\x07\u202ec"
    nodes = [n("Relu", "x", "t"), n("Relu", "t", "y")]
    nodes[0].name, nodes[0].output[0], nodes[1].input[0] = nasty, nasty, nasty
    onnx.save(build(nodes), tmp_path / "m.onnx")
    graph = from_onnx(tmp_path / "m.onnx", check=True)
    for line in str(graph).splitlines():
        assert line.isprintable()
    assert r"a\x1b[31m\nb\x07\u202ec" in graph.nodes[0].name
    nodes[1].op_type = nasty
    onnx.save(build(nodes), tmp_path / "m.onnx")
    refused(tmp_path / "m.onnx", r"\\x1b\[31m\\nb\\x07\\u202ec")


def test_names_that_are_very_long(refuse):
    for node in (n("Relu", "x", name="n" * 5000), n("Relu", "x", name="a." * 2000)):
        refuse(build([node]), "characters, more than 2000")


def test_metadata_that_is_no_list(tmp_path):
    for text in ("1", "'x'", "(" * 3000, "['a', " * 500, "{}", "[1, 2, 3]", "\\", "9" * 1900, "[None]" * 300, "1 is 1"):
        node = n("Relu", "x")
        node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=text)
        onnx.save(build([node]), tmp_path / "m.onnx")
        assert [node.name for node in from_onnx(tmp_path / "m.onnx", check=True).nodes] == ["relu"]


# --- many nodes ----------------------------------------------------------------------------------------------------


def in_a_process(path, canonize):
    """(seconds, megabytes beyond what imports take, what came of it) in a process of its own."""
    code = (
        "import sys, time, resource, onnx.reference, onnx.inliner, onnx.shape_inference\n"
        "from lrp_ref.loaders.onnx import from_onnx, LrpError\n"
        "before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()\n"
        "try: said = len(from_onnx(sys.argv[1], canonize=sys.argv[2] == 'True').nodes)\n"
        "except LrpError as error: said = f'{type(error).__name__}: {error}'\n"
        "seconds = time.perf_counter() - start\n"
        "print(seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, ascii(said))\n"
    )
    command = [sys.executable, "-c", code, str(path), str(canonize)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, env=os.environ)
    seconds, megabytes, said = ran.stdout.split(maxsplit=2)
    return float(seconds), float(megabytes), said.strip()


def chain(kind, count, constants=None, inputs="", **attributes):
    names = ["x", *(f"t{i}" for i in range(count - 1)), "y"]
    nodes = [n(kind, f"{names[i]} {inputs}", names[i + 1], **attributes) for i in range(count)]
    return build(nodes, constants, inputs={"x": ("N", 4)})


MANY = {
    "Relu": (lambda: chain("Relu", 5000), 5000, True),
    "Mul": (lambda: chain("Mul", 3000, {"c": np.float32(1.0001)}, "c"), 3000, True),
    "Identity": (lambda: chain("Identity", 5000), 1, True),
    "products": (
        lambda: build(
            [n("Mul", f"t{i} t{i}" if i else "x x", f"t{i + 1}") for i in range(60)],
            inputs={"x": ("N", 4)},
            outputs="t60",
        ),
        None,
        True,
    ),
    "Constants": (
        lambda: build(
            [
                *(n("Constant", "", f"c{i}", value_float=1.0) for i in range(5000)),
                *(n("Add", f"c{i} c{i}", f"d{i}") for i in range(1000)),
                n("Sum", "x " + " ".join(f"d{i}" for i in range(1000))),
            ],
            inputs={"x": ("N", 4)},
        ),
        1,
        True,
    ),
    "one name": (lambda: chain("Relu", 5000, name="same"), 5000, True),
    "outputs": (
        lambda: build(
            [n("Relu", "x", f"y{i}") for i in range(2000)],
            outputs=" ".join(f"y{i}" for i in range(2000)),
            inputs={"x": ("N", 4)},
        ),
        2000,
        True,
    ),
    "too many": (lambda: chain("Relu", 100_001), "more than 100000", True),
}


@pytest.mark.parametrize("name", MANY)
def test_many_nodes(tmp_path, name):
    make, expected, canonize = MANY[name]
    (tmp_path / "m.onnx").write_bytes(make().SerializeToString())
    seconds, megabytes, said = in_a_process(tmp_path / "m.onnx", canonize)
    assert seconds < SECONDS, said
    assert megabytes < MEGABYTES
    if isinstance(expected, int):
        assert int(said) == expected
    elif expected:
        assert expected in said


# --- mutations -----------------------------------------------------------------------------------------------------


def fuzz():
    sys.path.insert(0, str(SCRIPTS))
    try:
        import fuzz
    finally:
        sys.path.remove(str(SCRIPTS))
    return fuzz


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc to bound a process's memory")
def test_two_thousand_mutated_files(capsys):
    """Each is read right, or refused in words; `sh scripts/fuzz` takes 20000."""
    said = []
    outcomes, failures = fuzz().run(2000, say=said.append)
    print(dict(outcomes))
    assert failures == {}
    assert outcomes.total() == 2000
    assert outcomes["right"] > 100, "too few are still read for this to say something"
    assert outcomes["LoadError"] > 500
    assert outcomes["UnsupportedOp"] > 10


def test_the_fuzzer_sees_what_it_is_for(tmp_path, monkeypatch):
    """A wrong layer, a foreign exception, a line break in a message: each is a failure."""
    script = fuzz()
    path = tmp_path / "m.onnx"
    path.write_bytes(build([n("Neg", "x")]).SerializeToString())
    operators = sys.modules["lrp_ref.loaders.onnx"].OPERATORS

    def wrong(reader, operator):
        reader.add(operator, lrp.layers.Scale(weight=-1.001), reader.data(operator))

    def broken(reader, operator):
        raise KeyError(operator)

    monkeypatch.setattr(script.signal, "setitimer", lambda *_: None)
    assert script.judge(1, path) == "right"
    monkeypatch.setitem(operators, "Neg", wrong)
    with pytest.raises(script.Failure, match=r"differs from the evaluator's by 0\.001"):
        script.judge(1, path)
    monkeypatch.setitem(operators, "Neg", broken)
    with pytest.raises(KeyError):
        script.judge(1, path)
    with pytest.raises(script.Failure, match="several lines"):
        script.said(LoadError("a\nb"), "LoadError")
    files = script.bases()
    assert script.mutated(3, files) == script.mutated(3, files)
    assert len({script.mutated(seed, files) for seed in range(50)}) > 40
