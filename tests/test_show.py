"""Pictures of relevance, read back from the PNG: the right color at the right place; and two measures."""

import sys
from fractions import Fraction

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imread
from scipy import ndimage

import lrp_ref.show.page
from lrp_ref.arrays import exact
from lrp_ref.errors import ArithmeticMismatch, LrpError, ShapeError
from lrp_ref.show import channel_sum, colors, entropy, figure, grid, negative_share, save_heatmap

WHITE = (255, 255, 255)
DARK_RED, DARK_BLUE = (tuple(colors(np.array([sign]))[0].tolist()) for sign in (1.0, -1.0))
SAMPLE = np.random.default_rng(0).normal(size=(3, 7))


def planted(place, value=1.0, shape=(3, 7)):
    R = np.zeros(shape)
    R[place] = value
    return R


def boxes(path):
    """What stands in the gray frames of a picture, from left to right and then down."""
    picture = np.rint(imread(path)[..., :3] * 255).astype(np.uint8)
    parts, _ = ndimage.label((picture == lrp_ref.show.page.FRAME).all(axis=-1))
    found = [places for places in ndimage.find_objects(parts) if picture[places][..., 0].size > 1000]
    found.sort(key=lambda places: (places[0].start, places[1].start))
    return [picture[places][2:-2, 2:-2] for places in found]


def cells(box, shape):
    """The color of each cell of a box, which is one color all over the cell."""
    tall, wide = box.shape[0] // shape[0], box.shape[1] // shape[1]
    blocks = box.reshape(shape[0], tall, shape[1], wide, 3)
    assert tall == wide
    np.testing.assert_array_equal(blocks, np.broadcast_to(blocks[:, :1, :, :1], blocks.shape))
    return blocks[:, 0, :, 0]


# --- colors ------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_colors_of_the_opposite_relevance_have_red_and_blue_exchanged(values):
    R = np.array(values)
    np.testing.assert_array_equal(colors(-R), colors(R)[..., ::-1])
    assert (colors(R)[R == 0] == WHITE).all()


def test_colors_darken_from_white_to_the_limit_and_stay():
    ramp = colors(np.linspace(0, 2, 401), limit=1.0).astype(int)
    assert tuple(ramp[0]) == WHITE
    assert tuple(ramp[200]) == DARK_RED
    assert (ramp[200:] == DARK_RED).all()
    assert tuple(colors(np.array([-1e300]), limit=1e-300)[0]) == DARK_BLUE
    darker = np.diff(ramp[:201] @ [299, 587, 114])
    assert (darker < 0).all()  # each step of half a percent is seen
    assert (ramp[1:201, 0] >= ramp[1:201, 2]).all()  # reddish


def test_limit_is_the_largest_size_by_default():
    assert tuple(colors(np.array([[0.5, -4.0]]))[0, 1]) == DARK_BLUE
    np.testing.assert_array_equal(colors(SAMPLE), colors(SAMPLE, limit=np.abs(SAMPLE).max()))
    assert (colors(np.zeros((2, 2))) == WHITE).all()
    assert colors(np.zeros((0, 2))).shape == (0, 2, 3)


@pytest.mark.parametrize("make", [exact, lambda R: np.vectorize(Fraction, otypes=[object])(R), np.float32])
def test_colors_are_the_same_in_every_arithmetic(make):
    R = np.array([[0.5, -0.25], [0.0, 1.0]])
    np.testing.assert_array_equal(colors(make(R)), colors(R))


def test_colors_refuse_what_is_no_number():
    with pytest.raises(ArithmeticMismatch, match=r"relevance is nan at \(1, 4\), not finite in 1 of 21 places"):
        colors(planted((1, 4), np.nan))
    with pytest.raises(ValueError, match="relevance is -inf at"):
        colors(planted((1, 4), -np.inf))
    for limit in (0, -1.0, np.inf, np.nan):
        with pytest.raises(ArithmeticMismatch, match="give a positive number"):
            colors(SAMPLE, limit)


# --- pictures ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [(1, 4), (2, 0), (0, 6)])  # no mirror image or transpose of itself
@pytest.mark.parametrize(("value", "color"), [(2.5, DARK_RED), (-2.5, DARK_BLUE)])
def test_a_pixel_that_alone_decides_is_alone_in_color(tmp_path, place, value, color):
    R = planted(place, value)
    seen, _ = boxes(save_heatmap(tmp_path / "map.png", R))
    expected = np.full((3, 7, 3), 255)
    expected[place] = color
    np.testing.assert_array_equal(cells(seen, R.shape), expected)


def test_the_picture_of_the_opposite_relevance_has_red_and_blue_exchanged(tmp_path):
    seen, bar = boxes(save_heatmap(tmp_path / "map.png", SAMPLE))
    opposite, same_bar = boxes(save_heatmap(tmp_path / "opposite.png", -SAMPLE))
    np.testing.assert_array_equal(opposite, seen[..., ::-1])
    np.testing.assert_array_equal(same_bar, bar)
    np.testing.assert_array_equal(cells(seen, SAMPLE.shape), colors(SAMPLE))


def test_the_bar_runs_from_the_limit_down_to_its_opposite(tmp_path):
    _, bar = boxes(save_heatmap(tmp_path / "map.png", SAMPLE, limit=7.0))
    assert tuple(bar[0, 0]) == DARK_RED
    assert tuple(bar[len(bar) // 2, 0]) == WHITE
    assert tuple(bar[-1, 0]) == DARK_BLUE
    drawn = figure([[SAMPLE]], columns=["one"], limit=7.0)
    assert any("|R| = 7.0" in text.get_text() for text in drawn.axes[0].texts)


def test_a_heatmap_takes_a_batch_of_one_and_sums_its_channels(tmp_path):
    R = np.stack([SAMPLE, 2 * SAMPLE])[None]
    seen, _ = boxes(save_heatmap(tmp_path / "map.png", exact(R), title="two channels"))
    np.testing.assert_array_equal(cells(seen, SAMPLE.shape), colors(3 * SAMPLE))
    with pytest.raises(ShapeError, match="is 2 maps"):
        save_heatmap(tmp_path / "two.png", R[0])


def test_the_input_stands_left_of_its_map_in_gray(tmp_path):
    image = np.arange(21.0).reshape(1, 3, 7)
    under, seen, _ = boxes(save_heatmap(tmp_path / "map.png", SAMPLE, image=image))
    gray = cells(under, (3, 7))
    np.testing.assert_array_equal(gray, np.rint(np.arange(21) * 12.75).reshape(3, 7, 1) * [1, 1, 1])
    np.testing.assert_array_equal(cells(seen, (3, 7)), colors(SAMPLE))


def test_an_input_of_three_channels_keeps_its_colors(tmp_path):
    image = np.zeros((3, 3, 7))
    image[0, 1, 4] = 1
    under, *_ = boxes(save_heatmap(tmp_path / "map.png", SAMPLE, image=image))
    assert tuple(cells(under, (3, 7))[1, 4]) == (255, 0, 0)


def test_the_overlay_shows_the_input_where_nothing_is_relevant_and_the_color_at_the_limit(tmp_path):
    R = planted((1, 4)) - planted((2, 0))
    seen, _ = boxes(save_heatmap(tmp_path / "map.png", R, image=planted((0, 1)), overlay=True))
    seen = cells(seen, R.shape).astype(int)
    assert tuple(seen[1, 4]) == DARK_RED
    assert tuple(seen[2, 0]) == DARK_BLUE
    assert tuple(seen[0, 1]) == WHITE  # the lightest of the input
    others = seen[(R == 0) & (planted((0, 1)) == 0)]
    assert (others == others[0, 0]).all()
    assert 128 < others[0, 0] < 255
    with pytest.raises(ShapeError, match=r"shape \(3, 7\) cannot lie over an image of shape \(7, 3\)"):
        save_heatmap(tmp_path / "no.png", R, image=R.T, overlay=True)
    with pytest.raises(ShapeError, match="give image="):
        save_heatmap(tmp_path / "no.png", R, overlay=True)


@pytest.mark.parametrize("limit", ["each", "row", 2.0])
def test_a_grid_has_a_row_a_sample_with_its_input_first(tmp_path, limit):
    maps = [[SAMPLE, 3 * SAMPLE], [planted((1, 4)), planted((2, 0), -5.0)]]
    images = [np.eye(4), 1 - np.eye(4)]
    words = {"columns": ["zero", "a composite of many rules"], "rows": ["3 as 3", "5 as 8"]}
    captions = [["neg 12 %  H 4.8"] * 2, ["", "$"]]
    path = grid(tmp_path / "grid.png", maps, images=images, captions=captions, limit=limit, **words)
    *drawn, _ = boxes(path)
    tops = [{"each": np.abs(R).max(), "row": np.abs(row).max()}.get(limit, limit) for row in maps for R in row]
    for i in (0, 1):
        light = cells(drawn[3 * i], (4, 4))[..., 0]
        np.testing.assert_array_equal(light, 255 * images[i])
        for k in (0, 1):
            seen = cells(drawn[3 * i + k + 1], (3, 7))
            np.testing.assert_array_equal(seen, colors(maps[i][k], tops[2 * i + k]))


def test_parts_that_do_not_fit_are_named(tmp_path):
    def draw(maps=((SAMPLE, SAMPLE),), columns=("a", "b"), **others):
        grid(tmp_path / "grid.png", maps, columns=columns, **others)

    with pytest.raises(ShapeError, match="2 maps in row 0 for 1 columns"):
        draw(columns=["a"])
    with pytest.raises(ShapeError, match="2 labels for 1 rows of maps"):
        draw(rows=["a", "b"])
    with pytest.raises(ShapeError, match="1 captions in row 0 for 2 columns"):
        draw(captions=[["a"]])
    with pytest.raises(ShapeError, match="2 images for 1 rows of maps"):
        draw(images=[SAMPLE, SAMPLE])
    with pytest.raises(ShapeError, match=r"map \(0, 0\) has shape \(1, 3, 7\), not \(H, W\): see channel_sum"):
        draw(maps=[[SAMPLE[None], SAMPLE]])
    with pytest.raises(ShapeError, match="no maps"):
        draw(maps=[])
    with pytest.raises(ArithmeticMismatch, match="limit='all': give"):
        draw(limit="all")
    with pytest.raises(ArithmeticMismatch, match=r"relevance of map \(0, 1\) is inf at \(1, 4\)"):
        draw(maps=[[SAMPLE, planted((1, 4), np.inf)]])
    assert not list(tmp_path.iterdir())


def test_the_settings_of_matplotlib_do_not_matter(tmp_path):
    plain = save_heatmap(tmp_path / "plain.png", SAMPLE, title="$a_j").read_bytes()
    others = {"image.origin": "lower", "image.interpolation": "bilinear", "savefig.bbox": "tight"}
    others |= {"savefig.dpi": 50, "text.usetex": True, "figure.autolayout": True, "axes.facecolor": "red"}
    with mpl.rc_context(others):
        assert save_heatmap(tmp_path / "other.png", SAMPLE, title="$a_j").read_bytes() == plain


def test_a_picture_is_written_whole_or_not_at_all(tmp_path):
    class Broken:
        def __init__(self):
            self.canvas = self

        def print_png(self, file):
            file.write(b"half")
            raise OSError("no space left")

        def clear(self):
            pass

    path = save_heatmap(tmp_path / "new folder" / "map.png", SAMPLE)
    before = path.read_bytes()
    with pytest.raises(OSError, match="no space left"):
        lrp_ref.show.page.save(Broken(), path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["map.png"]
    with pytest.raises(LrpError, match=r"end the name in \.png"):
        save_heatmap(tmp_path / "map.jpg", SAMPLE)


def test_a_missing_matplotlib_is_named_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'pip install "lrp_ref\[plot\]"'):
        save_heatmap(tmp_path / "map.png", SAMPLE)


# --- from relevance to a map, and its measures -------------------------------------------------------------


def test_channel_sum():
    R = np.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)
    np.testing.assert_array_equal(channel_sum(R), R[:, 0] + R[:, 1] + R[:, 2])
    np.testing.assert_array_equal(channel_sum(exact(R)), exact(R[:, 0] + R[:, 1] + R[:, 2]))
    np.testing.assert_array_equal(channel_sum(R[:, 0]), R[:, 0])
    np.testing.assert_array_equal(channel_sum(R.reshape(2, 60), shape=(3, 4, 5)), channel_sum(R))
    np.testing.assert_array_equal(channel_sum(R.reshape(2, 60), shape=(6, 10)), R.reshape(2, 6, 10))
    np.testing.assert_array_equal(channel_sum(R[0, :, :, :3].reshape(4, 9)), R[0, :, :, :3].reshape(4, 3, 3))
    for wrong, shape in (
        (R[0, 0, 0], None),
        (R.reshape(2, 60), None),
        (R.reshape(2, 60), (6, 9)),
        (R[None], None),
    ):
        with pytest.raises(ShapeError, match="relevance of shape"):
            channel_sum(wrong, shape=shape)


@pytest.mark.parametrize(
    ("R", "share", "bits"),
    [
        ([3.0, -1.0, 0.0, 0.0], 1 / 4, 2 - 3 / 4 * np.log2(3)),  # -3/4 log2(3/4) - 1/4 log2(1/4)
        ([0.0, 0.0, -0.1, 0.0], 1, 0),
        ([2.0, -2.0, 2.0, -2.0], 1 / 2, 2),
        ([4.0, 2.0, -1.0, 1.0], 1 / 8, 7 / 4),  # 1/2 + 2/4 + 3/8 + 3/8
        ([0.0, -0.0, 0.0, 0.0], 0, 0),
    ],
)
@pytest.mark.parametrize("scale", [1, 1e-310, 1e307])
def test_measures_by_hand(R, share, bits, scale):
    R = np.array([R]) * scale
    tolerance = {"rtol": 1e-15 if scale == 1 else 1e-12, "atol": 0}
    for made in (R, R.reshape(1, 2, 2), exact(R)):
        np.testing.assert_allclose(negative_share(made), [share], **tolerance)
        np.testing.assert_allclose(entropy(made), [bits], **tolerance)


def test_measures_are_per_sample_and_refuse_what_is_no_number():
    R = np.stack([planted((1, 4)), -np.ones((3, 7))])
    assert negative_share(R).tolist() == [0, 1]
    assert 0 < entropy(np.array([[1.0, 5e-324]])) < 1e-300
    np.testing.assert_allclose(entropy(R), [0, np.log2(21)], rtol=1e-15)
    assert negative_share(R[:0]).shape == entropy(R[:0]).shape == (0,)
    for measure in (negative_share, entropy):
        with pytest.raises(ArithmeticMismatch, match=r"relevance is nan at \(1, 0\)"):
            measure(np.array([[1.0], [np.nan]]))
