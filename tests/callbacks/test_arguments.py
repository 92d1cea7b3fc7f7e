"""The command line describes every argument of every callback."""

from __future__ import annotations

import inspect
import json
import re

import pytest
from jsonargparse import ArgumentParser
from lightning.pytorch import Callback

from firstlight import callbacks

KINDS = [
    kind
    for name in callbacks.__all__
    if isinstance(kind := getattr(callbacks, name), type) and issubclass(kind, Callback)
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_help_describes_each_argument_those_inherited_too(
    kind: type, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = ArgumentParser()
    parser.add_argument("--callback", type=Callback)
    with pytest.raises(SystemExit):
        parser.parse_args([f"--callback.help=firstlight.callbacks.{kind.__name__}"])
    told = " ".join(capsys.readouterr().out.split())
    for name in inspect.signature(kind).parameters:
        described = re.search(rf"--callback(\.init_args)?\.{name} \S+ (.*?)\(", told)
        assert described is not None, name
        assert len(described[2].split()) > 2, (name, described[2])


def test_an_argument_of_a_configs_method_can_be_changed() -> None:
    method = {"class_path": "firstlight.pipeline.SmoothGrad", "init_args": {"samples": 50}}
    arguments = {"folder": "maps", "method": method}
    config = {"callbacks": [{"class_path": "MapWriter", "init_args": arguments}]}
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--callbacks", type=list[Callback])
    parser.add_argument("--config", action="config")
    changed = ["--callbacks.method.init_args.samples=2", "--callbacks.head=binary"]
    (written,) = parser.parse_args(["--config", json.dumps(config), *changed]).callbacks
    assert written.init_args.method.init_args.samples == 2
    assert written.init_args.head == "binary"
