"""``firstlight explain``: the explanations of runs that are over."""

from __future__ import annotations

from argparse import ArgumentError as ParserError
from collections.abc import Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from jsonargparse import Namespace
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import ArgsType, LightningArgumentParser

from firstlight.callbacks import (
    ExplanationCallback,
    FirstLayerMaps,
    PatternMonitor,
    SensitivityMaps,
)
from firstlight.command.checkpoints import content_of, hyper_parameters
from firstlight.command.cli import CommandLine, parser_settings, quietly
from firstlight.command.configs import CONFIG_FLAGS, listed, path_of, read
from firstlight.command.explaining import Explaining
from firstlight.command.finished_runs import ARGUMENT, FinishedRun, finished_runs
from firstlight.command.mistakes import deepest
from firstlight.errors import ArgumentError, FirstlightError
from firstlight.pipeline import ImageClassifier

_ABOUT = (
    "Explain checkpoints of a run that is over, at their steps and epochs: firstlight explain "
    "CKPT [CKPT ...] [options]. A folder stands for the checkpoints in it. Sheets and numbers go "
    "into the run's folder, beside what is there. Callbacks, network and data are those of the "
    "run's config.yaml; options and --config override them, as in fit."
)

# What else a config says, such as the optimizer, is for training alone.
_PARTS = ("seed_everything", "trainer", "model", "data")

_STANDING_STILL = {
    "max_epochs": 1,
    "max_steps": -1,
    "min_epochs": None,
    "min_steps": None,
    "max_time": None,
    "fast_dev_run": False,
    "num_sanity_val_steps": 0,
    "num_nodes": 1,
    "strategy": "auto",
    "profiler": None,
    "enable_checkpointing": False,
    "enable_model_summary": False,
    "enable_progress_bar": False,
}
"""Arguments of a trainer that explains in one process and does not train."""


def explain(args: Sequence[str]) -> None:
    """Explain the checkpoints that are named, run by run.

    Raises:
        ArgumentError: A checkpoint or its configuration is not there, or does not fit.
    """
    quietly()
    names, configs, options = _sorted_out(args)
    asks = any(word in ("-h", "--help") or word.startswith("--print_config") for word in options)
    if not names and not asks:
        raise ArgumentError(ARGUMENT, "name at least one: firstlight explain CKPT [CKPT ...]")
    for run in finished_runs(names) or [FinishedRun(None, [])]:
        own = [str(run.config)] if run.config else []
        if not own and not configs and not asks:
            said = "there is no config.yaml in its run's folder; name one by --config"
            raise ArgumentError(ARGUMENT, said, str(run.checkpoints[0]))
        _explain_run(run, [*own, *configs], options)


def _explain_run(run: FinishedRun, configs: Sequence[str], options: Sequence[str]) -> None:
    contents = [{k: v for k, v in read(path).items() if k in _PARTS} for path in configs]
    models = [content["model"] for content in contents if content.get("model")]
    foreign = bool(models) and "class_path" in models[-1]
    if foreign:
        # Another program's config may leave the class out, and a further one say it.
        contents = [
            c if "class_path" in c.get("model", {}) else _without_model(c) for c in contents
        ]
    elif models and not models[-1].keys() & signature(ImageClassifier).parameters.keys():
        said = "names no class_path of the model; say it in a further --config"
        raise ArgumentError(
            "config", f"{said}, model: {{class_path: ..., init_args: ...}}", configs[-1]
        )
    words = [word for content in contents for word in ("--config", yaml.safe_dump(content))]
    _ExplainLine(run, foreign, ["explain", *words, *options])


def _without_model(content: dict[str, Any]) -> dict[str, Any]:
    return {name: part for name, part in content.items() if name != "model"}


def _sorted_out(args: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """The checkpoints, the paths of configs, and the options, each with its value."""
    names, configs, options = list[str](), list[str](), list[str]()
    words = iter(args)
    for word in words:
        flag, is_whole, value = word.partition("=")
        if not word.startswith("-"):
            names.append(word)
        elif flag in CONFIG_FLAGS:
            configs.append(path_of(value if is_whole else next(words, "")))
        elif is_whole or flag in ("-h", "--help", "--print_config"):
            options.append(word)
        else:
            options += [word, *(value for value in [next(words, None)] if value is not None)]
    return names, configs, options


class _StandingTrainer(Trainer):
    """A trainer with the command ``explain``."""

    def explain(
        self,
        model: LightningModule,
        datamodule: LightningDataModule | None = None,
        weights_only: bool | None = None,
    ) -> None:
        """Explain checkpoints of a run that is over.

        Args:
            model: The module that is explained.
            datamodule: Its data.
            weights_only: False loads checkpoints that hold more than plain data, and runs the code
                in them.
        """
        # Nothing is trained.
        model.configure_optimizers = lambda: None  # type: ignore[method-assign]
        self.fit(model, datamodule=datamodule)


class _ExplainLine(CommandLine):
    """The options of ``firstlight explain`` for one run."""

    def __init__(self, run: FinishedRun, foreign: bool, args: Sequence[str]) -> None:
        self._finished, self._foreign = run, foreign
        super().__init__(
            None if foreign else ImageClassifier,
            None if foreign else LightningDataModule,
            subclass_mode_data=True,
            save_config_callback=None,
            trainer_class=_StandingTrainer,
            auto_configure_optimizers=False,
            parser_kwargs=parser_settings(["explain"], None if foreign else "default.yaml", _ABOUT),
            args=list(args),
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        return {"explain": {"model", "datamodule"}}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """No checkpoint is written."""

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        try:
            self.config = parser.parse_args(args)  # type: ignore[arg-type]
            weights_only = self.config.explain.get("weights_only")
            self._checkpoints = self._finished.in_order(weights_only)
            found = hyper_parameters(content_of(self._checkpoints[0], weights_only, ARGUMENT))
            if not self._foreign and "network" in found:
                self.config = parser.parse_object({"explain": {"model": found}}, self.config)
        except ParserError as error:
            raise FirstlightError(deepest(str(error), self._names())) from None
        self._seed = self.config.explain.seed_everything
        self._stand_still(self.config.explain.trainer)

    def _stand_still(self, trainer: Namespace) -> None:
        """Let the trainer explain in one process, with the loggers of the run where it wrote."""
        for name, value in _STANDING_STILL.items():
            trainer[name] = value
        trainer.devices = trainer.devices[:1] if isinstance(trainer.devices, list) else 1
        trainer.limit_train_batches = trainer.limit_train_batches or None
        folder = self._finished.folder
        self._metrics = None
        if folder is None:
            return
        trainer.default_root_dir = str(folder)
        given = trainer.logger if isinstance(trainer.logger, list) else [trainer.logger]
        if any(_class_name(logger) == "CSVLogger" for logger in given):
            # It would begin the file anew.
            self._metrics = folder / "metrics.csv"
        trainer.logger = [
            _tensorboard(logger, folder)
            if logger in (None, True) or _class_name(logger) == "TensorBoardLogger"
            else logger
            for logger in given
            if logger is not False and _class_name(logger) != "CSVLogger"
        ]

    def chosen_callbacks(self, config: Namespace) -> list[Callback]:
        chosen = listed(config.trainer.callbacks)
        explaining = [c for c in chosen if isinstance(c, ExplanationCallback)]
        explaining = explaining or [FirstLayerMaps(), SensitivityMaps(), PatternMonitor()]
        # The untrained network is made again only where the run says how it was made.
        known = self._finished.config is not None and not isinstance(self._seed, bool | None)
        controls = [c for c in explaining if c.before_training and known]
        for callback in explaining:
            callback.before_training = False
        last = Explaining(
            self._checkpoints,
            explaining,
            controls,
            listed(config.trainer.logger),
            self._finished.folder,
            self._metrics,
            config.weights_only,
        )
        return [*explaining, last]

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        # The loggers come when it has started.
        return super().instantiate_trainer(**kwargs, logger=False)


def _class_name(logger: Any) -> str:
    path = logger.get("class_path", "") if isinstance(logger, Namespace) else ""
    return str(path).rpartition(".")[2]


def _tensorboard(logger: Any, folder: Path) -> Namespace:
    """A TensorBoardLogger that goes on in this folder, with what is set of it."""
    given = logger.init_args.as_dict() if isinstance(logger, Namespace) else {}
    place = folder.absolute()
    where = {"save_dir": str(place.parent), "name": "", "version": place.name, "sub_dir": None}
    return Namespace(
        class_path="lightning.pytorch.loggers.TensorBoardLogger",
        init_args=Namespace(**given | where),
    )
