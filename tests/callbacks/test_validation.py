"""Explained are the images and the weights that validation sees."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch import callbacks as lightning_callbacks
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from firstlight.callbacks import Explanation, FirstLayerMaps, Moment, PatternMonitor


def test_the_trainer_is_in_training_again_behind_the_hooks(
    fit: Any, data: Any, theirs: Any, keeping: Any
) -> None:
    stages = []

    class Looks(keeping):  # type: ignore[misc]
        def explain(self, *arguments: Any) -> Explanation:
            stages.append(self.trainer.training)
            return Explanation()

        def setup(self, trainer: Trainer, *arguments: Any, **named: Any) -> None:
            super().setup(trainer, *arguments, **named)
            self.trainer = trainer

    fit(theirs(), data, callbacks=[Looks()], max_epochs=1)
    assert set(stages) == {True}


class Stream(IterableDataset[Any]):
    def __init__(self, data: Any) -> None:
        self.data = data

    def __iter__(self) -> Any:
        return iter(self.data)


@pytest.mark.parametrize("sanity", [0, 2])
@pytest.mark.parametrize("validated", [True, False])
def test_of_a_stream_the_first_batches_are_explained(
    trainer_in: Any,
    data: Any,
    theirs: Any,
    keeping: Any,
    told: Any,
    sanity: int,
    validated: bool,
    recwarn: Any,
) -> None:
    callbacks = [FirstLayerMaps(), PatternMonitor(count=24), keeps := keeping()]
    trainer = trainer_in(callbacks=callbacks, num_sanity_val_steps=sanity, max_epochs=1)
    loader = DataLoader(Stream(data), 8)
    trainer.fit(theirs(), loader, loader if validated else None)
    assert not told(recwarn)
    assert [str(when) for when in keeps.when] == ["before training", "epoch 1"]
    images, labels = data.tensors
    expected = torch.cat([images[labels == c][:2] for c in range(4)])
    assert torch.equal(keeps.kept[0].images, expected)


@pytest.mark.skipif(
    not hasattr(lightning_callbacks, "EMAWeightAveraging"), reason="Lightning before 2.6 has none"
)
def test_averaged_weights_are_explained_as_validation_sees_them(
    fit: Any, data: Any, theirs: Any, keeping: Any
) -> None:
    validated: list[Tensor] = []

    def validation_step(self: Any, batch: Any, batch_idx: int) -> None:
        validated.append(self.net[1].weight.detach().clone())

    class Looks(keeping):  # type: ignore[misc]
        def explain(self, model: Any, picked: Any, when: Moment) -> Explanation:
            self.kept.append(model.net[1].weight.detach().clone())
            return Explanation()

        def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            before = pl_module.net[1].weight.detach().clone()
            super().on_train_epoch_end(trainer, pl_module)
            assert torch.equal(pl_module.net[1].weight, before)
            assert not torch.equal(self.kept[-1], before)

    averaging, looks = (
        lightning_callbacks.EMAWeightAveraging(decay=0.9),
        Looks(before_training=False),
    )
    module = theirs(validation_step=validation_step)
    fit(module, data, callbacks=[averaging, looks], max_epochs=2, num_sanity_val_steps=0)
    assert len(looks.kept) == 2
    assert torch.equal(looks.kept[-1], validated[-1])
