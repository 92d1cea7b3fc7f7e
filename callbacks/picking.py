"""The choice of images: a few of each class, always the same, from the trainer's loaders."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Sized
from dataclasses import replace
from typing import Any, cast

import torch
from lightning.pytorch import Trainer
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

from firstlight.callbacks.examples import (
    Examples,
    Unpack,
    are_several_labels,
    classes_of,
    joined,
    leaves,
    read,
)
from firstlight.callbacks.private_lightning import as_validation_batch, stage_of
from firstlight.errors import FirstlightError

MOST_BYTES = 2**23
"""The memory that the kept images of a callback may take: 13 of 3 × 224 × 224."""

_MOST_LOOKED_AT = 1000
"""How many items are looked at for every class, where a data set does not tell its labels."""

_LOOKED_AT_ONCE = 100


class NotIndexable(FirstlightError):
    """The data are a stream: no image can be asked for by its place."""


def pick_per_class(
    trainer: Trainer,
    unpack: Unpack,
    per_class: int,
    most_classes: int,
    most_bytes: int = MOST_BYTES,
) -> Examples:
    """The first ``per_class`` images of each of the first ``most_classes`` classes, class by class.

    Where several labels belong to an image, its label is the class that it was picked for.

    Raises:
        NotIndexable: there is no data set that can be indexed.
        FirstlightError: its batches hold no images.
    """
    loader = indexable_loader(trainer, train=False)
    answers = _known_labels(loader.dataset)
    if answers is None:
        answers = _labels_of_batches(trainer, loader, unpack)
    groups = by_class(answers, per_class, most_classes)
    if not groups:
        some = range(_size(loader))[: per_class * most_classes]
        return _within(most_bytes, trainer, loader, [list(some)], unpack)
    return _within(most_bytes, trainer, loader, list(groups.values()), unpack, list(groups))


def pick_at_random(
    trainer: Trainer, unpack: Unpack, count: int, most_bytes: int, seed: int
) -> Examples:
    """A seeded choice of ``count`` training images, or as many as ``most_bytes`` hold."""
    loader = indexable_loader(trainer, train=True)
    order = torch.randperm(_size(loader), generator=torch.Generator().manual_seed(seed)).tolist()
    one = fetch(trainer, loader, order[:1], unpack)
    fitting = max(1, most_bytes // one.bytes_each)
    return fetch(trainer, loader, order[: min(count, fitting)], unpack)


def given(trainer: Trainer, images: Callable[[Trainer], Any], unpack: Unpack) -> Examples:
    """What the user's function returns, as validation would get it."""
    batch = as_validation_batch(trainer, images(trainer))
    is_pair = isinstance(batch, (tuple, list)) and len(batch) == 2
    return read(tuple if is_pair else unpack, batch)


def by_class(answers: Tensor | None, per_class: int, most_classes: int) -> dict[int, list[int]]:
    """The places of the first images of each class; nothing where the labels are no classes."""
    classes = classes_of(answers)
    if classes is not None:
        members = {int(c): (classes == c).nonzero().squeeze(1) for c in classes.unique()}
    elif answers is not None and are_several_labels(answers):
        members = {c: has.nonzero().squeeze(1) for c, has in enumerate(answers.T)}
    else:
        return {}
    shown = [(c, places[:per_class].tolist()) for c, places in members.items() if len(places)]
    return dict(shown[:most_classes])


def fetch(
    trainer: Trainer, loader: DataLoader[Any], indices: Sequence[int], unpack: Unpack
) -> Examples:
    """The examples at these places of the loader's data set, as validation gets them."""
    return read(unpack, as_validation_batch(trainer, _batch(loader, indices)))


def indexable_loader(trainer: Trainer, train: bool) -> DataLoader[Any]:
    """The trainer's loader for what it does now; in fitting, that of validation unless ``train``.

    Raises:
        NotIndexable: none of the loaders has a data set that can be indexed.
    """
    fitting = [trainer.val_dataloaders, trainer.train_dataloader][:: -1 if train else 1]
    evaluated = {"validate": [trainer.val_dataloaders], "test": [trainer.test_dataloaders]}
    for loader in leaves(evaluated.get(stage_of(trainer), fitting)):
        if is_indexable(loader) and _size(loader):
            return loader
    raise NotIndexable(
        "no data set of the trainer can be indexed, and no batch was seen yet; pass the callback "
        "images=, a function from the trainer to (images, labels)"
    )


def is_any_indexable(trainer: Trainer) -> bool:
    """True where images can be asked for by their place."""
    try:
        return indexable_loader(trainer, train=False) is not None
    except NotIndexable:
        return False


def first_of_each_class(examples: Examples, per_class: int, most_classes: int) -> Examples:
    """The first images of each class among these, class by class."""
    groups = by_class(examples.answers, per_class, most_classes)
    if not groups:
        return examples[: per_class * most_classes]
    parts = [examples[i : i + 1] for places in groups.values() for i in places]
    labels = [c for c, places in groups.items() for _ in places]
    return replace(joined(parts), labels=torch.tensor(labels, device=examples.images.device))


def is_indexable(loader: Any) -> bool:
    """True for a loader whose data set can be asked for any of its images."""
    return isinstance(loader, DataLoader) and not isinstance(loader.dataset, IterableDataset)


def class_names_of(trainer: Trainer) -> list[str] | None:
    """The names of the classes as the data set or the data module has them."""
    sources: list[Any] = [getattr(trainer, "datamodule", None)]
    for loader in leaves([trainer.val_dataloaders, trainer.train_dataloader]):
        dataset = getattr(loader, "dataset", None)
        while isinstance(dataset, (Subset, ConcatDataset)):
            dataset = dataset.dataset if isinstance(dataset, Subset) else dataset.datasets[0]
        sources.append(dataset)
    for source in sources:
        for attribute in ("class_names", "classes"):
            names = getattr(source, attribute, None)
            if isinstance(names, (list, tuple)) and names:
                return [str(name) for name in names]
    return None


def _within(
    most_bytes: int,
    trainer: Trainer,
    loader: DataLoader[Any],
    groups: Sequence[list[int]],
    unpack: Unpack,
    classes: Sequence[int] | None = None,
) -> Examples:
    """The examples of all groups, equally many fewer of each where memory would not hold them."""
    parts = [fetch(trainer, loader, groups[0], unpack)]
    most = max(1, most_bytes // (len(groups) * parts[0].bytes_each))
    parts[0] = parts[0][:most]
    parts += [fetch(trainer, loader, group[:most], unpack) for group in groups[1:]]
    examples = joined(parts)
    if classes is None or examples.labels is not None:
        return examples
    picked_for = [c for c, part in zip(classes, parts, strict=True) for _ in part.images]
    return replace(examples, labels=torch.tensor(picked_for, device=examples.images.device))


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
    if isinstance(items, FirstlightError):
        raise items  # handed over as data, as a worker process must
    # A loader without automatic batching only converts single items.
    return (default_collate if collate is default_convert else collate)(items)


def _labels_of_batches(trainer: Trainer, loader: DataLoader[Any], unpack: Unpack) -> Tensor | None:
    """The labels of the first items, where the data set does not tell them."""
    first = range(_size(loader))[:_MOST_LOOKED_AT]
    found = [
        fetch(trainer, loader, first[i : i + _LOOKED_AT_ONCE], unpack).answers
        for i in range(0, len(first), _LOOKED_AT_ONCE)
    ]
    answers = [labels for labels in found if labels is not None]
    return torch.cat(answers).cpu() if len(answers) == len(found) else None


def _known_labels(dataset: Any) -> Tensor | None:
    """The labels of all items, if the data set can tell them without making the images."""
    if isinstance(dataset, Subset):
        labels = _known_labels(dataset.dataset)
        return None if labels is None else labels[torch.as_tensor(dataset.indices)]
    if isinstance(dataset, ConcatDataset):
        parts = [_known_labels(part) for part in dataset.datasets]
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
