"""Which images are explained."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    TensorDataset,
)

from firstlight.callbacks.examples import Examples, unpack
from firstlight.callbacks.picking import first_of_each_class, indexed_images, some_at_random
from firstlight.errors import FirstlightError

IMAGES, LABELS = torch.rand(5, 3, 4, 4), torch.arange(5)


@pytest.mark.parametrize(
    "batch",
    [
        (IMAGES, LABELS),
        [LABELS, IMAGES],
        {"pixel_values": IMAGES, "labels": LABELS},
        {"meta": [torch.rand(5, 2), LABELS], "data": (IMAGES,)},
        (torch.ones(5, dtype=torch.bool), IMAGES, LABELS.int()),
    ],
)
def test_batches_are_understood_by_what_they_hold(batch):
    images, labels = unpack(batch)
    assert torch.equal(images, IMAGES)
    assert torch.equal(labels.long(), LABELS)


def test_images_without_labels():
    assert unpack(IMAGES)[1] is None
    assert unpack([IMAGES, torch.arange(4)])[1] is None


@pytest.mark.parametrize("batch", [LABELS, {"x": torch.rand(5, 12)}, "nothing", (IMAGES.long(),)])
def test_a_batch_without_images_says_what_it_holds_and_what_to_do(batch):
    with pytest.raises(FirstlightError, match=r"no images .* unpack="):
        unpack(batch)


class WithTargets(Dataset[Any]):
    """A data set that tells its labels and counts how many images it was asked for."""

    def __init__(self, labels: list[int], known: bool = True) -> None:
        self.values = labels
        self.asked: list[int] = []
        if known:
            self.targets = labels

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: int) -> Any:
        self.asked.append(index)
        return torch.full((1, 8, 8), float(index)), self.values[index]


class Pick(Callback):
    """Picks in on_train_start."""

    def __init__(self, pick: Any) -> None:
        self.pick = pick
        self.random: Any = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        before = torch.get_rng_state(), np.random.get_state()[2]
        self.picked = self.pick(trainer)
        assert torch.equal(before[0], torch.get_rng_state())
        assert before[1] == np.random.get_state()[2]


def picked(stranger: Any, trainer_in: Any, loaders: Any, pick: Any) -> Any:
    callback = Pick(pick)
    trainer = trainer_in(
        callbacks=[callback], logger=False, max_steps=1, enable_checkpointing=False
    )
    trainer.fit(stranger, *loaders)
    return callback.picked


def per_class(count: int, most: int = 10) -> Any:
    return lambda trainer: first_of_each_class(indexed_images(trainer, unpack, False), count, most)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("wrap", ["plain", "subset", "concat"])
def test_the_first_images_of_each_class_in_order(stranger, trainer_in, known, wrap):
    dataset: Any = WithTargets([2, 0, 1, 1, 0, 2, 2, 1, 0, 3], known)
    if wrap == "subset":
        dataset = Subset(dataset, list(range(10)))
    if wrap == "concat":
        whole = dataset
        dataset = ConcatDataset([Subset(whole, range(4)), Subset(whole, range(4, 10))])
    examples = picked(stranger, trainer_in, [DataLoader(dataset, 4)], per_class(2, most=3))
    assert examples.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert examples.images[:, 0, 0, 0].tolist() == [1, 4, 2, 3, 0, 5]


def test_known_labels_spare_reading_the_images(stranger, trainer_in):
    dataset = WithTargets([0, 1] * 50)

    class ReadsNothingElse(Dataset[Any]):
        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> Any:
            return torch.rand(1, 8, 8), 0

    loaders = [DataLoader(ReadsNothingElse(), 4), DataLoader(dataset, 4)]
    callback_asked: list[int] = []

    def pick(trainer: Trainer) -> Examples:
        dataset.asked.clear()
        examples = per_class(2)(trainer)
        callback_asked.extend(dataset.asked)
        return examples

    picked(stranger, trainer_in, loaders, pick)
    assert callback_asked == [0, 2, 1, 3]


def test_the_labels_of_a_tensor_data_set_spare_reading_the_images(stranger, trainer_in):
    labels = torch.tensor([3] * 50 + [1] * 50)
    asked: list[int] = []

    class Counting(TensorDataset):
        def __getitem__(self, index: int) -> Any:
            asked.append(index)
            return super().__getitem__(index)

    loaders = [DataLoader(Counting(torch.rand(100, 1, 8, 8), labels), 4)]

    def pick(trainer: Trainer) -> Examples:
        asked.clear()
        examples = per_class(1)(trainer)
        assert asked == [50, 0]
        return examples

    assert picked(stranger, trainer_in, loaders, pick).labels.tolist() == [1, 3]


def test_without_labels_the_first_images(stranger, trainer_in):
    class Unlabelled(Dataset[Any]):
        def __len__(self) -> int:
            return 30

        def __getitem__(self, index: int) -> Any:
            return torch.full((1, 8, 8), float(index))

    stranger.training_step = lambda batch, batch_idx: stranger(batch).square().mean()
    examples = picked(stranger, trainer_in, [DataLoader(Unlabelled(), 8)], per_class(2, 3))
    assert examples.labels is None
    assert examples.images[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4, 5]


def test_random_images_are_a_seeded_choice_within_bounds(stranger, trainer_in):
    loaders = [DataLoader(WithTargets([0, 1] * 50), 4)]

    def chosen(count: int, most_bytes: int, seed: int = 0) -> list[float]:
        images = picked(
            stranger,
            trainer_in,
            loaders,
            lambda trainer: some_at_random(
                indexed_images(trainer, unpack, True), count, most_bytes, seed
            ),
        )
        return images.images[:, 0, 0, 0].tolist()

    first = chosen(20, 10**6)
    assert len(set(first)) == 20
    assert chosen(20, 10**6) == first
    assert chosen(20, 10**6, seed=1) != first
    assert chosen(20, 7 * 64 * 4) == first[:7]
    assert len(chosen(1000, 10**9)) == 100


def test_an_image_with_several_labels_is_picked_once(stranger, trainer_in):
    answers = torch.tensor([[1, 1, 0], [0, 1, 0], [1, 0, 1], [0, 0, 1]]).float()
    images = torch.arange(4.0)[:, None, None, None].expand(-1, 1, 8, 8)
    stranger.training_step = lambda batch, batch_idx: stranger(batch[0]).square().mean()
    loaders = [DataLoader(TensorDataset(images, answers), 2)]
    examples = picked(stranger, trainer_in, loaders, per_class(2))
    assert examples.images[:, 0, 0, 0].tolist() == [0, 2, 1, 3]
    assert examples.labels.tolist() == [0, 0, 1, 2]
    # The third label is only that of an image which is shown already.
    examples = picked(
        stranger, trainer_in, [DataLoader(Subset(loaders[0].dataset, range(3)))], per_class(2)
    )
    assert examples.labels.tolist() == [0, 0, 1]


def test_a_stream_says_what_to_do(stranger, trainer_in, data):
    class Stream(IterableDataset[Any]):
        def __iter__(self) -> Any:
            return iter(data)

    with pytest.raises(FirstlightError, match="pass the callback images="):
        picked(stranger, trainer_in, [DataLoader(Stream(), 4)], per_class(1))


def test_a_loader_without_automatic_batching_and_one_with_its_own_collating(stranger, trainer_in):
    dataset = WithTargets([0, 1, 0, 1])

    def collate(items: Any) -> Any:
        images, labels = zip(*items, strict=True)
        return {"image": torch.stack(images), "y": torch.tensor(labels)}

    stranger.training_step = lambda batch, batch_idx: stranger.head.weight.sum()
    for loader in (
        DataLoader(dataset, batch_size=None),
        DataLoader(dataset, batch_size=2, collate_fn=collate),
    ):
        examples = picked(stranger, trainer_in, [loader], per_class(1))
        assert examples.images[:, 0, 0, 0].tolist() == [0, 1]
        assert examples.labels.tolist() == [0, 1]
