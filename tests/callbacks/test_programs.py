"""Programs that were not written for the callbacks, and what each of them needs."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch import callbacks as lightning_callbacks
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from firstlight.callbacks import (
    ActivationMaps,
    Explanation,
    ExplanationCallback,
    FirstLayerMaps,
    Moment,
    PatternMonitor,
    SensitivityMaps,
)
from firstlight.pipeline import Gradient


class Keeps(ExplanationCallback):
    """Keeps what it was given to explain."""

    family = "9_keeps"

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.kept: list[Any] = []
        self.when: list[Moment] = []

    def pick(self, trainer: Trainer) -> Any:
        return self.examples(trainer, 2, 4)

    def explain(self, model: Any, picked: Any, when: Moment) -> Explanation:
        self.kept.append(picked)
        self.when.append(when)
        self.logits = model(picked.images).detach()
        return Explanation()


class Theirs(LightningModule):
    """A network of somebody else; the parts that programs do in their own way are arguments."""

    def __init__(
        self,
        outputs: int = 4,
        answer: Callable[[Tensor], Any] = lambda logits: logits,
        loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
        enter: Callable[[Any], Tensor] = lambda images: images,
    ) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, outputs))
        self.answer, self.loss, self.enter = answer, loss, enter

    def forward(self, images: Any) -> Any:
        return self.answer(self.net(self.enter(images)))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.loss(self.net(self.enter(batch[0])), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.training_step(batch, batch_idx)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def told(caught: Any) -> list[str]:
    return [str(w.message) for w in caught if "could not explain" in str(w.message)]


def three() -> list[Any]:
    return [FirstLayerMaps(), SensitivityMaps([Gradient()]), PatternMonitor(count=24)]


# The images that validation sees


class Hooks(Theirs):
    """Converts bytes before the transfer, and augments after it, but only in training."""

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        images, labels = batch
        return images.float() / 255, labels

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        images, labels = batch
        return (1 - images if self.trainer.training else images), labels


def bytes_of(data: TensorDataset) -> TensorDataset:
    images, labels = data.tensors
    return TensorDataset((100 * images).byte(), labels)


@pytest.mark.parametrize("place", ["module", "data module"])
def test_explained_images_went_the_way_of_a_validation_batch(
    fit: Any, trainer_in: Any, data: Any, place: str
) -> None:
    keeps, dataset = Keeps(), bytes_of(data)
    if place == "module":
        fit(Hooks(), dataset, callbacks=[keeps], max_epochs=1)
    else:

        class Data(LightningDataModule):
            on_before_batch_transfer = Hooks.on_before_batch_transfer
            on_after_batch_transfer = Hooks.on_after_batch_transfer

            def train_dataloader(self) -> Any:
                return DataLoader(dataset, 8)

            def val_dataloader(self) -> Any:
                return DataLoader(dataset, 8)

        trainer = trainer_in(callbacks=[keeps], max_epochs=1)
        trainer.fit(Theirs(), datamodule=Data())
    images, labels = dataset.tensors
    expected = torch.cat([images[labels == c][:2] for c in range(4)]).float() / 255
    assert torch.equal(keeps.kept[0].images, expected)
    assert keeps.kept[0].labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_the_trainer_is_in_training_again_behind_the_hooks(fit: Any, data: Any) -> None:
    stages = []

    class Looks(Keeps):
        def explain(self, *arguments: Any) -> Explanation:
            stages.append(self.trainer.training)
            return Explanation()

        def setup(self, trainer: Trainer, *arguments: Any, **named: Any) -> None:
            super().setup(trainer, *arguments, **named)
            self.trainer = trainer

    fit(Hooks(), bytes_of(data), callbacks=[Looks()], max_epochs=1)
    assert stages == [True, True]


class Stream(IterableDataset[Any]):
    def __init__(self, data: Any) -> None:
        self.data = data

    def __iter__(self) -> Any:
        return iter(self.data)


@pytest.mark.parametrize("sanity", [0, 2])
@pytest.mark.parametrize("validated", [True, False])
def test_of_a_stream_the_first_batches_are_explained(
    trainer_in: Any, data: Any, recwarn: Any, sanity: int, validated: bool
) -> None:
    callbacks = [*three(), keeps := Keeps()]
    trainer = trainer_in(callbacks=callbacks, num_sanity_val_steps=sanity, max_epochs=1)
    loader = DataLoader(Stream(data), 8)
    trainer.fit(Theirs(), loader, loader if validated else None)
    assert not told(recwarn)
    assert [str(when) for when in keeps.when] == ["before training", "epoch 1"]
    images, labels = data.tensors
    expected = torch.cat([images[labels == c][:2] for c in range(4)])
    assert torch.equal(keeps.kept[0].images, expected)


FORMS: dict[str, tuple[Callable[[Tensor], Any], Callable[[Any], Tensor]]] = {
    "(N, H, W)": (lambda images: images.squeeze(1), lambda images: images),
    "uint8": (lambda images: (100 * images).byte(), lambda images: images.float() / 255),
    "list": (list, lambda images: torch.stack(list(images))),
}


@pytest.mark.parametrize("form", FORMS)
def test_images_of_other_forms_are_taken_where_the_module_takes_them(
    trainer_in: Any, data: Any, recwarn: Any, form: str
) -> None:
    pack, enter = FORMS[form]

    def collate(items: Any) -> Any:
        images, labels = zip(*items, strict=True)
        return pack(torch.stack(images)), torch.stack(labels)

    loader = DataLoader(data, 8, collate_fn=collate)
    keeps = Keeps()
    trainer_in(callbacks=[*three(), keeps], max_epochs=1).fit(Theirs(enter=enter), loader, loader)
    assert not told(recwarn)
    assert keeps.kept[0].images.shape == (8, 1, 8, 8)


# The scores that the program means


ANSWERS: dict[str, Callable[[Tensor], Any]] = {
    "an object": lambda logits: SimpleNamespace(logits=logits, loss=None),
    "a dictionary": lambda logits: {"loss": None, "logits": logits},
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_logits_are_found_in_what_the_module_returns(
    fit: Any, data: Any, recwarn: Any, answer: str
) -> None:
    keeps, module = Keeps(), Theirs(answer=ANSWERS[answer])
    fit(module, data, callbacks=[*three(), keeps], max_epochs=1)
    assert not told(recwarn)
    assert torch.equal(keeps.logits, module.net(keeps.kept[-1].images))


def second(module: Any, images: Tensor) -> Tensor:
    """The logits of a module that returns several things."""
    found: Tensor = module(images)[1]
    return found


def test_logits_are_had_by_a_function(fit: Any, data: Any, recwarn: Any) -> None:
    module = Theirs(answer=lambda logits: (None, logits))
    callbacks = [SensitivityMaps([Gradient()], logits=second), PatternMonitor(24, logits=second)]
    trainer = fit(module, data, callbacks=callbacks, max_epochs=1)
    assert not told(recwarn)
    assert list(Path(trainer.log_dir, "plugins").rglob("*signal_and_attribution/*"))


def test_without_logits_one_warning_for_all_says_what_to_do(
    fit: Any, data: Any, recwarn: Any
) -> None:
    module = Theirs(answer=lambda logits: (None, logits))
    fit(module, data, callbacks=three(), max_epochs=2)
    (said,) = told(recwarn)
    assert said.startswith("FirstLayerMaps, SensitivityMaps and PatternMonitor could not explain")
    assert "for 1 images, got tuple; pass the callback logits=, a function" in said


def sheet_of(trainer: Trainer, name: str = "2_sensitivity/maps") -> Any:
    from firstlight.board.sheet_file import read_sheet

    return read_sheet(max(Path(trainer.log_dir, "plugins/firstlight", name).iterdir()))


def test_one_logit_is_two_classes(fit: Any, data: Any, recwarn: Any) -> None:
    images, labels = data.tensors
    data = TensorDataset(images, (labels % 2).float())
    loss = lambda z, y: F.binary_cross_entropy_with_logits(z.flatten(), y)  # noqa: E731
    module = Theirs(1, loss=loss)
    trainer = fit(module, data, callbacks=[*three(), keeps := Keeps()], max_epochs=1)
    assert not told(recwarn)
    chosen = keeps.kept[-1]
    assert chosen.labels.tolist() == [0, 0, 1, 1]
    z = module(chosen.images).detach()
    torch.testing.assert_close(keeps.logits.softmax(1)[:, 1:], z.sigmoid())
    sheet = sheet_of(trainer)
    shown = [sheet.note(i, 0) for i in range(2)]
    z = [float(module(images[labels == c][:1])) for c in range(2)]
    share = [1 / (1 + 2.718281828 ** -abs(value)) for value in z]
    assert shown == [f"{int(v > 0)}: {p:.0%}" for v, p in zip(z, share, strict=True)]
    signal = sheet_of(trainer, "3_patterns/signal_and_attribution")
    assert [signal.note(i, 0) for i in range(2)] == shown


def test_several_labels_have_a_share_each(fit: Any, data: Any, recwarn: Any) -> None:
    images, labels = data.tensors
    several = F.one_hot(labels, 4) | F.one_hot((labels + 1) % 4, 4)
    data = TensorDataset(images, several.float())
    module = Theirs(loss=F.binary_cross_entropy_with_logits)
    names = ["a", "b", "c", "d"]
    callbacks = [FirstLayerMaps(), SensitivityMaps([Gradient()], class_names=names)]
    trainer = fit(module, data, callbacks=[*callbacks, PatternMonitor(24)], max_epochs=1)
    assert not told(recwarn)
    sheet = sheet_of(trainer)
    assert sheet.rows[0] == "a, b"
    assert "labels" in sheet.caption
    share = module(images[:1]).sigmoid()
    assert sheet.note(0, 0).startswith(f"{names[int(share.argmax())]}: {float(share.max()):.0%}")


def test_values_are_shown_as_values(fit: Any, data: Any, recwarn: Any) -> None:
    images, _ = data.tensors
    data = TensorDataset(images, images.mean((1, 2, 3)))
    loss = lambda z, y: F.mse_loss(z.flatten(), y)  # noqa: E731
    module = Theirs(1, loss=loss)
    callbacks = [SensitivityMaps([Gradient()]), PatternMonitor(24)]
    trainer = fit(module, data, callbacks=callbacks, max_epochs=1)
    assert not told(recwarn)
    sheet = sheet_of(trainer)
    assert sheet.rows[0] == f"{float(images[0].mean()):.3g}"
    assert sheet.note(0, 0) == f"{float(module(images[:1])):.3g}"
    assert "the right value" in sheet.caption


def test_class_names_come_from_the_data(fit: Any, data: Any) -> None:
    data.classes = ["north", "east", "south", "west"]
    trainer = fit(Theirs(), data, callbacks=[SensitivityMaps([Gradient()])], max_epochs=1)
    assert list(sheet_of(trainer).rows) == data.classes


@pytest.mark.skipif(
    not hasattr(lightning_callbacks, "EMAWeightAveraging"), reason="came with Lightning 2.6"
)
def test_averaged_weights_are_explained_as_validation_sees_them(fit: Any, data: Any) -> None:
    validated: list[Tensor] = []

    class Validated(Theirs):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            validated.append(self.net[1].weight.detach().clone())

    class Looks(Keeps):
        def explain(self, model: Any, picked: Any, when: Moment) -> Explanation:
            self.kept.append(model.net[1].weight.detach().clone())
            return Explanation()

        def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            before = pl_module.net[1].weight.detach().clone()
            super().on_train_epoch_end(trainer, pl_module)
            assert torch.equal(pl_module.net[1].weight, before)
            assert not torch.equal(self.kept[-1], before)

    averaging = lightning_callbacks.EMAWeightAveraging(decay=0.9)
    looks = Looks(before_training=False)
    fit(Validated(), data, callbacks=[averaging, looks], max_epochs=2, num_sanity_val_steps=0)
    assert len(looks.kept) == 2
    assert torch.equal(looks.kept[-1], validated[-1])


# What is said


def test_a_network_without_convolutions_is_a_warning(fit: Any, data: Any, recwarn: Any) -> None:
    trainer = fit(Theirs(), data, callbacks=[ActivationMaps()], max_epochs=2)
    (said,) = told(recwarn)
    assert said.startswith("ActivationMaps could not explain")
    assert "no Conv2d; name a layer" in said
    assert trainer.current_epoch == 2


class Fails(Keeps):
    """Fails in part at first, and then as a whole."""

    def explain(self, model: Any, picked: Any, when: Moment) -> Explanation:
        if when.is_control:
            return Explanation(failures=["no moon"])
        raise ArithmeticError("no light")


def test_each_reason_is_told_once_in_every_run(fit: Any, data: Any) -> None:
    fails = Fails()
    for _ in range(2):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            fit(Theirs(), data, callbacks=[fails], max_epochs=3)
        said = told(caught)
        assert len(said) == 2
        assert "in part: no moon" in said[0]
        assert "ArithmeticError: no light" in said[1]


def test_a_callback_is_pickled_and_copied_without_its_images(fit: Any, data: Any) -> None:
    keeps = SensitivityMaps([Gradient()])
    before = len(pickle.dumps(keeps))
    fit(Theirs(), data, callbacks=[keeps], max_epochs=1)
    assert len(pickle.dumps(keeps)) <= before + 100
    assert copy.deepcopy(keeps) is not keeps
    trainer = fit(Theirs(), data, callbacks=[pickle.loads(pickle.dumps(keeps))], max_epochs=1)
    assert sheet_of(trainer).rows


# When


def test_early_steps_of_the_first_epoch(fit: Any, data: Any) -> None:
    keeps = Keeps(early=True)
    fit(Theirs(), data, callbacks=[keeps], max_epochs=2)
    titles = ["before training", "step 1", "step 2", "step 4", "epoch 1", "epoch 2"]
    assert [str(when) for when in keeps.when] == titles
    assert [when.step for when in keeps.when] == [0, 1, 2, 4, 6, 12]


def test_every_n_train_steps_of_the_optimiser(fit: Any, data: Any) -> None:
    keeps = Keeps(every_n_train_steps=2, every_n_epochs=2)
    fit(Theirs(), data, callbacks=[keeps], max_epochs=2, accumulate_grad_batches=2)
    assert [str(when) for when in keeps.when] == ["before training", "step 2", "step 4", "epoch 2"]


@pytest.mark.parametrize(
    ("arguments", "drawn"),
    [
        ({}, [0, 1, 2, 3, 4, 5, 10, 12]),
        ({"pictures_every_n_epochs": 1}, list(range(13))),
        ({"pictures_every_n_epochs": 4}, [0, 1, 4, 8, 12]),
        ({"pictures_every_n_epochs": 5, "every_n_epochs": 3}, [0, 3, 6, 12]),
    ],
)
def test_sheets_are_kept_always_and_pictures_drawn_as_often_as_asked(
    fit: Any, data: Any, board: Any, arguments: Any, drawn: list[int]
) -> None:
    callback = SensitivityMaps([Gradient()], numbers=["tv"], **arguments)
    trainer = fit(Theirs(), data, callbacks=[callback], max_epochs=12)
    images = board(trainer).Images("2_sensitivity/maps")
    assert [image.step for image in images] == [max(0, 6 * epoch - 1) for epoch in drawn]
    sheets = list(Path(trainer.log_dir, "plugins/firstlight/2_sensitivity/maps").iterdir())
    assert len(sheets) == 1 + 12 // arguments.get("every_n_epochs", 1)


def test_the_last_explanation_is_drawn_though_the_run_ends_by_itself(
    fit: Any, data: Any, board: Any
) -> None:
    class Stops(Theirs):
        def on_train_epoch_end(self) -> None:
            self.trainer.should_stop = self.trainer.current_epoch == 6

    callback = SensitivityMaps([Gradient()], numbers=["tv"])
    events = board(fit(Stops(), data, callbacks=[callback], max_epochs=20))
    assert [image.step for image in events.Images("2_sensitivity/maps")][-1] == 41
