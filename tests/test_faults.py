"""When something goes wrong, a run goes on or ends with a clear sentence, and what was logged
before stays readable.
"""

from __future__ import annotations

import errno
import io
import os
import signal
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer.record_writer import RecordWriter
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from firstlight import command
from firstlight.callbacks import FirstLayerMaps, PatternMonitor, SensitivityMaps
from firstlight.pipeline import DenseNetwork, Gradient, ImageClassifier, SmoothGrad

PICTURES = {
    "1_first_layer/maps",
    "2_sensitivity/maps",
    "3_patterns/first_layer",
    "3_patterns/signal_and_attribution",
}


def explanations(**arguments: Any) -> list[Callback]:
    return [
        FirstLayerMaps(images_per_class=4, **arguments),
        SensitivityMaps(methods=[Gradient(), SmoothGrad(samples=4)], **arguments),
        PatternMonitor(count=20, **arguments),
    ]


def images_and_labels(count: int = 48, classes: Sequence[int] = (0, 1, 2, 3)) -> TensorDataset:
    labels = torch.tensor(classes).repeat(count)[:count]
    noise = torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(3))
    return TensorDataset(0.5 * noise + labels[:, None, None, None] / 8, labels)


def classifier() -> ImageClassifier:
    torch.manual_seed(0)
    return ImageClassifier(DenseNetwork((1, 8, 8), (16, 12), 4))


class Run:
    """A run of two epochs with all callbacks, and what it left."""

    def __init__(
        self,
        folder: Path,
        data: TensorDataset | None = None,
        module: LightningModule | None = None,
        validation: Any = (),
        **arguments: Any,
    ) -> None:
        data = images_and_labels() if data is None else data
        self.trainer = Trainer(
            accelerator="cpu",
            default_root_dir=folder,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
            log_every_n_steps=1,
            **{"max_epochs": 2, "callbacks": explanations(), **arguments},
        )
        self.failure: BaseException | None = None
        validation = DataLoader(data, 8) if validation == () else validation
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                self.trainer.fit(module or classifier(), DataLoader(data, 8), validation)
            except (Exception, KeyboardInterrupt, SystemExit) as failure:
                self.failure = failure
        self.told = [str(w.message) for w in caught if "expla" in str(w.message)]

    @property
    def finished(self) -> bool:
        return self.failure is None and self.trainer.current_epoch == self.trainer.max_epochs

    def board(self) -> Any:
        return board(self.trainer.log_dir)


def board(folder: str | Path | None) -> Any:
    return EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0}).Reload()


def no_space() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


# The disk and the loggers


def test_a_disk_that_fills_up_stops_the_pictures_and_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, saved = Image.Image.save, list[Path]()

    def save_until_full(image: Any, path: Path, *rest: Any) -> None:
        if len(saved) == 5:
            raise no_space()
        save(image, path, *rest)
        saved.append(path)

    monkeypatch.setattr(Image.Image, "save", save_until_full)
    run = Run(tmp_path, logger=False)
    assert run.finished
    for callback in ("FirstLayerMaps", "SensitivityMaps", "PatternMonitor"):
        assert sum(callback in said for said in run.told) == 1, "one warning for each callback"
    assert all("No space left on device" in said for said in run.told)
    assert sorted(saved) == sorted(tmp_path.rglob("*.png"))
    for path in saved:
        with Image.open(path) as picture:
            picture.load()


class DiskFills(Callback):
    """In the second epoch there is no room for more than one more picture."""

    room = 10**9

    def on_train_epoch_start(self, trainer: Trainer, _: Any) -> None:
        if trainer.current_epoch == 1:
            DiskFills.room = 5000


def test_tensorboard_on_a_full_disk_keeps_what_it_has_and_the_reason_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = RecordWriter.write

    def write_while_there_is_room(writer: Any, record: bytes) -> None:
        DiskFills.room -= len(record)
        if DiskFills.room < 0:
            # What a file system does: it takes what still fits.
            writer._writer.write(record[: len(record) // 2])
            raise no_space()
        write(writer, record)

    monkeypatch.setattr(DiskFills, "room", 10**9)
    monkeypatch.setattr(RecordWriter, "write", write_while_there_is_room)
    # TensorBoard's own thread ends by the error.
    monkeypatch.setattr("threading.excepthook", lambda _: None)
    drawn_at_once = explanations(pictures_every_n_epochs=1)
    run = Run(tmp_path, max_epochs=20, callbacks=[DiskFills(), *drawn_at_once])
    assert DiskFills.room < 0
    assert "No space left on device" in run.told[0]
    assert "No space left on device" in str(run.failure), "Lightning has nowhere to log to"
    events = run.board()
    for tag in PICTURES:
        assert [image.step for image in events.Images(tag)][:2] == [0, 5]
    assert [scalar.step for scalar in events.Scalars("val/loss")][:2] == [5, 11]


def test_a_logger_that_raises_for_numbers_is_told_of_once_and_has_its_pictures(
    tmp_path: Path,
) -> None:
    class Tired(TensorBoardLogger):
        """Its service is gone as soon as the training goes on."""

        def log_metrics(self, metrics: Any, step: int | None = None) -> None:
            if step and any(name[1] == "_" for name in metrics):
                raise ConnectionError("service gone")
            super().log_metrics(metrics, step)

    run = Run(tmp_path, logger=Tired(tmp_path))
    assert run.finished
    assert all("ConnectionError('service gone')" in said for said in run.told)
    assert len(run.told) == 1, "callbacks with the same cause are told of together"
    events = run.board()
    assert [image.step for image in events.Images("2_sensitivity/maps")] == [0, 5, 11]
    assert [scalar.step for scalar in events.Scalars("val/loss")] == [5, 11]


# The network


def test_nan_weights_make_pictures_that_show_it_or_one_warning_each(tmp_path: Path) -> None:
    module = classifier()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(torch.nan)
    run = Run(tmp_path, module=module)
    assert run.finished
    assert len(run.told) <= len(explanations())
    assert all("finite" in said for said in run.told)
    picture = run.board().Images("2_sensitivity/maps")[-1]
    assert magenta_pixels(picture.encoded_image_string) > 64


def magenta_pixels(encoded: bytes) -> int:
    pixels = np.asarray(Image.open(io.BytesIO(encoded)))
    return int((pixels == [255, 0, 255]).all(2).sum())


class Diverges(ImageClassifier):
    """Its loss becomes infinite in the second epoch."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        return loss * torch.inf if self.current_epoch == 1 else loss


def test_an_infinite_loss_does_not_stop_the_run_or_hide_the_epochs_before(tmp_path: Path) -> None:
    torch.manual_seed(0)
    run = Run(tmp_path, module=Diverges(DenseNetwork((1, 8, 8), (16, 12), 4)), max_epochs=3)
    assert run.finished
    assert len(run.told) <= len(explanations())
    events = run.board()
    for tag in PICTURES:
        assert [image.step for image in events.Images(tag)][:2] == [0, 5]


# The data


def test_constant_images_have_flat_maps_and_no_error(tmp_path: Path) -> None:
    labels = images_and_labels().tensors[1]
    run = Run(tmp_path, data=TensorDataset(torch.full((48, 1, 8, 8), 0.5), labels))
    assert run.finished
    assert run.told == []
    assert set(run.board().Tags()["images"]) == PICTURES


@pytest.mark.parametrize("validation", [None, [], "empty"])
def test_without_validation_images_those_of_training_are_explained(
    tmp_path: Path, validation: Any
) -> None:
    if validation == "empty":
        validation = DataLoader(TensorDataset(torch.empty(0, 1, 8, 8), torch.empty(0).long()), 8)
    run = Run(tmp_path, validation=validation)
    assert run.finished
    assert run.told == []
    assert set(run.board().Tags()["images"]) == PICTURES


@pytest.mark.parametrize(
    ("count", "classes"),
    [(5, (0, 1, 2, 3)), (2, (0, 1)), (48, (1, 2, 3)), (48, (0, 1, 3)), (48, (0,))],
    ids=lambda value: str(value),
)
def test_fewer_images_than_asked_for_and_missing_classes(
    tmp_path: Path, count: Any, classes: Any
) -> None:
    run = Run(tmp_path, data=images_and_labels(count, classes))
    assert run.finished
    assert run.told == []
    assert set(run.board().Tags()["images"]) == PICTURES


def test_a_single_image_can_be_explained_but_has_no_patterns(tmp_path: Path) -> None:
    run = Run(tmp_path, data=images_and_labels(1))
    assert run.finished
    (said,) = run.told
    assert "PatternMonitor" in said
    assert "at least two images" in said
    assert set(run.board().Tags()["images"]) == {"1_first_layer/maps", "2_sensitivity/maps"}


def test_a_network_of_one_output_is_taken_for_two_classes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.ReLU(), nn.Linear(5, 1))
    run = Run(tmp_path, data=images_and_labels(classes=(0,)), module=ImageClassifier(network))
    assert run.finished
    assert not run.told
    assert "1_first_layer/maps" in run.board().Tags()["images"]


# Signals

PROGRAM = """
import os
import sys

from lightning.pytorch import Callback

from firstlight.callbacks import SensitivityMaps
from firstlight.command import main

WHEN, SIGNAL = sys.argv[1], int(sys.argv[2])


class Signal(Callback):
    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == 17 and WHEN == "training":
            os.kill(os.getpid(), SIGNAL)


def interrupted(explain):
    def run(self, model, picked, when):
        if str(when) == "epoch 2" and WHEN == "explaining":
            os.kill(os.getpid(), SIGNAL)
        return explain(self, model, picked, when)

    return run


if __name__ == "__main__":
    SensitivityMaps.explain = interrupted(SensitivityMaps.explain)
    sys.modules["own"] = sys.modules["__main__"]
    main(["fit", *sys.argv[3:], "--trainer.callbacks+=own.Signal"])
"""

OPTIONS = (
    "--trainer.max_epochs=3",
    "--trainer.limit_train_batches=10",
    "--trainer.limit_val_batches=2",
    "--trainer.limit_test_batches=2",
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
    "--trainer.callbacks=SensitivityMaps",
    "--trainer.callbacks.numbers=[tv]",
    "--model.network.hidden=[16,8]",
    "--model.training_noise=0.2",
    "--seed_everything=4",
)
"""A run of 30 steps in three epochs."""

BY_EPOCH = ("--checkpoint.monitor=null",)
BY_STEPS = (
    *BY_EPOCH,
    "--checkpoint.every_n_train_steps=5",
    "--checkpoint.save_on_train_epoch_end=false",
)


def stopped(program: Any, folder: Path, when: str, number: int, *options: str) -> Any:
    """The run, which sends itself a signal at step 17 or in the explanation of epoch 2."""
    return program(folder, PROGRAM, when, str(int(number)), *OPTIONS, *options)


def last_checkpoint(run: Path) -> Any:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)


def curves(run: Path, tags: Sequence[str]) -> dict[str, dict[int, float]]:
    events = board(run)
    return {tag: {s.step: s.value for s in events.Scalars(tag)} for tag in tags}


def pictures(run: Path, tag: str) -> dict[int, bytes]:
    return {image.step: image.encoded_image_string for image in board(run).Images(tag)}


def assert_identical(a: Any, b: Any, where: str = "") -> None:
    if isinstance(a, Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_identical(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, list):
        assert_identical(dict(enumerate(a)), dict(enumerate(b)), where)
    else:
        assert a == b, where


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As in the programs that are killed: another number of threads rounds in another way."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(
    ("when", "checkpoints", "resumed_at"),
    [("training", BY_EPOCH, 10), ("training", BY_STEPS, 15), ("explaining", BY_EPOCH, 10)],
    ids=["training", "training, with a checkpoint in the middle of an epoch", "explaining"],
)
def test_killed_and_resumed_is_the_uninterrupted_run(
    program: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    when: str,
    checkpoints: Any,
    resumed_at: Any,
) -> None:
    monkeypatch.chdir(tmp_path)
    killed = stopped(program, tmp_path, when, signal.SIGKILL, *checkpoints)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    resumed, whole = (tmp_path / "runs" / name / "version_0" for name in ("sample", "whole"))
    assert last_checkpoint(resumed)["global_step"] == resumed_at
    assert list(pictures(resumed, "2_sensitivity/maps")) == [0, 9], "what was logged is readable"

    command.main(["fit", *OPTIONS, *checkpoints, "--ckpt_path=last"])
    command.main(["fit", *OPTIONS, *checkpoints, "--trainer.logger.name=whole"])
    ends = last_checkpoint(resumed), last_checkpoint(whole)
    assert ends[0]["global_step"] == 30
    for part in ("state_dict", "optimizer_states", "epoch"):
        assert_identical(ends[0][part], ends[1][part], part)
    tags = ["val/loss", "val/accuracy", "2_sensitivity/tv/Gradient", "2_sensitivity/tv/SmoothGrad"]
    if checkpoints == BY_EPOCH:
        # Else the part of the epoch before the checkpoint is not in this mean.
        tags.append("train/loss")
    assert curves(resumed, tags) == curves(whole, tags)
    tag = "2_sensitivity/maps"
    assert pictures(resumed, tag) == pictures(whole, tag)


@pytest.mark.slow
@pytest.mark.parametrize("when", ["training", "explaining"])
def test_ctrl_c_ends_the_run_and_what_was_logged_is_readable(
    program: Any, tmp_path: Path, when: str
) -> None:
    ended = stopped(program, tmp_path, when, signal.SIGINT)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert "could not explain" not in ended.stderr
    run = tmp_path / "runs" / "sample" / "version_0"
    assert list(pictures(run, "2_sensitivity/maps")) == [0, 9]
    assert last_checkpoint(run)["global_step"] == 10
