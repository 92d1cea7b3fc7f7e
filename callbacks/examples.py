"""Batches: the images and labels in them, whatever their form."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from firstlight.arguments import checked
from firstlight.errors import FirstlightError

Form = Literal["images", "grey", "list"]
"""How the module takes them: (N, C, H, W), (N, H, W), or a list of (C, H, W)."""


@checked
@dataclass(frozen=True, eq=False)
class Examples:
    """Images and their labels, which can be taken apart: ``images, labels = examples``.

    Attributes:
        images: (N, C, H, W), floating point.
        labels: (N,) classes, whole numbers; None where the data have none.
        form: How the module takes the images.
        answers: The labels as the data have them: classes; (N, K) of 0 and 1 for several labels;
            (N,) or (N, K) values.
    """

    images: Tensor
    labels: Tensor | None
    form: Form = "images"
    answers: Tensor | None = None

    def __iter__(self) -> Iterator[Any]:
        return iter((self.images, self.labels))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, some: slice | Sequence[int]) -> Examples:
        labels, answers = (None if t is None else t[some] for t in (self.labels, self.answers))
        return replace(self, images=self.images[some], labels=labels, answers=answers)

    @property
    def bytes_each(self) -> int:
        """The memory of one image."""
        return self.images[0].numel() * self.images.element_size()


Unpack = Callable[[Any], Any]
"""From a batch to its images and labels, as a tuple of two."""


def unpack(batch: Any) -> tuple[Any, Tensor | None]:
    """The images and labels of a batch: a tensor, or a tuple, list or dict that holds them.

    The images are the first floating point tensor (N, C, H, W), else the first of uint8, else a
    list of tensors (C, H, W) or a tensor (N, H, W). The labels are the first whole-number tensor
    (N,), else the first one of N rows that can be several labels or values.

    Raises:
        FirstlightError: the batch holds no such images.
    """
    tensors = [value for value in leaves(batch) if isinstance(value, Tensor)]
    images = _images(batch, tensors)
    if images is None:
        found = [f"{t.dtype} {tuple(t.shape)}" for t in tensors] or [type(batch).__name__]
        raise FirstlightError(
            f"no images (N, C, H, W) in a batch of {', '.join(found)}; pass the callback unpack=, "
            "a function from a batch to (images, labels)"
        )
    return images, _labels(len(images), [t for t in tensors if t is not images])


def read(unpack: Unpack, batch: Any) -> Examples:
    """The examples in a batch, in the one form that explanations take."""
    images, answers = unpack(batch)
    form: Form = "images"
    if isinstance(images, (list, tuple)):
        images, form = torch.stack(list(images)), "list"
    if images.ndim == 3:
        images, form = images.unsqueeze(1), "grey"
    # A network that takes bytes turns them into numbers first; gradients need numbers.
    images = images if images.is_floating_point() else images.float()
    return Examples(images, classes_of(answers), form, answers)


def joined(parts: Sequence[Examples]) -> Examples:
    """Several examples as one."""
    return Examples(
        torch.cat([part.images for part in parts]),
        all_joined([part.labels for part in parts]),
        parts[0].form,
        all_joined([part.answers for part in parts]),
    )


def all_joined(parts: Sequence[Tensor | None]) -> Tensor | None:
    """The parts of something as one tensor; None where one of them is not known."""
    known = [part for part in parts if part is not None]
    return torch.cat(known) if len(known) == len(parts) else None


def leaves(value: Any) -> Iterable[Any]:
    """The leaves of nested tuples, lists and dicts."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (tuple, list)):
        for item in value:
            yield from leaves(item)
    else:
        yield value


def _first(tensors: Sequence[Tensor], *kinds: Callable[[Tensor], bool]) -> Tensor | None:
    """The first tensor of the first kind that there is."""
    return next((tensor for kind in kinds for tensor in tensors if kind(tensor)), None)


def _images(batch: Any, tensors: Sequence[Tensor]) -> Any:
    of_four = [t for t in tensors if t.ndim == 4]
    found: Any = _first(of_four, Tensor.is_floating_point, lambda t: t.dtype == torch.uint8)
    if found is None:
        found = next(_lists_of_pictures(batch), None)
    return _first(tensors, _is_picture) if found is None else found


def _lists_of_pictures(value: Any) -> Iterator[list[Tensor]]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (tuple, list)):
        pictures = [v for v in value if isinstance(v, Tensor) and _is_picture(v)]
        # A single one beside labels is a batch (N, H, W).
        if len(pictures) == len(value) and len({p.shape for p in pictures}) == 1:
            yield pictures
        for item in value:
            yield from _lists_of_pictures(item)


def _is_picture(tensor: Tensor) -> bool:
    return tensor.ndim == 3 and (tensor.is_floating_point() or tensor.dtype == torch.uint8)


def classes_of(answers: Tensor | None) -> Tensor | None:
    """Labels (N,) as whole numbers, also those of two classes that are written as 0.0 and 1.0."""
    if answers is None or (answers.ndim > 1 and answers[0].numel() > 1):
        return None
    if not answers.is_floating_point():
        return answers.flatten()
    return answers.flatten().long() if ((answers == 0) | (answers == 1)).all() else None


def are_several_labels(answers: Tensor) -> bool:
    """True for (N, K) of 0 and 1: which of K labels an image has."""
    several = answers.ndim == 2 and answers.shape[1] > 1
    return several and bool(((answers == 0) | (answers == 1)).all())


def _labels(count: int, tensors: Sequence[Tensor]) -> Tensor | None:
    def whole(t: Tensor) -> bool:
        return t.shape == (count,) and not t.is_floating_point() and t.dtype != torch.bool

    def several(t: Tensor) -> bool:
        return t.ndim == 2 and len(t) == count and are_several_labels(t)

    def values(t: Tensor) -> bool:
        return t.ndim in (1, 2) and len(t) == count and t.is_floating_point()

    return _first(tensors, whole, several, values)
