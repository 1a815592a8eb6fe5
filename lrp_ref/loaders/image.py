"""Image files as inputs of a network: how its pixels become numbers, as a value that can be kept in a small file."""

from __future__ import annotations

import dataclasses
import json
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from ..arrays import Array
from ..errors import LoadError
from ..text import near, printable

SUFFIXES = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """x = (scale * pixel - mean) / std, with pixels from 0 to 255.

    Parameters
    ----------
    size : (height, width) that images are resized to, bilinearly; None: as they are
    order : "rgb", "bgr" or "gray"
    scale : what a pixel is multiplied by; 1/255 by default
    mean, std : a number, or one a channel in the order given, in the units after scaling
    layout : "channels_first" or "channels_last", as the network reads it

    Raises
    ------
    LoadError
        naming the parameter.
    """

    size: tuple[int, int] | None = None
    order: Literal["rgb", "bgr", "gray"] = "rgb"
    scale: float = 1 / 255
    mean: float | tuple[float, ...] = 0.0
    std: float | tuple[float, ...] = 1.0
    layout: Literal["channels_first", "channels_last"] = "channels_first"

    def __post_init__(self) -> None:
        self._require(self.order in ("rgb", "bgr", "gray"), "order", '"rgb", "bgr" or "gray"')
        self._require(
            self.layout in ("channels_first", "channels_last"), "layout", '"channels_first" or "channels_last"'
        )
        for name in ("mean", "std"):
            value: Any = getattr(self, name)
            object.__setattr__(self, name, tuple(value) if isinstance(value, (list, tuple)) else value)
            numbers = value if isinstance(value, (list, tuple)) else [value]
            good = all(isinstance(n, (int, float)) and math.isfinite(n) and (name == "mean" or n > 0) for n in numbers)
            fits = not isinstance(value, (list, tuple)) or len(value) == self.channels
            self._require(good and fits, name, f"a number, or {self.channels}, one a channel (std above 0)")
        scale: Any = self.scale
        self._require(isinstance(scale, (int, float)) and 0 < scale < math.inf, "scale", "a positive number")
        size: Any = self.size
        if size is not None:
            good = isinstance(size, (list, tuple)) and len(size) == 2
            good = good and all(isinstance(n, int) and 0 < n <= 2**14 for n in size)
            self._require(good, "size", "(height, width)")
            object.__setattr__(self, "size", tuple(size))

    def _require(self, good: bool, name: str, need: str) -> None:
        if not good:
            raise LoadError(f"preprocessing: {name}={getattr(self, name)!r}, need {need}")

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """From a JSON file that holds an object of the parameters, such as {"mean": [104, 117, 123], "scale": 1}."""
        try:
            given = json.loads(Path(path).read_text(encoding="utf-8"))
        except ValueError as error:
            raise LoadError(f"{path}: no JSON ({error})") from error
        names = [field.name for field in dataclasses.fields(cls)]
        if not isinstance(given, dict):
            raise LoadError(f"{path}: need an object of {names}")
        for name in given:
            if name not in names:
                raise LoadError(f"{path}: no parameter {printable(name)!r}{near(name, names)}")
        return cls(**given)

    @property
    def channels(self) -> int:
        """1 for gray, else 3."""
        return 1 if self.order == "gray" else 3

    def bounds(self) -> tuple[Any, Any]:
        """The least and the greatest value that a pixel can have, one a channel: for a z-box."""
        low, high = (tuple(self._numbers(np.full(self.channels, pixel)).tolist()) for pixel in (0.0, 255.0))
        return low, high

    def _numbers(self, pixels: Array) -> Array:
        """Pixels, channels last, as the network's numbers."""
        return (pixels * self.scale - np.asarray(self.mean)) / np.asarray(self.std)

    def image(self, path: str | Path) -> Array:
        """A PNG or JPEG file as an input of batch 1, in float64.

        Raises
        ------
        LoadError
            for what is no such image, or one of more pixels than Pillow's limit; ImportError without Pillow.
        """
        try:
            from PIL import Image
        except ImportError:
            raise ImportError('reading images needs Pillow: pip install "lrp_ref[image]"') from None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                with Image.open(path, formats=["PNG", "JPEG"]) as file:
                    picture: Any = file.convert("L" if self.order == "gray" else "RGB")
        except FileNotFoundError:
            raise
        except (
            OSError,
            SyntaxError,
            ValueError,
            Image.DecompressionBombError,
            Image.DecompressionBombWarning,
        ) as error:
            raise LoadError(f"{path}: no PNG or JPEG that can be read ({error})") from error
        if self.size is not None and picture.size != self.size[::-1]:
            picture = picture.resize(self.size[::-1], Image.Resampling.BILINEAR)
        pixels = np.asarray(picture, dtype=np.float64).reshape(picture.size[1], picture.size[0], self.channels)
        x = self._numbers(pixels[..., ::-1] if self.order == "bgr" else pixels)[None]
        return x if self.layout == "channels_last" else np.ascontiguousarray(x.transpose(0, 3, 1, 2))

    def picture(self, x: Array) -> Array:
        """An input of batch 1 as it looks: (height, width, channels) in [0, 1], red first."""
        x = x[0] if self.layout == "channels_last" else x[0].transpose(1, 2, 0)
        pixels = (x * np.asarray(self.std) + np.asarray(self.mean)) / self.scale / 255
        return np.clip(pixels[..., ::-1] if self.order == "bgr" else pixels, 0, 1)


def labels(path: str | Path) -> Sequence[str]:
    """The names of the classes, one a line, control characters escaped."""
    return [printable(line.strip()) for line in Path(path).read_text(encoding="utf-8").splitlines()]
