"""The layers that see the image: found in one forward pass, held in others."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from firstlight.pipeline.tracing.call import tensors
from firstlight.pipeline.tracing.layers import LayerCall, layer_call
from firstlight.pipeline.tracing.operation_watch import OperationWatch
from firstlight.pipeline.tracing.tensor_notes import TensorNotes


@dataclass(frozen=True, eq=False)
class FirstLayer:
    """A linear or convolution layer that sees the image: no other layer stands between the two.

    Attributes:
        place: how many layers the forward pass calls before it. A layer is known by its place, for
            its weight may be computed anew in every pass, as by weight norm.
        call: the layer with its input x and weight W1.
        output: z1 = W1 x + b1; a leaf of the graph, if :class:`FirstLayers` was asked for leaves.
    """

    place: int
    call: LayerCall
    output: Tensor


class FirstLayers(OperationWatch):
    """Finds the layers that see the image in the forward pass that runs inside.

    These are the layers whose input is made of the images and of no other layer's output. Where
    operations that cannot be seen hide them all, it is the layer that is called first.

    Args:
        images: (N, C, H, W), the very tensor that the model is given.
        as_leaves: whether the layers' outputs become leaves, where the graph of what follows ends.

    Attributes:
        reused: one of these layers is at work more than once.
    """

    def __init__(self, images: Tensor, as_leaves: bool = False) -> None:
        super().__init__()
        self.reused = False
        self._images = images
        self._as_leaves = as_leaves
        self._seen_otherwise = False
        self._calls = 0
        self._found: list[FirstLayer] = []
        self._called_first: list[FirstLayer] = []
        # True for what is made of a layer's output, False for what is made of the images alone.
        self._behind: TensorNotes[bool] = TensorNotes()
        self._behind[images] = False

    @property
    def layers(self) -> list[FirstLayer]:
        """Those that were found, in the order in which they are called."""
        return self._found or self._called_first

    @property
    def alone(self) -> bool:
        """There is one such layer, it gets each image itself, at most reshaped, and nothing else in
        the network looks at it. Then the score is a function of z1 only."""
        if self._seen_otherwise or self.reused or len(self._found) != 1:
            return False
        call = self._found[0].call
        each = self._images if call.dims else self._images.flatten(1)
        return self._is_image(call.input) and call.input.shape == each.shape

    def operation(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        given, written = tensors(args, kwargs), self._images._version
        result = func(*args, **kwargs)
        call = layer_call(func, args, kwargs)
        if call is not None:
            result = self._noted(call, result)
        elif not self._seen_otherwise and any(map(self._shares_memory, given)):
            reshaped = isinstance(result, Tensor) and self._is_image(result)
            untouched = self._images._version == written
            self._seen_otherwise = not (reshaped and untouched)
        # An assignment to a part of a tensor returns nothing.
        made = tensors(args[:1] if result is None else result)
        origins = [self._behind.get(tensor, None) for tensor in given] if made else []
        if any(origin is not None for origin in origins):
            for tensor in made:
                self._behind[tensor] = call is not None or any(origins)
        return result

    def _noted(self, call: LayerCall, output: Tensor) -> Tensor:
        """Note a layer's call, and return what the model is to go on with."""
        self.reused |= any(call.weight is layer.call.weight for layer in self.layers)
        sees_the_image = self._behind.get(call.input, None) is False
        place, self._calls = self._calls, self._calls + 1
        if not (sees_the_image or place == 0):
            return output
        kept = output.detach().requires_grad_() if self._as_leaves else output
        (self._found if sees_the_image else self._called_first).append(
            FirstLayer(place, call, kept)
        )
        # A copy, for a ReLU that works in place would write over it.
        return kept.clone()

    def _shares_memory(self, tensor: Tensor) -> bool:
        return tensor.untyped_storage().data_ptr() == self._images.untyped_storage().data_ptr()

    def _is_image(self, tensor: Tensor) -> bool:
        """Holds every pixel of every image in the same order: the images, at most reshaped."""
        here, there = self._images, tensor
        same = there.data_ptr() == here.data_ptr() and there.numel() == here.numel()
        return same and there.is_contiguous() and here.is_contiguous()


class HeldLayers(OperationWatch):
    """Inside, the layers at some places of the forward pass return what ``answer`` makes of their
    call.

    Raises:
        RuntimeError: at the end, if there was no layer at one of the places.
    """

    def __init__(self, places: Collection[int], answer: Callable[[LayerCall], Tensor]) -> None:
        super().__init__()
        self._places = set(places)
        self._answer = answer
        self._calls = 0

    def operation(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        call = layer_call(func, args, kwargs)
        if call is None:
            return func(*args, **kwargs)
        self._calls += 1
        if self._calls - 1 not in self._places:
            return func(*args, **kwargs)
        # A copy, for a ReLU that works in place must not write to what is held.
        return self._answer(call).clone()

    def __exit__(self, exc_type: Any, exc_value: Any, traceback: Any) -> None:
        super().__exit__(exc_type, exc_value, traceback)  # type: ignore[no-untyped-call]
        if exc_type is None and self._calls <= max(self._places):
            raise RuntimeError("the model does not call the layers that it called before")
