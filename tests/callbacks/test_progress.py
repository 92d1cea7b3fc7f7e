"""The bar of an explanation that takes long."""

from __future__ import annotations

import sys

import pytest
from tqdm import tqdm

from firstlight.callbacks.failures import Failures
from firstlight.callbacks.moment import Moment
from firstlight.callbacks.progress import Passes


class Shown:
    """A bar that remembers."""

    def __init__(self) -> None:
        self.updates: list[int] = []
        self.closed = False

    def update(self, done: int) -> None:
        self.updates.append(done)

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(("seconds", "updates"), [(0.4, []), (0.9, [3, 4])])
def test_a_bar_is_opened_once_two_seconds_are_over(
    monkeypatch: pytest.MonkeyPatch, seconds: float, updates: list[int]
) -> None:
    now, bars = [0.0], list[Shown]()

    def opened() -> Shown:
        bars.append(Shown())
        return bars[-1]

    monkeypatch.setattr("firstlight.callbacks.progress.time.perf_counter", lambda: now[0])
    passes = Passes(opened)
    for _ in range(5):
        passes.add()
        now[0] += seconds
    passes.close()
    assert passes.count == 5
    assert [bar.updates for bar in bars] == ([updates] if updates else [])
    assert all(bar.closed for bar in bars)


def test_what_is_said_during_an_epoch_does_not_run_into_its_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "rank_zero_info", "rank_zero_warn":
        monkeypatch.setattr(f"firstlight.callbacks.failures.{name}", print)
    failures = Failures()
    with tqdm(total=2, desc="Epoch 0", file=sys.stdout, ncols=60) as bar:
        bar.update()
        failures.say("Pictures are files")
        failures.note("SensitivityMaps", "no moon")
        failures.tell(Moment("fit", 1, 2))
    lines = {line.split("\r")[-1] for line in capsys.readouterr().out.split("\n")}
    assert "Pictures are files" in lines
    assert any(line.startswith("SensitivityMaps could not explain") for line in lines)
