"""The part of the image that a unit in the middle of a network sees.

The field is worked out from the formula, operation by operation (Dumoulin & Visin, "A guide to
convolution arithmetic for deep learning", 2016; Araujo et al., "Computing Receptive Fields of
Convolutional Neural Networks", Distill 2019): a window of k taps, d apart, of units that each see
``size`` pixels and lie ``jump`` pixels from one another, sees ``size + (k - 1) d jump`` pixels, and
branches that meet see what either of them saw. One forward pass is watched below the level of
modules, so functional calls, reused modules and compiled ones are seen alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from firstlight.arguments import checked
from firstlight.errors import ArgumentError
from firstlight.pipeline.inside.receptive_fields.fields import Axis, Field, NoRule
from firstlight.pipeline.inside.receptive_fields.operations import field_after, takes_only_a_shape
from firstlight.pipeline.tracing.images import checked_images
from firstlight.pipeline.tracing.layers import layer_output
from firstlight.pipeline.tracing.undisturbed import undisturbed


@dataclass(frozen=True)
class ReceptiveField:
    """The parts of the image that the units of a layer see.

    Boxes are (..., 4): top, left, bottom, right; bottom and right are the first row and column
    that no longer belong to the box.
    """

    rows: Axis
    columns: Axis

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns that a unit sees where no border cuts its view."""
        return self.rows.size, self.columns.size

    def boxes(self, positions: Tensor) -> Tensor:
        """What the units at ``positions`` see of an image without borders.

        Equally large for all units of the layer, and reaching beyond the image where padding does.

        Args:
            positions: (..., 2), the units' rows and columns in the layer's output.

        Returns:
            Boxes (..., 4), int64.
        """
        self._check(positions)
        axes = (self.rows, self.columns)
        start = torch.stack([a.start + a.jump * positions[..., i] for i, a in enumerate(axes)], -1)
        return torch.cat([start, start + start.new_tensor(self.size)], dim=-1)

    def seen(self, positions: Tensor) -> Tensor:
        """What the units at ``positions`` see of the image at hand.

        The smallest boxes that hold every pixel that matters to them: :meth:`boxes` clipped to the
        image, less the pixels at the border that strides have left out. A unit that sees nothing
        but padding has the box 0, 0, 0, 0.

        Args:
            positions: (..., 2), the units' rows and columns in the layer's output.

        Returns:
            Boxes (..., 4), int64.
        """
        self._check(positions)
        rows = self.rows.seen.to(positions.device)[positions[..., 0]]
        columns = self.columns.seen.to(positions.device)[positions[..., 1]]
        first, stop = torch.stack([rows, columns], dim=-1).unbind(-2)
        box = torch.cat([first, stop], dim=-1)
        return torch.where((first < stop).all(-1, keepdim=True), box, 0)

    def _check(self, positions: Tensor) -> None:
        if positions.is_floating_point() or positions.shape[-1:] != (2,):
            problem = "must be an integer tensor (..., 2) of rows and columns"
            raise ArgumentError("positions", problem, positions)
        extent = positions.new_tensor([len(self.rows.seen), len(self.columns.seen)])
        if ((positions < 0) | (positions >= extent)).any():
            raise ArgumentError(
                "positions",
                f"the layer has {extent[0]} rows and {extent[1]} columns of units, "
                f"got positions from {positions.amin().item()} to {positions.amax().item()}",
            )


@checked
def receptive_field(model: nn.Module, images: Tensor, layer: str) -> ReceptiveField:
    """Find the part of the image that every unit of a layer sees.

    Convolutions, pooling, zero padding, slicing, elementwise operations, concatenation and
    residual branches are exact. What combines all positions sees the whole image: linear layers,
    flattening, attention, means over rows and columns, adaptive pooling to one unit (or to a
    number that does not divide the input's), and every branch that has met one of them. What the
    network does after the layer, or beside it, does not matter.

    Args:
        model: Any module that takes images. Left exactly as it was.
        images: (N, C, H, W); only the first one's shape matters.
        layer: The layer's name in ``model.named_modules()``. Its output must be (N, channels,
            rows, columns), or be one that sees the whole image.

    Returns:
        The field of a unit by its row and column. It belongs to images of this size.

    Raises:
        ArgumentError: There is no such layer, or there is an operation on the way to it that no
            rule covers; the message names it.
    """
    with undisturbed(model), torch.no_grad():
        image = checked_images(model, images)[:1]
        watch = _Watch(image)
        # Before the one of layer_output, whose copy then needs no field.
        for found in (module for name, module in model.named_modules() if name == layer):
            found.register_forward_hook(watch.returned)
        with watch, _LinearOverTheLastDimension(watch):
            outputs = layer_output(model, layer, image)
    if watch.field is None:
        raise ArgumentError("layer", "its output does not depend on the image", layer)
    if isinstance(watch.field, NoRule):
        raise ArgumentError("layer", f"no receptive field, since {watch.field}", layer)
    return _field_of(layer, outputs, watch.field, image)


def _field_of(layer: str, outputs: Tensor, field: Field, image: Tensor) -> ReceptiveField:
    height, width = image.shape[2:]
    if field.dims is None:
        rows, columns = outputs.shape[2:] if outputs.ndim == 4 else (1, 1)
        return ReceptiveField(Axis.whole(height, rows), Axis.whole(width, columns))
    if outputs.ndim != 4 or field.dims != (-2, -1):
        raise ArgumentError(
            "layer",
            f"must return (N, channels, rows, columns), got {tuple(outputs.shape)}"
            f" with rows and columns in dimensions {field.dims}",
            layer,
        )
    return ReceptiveField(field.rows, field.columns)


class _Watch(TorchDispatchMode):
    """Follows the fields of all tensors that come from ``image`` through ATen's operations.

    Attributes:
        fields: What is known of each tensor, until the layer has returned.
        field: That of the layer's output, or None if it does not depend on the image.
    """

    def __init__(self, image: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.fields: Any = WeakTensorKeyDictionary()
        rows, columns = map(Axis.pixels, image.shape[2:])
        self.fields[image] = Field(rows, columns, dims=(-2, -1))
        self.field: Field | NoRule | None = None
        self._lost: dict[int, tuple[Tensor, NoRule]] = {}

    def of(self, tensor: Tensor) -> Field | NoRule | None:
        """What is known of a tensor: its field, why it has none, or None if it does not depend on
        the image."""
        known: Field | NoRule | None = self.fields.get(tensor)
        if known is None and self._lost:
            _, known = self._lost.get(_memory(tensor), (None, None))
        return known

    def returned(self, layer: nn.Module, inputs: Any, output: Any) -> None:
        """Keep the field of what the layer returns, and follow no operation after it."""
        if isinstance(output, Tensor):
            self.field = self.of(output)
        self.fields.clear()
        self._lost.clear()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        inputs = _tensors((args, kwargs))
        known = [field for field in map(self.of, inputs) if field is not None]
        result = func(*args, **kwargs)
        outputs = _tensors(result)
        if known and outputs and not takes_only_a_shape(func):
            field = _field(func, known, args, kwargs, outputs[0])
            for output in outputs:
                if any(output is t for t in inputs):
                    self._note_written(func, output, field)
                self.fields[output] = field
        return result

    def _note_written(self, func: Any, tensor: Tensor, field: Field | NoRule) -> None:
        """Lose sight of all else that shares the memory of a tensor that is written to."""
        if field is self.fields.get(tensor):
            return
        memory = _memory(tensor)
        others = [t for t in self.fields if t is not tensor and _memory(t) == memory]
        if others or tensor._is_view():
            lost = NoRule(f"{func} writes into a part of another tensor")
            for other in others:
                self.fields[other] = lost
            # With the tensor, so that its memory is not used again.
            self._lost[memory] = tensor, lost


def _field(
    func: Any, known: list[Field | NoRule], args: tuple[Any, ...], kwargs: Any, output: Tensor
) -> Field | NoRule:
    """The field of an operation's output, or why it is not known."""
    fields = [field for field in known if isinstance(field, Field)]
    if len(fields) < len(known):
        return next(field for field in known if isinstance(field, NoRule))
    schema = func._schema.arguments
    arguments = {a.name: a.default_value for a in schema if a.has_default_value()}
    arguments |= {a.name: value for a, value in zip(schema, args, strict=False)} | kwargs
    try:
        return field_after(func, fields, arguments, output)
    except NoRule as error:
        # An error only if this is on the way to the layer.
        return NoRule(f"{func} {error}")


def _tensors(values: Any) -> list[Tensor]:
    return [t for t in tree_leaves(values) if isinstance(t, Tensor)]


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


class _LinearOverTheLastDimension(TorchFunctionMode):
    """Keeps the positions of (N, rows, columns, channels) apart, which ATen's product merges."""

    def __init__(self, watch: _Watch) -> None:
        super().__init__()
        self.watch = watch

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is F.linear:
            field = self.watch.of(args[0] if args else kwargs["input"])
            if isinstance(field, Field) and field.dims is not None and -1 not in field.dims:
                self.watch.fields[result] = field
        return result
