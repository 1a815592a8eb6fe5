"""Keras models as graphs, against Keras' own predictions."""

import functools
import json
import os
import warnings
import zipfile

import numpy as np
import pytest

import lrp_ref as lrp
from lrp_ref import layers
from lrp_ref.loaders import keras as loader
from lrp_ref.loaders.keras import from_keras

os.environ.setdefault("KERAS_BACKEND", "torch")
with warnings.catch_warnings(action="ignore"):  # what an import warns of is no test's failure
    keras = pytest.importorskip("keras", reason="needs keras and a backend", exc_type=ImportError)
L = keras.layers
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras on torch

FORMATS = ("channels_last", "channels_first")


@pytest.fixture(autouse=True)
def _the_data_format_stays():
    before = keras.config.image_data_format()
    yield
    keras.config.set_image_data_format(before)


def randomized(model):
    rng = np.random.default_rng(0)
    for weight in model.weights:
        value = rng.uniform(0.5, 1.5, weight.shape) if "variance" in weight.name else rng.normal(0, 0.5, weight.shape)
        if "seed" not in weight.path:
            weight.assign(value)
    return model


def inputs(model):
    rng = np.random.default_rng(1)
    return [rng.normal(size=(2, *tensor.shape[1:])).astype("float32") for tensor in model.inputs]


def held(value, last):
    return np.moveaxis(value, -1, 1) if last and value.ndim > 2 else value


def same(model, *, last=True, canonize=False):
    """The graph, whose outputs are the model's."""
    graph = from_keras(model, canonize=canonize, check=False)
    given = inputs(model)
    theirs = model.predict(given if len(given) > 1 else given[0], verbose=0)
    values = graph.forward({name: held(x, last) for name, x in zip(graph.inputs, given, strict=True)})
    for name, expected in zip(graph.outputs, theirs if isinstance(theirs, list) else [theirs], strict=True):
        expected = held(expected, last)
        assert values[name].shape == expected.shape
        assert values[name].dtype == np.float32
        assert abs(values[name] - expected).max() <= 1e-5 * abs(expected).max()
    return graph


def sequential(shape, *made):
    return randomized(keras.Sequential([keras.Input(shape), *made]))


def kinds(graph):
    return [node.kind for node in graph.nodes]


# --- layers with a data format ---------------------------------------------------------------------------------------

IMAGES = {  # name: (layers, shape of a sample with its channels last, kinds of the nodes)
    "conv": (lambda: L.Conv2D(4, (3, 2), dilation_rate=(1, 2)), (7, 8, 3), ["Conv"]),
    "conv groups": (lambda: L.Conv2D(4, 3, groups=2, padding="same"), (7, 8, 6), ["Conv"]),
    "conv same": (
        lambda: L.Conv2D(4, (3, 2), strides=(2, 3), padding="same", activation="elu"),
        (7, 8, 3),
        ["Conv", "ELU"],
    ),
    "conv 1-d": (lambda: L.Conv1D(4, 4, padding="same", use_bias=False), (9, 3), ["Conv"]),
    "conv causal": (lambda: L.Conv1D(4, 3, dilation_rate=2, padding="causal"), (9, 3), ["Conv"]),
    "conv 3-d": (lambda: L.Conv3D(4, 2, strides=2, padding="same"), (5, 4, 3, 2), ["Conv"]),
    "transpose": (lambda: L.Conv2DTranspose(4, (3, 2), strides=(2, 3)), (4, 3, 3), ["ConvTranspose"]),
    "transpose same": (lambda: L.Conv2DTranspose(4, (3, 2), strides=2, padding="same"), (4, 3, 3), ["ConvTranspose"]),
    "transpose, short kernel": (
        lambda: L.Conv2DTranspose(4, 2, strides=3, padding="same"),
        (4, 3, 3),
        ["ConvTranspose"],
    ),
    "transpose, dilated": (
        lambda: L.Conv2DTranspose(4, 3, dilation_rate=2, padding="same"),
        (4, 5, 3),
        ["ConvTranspose"],
    ),
    "transpose, padded": (
        lambda: L.Conv2DTranspose(4, 3, strides=3, padding="same", output_padding=(2, 1)),
        (4, 5, 3),
        ["ConvTranspose"],
    ),
    "transpose 1-d": (lambda: L.Conv1DTranspose(4, 4, strides=2, padding="same"), (5, 3), ["ConvTranspose"]),
    "transpose 3-d": (lambda: L.Conv3DTranspose(2, 3, strides=2, padding="same"), (3, 2, 3, 2), ["ConvTranspose"]),
    "depthwise": (lambda: L.DepthwiseConv2D(3, strides=2, padding="same", depth_multiplier=2), (7, 6, 3), ["Conv"]),
    "depthwise 1-d": (lambda: L.DepthwiseConv1D(3, activation="relu6"), (7, 3), ["Conv", "Clip"]),
    "separable": (
        lambda: L.SeparableConv2D(4, 3, padding="same", depth_multiplier=2, activation="tanh"),
        (7, 6, 3),
        ["Conv", "Conv", "Tanh"],
    ),
    "separable 1-d": (lambda: L.SeparableConv1D(4, 3), (7, 3), ["Conv", "Conv"]),
    "max pool": (lambda: L.MaxPooling2D(3, strides=2, padding="same"), (6, 7, 3), ["MaxPool"]),
    "max pool 1-d": (lambda: L.MaxPooling1D(2), (7, 3), ["MaxPool"]),
    "max pool 3-d": (lambda: L.MaxPooling3D(2, padding="same"), (3, 4, 5, 2), ["MaxPool"]),
    "average pool": (lambda: L.AveragePooling2D(3, strides=2, padding="same"), (7, 5, 3), ["AvgPool"]),
    "average pool 1-d": (lambda: L.AveragePooling1D(2), (7, 3), ["AvgPool"]),
    "average pool 3-d": (lambda: L.AveragePooling3D(2), (3, 4, 5, 2), ["AvgPool"]),
    "global average": (lambda: L.GlobalAveragePooling2D(), (6, 7, 3), ["GlobalAvgPool", "Flatten"]),
    "global average, kept": (lambda: L.GlobalAveragePooling2D(keepdims=True), (6, 7, 3), ["GlobalAvgPool"]),
    "global average 1-d": (lambda: L.GlobalAveragePooling1D(), (6, 3), ["GlobalAvgPool", "Flatten"]),
    "global average 3-d": (lambda: L.GlobalAveragePooling3D(), (2, 3, 4, 3), ["GlobalAvgPool", "Flatten"]),
    "global max": (lambda: L.GlobalMaxPooling2D(), (6, 7, 3), ["GlobalMaxPool", "Flatten"]),
    "global max 1-d": (lambda: L.GlobalMaxPooling1D(keepdims=True), (6, 3), ["GlobalMaxPool"]),
    "global max 3-d": (lambda: L.GlobalMaxPooling3D(), (2, 3, 4, 3), ["GlobalMaxPool", "Flatten"]),
    "zero padding": (lambda: L.ZeroPadding2D(((1, 0), (2, 3))), (4, 5, 3), ["Pad"]),
    "zero padding 1-d": (lambda: L.ZeroPadding1D((1, 2)), (4, 3), ["Pad"]),
    "zero padding 3-d": (lambda: L.ZeroPadding3D((1, 0, 2)), (2, 3, 4, 3), ["Pad"]),
    "cropping": (lambda: L.Cropping2D(((1, 0), (2, 1))), (4, 5, 3), ["Slice"] * 2),
    "cropping 1-d": (lambda: L.Cropping1D((1, 2)), (5, 3), ["Slice"]),
    "cropping 3-d": (lambda: L.Cropping3D((1, 0, 1)), (3, 3, 4, 3), ["Slice"] * 3),
    "upsampling": (lambda: L.UpSampling2D((2, 3)), (4, 5, 3), ["Upsample"]),
    "upsampling, bilinear": (lambda: L.UpSampling2D((2, 3), interpolation="bilinear"), (4, 5, 3), ["Resize"]),
    "upsampling 1-d": (lambda: L.UpSampling1D(2), (4, 3), ["Upsample"]),
    "upsampling 3-d": (lambda: L.UpSampling3D((2, 1, 3)), (2, 3, 4, 3), ["Upsample"]),
    "spatial dropout": (lambda: L.SpatialDropout2D(0.3), (4, 5, 3), ["Dropout"]),
    "spatial dropout 3-d": (lambda: L.SpatialDropout3D(0.3), (4, 5, 2, 3), ["Dropout"]),
}
WITHOUT_FORMAT = ("Flatten", "Reshape", "Permute", "Dense")


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("form", FORMATS)
def test_layers_with_a_data_format(name, form):
    make, shape, expected = IMAGES[name]
    keras.config.set_image_data_format(form)
    layer = make()
    if not hasattr(layer, "data_format") and form == "channels_first":
        form = "channels_last"  # it has one meaning only
    last = form == "channels_last"
    shape = shape if last else (shape[-1], *shape[:-1])
    anchor = [] if hasattr(layer, "data_format") else [L.MaxPooling1D(1, data_format="channels_last")]
    graph = same(sequential(shape, *anchor, layer), last=last)
    assert kinds(graph) == ["MaxPool"] * len(anchor) + expected
    assert any("channels-last" in note for note in graph.notes) == last


# --- other layers ----------------------------------------------------------------------------------------------------


def activation(name):
    return lambda: L.Activation(name)


OTHERS = {  # name: (layers, shape of a sample, kinds of the nodes)
    "dense": (lambda: [L.Dense(4, activation="relu"), L.Dense(3, use_bias=False)], (5,), ["Dense", "ReLU", "Dense"]),
    "dense over the last axis": (lambda: L.Dense(4), (3, 5), ["Dense"]),
    "dense over channels": (lambda: [L.UpSampling2D(1), L.Dense(4)], (3, 4, 5), ["Upsample", "Conv"]),
    "batch norm": (lambda: [L.Dense(4), L.BatchNormalization()], (5,), ["Dense", "BatchNorm"]),
    "batch norm of channels": (
        lambda: [L.Conv2D(4, 1), L.BatchNormalization(center=False, scale=False, epsilon=1e-2)],
        (3, 4, 5),
        ["Conv", "BatchNorm"],
    ),
    **{name: (activation(name), (7,), [kind]) for name, kind in {
        "linear": "Identity", "relu": "ReLU", "relu6": "Clip", "leaky_relu": "LeakyReLU", "elu": "ELU", "selu": "SELU",
        "celu": "CELU", "gelu": "GELU", "silu": "SiLU", "swish": "SiLU", "sigmoid": "Sigmoid", "tanh": "Tanh",
        "hard_sigmoid": "HardSigmoid", "hard_swish": "HardSwish", "softplus": "Softplus", "softmax": "Softmax",
    }.items()},
    "softmax of channels": (lambda: [L.UpSampling2D(1), L.Activation("softmax")], (3, 4, 5), ["Upsample", "Softmax"]),
    "ReLU": (lambda: L.ReLU(), (7,), ["ReLU"]),
    "ReLU, clipped": (lambda: L.ReLU(max_value=0.5), (7,), ["Clip"]),
    "ReLU, leaky and clipped": (lambda: L.ReLU(max_value=0.5, negative_slope=0.2), (7,), ["LeakyReLU", "Clip"]),
    "LeakyReLU": (lambda: L.LeakyReLU(negative_slope=0.15), (7,), ["LeakyReLU"]),
    "PReLU": (lambda: [L.UpSampling2D(1), L.PReLU()], (3, 4, 5), ["Upsample", "PReLU"]),
    "PReLU, by channel": (lambda: [L.UpSampling2D(1), L.PReLU(shared_axes=[1, 2])], (3, 4, 5), ["Upsample", "PReLU"]),
    "PReLU, by row": (lambda: [L.UpSampling2D(1), L.PReLU(shared_axes=[2, 3])], (3, 4, 5), ["Upsample", "PReLU"]),
    "PReLU of features": (lambda: L.PReLU(), (6,), ["PReLU"]),
    "ELU": (lambda: L.ELU(0.7), (7,), ["ELU"]),
    "Softmax": (lambda: [L.UpSampling2D(1), L.Softmax(axis=1)], (3, 4, 5), ["Upsample", "Softmax"]),
    "flatten": (lambda: [L.Conv2D(2, 2), L.Flatten()], (3, 4, 5), ["Conv", "Transpose", "Flatten"]),
    "flatten without image": (lambda: [L.Flatten(), L.Dense(3)], (4, 5), ["Flatten", "Dense"]),
    "reshape": (
        lambda: [L.UpSampling2D(1), L.Reshape((5, 4, 3))],
        (3, 4, 5),
        ["Upsample", "Transpose", "Reshape", "Transpose"],
    ),
    "reshape to features": (lambda: [L.Conv2D(2, 2), L.Reshape((16,))], (3, 5, 2), ["Conv", "Transpose", "Reshape"]),
    "reshape of features": (lambda: L.Reshape((-1, 2)), (6,), ["Reshape"]),
    "permute": (lambda: [L.UpSampling2D(1), L.Permute((3, 1, 2))], (3, 4, 5), ["Upsample", "Transpose"]),
    "permute without image": (lambda: L.Permute((2, 1)), (3, 4), ["Transpose"]),
    "dropouts": (
        lambda: [L.Dropout(0.2), L.AlphaDropout(0.1), L.GaussianDropout(0.1), L.GaussianNoise(0.1), L.Identity(),
                 L.ActivityRegularization(0.1), L.Dense(2)],
        (4,),
        ["Dropout", "Identity", "Identity", "Identity", "Identity", "Identity", "Dense"],
    ),
    "rescaling": (lambda: L.Rescaling(1 / 127.5, offset=-1), (5,), ["Scale"]),
    "rescaling of channels": (
        lambda: [L.UpSampling2D(1), L.Rescaling([0.5, 2, 3], offset=[1, 0, 2])],
        (4, 5, 3),
        ["Upsample", "Scale"],
    ),
    "normalization": (lambda: L.Normalization(mean=[1, 2, 0], variance=[1, 4, 2]), (3,), ["Scale"]),
    "normalization, inverted": (
        lambda: [L.UpSampling2D(1), L.Normalization(mean=[1, 2, 0], variance=[1, 4, 2], invert=True)],
        (4, 5, 3),
        ["Upsample", "Scale"],
    ),
    "spatial dropout 1-d": (lambda: [L.MaxPooling1D(1), L.SpatialDropout1D(0.2)], (4, 3), ["MaxPool", "Dropout"]),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_other_layers(name):
    make, shape, expected = OTHERS[name]
    made = make()
    model = sequential(shape, *(made if isinstance(made, list) else [made]))
    last = any(hasattr(layer, "data_format") and not isinstance(layer, L.Flatten) for layer in model.layers)
    assert kinds(same(model, last=last)) == expected


def test_uneven_average_pools_which_backends_compute_differently():
    model = sequential((6, 7, 3), L.AveragePooling2D((3, 2), strides=2, padding="same"))
    if keras.backend.backend() == "torch":
        with pytest.raises(lrp.UnsupportedOp, match="Keras on torch repeats the border"):
            from_keras(model)
    else:
        assert kinds(same(model)) == ["AvgPool"]


def test_flatten_keeps_keras_order_in_both_formats():
    for form in FORMATS:
        keras.config.set_image_data_format(form)
        graph = same(sequential((3, 4, 5), L.Conv2D(2, 2), L.Flatten(), L.Dense(3)), last=form == "channels_last")
        assert [node.name.partition("_")[0] for node in graph.nodes] == ["conv2d", "flatten", "flatten", "dense"]
        assert kinds(graph) == ["Conv", "Transpose", "Flatten", "Dense"]
        assert any("flattens in Keras' order" in note for note in graph.notes)


# --- networks --------------------------------------------------------------------------------------------------------


def residual(form):
    x = given = keras.Input((8, 8, 3) if form == "channels_last" else (3, 8, 8), name="image")
    axis = -1 if form == "channels_last" else 1
    x = skip = L.Conv2D(4, 3, padding="same", activation="relu", name="stem")(x)
    for i in range(2):
        x = L.BatchNormalization(axis=axis, name=f"bn{i}")(L.Conv2D(4, 3, padding="same", name=f"conv{i}")(x))
        x = skip = L.ReLU(name=f"relu{i}")(L.Add(name=f"add{i}")([x, skip]))
    gate = L.GlobalAveragePooling2D(keepdims=True, name="squeeze")(x)
    gate = L.Conv2D(4, 1, activation="sigmoid", name="excite")(gate)
    x = L.Multiply(name="product")([gate, x])
    x = L.Concatenate(axis=axis, name="both")(
        [x, L.Average(name="mean")([x, skip, L.Subtract(name="less")([x, skip])])]
    )
    x = L.Flatten(name="flatten")(L.MaxPooling2D(2, name="pool")(x))
    return randomized(keras.Model(given, L.Dense(5, activation="softmax", name="logits")(L.Dropout(0.5)(x))))


@pytest.mark.parametrize("form", FORMATS)
def test_a_network_with_branches(form):
    keras.config.set_image_data_format(form)
    model = residual(form)
    graph = same(model, last=form == "channels_last")
    assert [node.name for node in graph.nodes][:5] == ["stem", "stem.relu", "conv0", "bn0", "add0"]
    assert graph["product"].inputs == ("relu1", "excite.sigmoid")
    assert graph["mean"].inputs == ("mean.sum",)
    canonized = from_keras(model)
    assert canonized.outputs == ("logits",)
    assert not {"BatchNorm", "Dropout", "Softmax"} & set(kinds(canonized))
    x = held(inputs(model)[0], form == "channels_last")
    rules = [(lrp.named("product"), lrp.Product())] if hasattr(lrp, "Product") else []
    weighted = lrp.kind(
        *{type(node.layer) for node in canonized.nodes if not node.layer.wire and node.name != "product"}
    )
    if rules:
        e = lrp.explain(canonized, x, lrp.Composite([*rules, (weighted, lrp.Epsilon(epsilon=1e-6))]), target=1)
        assert e.relevance.shape == x.shape


def test_models_within_models_shared_layers_several_inputs_and_outputs():
    inner = keras.Sequential([keras.Input((4,)), L.Dense(4, activation="relu", name="dense")], name="inner")
    left, right = keras.Input((4,), name="left"), keras.Input((4,), name="right")
    shared = L.Dense(4, name="shared")
    x, y = shared(inner(left)), shared(inner(right))
    z = L.Add(name="add")([x, y])
    model = randomized(keras.Model([left, right], [z, x, left]))
    graph = same(model, last=False)
    assert graph.inputs == ("left", "right")
    assert [node.name for node in graph.nodes] == [
        *(
            "inner.dense",
            "inner.dense.relu",
            "inner.dense_2",
            "inner.dense.relu_2",
            "shared",
            "shared_2",
            "add",
            "identity",
        ),
    ]
    outer = randomized(keras.Sequential([keras.Input((4,)), inner, L.Dense(2, name="head")]))
    assert [node.name for node in same(outer, last=False).nodes] == ["inner.dense", "inner.dense.relu", "head"]
    by_name = randomized(keras.Model({"left": left, "right": right}, {"sum": z}))
    assert len(from_keras(by_name).outputs) == 1


@pytest.mark.parametrize("policy", ["float64", "float32"])
def test_the_precision_of_the_model_is_kept(policy):
    if keras.backend.backend() == "jax" and policy == "float64":
        pytest.skip("jax has no float64 unless it is switched on")
    model = randomized(keras.Sequential([keras.Input((4,), dtype=policy), L.Dense(2, dtype=policy)]))
    graph = from_keras(model)
    assert graph.nodes[0].layer.weight.dtype == model.layers[0].kernel.dtype


def test_a_wrong_graph_is_refused(monkeypatch):
    model = sequential((4,), L.Dense(3, name="dense"))
    wrong = {"Dense": lambda c, layer, x: layers.Dense(loader.numbers(layer.kernel) * 1.001)}
    monkeypatch.setattr(loader, "LAYERS", loader.LAYERS | wrong)
    with pytest.raises(lrp.LoadError, match='output "dense" differs from Keras\'s by'):
        from_keras(model)
    from_keras(model, check=False)


def test_every_layer_is_tested():
    tested = set()
    for make, *_ in [*IMAGES.values(), *OTHERS.values()]:
        made = make()
        tested |= {type(layer).__name__ for layer in (made if isinstance(made, list) else [made])}
    assert tested | {"Add", "Subtract", "Average", "Multiply", "Concatenate"} == set(loader.LAYERS)


# --- files -----------------------------------------------------------------------------------------------------------


@functools.cache
def config():
    return json.dumps({"class_name": "Sequential", "module": "keras", "config": {"layers": []}})


def archive(path, text):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("config.json", text)
    return path


def test_files(tmp_path):
    model = residual("channels_last")
    model.compile(loss="mse")
    model.save(tmp_path / "model.keras")
    graph, same_graph = from_keras(tmp_path / "model.keras"), from_keras(model)
    assert str(graph) == str(same_graph)
    x = held(inputs(model)[0], True)
    assert (graph.forward(x)["logits"] == same_graph.forward(x)["logits"]).all()


def test_files_with_code_are_refused_before_they_are_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr(keras.saving, "load_model", lambda *a, **k: pytest.fail("it was loaded"))
    path = tmp_path / "model.keras"
    keras.Sequential([keras.Input((4,)), L.Lambda(lambda x: x * 2)]).save(path)
    with pytest.raises(lrp.LoadError, match=r"model\.keras holds a (Lambda|__lambda__), which is code to be run"):
        from_keras(path)
    for module, kind in (("os", "function"), ("builtins", "function"), ("my.package", "Own"), ("kerasx", "Dense")):
        text = json.dumps({"config": {"layers": [{"module": module, "class_name": kind, "config": "system"}]}})
        with pytest.raises(lrp.LoadError, match=r"code to be run|is no layer of Keras"):
            from_keras(archive(path, text))
    for module, kind in (("keras.utils", "get_file"), ("keras.layers", "TorchModuleWrapper"), (None, "__lambda__")):
        text = json.dumps({"config": [[{"module": module, "class_name": kind}]]})
        with pytest.raises(lrp.LoadError, match=r"code to be run|is no layer of Keras"):
            from_keras(archive(path, text))


def test_what_is_no_archive_is_refused(tmp_path):
    path = tmp_path / "model.keras"
    with pytest.raises(lrp.LoadError, match=r"is no \.keras archive"):
        from_keras(path)
    path.write_bytes(b"\x89HDF")
    with pytest.raises(lrp.LoadError, match=r"is no \.keras archive"):
        from_keras(path)
    with pytest.raises(lrp.LoadError, match=r"is no \.keras archive"):
        from_keras(archive(path, "{"))
    with pytest.raises(lrp.LoadError, match=r"is no \.keras archive"):
        from_keras(archive(path, "[" * 100_000))


# --- refusals --------------------------------------------------------------------------------------------------------

REFUSED = {  # name: (layers, shape, what the message says)
    "layer norm": (
        lambda: L.LayerNormalization(name="norm"),
        (4,),
        r'layer "norm" \(LayerNormalization\): no layer does this',
    ),
    "activation": (lambda: L.Dense(3, activation="softsign"), (4,), "no layer for the activation softsign"),
    "own activation": (lambda: L.Dense(3, activation=lambda x: x), (4,), "no layer for the activation <lambda>"),
    "lambda": (lambda: L.Lambda(lambda x: x), (4,), r"\(Lambda\): no layer does this"),
    "threshold": (lambda: L.ReLU(threshold=1.0), (4,), r"threshold=1\.0"),
    "bicubic": (lambda: L.UpSampling2D(2, interpolation="bicubic"), (4, 4, 3), "interpolation='bicubic'"),
    "batch norm of rows": (
        lambda: [L.UpSampling2D(1), L.BatchNormalization(axis=1)],
        (3, 4, 5),
        "axis=1 is not the channels'",
    ),
    "two formats": (
        lambda: [L.UpSampling2D(1), L.Conv2D(2, 1, data_format="channels_first")],
        (3, 4, 5),
        "mixes data formats",
    ),
    "flatten in the other format": (
        lambda: [L.UpSampling2D(1), L.Flatten(data_format="channels_first")],
        (3, 4, 5),
        "other layers are channels-last",
    ),
    "softmax over several axes": (lambda: L.Softmax(axis=(1, 2)), (3, 4), "over several axes"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_say_what_where_and_what_now(name):
    make, shape, words = REFUSED[name]
    made = make()
    with pytest.raises(lrp.UnsupportedOp, match=words):
        from_keras(keras.Sequential([keras.Input(shape), *(made if isinstance(made, list) else [made])]))


def test_operations_and_own_layers_are_refused():
    class Own(L.Dense):
        """A subclass may compute anything."""

    x = keras.Input((4,))
    with pytest.raises(lrp.UnsupportedOp, match=r"keras\.src\.ops.*Multiply\): no layer does this"):
        from_keras(keras.Model(x, x * 2))
    with pytest.raises(lrp.UnsupportedOp, match=r"Own\): no layer does this"):
        from_keras(keras.Model(x, Own(2)(x)))


def test_what_is_no_model_is_refused():
    class Subclass(keras.Model):
        """Its call is a program."""

    with pytest.raises(lrp.LoadError, match="Subclass is no Sequential or functional model"):
        from_keras(Subclass())
    with pytest.raises(lrp.LoadError, match="is not built: begin it with"):
        from_keras(keras.Sequential([L.Dense(3)]))
    with pytest.raises(lrp.LoadError, match="has open sizes"):
        from_keras(keras.Sequential([keras.Input((None, 3)), L.Conv1D(2, 3)]))
    with pytest.raises(lrp.LoadError, match=r"builtins\.dict is no Sequential"):
        from_keras({})
