"""What a run says of itself at its start and at its end."""

from __future__ import annotations

import shlex
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_only

from firstlight.board.report import write_report
from firstlight.board.sheet_file import FOLDER
from firstlight.callbacks import ExplanationCallback, MapWriter
from firstlight.callbacks.loggers import run_folders
from firstlight.callbacks.private_lightning import stage_of
from firstlight.command.checkpoints import content_of, epochs_of
from firstlight.command.late_records import REPLACED, LateRecords
from firstlight.datamodules.splits import SplitData


@rank_zero_only
def say(name: str, text: object) -> None:
    """One line on stdout, its name in a column of its own."""
    print(f"{name:<14} {text}", flush=True)


class Announcement(Callback):
    """Says at the start which network does what with which data, and what is explained when."""

    _is_told = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        say("Trains", f"{_network(pl_module)}; {_data(trainer)}; {_length(trainer)}")
        for when, names in _explained(trainer).items():
            say("Explains", f"{when}: {', '.join(names)}")
        self._is_told = True

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if stage_of(trainer) == "validate":
            say("Validates", f"{_network(pl_module)}; {_data(trainer, 'validation')}")

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._is_told:  # else it is the end of a fit
            say("Tests", f"{_network(pl_module)}; {_data(trainer, 'test')}")

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        say("Predicts", f"{_network(pl_module)}; {_data(trainer, 'test')}")


def end_of_fit(
    trainer: Trainer,
    scores: list[Mapping[str, float]],
    best: ModelCheckpoint | None,
    report: bool,
) -> None:
    """Say how good the run is, and where it can be seen.

    Args:
        best: What kept the best checkpoint, if there is one.
        report: True if the run's report is written as well.
    """
    if best is not None and best.best_model_score is not None:
        # This run wrote it.
        epochs = epochs_of(content_of(Path(best.best_model_path), weights_only=False))
        value = f"{best.monitor} {best.best_model_score:.4f}"
        say("Best epoch", f"{epochs} of {trainer.current_epoch}, {value}")
    for score in filter(None, scores):
        say("Test accuracy", f"{score['test/accuracy']:.4f}")
    folder = trainer.log_dir
    if folder is not None:
        say("Run", folder)
        if report:
            _write_report(run_folders(trainer)[0])
        _say_how_to_look(Path(folder), report)


def start_of_explain(
    trainer: Trainer,
    module: LightningModule,
    checkpoints: int,
    callbacks: Sequence[ExplanationCallback],
) -> None:
    """Say what is explained by which callbacks."""
    say("Network", f"{_network(module)}; {_data(trainer)}")
    names = ", ".join(type(callback).__name__ for callback in callbacks)
    say("Explains", f"{checkpoints} checkpoint{'s' * (checkpoints > 1)}: {names}")


def end_of_explain(records: LateRecords) -> None:
    """Say which sheets are where."""
    say("Sheets", f"{records.described()}: {', '.join(sorted({tag for tag, _ in records.sheets}))}")
    if "replaced" in {kind for _, kind in records.sheets}:
        say("Replaced", f"the earlier sheets are in {records.folder / FOLDER / REPLACED}")
    say("Run", records.folder)
    _say_how_to_look(records.folder, False)


@rank_zero_only
def _write_report(folder: Path) -> None:
    """Write the report of a run into its folder; a run is worth keeping without it."""
    try:
        made = write_report([folder], folder / "report.html")
    except Exception as error:
        warnings.warn(f"There is no report: {error}", stacklevel=2)
        return
    for problem in made.problems:
        warnings.warn(f"The report leaves out {problem.file}: {problem.reason}", stacklevel=2)
    say("Report", f"{made.path}  {made.omitted}".rstrip())


def end_of_evaluation(trainer: Trainer) -> None:
    """Say where the run is that was evaluated."""
    if trainer.log_dir is not None:
        say("Run", trainer.log_dir)


def end_of_predict(trainer: Trainer) -> None:
    """Say where the maps are."""
    for writer in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(writer, MapWriter):
            say("Maps", f'{writer.folder}: firstlight.callbacks.load_maps("{writer.folder}")')


def _say_how_to_look(folder: Path, has_report: bool) -> None:
    if not has_report and Path(folder, "plugins").is_dir():
        say("Report", _program("firstlight", "report", str(folder), "-o", "report.html"))
    board = _program("tensorboard", "--logdir", str(folder), "--samples_per_plugin", "images=1000")
    say("Look at it", board)


def _network(module: LightningModule) -> str:
    network = getattr(module, "network", module)
    weights = sum(parameter.numel() for parameter in network.parameters())
    return f"{type(network).__name__}, {weights:,} weights, on {module.device}"


def _length(trainer: Trainer) -> str:
    """How long the training is: in epochs, in steps, or both."""
    first, last, steps = trainer.current_epoch + 1, trainer.max_epochs, trainer.max_steps
    said = [f"at most {steps:,} steps"] if steps >= 0 else []
    if last is None or last < 0:
        return said[0] if said else "until it is stopped"
    if first == 1:
        said[:0] = ["1 epoch" if last == 1 else f"{last} epochs"]
    else:
        said[:0] = [f"epoch {last}" if first == last else f"epochs {first} to {last}"]
    return ", ".join(said)


def _data(trainer: Trainer, split: str = "training") -> str:
    data: Any = getattr(trainer, "datamodule", None)
    name = "the module itself" if data is None else type(data).__name__
    if not isinstance(data, SplitData):
        return f"data of {name}"
    sizes = " × ".join(map(str, data.input_shape))
    images = getattr(data.splits, split)
    count = 0 if images is None else len(images)
    return f"{count:,} images {sizes} of {name}, {data.num_classes} classes"


def _explained(trainer: Trainer) -> dict[str, list[str]]:
    """The names of the explanations, by when they are made."""
    found: dict[str, list[str]] = {}
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, ExplanationCallback):
            begins = trainer.global_step == 0
            when = ", ".join(_when(callback, begins))
            found.setdefault(when, []).append(type(callback).__name__)
    return found


def _when(callback: ExplanationCallback, begins: bool) -> Iterator[str]:
    """The moments of a run, in their order; one that goes on has no beginning."""
    if callback.before_training and begins:
        yield "before training"
    if callback.early and begins:
        yield "after steps 1, 2, 4, 8, … of the first epoch"
    for n, unit in ((callback.every_n_train_steps, "step"), (callback.every_n_epochs, "epoch")):
        if n is not None:
            yield f"every {unit}" if n == 1 else f"every {n} {unit}s"


def _program(name: str, *args: str) -> str:
    """A command that can be copied, of the environment that runs now."""
    path = Path(sys.executable).with_name(name)
    path = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return shlex.join([str(path), *args])
