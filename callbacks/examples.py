"""Which images are explained: a few of each class, always the same, off the trainer's loaders."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from typing import Any, NamedTuple, cast

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    IterableDataset,
    Subset,
    TensorDataset,
    default_collate,
    default_convert,
)

_MOST_LOOKED_AT = 1000
"""How many items are looked at for every class, where a data set does not tell its labels."""


class Examples(NamedTuple):
    """Images (N, C, H, W) and their labels (N,), or None where the data have none."""

    images: Tensor
    labels: Tensor | None


Unpack = Callable[[Any], Examples | tuple[Tensor, Tensor | None]]
"""From a batch to its images (N, C, H, W) and labels (N,)."""


def unpack(batch: Any) -> Examples:
    """The images and labels of a batch: a tensor, or a tuple, list or dict that holds them.

    The images are the first floating point tensor (N, C, H, W), the labels the first whole-number
    tensor (N,).

    Raises:
        ValueError: the batch holds no such images.
    """
    tensors = [value for value in leaves(batch) if isinstance(value, Tensor)]
    images = next((t for t in tensors if t.ndim == 4 and t.is_floating_point()), None)
    if images is None:
        found = [f"{t.dtype} {tuple(t.shape)}" for t in tensors] or [type(batch).__name__]
        raise ValueError(
            f"no images (N, C, H, W) in a batch of {', '.join(found)}; pass the callback unpack=, "
            "a function from a batch to (images, labels)"
        )
    whole = (
        t
        for t in tensors
        if t.shape == images.shape[:1] and not t.is_floating_point() and t.dtype != torch.bool
    )
    return Examples(images, next(whole, None))


def pick_per_class(trainer: Trainer, unpack: Unpack, per_class: int, most_classes: int) -> Examples:
    """The first ``per_class`` images of each of the first ``most_classes`` classes, class by class.

    Raises:
        ValueError: there is no data set that can be indexed, or its batches hold no images.
    """
    loader = indexable_loader(trainer, train=False)
    labels = _labels(loader.dataset)
    if labels is None:
        labels = Examples(*unpack(_batch(loader, range(_size(loader))[:_MOST_LOOKED_AT]))).labels
    if labels is None:
        return fetch(trainer, loader, range(_size(loader))[: per_class * most_classes], unpack)
    chosen = [
        index
        for label in labels.unique()[:most_classes]
        for index in (labels == label).nonzero().squeeze(1)[:per_class].tolist()
    ]
    return fetch(trainer, loader, chosen, unpack)


def pick_at_random(
    trainer: Trainer, unpack: Unpack, count: int, most_values: int, seed: int
) -> Tensor:
    """A seeded choice of ``count`` training images, or as many as hold ``most_values`` values."""
    loader = indexable_loader(trainer, train=True)
    order = torch.randperm(_size(loader), generator=torch.Generator().manual_seed(seed)).tolist()
    (one, _) = fetch(trainer, loader, order[:1], unpack)
    return fetch(trainer, loader, order[: min(count, most_values // one.numel())], unpack).images


def fetch(
    trainer: Trainer, loader: DataLoader[Any], indices: Sequence[int], unpack: Unpack
) -> Examples:
    """The examples at these places of the loader's data set, as the model gets them."""
    return Examples(*unpack(for_model(trainer, _batch(loader, indices))))


def for_model(trainer: Trainer, batch: Any) -> Any:
    """The batch in the trainer's precision and on its device, as Lightning's own loops hand it."""
    return trainer.strategy.batch_to_device(trainer.precision_plugin.convert_input(batch))


def indexable_loader(trainer: Trainer, train: bool) -> DataLoader[Any]:
    """The trainer's loader for what it does now; in fitting, that of validation unless ``train``.

    Raises:
        ValueError: none of the loaders has a data set that can be indexed.
    """
    if trainer.state.fn == TrainerFn.VALIDATING:
        loaders = [trainer.val_dataloaders]
    elif trainer.state.fn == TrainerFn.TESTING:
        loaders = [trainer.test_dataloaders]
    else:
        loaders = [trainer.val_dataloaders, trainer.train_dataloader][:: -1 if train else 1]
    for loader in leaves(loaders):
        indexable = isinstance(loader, DataLoader) and not isinstance(
            loader.dataset, IterableDataset
        )
        if indexable and _size(loader):
            return loader
    raise ValueError(
        "no data set of the trainer can be indexed; pass the callback images=, "
        "a function from the trainer to (images, labels)"
    )


def _size(loader: DataLoader[Any]) -> int:
    return len(cast(Sized, loader.dataset))


def _batch(loader: DataLoader[Any], indices: Sequence[int]) -> Any:
    """A batch as the loader would make it, without its workers, sampler and random numbers."""
    dataset, collate = loader.dataset, loader.collate_fn
    indices = list(indices)
    if hasattr(dataset, "__getitems__"):
        items = dataset.__getitems__(indices)
    else:
        items = [dataset[index] for index in indices]
    # A loader without automatic batching only converts single items.
    return (default_collate if collate is default_convert else collate)(items)


def _labels(dataset: Any) -> Tensor | None:
    """The labels of all items, if the data set can tell them without making the images."""
    if isinstance(dataset, Subset):
        labels = _labels(dataset.dataset)
        return None if labels is None else labels[torch.as_tensor(dataset.indices)]
    if isinstance(dataset, ConcatDataset):
        parts = [_labels(part) for part in dataset.datasets]
        return (
            torch.cat([p for p in parts if p is not None])
            if all(p is not None for p in parts)
            else None
        )
    if isinstance(dataset, TensorDataset):
        known: Any = next(
            (t for t in dataset.tensors if t.ndim == 1 and not t.is_floating_point()), None
        )
    else:
        known = getattr(dataset, "targets", getattr(dataset, "labels", None))
    try:
        labels = torch.as_tensor(known)
    except (TypeError, ValueError, RuntimeError):
        return None
    return (
        labels
        if labels.ndim == 1 and len(labels) == len(dataset) and not labels.is_floating_point()
        else None
    )


def leaves(value: Any) -> Iterable[Any]:
    """The leaves of nested tuples, lists and dicts."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (tuple, list)):
        for item in value:
            yield from leaves(item)
    else:
        yield value
