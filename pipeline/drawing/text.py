"""Lines of text as small pictures: wrapped, shortened, never wider than their place."""

from __future__ import annotations

import math
import re
import unicodedata
from functools import cache, lru_cache
from typing import Literal

from PIL import Image, ImageDraw, ImageFont

Align = Literal["left", "centre", "right"]
_BREAKS = re.compile(r"(?<=\s)|(?<=[a-z])(?=[A-Z])|(?<=[_/=,-])(?=\w)|(?=\()")

# Letters are drawn larger and reduced, for at this size whole pixels would space them unevenly.
_FINE = 4

# Pillow's own font is everywhere the same but knows little beyond ASCII.
_SPELLED = str.maketrans(
    {"→": "->", "←": "<-", "−": "-", "–": "-", "—": "-", "×": "x", "≤": "<=", "≥": ">="}
    | {"σ": "sigma", "ρ": "rho", "ε": "eps", "μ": "mu", "λ": "lambda", "Δ": "delta "}
)

# Fonts with the letters of most languages: Windows, macOS, Linux.
_WORLD_FONTS = (
    "malgun.ttf",
    "AppleSDGothicNeo.ttc",
    "NotoSansCJK-Regular.ttc",
    "NanumGothic.ttf",
    "DejaVuSans.ttf",
)


# Kept, for a run draws the same labels epoch after epoch, and letters take longer than maps.
# The default callbacks draw about 120 at an epoch; a smaller table would lose them all each time.
@lru_cache(maxsize=512)
def lettered(
    text: str,
    width: int,
    *,
    size: int = 13,
    lines: int = 1,
    align: Align = "left",
    ink: str = "#202124",
    weight: float = 0.0,
) -> Image.Image:
    """The text on white, in at most ``lines`` lines of ``width`` pixels.

    Text is broken at spaces, between the words of CamelCaseNames and at punctuation; what does not
    fit ends in an ellipsis.

    Args:
        text: What to write.
        width: Width of the picture; its height follows from the lines needed.
        size: Height of the letters, in pixels.
        lines: The most lines to use.
        align: Where a line stands within the width.
        ink: Colour of the letters.
        weight: Thickness added to every stroke, in pixels.
    """
    text = _spelled(text)
    font = _font(size * _FINE, _is_plain(text))
    wrapped = _wrapped(text, width * _FINE, lines, font)
    leading = round(size * 1.25)
    height = leading * len(wrapped)
    picture = Image.new("RGB", (width * _FINE, height * _FINE), "white")
    draw = ImageDraw.Draw(picture)
    anchor, share = {"left": ("ls", 0.0), "centre": ("ms", 0.5), "right": ("rs", 1.0)}[align]
    for number, line in enumerate(wrapped):
        place = (share * picture.width, (number * leading + size) * _FINE)
        draw.text(place, line, ink, font, anchor, stroke_width=weight * _FINE)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def text_width(text: str, size: int = 13) -> int:
    """The pixels that the text takes in one line."""
    text = _spelled(text)
    return math.ceil(_font(size * _FINE, _is_plain(text)).getlength(text) / _FINE) + 1


def _wrapped(text: str, width: int, most: int, font: _Font) -> list[str]:
    pieces = _BREAKS.split(" ".join(text.split()))
    lines = [""]
    for piece in pieces:
        joined = lines[-1] + piece
        if lines[-1] and len(lines) < most and font.getlength(joined.rstrip()) > width:
            lines.append(piece)
        else:
            lines[-1] = joined
    return [_shortened(line.strip(), width, font) for line in lines]


def _shortened(line: str, width: int, font: _Font) -> str:
    if font.getlength(line) <= width:
        return line
    while line and font.getlength(line + "…") > width:
        line = line[:-1].rstrip()
    return line + "…"


def _spelled(text: str) -> str:
    text = text.translate(_SPELLED)
    return text if _is_plain(text) else unicodedata.normalize("NFC", text)


def _is_plain(text: str) -> bool:
    return all(character.isascii() or character in "…±°·" for character in text)


_Font = ImageFont.ImageFont | ImageFont.FreeTypeFont


@cache
def _font(size: int, plain: bool) -> _Font:
    for name in () if plain else _WORLD_FONTS:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return ImageFont.load_default(size)
