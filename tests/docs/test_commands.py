"""Every command and every YAML file in the README and the documentation is understood."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from firstlight.command import main

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [block for page in PAGES for block in FENCE.findall(page.read_text())]

LINES = sorted({line for kind, text in BLOCKS if kind == "console" for line in text.splitlines()})
RUNS = [line for line in LINES if re.match(r"firstlight (fit|validate|test|predict)\b", line)]
ON_RUNS = [line for line in LINES if line.startswith(("firstlight report ", "firstlight explain "))]
FILES = sorted({text for kind, text in BLOCKS if kind == "yaml"})


def understood(arguments: list[str]) -> None:
    """The parser takes all of it, and prints the configuration that comes of it."""
    with pytest.raises(SystemExit) as end:
        main([*arguments, "--print_config"])
    assert not end.value.code


@pytest.mark.parametrize("line", RUNS)
def test_a_command_is_understood(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    understood(shlex.split(line, comments=True)[1:])


@pytest.mark.parametrize("text", FILES)
def test_a_yaml_file_is_understood(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("some.yaml").write_text(text)
    understood(["fit", "--config", "some.yaml"])


@pytest.mark.parametrize("line", ON_RUNS)
def test_what_is_made_of_runs_needs_nothing_but_them(
    line: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(shlex.split(line, comments=True)[1:])
    assert end.value.code == 2
    assert "there is no such f" in capsys.readouterr().err
