"""Configuration files: those of the package by their names, and one's own."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from firstlight.command.mistakes import instead
from firstlight.errors import ArgumentError

CONFIGS = Path(str(files("firstlight.configs")))

CONFIG_FLAGS = ("--config", "-c")


def completed(args: Sequence[str]) -> list[str]:
    """The arguments with ``fit`` if no command is given, and with paths of our own configs."""
    words = [] if args and (not args[0].startswith("-") or args[0] in ("-h", "--help")) else ["fit"]
    for arg in args:
        words += arg.split("=", 1) if arg.startswith(("--config=", "-c=")) else [arg]
    return [
        path_of(w) if before in CONFIG_FLAGS else w
        for before, w in zip(("", *words), words, strict=False)
    ]


def given(words: Sequence[str], name: str) -> bool:
    """Is there an argument of that name in what the words and their files say of the model?"""
    configs = [after for word, after in pairwise(words) if word in CONFIG_FLAGS]
    said = [word for word in words if word.startswith("--model")]
    said += [after for word, after in pairwise(words) if word.startswith("--model")]
    return any(name in text for text in (*said, *(str(read(f).get("model")) for f in configs)))


def read(path: str) -> dict[str, Any]:
    """The content of a YAML file.

    Raises:
        ArgumentError: There is no such file, or it holds something else than ``key: value``.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        near = instead(Path(path).name, [file.name for file in CONFIGS.glob("*.yaml")])
        raise ArgumentError("config", f"there is no such file{near}", path) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ArgumentError("config", f"cannot be read: {error}", path) from None
    if not isinstance(content, dict):
        raise ArgumentError("config", "must hold lines of the form 'key: value'", path)
    return content


def listed(value: Any) -> list[Any]:
    """What a config gives once, as a list, or not at all."""
    return value if isinstance(value, list) else [value] if value else []


def path_of(given: str) -> str:
    """``noise.yaml`` and ``configs/noise.yaml`` mean the file of this package unless the working
    folder has one of that name.
    """
    shipped = CONFIGS / Path(given).name
    ours = str(Path(given).parent) in (".", "configs") and shipped.is_file()
    path = str(shipped) if ours and not Path(given).exists() else given
    read(path)
    return path
