"""From explanation maps to pictures: what is positive, what is zero, and on which scale.

Maps are (N, C, H, W) or (C, H, W) of any real dtype, on any device; pictures are float32 in [0, 1],
(N, 3, H, W) or (3, H, W), beside the maps. A map is scaled by itself unless it shares a scale, see
:class:`~firstlight.pipeline.drawing.composed.Shared`. A zero map is a uniform picture in the colour
of zero. A pixel that is NaN or infinite in any channel is magenta, which no colour map here
contains, and has no part in the scale.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

from torch import Tensor

from firstlight.arguments import Percentile, checked
from firstlight.board.sheet import Kind
from firstlight.pipeline.drawing.colours import (
    DIVERGING,
    GREYS,
    SEQUENTIAL,
    ColourBar,
    ColourMap,
    as_rgb,
    with_gaps_marked,
)
from firstlight.pipeline.drawing.input_picture import as_bytes, input_picture
from firstlight.pipeline.drawing.scaling import Channels, capped, reduced
from firstlight.pipeline.maps import checked_maps, scaled, without_gaps


class Raw(NamedTuple):
    """Maps before they are drawn: one channel, and what the browser must know to draw them.

    Attributes:
        kind: How it draws them; "picture" is drawn as it is.
        values: (…, H, W), pictures and colours (…, H, W, 3).
        cap: The percentile of |map| that gets the full colour.
    """

    kind: Kind
    values: Tensor
    cap: float = 100.0


class Rendering(ABC):
    """A small immutable object that turns maps into pictures.

    A new one says in ``meaning`` what its colours mean, draws when it is called, and has a ``bar``.
    """

    meaning: ClassVar[str]

    @abstractmethod
    def __call__(self, maps: Tensor, images: Tensor | None = None) -> Tensor:
        """Pictures (…, 3, H, W) in [0, 1] of maps (…, C, H, W).

        Args:
            maps: (N, C, H, W) or (C, H, W), real.
            images: what the maps explain, in the maps' shape; for a rendering that needs them.

        Raises:
            ArgumentError: an argument is not as described above; the message names it.
        """

    @property
    @abstractmethod
    def bar(self) -> ColourBar | None:
        """The colour bar that belongs below the pictures, if any."""

    @property
    def legend(self) -> str:
        """What the colours mean, as a line below the pictures."""
        return f"{self.meaning}. Each map on its own scale."

    def raw(self, maps: Tensor, images: Tensor | None = None) -> Raw:
        """What a file keeps of maps (…, C, H, W)."""
        return Raw("picture", as_bytes(self(maps, images)))


@dataclass(frozen=True)
class _Coloured(Rendering):
    """One channel, capped and scaled, through a colour map."""

    cap: Percentile = 99.0
    channels: Channels = "sum"

    kind: ClassVar[Kind]
    colours: ClassVar[ColourMap]

    def __call__(self, maps: Tensor, images: Tensor | None = None) -> Tensor:
        maps = checked_maps("maps", maps)
        # Scaled before as well: neither a sum nor a square then leaves the range of the dtype.
        values = scaled(capped(self.values(scaled(without_gaps(maps))), self.cap))
        return with_gaps_marked(self.colours(values.squeeze(-3)), maps)

    @abstractmethod
    def values(self, maps: Tensor) -> Tensor:
        """The values (…, 1, H, W) that are coloured, before they are capped and scaled."""

    def raw(self, maps: Tensor, images: Tensor | None = None) -> Raw:
        # In double precision, which no sum of single precision leaves.
        values = reduced(checked_maps("maps", maps).cpu().double(), self.channels)
        return Raw(self.kind, values.squeeze(-3), self.cap)

    @property
    def bar(self) -> ColourBar:
        top = "max" if self.cap == 100 else f"p{self.cap:g}"
        return ColourBar(self.colours, self.ticks(top))

    @abstractmethod
    def ticks(self, top: str) -> tuple[str, str, str]:
        """What stands at both ends and the middle of the colour bar; ``top`` is the cap's name."""


@checked
@dataclass(frozen=True)
class Signed(_Coloured):
    """Red for positive, blue for negative, white for exactly zero; both sides on the same scale.

    Args:
        cap: The percentile of |x| that gets the full colour; 100 is the maximum.
        channels: How the channels become one: "sum", "mean" or "max" ("l2" would have no sign).
    """

    channels: Literal["sum", "mean", "max"] = "sum"

    meaning: ClassVar[str] = "Red: positive, blue: negative, white: zero"
    kind: ClassVar[Kind] = "signed"
    colours: ClassVar[ColourMap] = DIVERGING

    def values(self, maps: Tensor) -> Tensor:
        return reduced(maps, self.channels)

    def ticks(self, top: str) -> tuple[str, str, str]:
        return f"-{top}", "0", f"+{top}"


@checked
@dataclass(frozen=True)
class Absolute(_Coloured):
    """|x|, black for zero: sensitivity in either direction (Smilkov et al. 2017, section 3.1).

    The absolute value is taken before the channels become one, as in Simonyan et al. 2014,
    section 3.1, whose saliency is the largest |dS/dx| among the channels.

    Args:
        cap: The percentile that gets the full colour; 100 is the maximum.
        channels: How the channels of |x| become one: "max", "sum", "mean" or "l2".
    """

    channels: Channels = "max"

    meaning: ClassVar[str] = "Bright: large in either direction, black: zero"
    kind: ClassVar[Kind] = "magnitude"
    colours: ClassVar[ColourMap] = SEQUENTIAL

    def values(self, maps: Tensor) -> Tensor:
        return reduced(maps.abs(), self.channels)

    def raw(self, maps: Tensor, images: Tensor | None = None) -> Raw:
        # The sign is kept where one channel is chosen, so that the browser can show it.
        keeps_sign = self.channels == "max" or maps.shape[-3] == 1
        return super().raw(maps if keeps_sign else maps.abs(), images)

    def ticks(self, top: str) -> tuple[str, str, str]:
        return "0", "", top


@checked
@dataclass(frozen=True)
class Positive(_Coloured):
    """The positive side of :class:`Signed` alone, black for zero and below.

    Args:
        cap: The percentile of the positive part that gets the full colour; 100 is the maximum.
        channels: How the channels become one before the negative side is left out.
    """

    meaning: ClassVar[str] = "Bright: positive, black: zero or negative"
    kind: ClassVar[Kind] = "positive"
    colours: ClassVar[ColourMap] = SEQUENTIAL

    def values(self, maps: Tensor) -> Tensor:
        return reduced(maps, self.channels).relu()

    def ticks(self, top: str) -> tuple[str, str, str]:
        return "0", "", f"+{top}"


def usual(images: Tensor) -> Rendering:
    """How maps of images (…, C, H, W) are drawn unless somebody says: grey ones with their sign."""
    return Signed() if images.shape[-3] == 1 else Absolute()


@dataclass(frozen=True)
class Normalized(Rendering):
    """x / (2 max|x|) + 1/2 in the map's own channels, for signals (Kindermans et al. 2018, Fig 5).

    Zero is middle grey and the extreme is 0 or 1. Other than one or three channels are averaged.
    """

    meaning: ClassVar[str] = "Bright: positive, dark: negative, grey: zero"

    def __call__(self, maps: Tensor, images: Tensor | None = None) -> Tensor:
        maps = checked_maps("maps", maps)
        pictures = as_rgb(scaled(without_gaps(maps))) / 2 + 0.5
        return with_gaps_marked(pictures.float(), maps)

    def raw(self, maps: Tensor, images: Tensor | None = None) -> Raw:
        maps = checked_maps("maps", maps).cpu()
        values = maps.movedim(-3, -1) if maps.shape[-3] == 3 else maps.mean(-3)
        return Raw("normalized", values)

    @property
    def bar(self) -> ColourBar:
        return ColourBar(GREYS, ("-max", "0", "+max"))


@dataclass(frozen=True)
class Picture(Rendering):
    """No map but an image, as the network saw it: see :func:`input_picture`."""

    meaning: ClassVar[str] = ""

    def __call__(self, maps: Tensor, images: Tensor | None = None) -> Tensor:
        return input_picture(maps)

    def raw(self, maps: Tensor, images: Tensor | None = None) -> Raw:
        pixels = as_bytes(self(maps))
        is_grey = maps.shape[-3] == 1 and maps.isfinite().all()
        return Raw("picture", pixels[..., 0] if is_grey else pixels)

    @property
    def bar(self) -> None:
        return None

    @property
    def legend(self) -> str:
        return ""
