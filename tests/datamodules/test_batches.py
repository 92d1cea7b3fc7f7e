from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.utilities.data import _update_dataloader
from torch import Tensor, nn
from torch.utils.data import DataLoader, DistributedSampler, SequentialSampler

from firstlight.datamodules.batches import BatchLoader, EpochOrder, InMemory, batches

SEED = 3


def numbered(count: int) -> InMemory:
    """Images whose every pixel is their index over 1000; the label is the index modulo 10."""
    index = torch.arange(count)
    return InMemory((index / 1000).view(-1, 1, 1, 1).expand(-1, 1, 2, 2).clone(), index % 10)


def indices(batch: tuple[Tensor, Tensor]) -> list[int]:
    return (batch[0][:, 0, 0, 0] * 1000).round().long().tolist()


def epoch_of(loader: BatchLoader, epoch: int) -> list[int]:
    assert isinstance(loader.sampler, EpochOrder)
    loader.sampler.set_epoch(epoch)
    return [i for batch in loader for i in indices(batch)]


class Recorder(LightningModule):
    """A model that notes the images of every training batch, by epoch."""

    def __init__(self, disturb: bool = False) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 10)
        self.seen: list[tuple[int, list[int]]] = []
        self.disturb = disturb

    def training_step(self, batch: Any, _: int) -> Tensor:
        self.seen.append((self.current_epoch, indices(batch)))
        if self.disturb:
            torch.randn(7)
        return nn.functional.cross_entropy(self.layer(batch[0].flatten(1)), batch[1])

    def validation_step(self, batch: Any, _: int) -> None:
        self.log("loss", self.layer(batch[0].flatten(1)).mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class StopAfterBatch(Callback):
    """End the run, as a crash would, and leave a checkpoint of that moment."""

    def __init__(self, epoch: int, batch: int, path: Path) -> None:
        self.when = epoch, batch
        self.path = path

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        if (trainer.current_epoch, args[-1]) == self.when:
            trainer.save_checkpoint(self.path)
            raise RuntimeError("stopped")


def fit(
    model: Recorder,
    max_epochs: int,
    num_workers: int = 0,
    resume: Path | None = None,
    callbacks: list[Callback] | None = None,
    limit: int | None = None,
) -> list[tuple[int, list[int]]]:
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=max_epochs,
        limit_train_batches=limit,
        logger=False,
        callbacks=callbacks,
        enable_checkpointing=any(isinstance(c, ModelCheckpoint) for c in callbacks or []),
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    training = batches(numbered(50), 8, shuffle_seed=SEED, num_workers=num_workers)
    trainer.fit(model, training, batches(numbered(20), 8), ckpt_path=resume)
    return model.seen


def test_batches_are_whole_and_typed() -> None:
    images, labels = next(iter(batches(numbered(50), 8)))
    assert images.shape == (8, 1, 2, 2)
    assert images.dtype == torch.float32
    assert labels.tolist() == list(range(8))
    assert labels.dtype == torch.int64


def test_batches_equal_single_images() -> None:
    dataset = numbered(50)
    for images, labels in batches(dataset, 16, shuffle_seed=SEED):
        for image, label, i in zip(images, labels, indices((images, labels)), strict=True):
            assert torch.equal(image, dataset[i][0])
            assert label == dataset[i][1]


def test_every_epoch_serves_every_image_once_in_an_order_of_its_own() -> None:
    loader = batches(numbered(50), 8, shuffle_seed=SEED)
    orders = [epoch_of(loader, epoch) for epoch in range(4)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert len({tuple(order) for order in [*orders, list(range(50))]}) == 5


def test_order_depends_on_seed_and_epoch_only() -> None:
    first = batches(numbered(50), 8, shuffle_seed=SEED)
    wanted = [epoch_of(first, epoch) for epoch in range(3)]
    torch.manual_seed(99)
    second = batches(numbered(50), 8, shuffle_seed=SEED)
    next(iter(second))
    assert [epoch_of(second, epoch) for epoch in (2, 0, 1)] == [wanted[e] for e in (2, 0, 1)]
    assert epoch_of(batches(numbered(50), 8, shuffle_seed=SEED + 1), 0) not in wanted


def test_neighbouring_seeds_share_no_order() -> None:
    orders = {
        tuple(epoch_of(batches(numbered(50), 8, shuffle_seed=seed), epoch))
        for seed, epoch in itertools.product(range(4), range(4))
    }
    assert len(orders) == 16


@pytest.mark.parametrize("shuffle_seed", [None, SEED])
def test_iterating_leaves_the_global_random_numbers_alone(shuffle_seed: int | None) -> None:
    loader = batches(numbered(50), 8, shuffle_seed=shuffle_seed)
    before = torch.get_rng_state()
    assert len(list(loader)) == 7
    assert torch.equal(before, torch.get_rng_state())


def test_trainer_uses_the_order_of_each_epoch() -> None:
    loader = batches(numbered(50), 8, shuffle_seed=SEED)
    seen = fit(Recorder(), 3)
    for epoch in range(3):
        order = [i for when, batch in seen if when == epoch for i in batch]
        assert order == epoch_of(loader, epoch)


def test_random_numbers_drawn_in_training_do_not_change_the_order() -> None:
    assert fit(Recorder(), 2) == fit(Recorder(disturb=True), 2)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_run_resumed_after_an_epoch_sees_the_same_batches(tmp_path: Path, num_workers: int) -> None:
    wanted = fit(Recorder(), 4)
    keep = ModelCheckpoint(tmp_path, save_last=True)
    seen = fit(Recorder(), 2, num_workers, callbacks=[keep])
    seen += fit(Recorder(), 4, num_workers, resume=tmp_path / "last.ckpt")
    assert seen == wanted


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize(("epoch", "batch"), [(0, 2), (1, 4)])
def test_run_resumed_within_an_epoch_sees_the_same_batches(
    tmp_path: Path, epoch: int, batch: int, num_workers: int
) -> None:
    wanted = fit(Recorder(), 4)
    stopped = Recorder()
    with pytest.raises(RuntimeError, match="stopped"):
        fit(
            stopped,
            4,
            num_workers,
            callbacks=[StopAfterBatch(epoch, batch, tmp_path / "middle.ckpt")],
        )
    seen = stopped.seen + fit(Recorder(), 4, num_workers, resume=tmp_path / "middle.ckpt")
    assert seen == wanted


@pytest.mark.parametrize(("limit", "last"), [(None, 6), (4, 3)])
@pytest.mark.parametrize("before_last", [0, 1])
def test_run_resumed_at_the_end_of_an_epoch_loses_no_later_batch(
    tmp_path: Path, limit: int | None, last: int, before_last: int
) -> None:
    wanted = fit(Recorder(), 3, limit=limit)
    stopped = Recorder()
    stop = StopAfterBatch(0, last - before_last, tmp_path / "middle.ckpt")
    with pytest.raises(RuntimeError, match="stopped"):
        fit(stopped, 3, limit=limit, callbacks=[stop])
    assert stopped.seen + fit(Recorder(), 3, limit=limit, resume=stop.path) == wanted


def test_loader_survives_the_injection_of_another_sampler() -> None:
    loader = batches(numbered(50), 8, shuffle_seed=SEED)
    parts = [
        _update_dataloader(
            loader, DistributedSampler(loader.dataset, num_replicas=2, rank=rank, shuffle=False)
        )
        for rank in range(2)
    ]
    served = [[i for batch in part for i in indices(batch)] for part in parts]
    assert served == [list(range(0, 50, 2)), list(range(1, 50, 2))]
    assert all(isinstance(part, BatchLoader) for part in parts)


def test_unshuffled_loader_is_sequential() -> None:
    loader = batches(numbered(50), 8)
    assert isinstance(loader, DataLoader)
    assert isinstance(loader.sampler, SequentialSampler)
    assert isinstance(batches(numbered(50), 8, shuffle_seed=0).sampler, EpochOrder)
