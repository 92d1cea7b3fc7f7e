"""The findings of one explanation."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from firstlight.pipeline.drawing import Sheet


@dataclass
class Explanation:
    """What was found, by name.

    Attributes:
        pictures: Ready pictures (3, height, width), uint8; a sheet says more.
        scalars: Numbers.
        failures: The reasons why some of it is missing.
        sheets: Tables of raw maps.
    """

    pictures: dict[str, Tensor] = field(default_factory=dict)
    scalars: dict[str, float] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    sheets: dict[str, Sheet] = field(default_factory=dict)

    def tagged(self, family: str) -> Explanation:
        """The same with the family before every name."""
        return Explanation(
            {f"{family}/{name}": picture for name, picture in self.pictures.items()},
            {f"{family}/{name}": value for name, value in self.scalars.items()},
            self.failures,
            {f"{family}/{name}": sheet for name, sheet in self.sheets.items()},
        )
