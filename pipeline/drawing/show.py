"""Images and their maps in one line, for notebooks and plain loops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from firstlight.arguments import checked
from firstlight.pipeline.drawing.rendering import Picture, Rendering, usual
from firstlight.pipeline.drawing.sheet import Column, Sheet


@checked
def show(
    images: Tensor,
    maps: Mapping[str, Tensor] | Tensor,
    rows: Sequence[str] | None = None,
    title: str = "",
    rendering: Rendering | None = None,
) -> Sheet:
    """Images beside their maps: a sheet that draws itself in a notebook, see :class:`Sheet`.

    >>> show(images, {"gradient": Gradient()(model, images)}).save("maps.png")

    Args:
        images: (N, C, H, W), as the network takes them.
        maps: (N, C, H, W) by name, as methods return them, or those of one method.
        rows: The name of each image; None for none.
        title: A line above.
        rendering: How maps become pictures; None is :class:`Signed` for grey images and
            :class:`Absolute` for colour.

    Raises:
        ArgumentError: an argument is not as described.
    """
    named = {"map": maps} if isinstance(maps, Tensor) else maps
    drawn = rendering or usual(images)
    return Sheet(
        rows=[""] * len(images) if rows is None else rows,
        columns=[
            Column("image", images, Picture()),
            *(Column(name, own, drawn, images=images) for name, own in named.items()),
        ],
        title=title,
        caption=drawn.legend,
    )
