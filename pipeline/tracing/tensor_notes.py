"""What is known of tensors, each for as long as it is there."""

from __future__ import annotations

from typing import Any, Generic, TypeVar
from weakref import KeyedRef, ref

from torch import Tensor

_Note = TypeVar("_Note")
_Default = TypeVar("_Default")


class TensorNotes(Generic[_Note]):
    """A note on each of some tensors, which is forgotten with the tensor.

    ``torch.utils.weak.WeakTensorKeyDictionary`` does the same and takes ten times as long, which is
    most of what watching a small network costs.
    """

    def __init__(self) -> None:
        self._notes: dict[int, tuple[KeyedRef[int, Tensor], _Note]] = {}
        mine = ref(self)

        def forget(gone: Any) -> None:
            if (notes := mine()) is not None:
                notes._notes.pop(gone.key, None)

        self._forget = forget

    def __setitem__(self, tensor: Tensor, note: _Note) -> None:
        key = id(tensor)
        self._notes[key] = KeyedRef(tensor, self._forget, key), note

    def __contains__(self, tensor: Tensor) -> bool:
        return id(tensor) in self._notes

    def get(self, tensor: Tensor, default: _Default) -> _Note | _Default:
        """The note on a tensor, or the default where there is none."""
        # Its identity is enough: a tensor that takes the place of another one in memory finds no
        # note, since that one's went with it.
        kept = self._notes.get(id(tensor))
        return default if kept is None else kept[1]
