"""The choice of images: a few of each class, always the same, from the trainer's loaders."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Sized
from dataclasses import dataclass, replace
from itertools import chain
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
    all_joined,
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


@dataclass(frozen=True, eq=False)
class IndexedImages:
    """The images of a loader's data set by their places, as validation gets them."""

    trainer: Trainer
    loader: DataLoader[Any]
    unpack: Unpack

    def __len__(self) -> int:
        return len(cast(Sized, self.loader.dataset))

    def __getitem__(self, places: Sequence[int]) -> Examples:
        batch = _batch(self.loader, list(places))
        return read(self.unpack, as_validation_batch(self.trainer, batch))

    @property
    def answers(self) -> Tensor | None:
        """The labels; those of the first items, where the data set does not tell them."""
        if (known := _known_labels(self.loader.dataset)) is not None:
            return known
        first = range(len(self))[:_MOST_LOOKED_AT]
        starts = range(0, len(first), _LOOKED_AT_ONCE)
        found = all_joined([self[first[i : i + _LOOKED_AT_ONCE]].answers for i in starts])
        return None if found is None else found.cpu()


def indexed_images(trainer: Trainer, unpack: Unpack, train: bool) -> IndexedImages:
    """Those of the trainer's loader for what it does now, see :func:`indexable_loader`.

    Raises:
        FirstlightError: the data are streams: no image can be asked for by its place.
    """
    loader = indexable_loader(trainer, train)
    if loader is None:
        raise FirstlightError(
            "no data set of the trainer can be indexed, and no batch was seen yet; pass the "
            "callback images=, a function from the trainer to (images, labels)"
        )
    return IndexedImages(trainer, loader, unpack)


def first_of_each_class(
    source: Examples | IndexedImages, per_class: int, most_classes: int
) -> Examples:
    """The first images of each of the first classes, class by class; equally many fewer of each
    where memory would not hold them.

    Where several labels belong to an image, its label is the class that it was picked for.

    Raises:
        FirstlightError: the batches hold no images.
    """
    groups = by_class(source.answers, per_class, most_classes)
    places = list(groups.values()) or [list(range(len(source))[: per_class * most_classes])]
    parts = [source[places[0]]]
    most = max(1, MOST_BYTES // (len(places) * parts[0].bytes_each))
    parts[0] = parts[0][:most]
    parts += [source[group[:most]] for group in places[1:]]
    examples = joined(parts)
    if not groups or examples.labels is not None:
        return examples
    picked_for = [c for c, part in zip(groups, parts, strict=True) for _ in part.images]
    return replace(examples, labels=torch.tensor(picked_for, device=examples.images.device))


def some_at_random(
    source: Examples | IndexedImages, count: int, most_bytes: int, seed: int
) -> Examples:
    """A seeded choice of ``count`` images, or as many as ``most_bytes`` hold."""
    order = torch.randperm(len(source), generator=torch.Generator().manual_seed(seed)).tolist()
    fitting = max(1, most_bytes // source[order[:1]].bytes_each)
    return source[order[: min(count, fitting)]]


def given(trainer: Trainer, images: Callable[[Trainer], Any], unpack: Unpack) -> Examples:
    """What the user's function returns, as validation would get it."""
    batch = as_validation_batch(trainer, images(trainer))
    is_pair = isinstance(batch, (tuple, list)) and len(batch) == 2
    return read(tuple if is_pair else unpack, batch)


def by_class(answers: Tensor | None, per_class: int, most_classes: int) -> dict[int, list[int]]:
    """The places of the first images of each class; nothing where the labels are no classes.

    An image with several labels is taken once, for the first of its classes that still wants one.
    """
    members: Iterable[tuple[int, Tensor]]
    classes = classes_of(answers)
    if classes is not None:
        members = ((int(c), classes == c) for c in classes.unique())
    elif answers is not None and are_several_labels(answers):
        members = enumerate(answers.T.bool())
    else:
        return {}
    found: dict[int, list[int]] = {}
    for number, has in members:
        taken = list(chain.from_iterable(found.values()))
        places = has.index_fill(0, torch.tensor(taken, dtype=torch.long), False).nonzero()
        if len(places):
            found[number] = places[:per_class, 0].tolist()
        if len(found) == most_classes:
            break
    return found


def indexable_loader(trainer: Trainer, train: bool = False) -> DataLoader[Any] | None:
    """The trainer's loader for what it does now; in fitting, that of validation unless ``train``.

    None where all data are streams.
    """
    fitting = [trainer.val_dataloaders, trainer.train_dataloader][:: -1 if train else 1]
    evaluated = {"validate": [trainer.val_dataloaders], "test": [trainer.test_dataloaders]}
    loaders = leaves(evaluated.get(stage_of(trainer), fitting))
    return next((one for one in loaders if is_indexable(one) and len(one.dataset)), None)


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


def _batch(loader: DataLoader[Any], indices: list[int]) -> Any:
    """A batch as the loader would make it, without its workers, sampler and random numbers."""
    dataset, collate = loader.dataset, loader.collate_fn
    if hasattr(dataset, "__getitems__"):
        items = dataset.__getitems__(indices)
    else:
        items = [dataset[index] for index in indices]
    if isinstance(items, FirstlightError):
        raise items  # handed over as data, as a worker process must
    # A loader without automatic batching only converts single items.
    return (default_collate if collate is default_convert else collate)(items)


def _known_labels(dataset: Any) -> Tensor | None:
    """The labels of all items, if the data set can tell them without making the images."""
    match dataset:
        case Subset():
            labels = _known_labels(dataset.dataset)
            return None if labels is None else labels[torch.as_tensor(dataset.indices)]
        case ConcatDataset():
            return all_joined([_known_labels(part) for part in dataset.datasets])
        case TensorDataset():
            known: Any = next((t for t in dataset.tensors if _are_classes(t)), None)
        case _:
            known = getattr(dataset, "targets", getattr(dataset, "labels", None))
    try:
        labels = torch.as_tensor(known)
    except (TypeError, ValueError, RuntimeError):
        return None
    return labels if _are_classes(labels) and len(labels) == len(dataset) else None


def _are_classes(labels: Tensor) -> bool:
    return labels.ndim == 1 and not labels.is_floating_point()
