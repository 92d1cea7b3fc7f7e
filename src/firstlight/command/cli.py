"""LightningCLI for an :class:`ImageClassifier` and any data module."""

from __future__ import annotations

import logging
import shutil
import warnings
from argparse import ArgumentError as ParserError
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from jsonargparse import Namespace
from lightning.pytorch import (
    Callback,
    LightningDataModule,
    LightningModule,
    Trainer,
    callbacks,
)
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar, TQDMProgressBar
from lightning.pytorch.cli import (
    ArgsType,
    LightningArgumentParser,
    LightningCLI,
    SaveConfigCallback,
)

import firstlight.callbacks
import firstlight.datamodules
import firstlight.pipeline
from firstlight.command.checkpoints import (
    checkpoint,
    content_of,
    hyper_parameters,
    run_folder,
    run_of,
)
from firstlight.command.configs import CONFIGS, completed, given, listed
from firstlight.command.mistakes import deepest
from firstlight.command.told import (
    Announcement,
    end_of_evaluation,
    end_of_fit,
    end_of_predict,
    say,
)
from firstlight.errors import ArgumentError, FirstlightError
from firstlight.pipeline import ImageClassifier, undisturbed

# Imported for their classes, which options then find by their bare names too.
_PUBLIC = (firstlight.callbacks, firstlight.datamodules, firstlight.pipeline, callbacks)

_QUIET = (
    "does not have many workers",  # the data of the default run are in memory
    "smaller than the logging interval",
    "LeafSpec",  # Lightning's own use of a deprecated function
    "Checkpoint directory .* exists and is not empty",  # a resumed run goes on in its folder
    "callbacks used to create the checkpoint",  # what keeps checkpoints is for fit alone
    "The dirpath has changed",
    "will be overridden by `CommandLine",  # what --optimizer is there for
    "will run with no optimizer",  # nothing is trained where checkpoints are explained
)

_ABOUT = (
    "Train a network and watch what it learns to look at. fit is the default command; "
    "firstlight explain, report and experiment have a --help of their own."
)


def run(args: Sequence[str]) -> None:
    """Run LightningCLI on these arguments."""
    quietly()
    CommandLine(
        ImageClassifier,
        LightningDataModule,
        subclass_mode_data=True,
        save_config_callback=_SavedOnce,
        save_config_kwargs={"overwrite": True},
        parser_kwargs=parser_settings(CommandLine.subcommands(), "default.yaml"),
        args=completed(args),
    )


def quietly() -> None:
    """Leave out what others say that alarms without cause."""
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.seed"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for advice in _QUIET:
        warnings.filterwarnings("ignore", f".*{advice}")


def parser_settings(
    commands: Iterable[str], default: str | None, about: str | None = None
) -> dict[str, Any]:
    """The settings of the parsers of commands.

    Args:
        commands: Their names.
        default: Which of our configs stands behind all options; None for none.
        about: The description of each; None takes that of the trainer's method.
    """
    options: dict[str, Any] = {"exit_on_error": False, "allow_abbrev": False}
    own = options | {"default_config_files": [str(CONFIGS / default)] if default else []}
    own |= {"description": about} if about else {}
    program = {"prog": "firstlight", "description": _ABOUT}
    return options | program | {name: dict(own) for name in commands}


class _SavedOnce(SaveConfigCallback):
    """The config is that of the training: what tests a run writes nothing over it."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":
            super().setup(trainer, pl_module, stage)


class _Last(ModelCheckpoint):
    """A class of its own, so that a checkpoint tells it from one that the config asks for."""


class CommandLine(LightningCLI):
    """The commands and their options.

    The best and the last checkpoint are kept whatever ``trainer.callbacks`` says, and fit ends
    with the test of the best one. The other commands take the best one if none is named.
    """

    _run: str | None = None
    _ckpt_path: str | None = None

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        # Of all commands, so that they take the saved config of a fit.
        said = "whether fit ends with report.html in the run's folder"
        parser.add_argument("--report", type=bool, default=False, help=said)
        parser.add_class_arguments(ModelCheckpoint, "checkpoint")
        parser.set_defaults(
            {
                "checkpoint.monitor": "val/accuracy",
                "checkpoint.mode": "max",
                "checkpoint.filename": "best",
                "checkpoint.save_last": True,
                "checkpoint.enable_version_counter": False,
                # By then the epoch is over, so a resumed run begins with the next one.
                "checkpoint.save_on_train_epoch_end": True,
            }
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        words = cast(list[str], args)  # run gives no other kind
        try:
            self.config = parser.parse_args(words)
            command = self.config.subcommand
            config = self.config[command]
            if config.get("ckpt_path") or command != "fit":
                self._choose_checkpoint(config)
                # The network is that of the checkpoint.
                content = content_of(Path(config.ckpt_path), config.get("weights_only"))
                if model := hyper_parameters(content):
                    self.config = parser.parse_object({command: {"model": model}}, self.config)
                # Lightning would read the file again, and as plain data only.
                self._ckpt_path = self.config[command].pop("ckpt_path")
            else:
                self._fit_to_data(config, words)
        except ParserError as error:
            raise FirstlightError(deepest(str(error), self._names())) from None

    def _names(self) -> set[str]:
        """The names of commands, options and classes."""
        options = {a.dest for p in self._subcommand_parsers.values() for a in p._actions}
        return options.union(self.subcommands(), *(module.__all__ for module in _PUBLIC))

    def _choose_checkpoint(self, config: Namespace) -> None:
        runs = run_folder(config)
        path = checkpoint(config.ckpt_path, runs)
        if config.ckpt_path != str(path):
            say("Checkpoint", path)
        config.ckpt_path = str(path)
        # What goes on or is tested is logged where it was trained.
        if self.config.subcommand != "fit" or path.name == "last.ckpt":
            self._run = run_of(path, runs)
        if self.config.subcommand == "predict":
            config.trainer.logger = False

    def _fit_to_data(self, config: Namespace, words: Sequence[str]) -> None:
        """The sizes of the network are those of the data unless they are given."""
        network = config.model.network
        arguments = network.get("init_args", Namespace()) if network else Namespace()
        sizes = [name for name in ("num_classes", "input_shape") if name in arguments]
        sizes = [name for name in sizes if not given(words, name)]
        if sizes:
            made = self.parser.instantiate_classes(
                Namespace({"subcommand": "fit", "fit": Namespace(data=config.data)})
            )
            for name in sizes:
                size = getattr(made.fit.data, name, arguments[name])
                arguments[name] = list(size) if isinstance(size, tuple) else size

    def before_instantiate_classes(self) -> None:
        if self._ckpt_path is not None:
            self.config[self.config.subcommand].ckpt_path = self._ckpt_path

    def instantiate_classes(self) -> None:
        config = self.config[self.config.subcommand]
        if self._run is None or not config.trainer.logger:
            super().instantiate_classes()
            return
        config.trainer.logger.init_args.version = self._run
        super().instantiate_classes()
        # The saved config may start another run.
        config.trainer.logger.init_args.version = None

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        config = self.config_init[self.config.subcommand]
        try:
            return super().instantiate_trainer(callbacks=self.chosen_callbacks(config), **kwargs)
        except ValueError as error:
            raise ArgumentError("trainer", str(error)) from error

    def chosen_callbacks(self, config: Namespace) -> list[Callback]:
        """The callbacks of the trainer: those of the config, and our own."""
        # First, since the others may explain the network before they let it begin.
        chosen = [Announcement(), *listed(config.trainer.callbacks)]
        if config.trainer.enable_checkpointing is not False and self.config.subcommand == "fit":
            chosen.append(config.checkpoint)
            if config.checkpoint.monitor is not None:
                # That one writes the last epoch only where it is the best as well.
                last = _Last(
                    filename="last", enable_version_counter=False, save_on_train_epoch_end=True
                )
                chosen.append(last)
        shown = config.trainer.enable_progress_bar is not False
        if shown and not any(isinstance(callback, ProgressBar) for callback in chosen):
            # Drawing the bar takes longer than a step of a small network.
            chosen.append(TQDMProgressBar(refresh_rate=20))
        return chosen

    def after_instantiate_classes(self) -> None:
        """Try the network on an image of the size of the data, which costs less than a step."""
        shape = getattr(self.datamodule, "input_shape", None)
        if shape is None:
            return
        try:
            with undisturbed(self.model), torch.no_grad():
                logits = self.model(torch.zeros(1, *shape))
        except (RuntimeError, ValueError) as error:
            said = f"does not take the images of the data, {tuple(shape)}: {error}"
            raise ArgumentError("model.network", said) from error
        classes = self.datamodule.num_classes
        if isinstance(logits, torch.Tensor) and logits.shape[1:] != (classes,):
            said = f"has num_classes={logits.shape[-1]}, but that of the data is {classes}"
            raise ArgumentError("model.network", f"{said}; set model.network.init_args.num_classes")

    def fit(self, **options: Any) -> None:
        """Train; a start that fails leaves no folder behind."""
        folder = getattr(self.trainer.logger, "log_dir", None)
        fresh = None if folder is None or Path(folder).exists() else Path(folder)
        try:
            self.trainer.fit(**options)
        except Exception:
            if fresh and self.trainer.global_step == 0 and self.trainer.is_global_zero:
                shutil.rmtree(fresh, ignore_errors=True)
            raise

    def after_fit(self) -> None:
        """Test the best network, and say how good it is and where it can be seen."""
        config = self.config_init["fit"]
        if config.trainer.fast_dev_run:
            return
        best = config.checkpoint if config.checkpoint.best_model_path else None
        # This run wrote it. Lightning before 2.6 does not ask.
        trusted = {"weights_only": False} if "weights_only" in config else {}
        path = best.best_model_path if best else None
        scores = self.trainer.test(
            self.model, datamodule=self.datamodule, ckpt_path=path, verbose=False, **trusted
        )
        end_of_fit(self.trainer, scores, best, config.report)

    def after_test(self) -> None:
        """Say where the run is."""
        end_of_evaluation(self.trainer)

    after_validate = after_test

    def after_predict(self) -> None:
        """Say where the maps are."""
        end_of_predict(self.trainer)
