"""The program: what follows its name on the command line, and how it ends."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import firstlight
from firstlight.command.mistakes import for_people


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line: LightningCLI's commands and our own; fit is the default.

    Args:
        args: What follows the program's name; None takes it from the shell.

    Raises:
        SystemExit: With code 2 and one line on stderr after a mistake in the arguments, in a
            configuration file or in the data.
    """
    words = sys.argv[1:] if args is None else [*args]
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _told
            _run(words)
    except SystemExit as end:
        if end.code == 1:  # how Lightning ends after Ctrl-C
            advice = "once there is a checkpoint, fit --ckpt_path last goes on from it"
            advice = "what was explained is kept" if words[:1] == ["explain"] else advice
            print(f"firstlight: interrupted; {advice}", file=sys.stderr)
        raise
    except Exception as error:
        said = for_people(error)
        if said is None:
            raise
        print("firstlight: error:", said, file=sys.stderr)
        sys.exit(2)


def _run(args: list[str]) -> None:
    """Import no more than the command needs: that of torch and Lightning takes seconds."""
    # Configs name classes of the working folder too. At the end, where it hides nothing.
    sys.path.append(os.getcwd())
    match args:
        case ["--version"]:
            print(f"firstlight {firstlight.__version__}")
        case ["explain", *options]:
            from firstlight.command.explain import explain

            explain(options)
        case ["report", *options]:
            from firstlight.command.report import report

            report(options)
        case ["experiment", *options]:
            from firstlight.experiments.__main__ import main as experiment

            experiment(options)
        case _:
            from firstlight.command.cli import run

            run(args)


def _told(message: Warning | str, *_: Any, **__: Any) -> None:
    """A warning begins with its text, not with the place of the statement that gives it."""
    print("Warning:", " ".join(str(message).split()), file=sys.stderr)
