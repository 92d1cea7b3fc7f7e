"""The command line: ``python train.py`` trains what ``configs/default.yaml`` describes.

LightningCLI's commands (fit, validate, test, predict) and its options hold; fit is the default.
"""

from __future__ import annotations

import difflib
import dis
import errno
import importlib
import inspect
import logging
import re
import shlex
import sys
import warnings
from argparse import ArgumentError
from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningDataModule, Trainer, callbacks
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar, TQDMProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI

import firstlight.callbacks
import firstlight.datamodules
import firstlight.pipeline
from firstlight.pipeline.classifier import ImageClassifier

# Imported for their classes, which options then find by their bare names too.
_PUBLIC = (firstlight.callbacks, firstlight.datamodules, firstlight.pipeline, callbacks)

CONFIGS = Path(str(files("firstlight.configs")))

_QUIET = (
    "does not have many workers",  # the data of the default run are in memory
    "smaller than the logging interval",
    "LeafSpec",  # Lightning's own use of a deprecated function
    "Checkpoint directory .* exists and is not empty",  # a resumed run goes on in its folder
)


# The lines in which jsonargparse names a cause, and a place.
_CAUSE = re.compile(
    "Option .* is not accepted|has no attribute|No module named|Expected a dot import path string|"
    "does not correspond to a subclass|arguments are required|Got value: |Given value: "
)
_PLACE = re.compile(r"""(?:Parser key "|Problem with given class_path ')(.+)["']:""")


class Mistake(Exception):
    """Something that the user can mend, said in one line."""


class CommandLine(LightningCLI):
    """LightningCLI for an :class:`ImageClassifier` and any data module.

    The best and the last checkpoint are kept whatever ``trainer.callbacks`` says, and fit ends
    with the test of the best one.
    """

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
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
        line = cast(list[str], args)  # main gives no other kind
        try:
            self.config = parser.parse_args(line)
        except ArgumentError as error:
            options = {a.dest for p in self._subcommand_parsers.values() for a in p._actions}
            said = explained(str(error), options)
            if "config: " in said:
                said = f"{shlex.join(line)}: {said}"
            raise Mistake(said) from None
        config = self.config[self.config.subcommand]
        if config.get("ckpt_path"):
            config.ckpt_path = str(checkpoint(config.ckpt_path, run_folder(config)))

    def instantiate_classes(self) -> None:
        config = self.config[self.config.subcommand]
        last = Path(config.get("ckpt_path") or "").resolve()
        runs, run = run_folder(config), last.parent.parent
        resumed = runs is not None and run.parent == runs.resolve() and last.name == "last.ckpt"
        # A resumed run goes on in its own folder; but its saved config may start another run.
        if resumed and self.config.subcommand == "fit":
            config.trainer.logger.init_args.version = run.name
            super().instantiate_classes()
            config.trainer.logger.init_args.version = None
        else:
            super().instantiate_classes()

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        config = self.config_init[self.config.subcommand]
        chosen = config.trainer.callbacks or []
        chosen = [*chosen] if isinstance(chosen, list) else [chosen]
        if config.trainer.enable_checkpointing is not False:
            chosen.append(config.checkpoint)
            if config.checkpoint.monitor is not None:
                # That one writes the last epoch only where it is the best as well.
                last = ModelCheckpoint(
                    filename="last", enable_version_counter=False, save_on_train_epoch_end=True
                )
                chosen.append(last)
        shown = config.trainer.enable_progress_bar is not False
        if shown and not any(isinstance(callback, ProgressBar) for callback in chosen):
            # Drawing the bar takes longer than a step of a small network.
            chosen.append(TQDMProgressBar(refresh_rate=20))
        try:
            return super().instantiate_trainer(callbacks=chosen, **kwargs)
        except ValueError as error:
            raise Mistake(f"trainer: {error}") from error

    def after_instantiate_classes(self) -> None:
        for name in ("num_classes", "input_shape"):
            wanted = getattr(self.datamodule, name, None)
            given = getattr(self.model.network, name, wanted)
            if wanted is not None and given != wanted:
                raise Mistake(
                    f"model.network: has {name}={given}, but that of the data is {wanted}; "
                    f"set model.network.init_args.{name}"
                )

    def after_fit(self) -> None:
        """Test the best network, and say how good it is and where it can be seen."""
        if self.config_init["fit"].trainer.fast_dev_run:
            return
        best = getattr(self.trainer.checkpoint_callback, "best_model_path", "")
        scores = self.trainer.test(
            self.model, datamodule=self.datamodule, ckpt_path=best or None, verbose=False
        )
        folder = self.trainer.log_dir
        if self.trainer.is_global_zero and folder is not None:
            for score in filter(None, scores):
                print(f"Test accuracy  {score['test/accuracy']:.4f}")
            print(f"Run            {folder}")
            board = Path(sys.executable).with_name("tensorboard")
            if board.is_relative_to(Path.cwd()):
                board = board.relative_to(Path.cwd())
            show = [str(board), "--logdir", folder, "--samples_per_plugin", "images=1000"]
            print(f"Look at it     {shlex.join(show)}")


def run_folder(config: Namespace) -> Path | None:
    """Where the logger keeps its runs; None if it has no such folder."""
    logger = config.trainer.logger
    folder = logger.get("init_args", {}) if isinstance(logger, Namespace) else {}
    return Path(folder["save_dir"], folder["name"]) if folder.get("name") else None


def checkpoint(path: str, runs: Path | None) -> Path:
    """The checkpoint at ``path``, or the newest one in ``runs`` if it is "last" or "best".

    Raises:
        Mistake: There is none.
    """
    if path not in ("last", "best"):
        if not Path(path).is_file():
            raise Mistake(f"ckpt_path: there is no file {path}")
        return Path(path)
    found = [] if runs is None else [*runs.glob(f"*/checkpoints/{path}.ckpt")]
    if not found:
        raise Mistake(f"ckpt_path={path}: there is no {path} checkpoint in {runs}; train first")
    return max(found, key=lambda p: p.stat().st_mtime)


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line.

    Args:
        args: What follows ``train.py``; None takes it from the shell.

    Raises:
        SystemExit: With code 2 and one line on stderr after a mistake in the arguments, in a
            configuration file or in the data.
    """
    try:
        for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.seed"):
            logging.getLogger(name).setLevel(logging.WARNING)
        with warnings.catch_warnings():
            for advice in _QUIET:
                warnings.filterwarnings("ignore", f".*{advice}")
            CommandLine(
                ImageClassifier,
                LightningDataModule,
                subclass_mode_data=True,
                save_config_kwargs={"overwrite": True},
                parser_kwargs=_parser_options(),
                args=completed(sys.argv[1:] if args is None else args),
            )
    except SystemExit as end:
        if end.code == 1:  # how Lightning ends after Ctrl-C
            advice = "once there is a checkpoint, fit --ckpt_path last goes on from it"
            print(f"train.py: interrupted; {advice}", file=sys.stderr)
        raise
    except Exception as error:
        said = _meant_for_users(error)
        if said is None:
            raise
        print("train.py: error:", " ".join(said.split()), file=sys.stderr)
        sys.exit(2)


def completed(args: Sequence[str]) -> list[str]:
    """The arguments with ``fit`` if no command is given, and with paths of our own configs.

    ``noise.yaml`` and ``configs/noise.yaml`` mean the file of this project unless the working
    folder has one of that name.
    """
    commands = CommandLine.subcommands()
    given = any(
        arg in commands and not before.startswith("-")
        for before, arg in zip(("", *args), args, strict=False)
    )
    only_help = args and all(arg in ("-h", "--help") for arg in args)
    typo = args and not args[0].startswith("-")
    command = [] if given or only_help or typo else ["fit"]
    return [*command, *map(_with_config_path, ("", *args), args)]


def _with_config_path(before: str, arg: str) -> str:
    match = re.fullmatch(r"(--config=|-c=)?((?:configs/)?([\w.-]+))", arg)
    if match is None or not (match[1] or before in ("--config", "-c")) or Path(match[2]).exists():
        return arg
    shipped = CONFIGS / match[3]
    return f"{match[1] or ''}{shipped}" if shipped.is_file() else arg


def _parser_options() -> dict[str, Any]:
    options = {"exit_on_error": False, "allow_abbrev": False}
    defaults = {"default_config_files": [str(CONFIGS / "default.yaml")]}
    return options | {command: options | defaults for command in CommandLine.subcommands()}


def explained(message: str, options: Iterable[str]) -> str:
    """One line for what jsonargparse says in many, with the right name for a near miss.

    Args:
        message: What it says. What is wrong inside of something is indented under it.
        options: The options that there are.
    """
    if found := re.search(r"accept option '(.+)'|unrecognized arguments: -*([^\s=]+)", message):
        option = found[1] or found[2]
        return f"there is no option {option}{_instead(option, options)}"
    if found := re.search(r"invalid choice: '(.+?)'", message):
        return f"there is no command {found[1]}{_instead(found[1], CommandLine.subcommands())}"
    if found := re.search(r"File does not exist: '(.+)'", message):
        shipped = [path.name for path in CONFIGS.glob("*.yaml")]
        return f"there is no file {found[1]}{_instead(Path(found[1]).name, shipped)}"

    *places, said = _deepest(message)
    if found := re.search(r"Option '(.+)' is not accepted", said):
        name = found[1].partition(".")[0]
        said = f"there is no argument {name}{_instead(name, _arguments(places[-1]))}"
    elif found := re.search(r"module '(.+)' has no attribute '(.+)'", said):
        known = dir(importlib.import_module(found[1]))
        said = f"{found[1]} has no {found[2]}{_instead(found[2], known)}"
    elif found := re.search(r"Expected a dot import path string: (.+)", said):
        known = [name for module in _PUBLIC for name in module.__all__]
        said = f"there is no class {found[1]}{_instead(found[1], known)}"
    elif found := re.search(r"Given value: (.+)", said):
        allowed = re.findall(r"Expected an? (.+)", message)
        said = f"expected {' or '.join(allowed)}, got {found[1]}"
    elif found := re.search(r"Expected an? (.+)\. Got value: (.+)", said):
        said = f"expected {found[1]}, got {found[2]}"
    said = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", said)
    said = re.sub(r"typing\.Literal\[(.+?)\]", r"\1", said).replace("NoneType", "null")
    return ": ".join(filter(None, (" > ".join(places), said)))


def _deepest(message: str) -> list[str]:
    """Where the cause is, from the outside to the inside, and last the line that names it."""
    lines = [re.sub(r"^( *)- ", r"\1  ", line) for line in message.splitlines()]
    indents = [len(line) - len(line.lstrip()) for line in lines]
    causes = [i for i, line in enumerate(lines) if _CAUSE.search(line)]
    if not causes:
        return [" ".join(message.split())]
    cause = max(causes, key=lambda i: (indents[i], -i))
    said, indent = [lines[cause].strip()], indents[cause]
    for line, depth in zip(lines[cause::-1], indents[cause::-1], strict=True):
        if depth < indent:
            indent = depth
            said[:0] = _PLACE.findall(line)
    return said


def _arguments(class_path: str) -> set[str]:
    """What can be given to a class, its bases' arguments too."""
    module, _, name = class_path.rpartition(".")
    bases = inspect.getmro(getattr(importlib.import_module(module), name))
    return {"init_args"}.union(*(inspect.signature(base).parameters for base in bases[:-1]))


def _instead(wrong: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(wrong, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _meant_for_users(error: BaseException) -> str | None:
    """What is wrong with the arguments or the data; None if the error is a fault of the program."""
    if isinstance(error, ArgumentError):
        return explained(str(error), ())
    if isinstance(error, Mistake | MisconfigurationException):
        return str(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{error}; what was written before stays readable"
    # A worker process of a data loader sends its traceback as text.
    raised = r"""/datamodules/[^"]*", line .*\n +raise .*\n(?:[ ~^]+\n)?\w+: (.+)\s*\Z"""
    if found := re.search(raised, str(error)):
        return found[1]
    while not _raised_by_firstlight(error):
        if error.__cause__ is None:
            return None
        error = error.__cause__
    return str(error)


def _raised_by_firstlight(error: BaseException) -> bool:
    """Whether a ``raise`` statement of our own made the error."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None or not trace.tb_frame.f_globals["__name__"].startswith("firstlight."):
        return False
    return dis.opname[trace.tb_frame.f_code.co_code[trace.tb_lasti]] == "RAISE_VARARGS"


if __name__ == "__main__":
    main()
