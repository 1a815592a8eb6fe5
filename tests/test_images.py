"""Image files as inputs: pixels become the network's numbers, and real networks explain a photograph."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

import lrp_ref as lrp
from lrp_ref.cli import main
from lrp_ref.data import FOLDER, digits
from lrp_ref.loaders.image import Preprocessing

Image = pytest.importorskip("PIL.Image", reason="needs Pillow")
pytest.importorskip("onnx", reason="needs onnx")
DIGITS = str(FOLDER / "digits_torch.onnx")
SHARED = Path(__file__).resolve().parent.parent.parent / "shared" / "cases"
PIXELS = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3) * 14


def png(path, pixels):
    Image.fromarray(pixels).save(path)
    return path


def test_pixels_become_numbers(tmp_path):
    path = png(tmp_path / "a.png", PIXELS)
    plain = Preprocessing().image(path)
    assert plain.shape == (1, 3, 2, 3)
    np.testing.assert_allclose(plain[0], PIXELS.transpose(2, 0, 1) / 255, rtol=1e-15)
    caffe = Preprocessing(order="bgr", scale=1, mean=(104, 117, 123))
    np.testing.assert_array_equal(caffe.image(path)[0, 0], PIXELS[..., 2] - 104.0)
    assert caffe.bounds() == ((-104, -117, -123), (151, 138, 132))
    np.testing.assert_allclose(caffe.picture(caffe.image(path)), PIXELS / 255, rtol=1e-12)
    normed = Preprocessing(mean=0.5, std=(0.5, 0.25, 1), layout="channels_last")
    np.testing.assert_allclose(normed.image(path)[0], (PIXELS / 255 - 0.5) / [0.5, 0.25, 1], rtol=1e-12)
    np.testing.assert_allclose(normed.picture(normed.image(path)), PIXELS / 255, rtol=1e-12)
    gray = Preprocessing(order="gray", size=(4, 6)).image(path)
    assert gray.shape == (1, 1, 4, 6)


def test_a_jpeg_is_read(tmp_path):
    Image.fromarray(np.full((8, 8, 3), 200, np.uint8)).save(tmp_path / "a.jpg")
    np.testing.assert_allclose(Preprocessing(scale=1).image(tmp_path / "a.jpg"), 200, atol=2)


def test_preprocessing_is_read_from_a_small_file(tmp_path):
    path = tmp_path / "p.json"
    path.write_text(json.dumps({"size": [227, 227], "order": "bgr", "scale": 1, "mean": [104, 117, 123]}))
    assert Preprocessing.read(path) == Preprocessing(size=(227, 227), order="bgr", scale=1, mean=(104, 117, 123))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "no JSON"),
        ("[1]", "need an object"),
        ('{"means": 1}', "no parameter 'means'; the nearest names are 'mean'"),
        ('{"mean": [1, 2]}', "mean"),
        ('{"std": 0}', "std"),
        ('{"scale": "1"}', "scale"),
        ('{"order": "rbg"}', "order"),
        ('{"size": [0, 4]}', "size"),
        ('{"layout": "NHWC"}', "layout"),
    ],
)
def test_bad_preprocessing_is_refused_by_name(tmp_path, text, message):
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(lrp.LoadError, match=message):
        Preprocessing.read(tmp_path / "p.json")


def test_images_that_cannot_be_read_are_one_error(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(lrp.LoadError, match="no PNG or JPEG"):
        Preprocessing().image(tmp_path / "a.png")
    whole = png(tmp_path / "b.png", np.zeros((64, 64, 3), np.uint8)).read_bytes()
    (tmp_path / "b.png").write_bytes(whole[:-40])
    with pytest.raises(lrp.LoadError, match="no PNG or JPEG"):
        Preprocessing().image(tmp_path / "b.png")
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "c.gif")
    with pytest.raises(lrp.LoadError, match="no PNG or JPEG"):
        Preprocessing().image(tmp_path / "c.gif")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 8)
    for side in (3, 20):  # a warning of Pillow's, and an error of Pillow's
        with pytest.raises(lrp.LoadError, match="no PNG or JPEG"):
            Preprocessing().image(png(tmp_path / "d.png", np.zeros((side, side, 3), np.uint8)))


def test_the_command_explains_an_image_with_an_onnx_file(tmp_path, capsys):
    data = digits()
    row = data.test[0]
    png(tmp_path / "digit.png", (data.images[row, 0] * 255).round().astype(np.uint8))
    (tmp_path / "labels.txt").write_text("\n".join(f"the {k}\x1b" for k in range(10)))
    command = ["explain", "--model", DIGITS, "--input", str(tmp_path / "digit.png"), "--order", "gray"]
    assert main([*command, "--labels", str(tmp_path / "labels.txt"), "--out", str(tmp_path / "map.png")]) == 0
    said = capsys.readouterr().out
    assert f"class {data.labels[row]} (the {data.labels[row]}\\x1b)" in said
    assert "ZBox(low=(0.0,), high=(1.0,), epsilon=1e-06)" in said
    assert (tmp_path / "map.png").stat().st_size > 1000
    assert main([*command, "--mean", "0.5", "--std", "0.5", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert "ZBox(low=(-1.0,), high=(1.0,), epsilon=1e-06)" in document["rules"].values()
    np.save(tmp_path / "x.npy", data.images[row : row + 1])
    assert main(["explain", "--model", DIGITS, "--input", str(tmp_path / "x.npy"), "--exact"]) == 0
    assert "the books balance with ==" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--input", "3", "--mean", "1"], "--mean is for images"),
        (["--input", "a.png", "--size", "8"], "size"),
        (["--input", "a.png", "--mean", "x"], "--mean"),
        (["--input", "a.png", "--order", "xyz"], "order"),
        (["--input", "a.png"], r"need \(batch, 1, size, size\)"),
        (["--input", "a.png", "--order", "gray", "--labels", "few.txt"], "2 labels for 10 classes"),
        (["--input", "two.npy"], "a batch of 2"),
        (["--model", "none.onnx", "--input", "3"], "none.onnx"),
    ],
)
def test_wrong_use_is_one_line(options, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    png(tmp_path / "a.png", np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "few.txt").write_text("one\ntwo")
    np.save("two.npy", np.zeros((2, 1, 8, 8)))
    assert main(["explain", "--model", DIGITS, *options]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert re.search(message, said)


NETWORKS = {  # trained networks, and how they read a picture
    "squeezenet_imagenet": {"size": [227, 227], "order": "bgr", "scale": 1, "mean": [104, 117, 123]},
    "resnet20_cifar10": {"size": [32, 32], "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
    "trained_fashion": {"size": [28, 28], "order": "gray"},
    "wonnx_mnist_cnn": {"size": [28, 28], "order": "gray", "scale": 1},
    "quantus_lenet_mnist": {"size": [28, 28], "order": "gray"},
}


def test_every_trained_network_has_an_entry():
    if not SHARED.exists():
        pytest.skip("needs ../shared/cases")
    trained = {f.parent.name for f in SHARED.glob("*/model.json") if json.loads(f.read_text()).get("trained")}
    assert trained == set(NETWORKS)


@pytest.mark.parametrize("network", NETWORKS)
def test_trained_networks_explain_a_photograph(network, tmp_path, capsys):
    if not SHARED.exists():
        pytest.skip("needs ../shared/cases")
    photograph = pytest.importorskip("sklearn.datasets", reason="needs scikit-learn").load_sample_image("flower.jpg")
    Image.fromarray(photograph[:, 106:533]).save(tmp_path / "flower.png")
    (tmp_path / "p.json").write_text(json.dumps(NETWORKS[network]))
    command = ["explain", "--model", str(SHARED / network / "model.onnx"), "--input", str(tmp_path / "flower.png")]
    command += ["--preprocessing", str(tmp_path / "p.json"), "--dtype", "float32", "--out", str(tmp_path / "map.png")]
    assert main(command) == 0
    assert "total: " in capsys.readouterr().out
    with Image.open(tmp_path / "map.png") as picture:
        assert min(picture.size) > 300
