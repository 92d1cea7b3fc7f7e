"""What could not be explained in a run, said once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from weakref import WeakKeyDictionary

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from tqdm import tqdm

from firstlight.callbacks.moment import Moment
from firstlight.errors import FirstlightError


class Failures:
    """The reasons of one run: each is told once, for all callbacks that have it in common."""

    def __init__(self) -> None:
        self._told: set[tuple[str, str]] = set()
        self._untold: dict[str, tuple[str, list[str]]] = {}
        self._said: set[str] = set()

    def note(self, callback: str, reason: str) -> None:
        """Remember why the callback failed, to be told."""
        # The same reason with other numbers is the same reason.
        alike = re.sub(r"\d+(\.\d+)?(e[+-]?\d+)?", "#", reason)
        if (callback, alike) not in self._told:
            self._told.add((callback, alike))
            _, callbacks = self._untold.setdefault(alike, (reason, []))
            callbacks.append(callback)

    @contextmanager
    def noting(self, callback: str) -> Iterator[None]:
        """Note what fails inside, and go on."""
        try:
            yield
        except Exception as error:
            # What is written for people needs no name of a class before it.
            kind = "" if isinstance(error, FirstlightError) else f"{type(error).__name__}: "
            self.note(callback, f"{kind}{error}")

    def tell(self, moment: Moment) -> None:
        """Warn of what was noted since the last time."""
        for reason, callbacks in self._untold.values():
            with _between_bars():
                rank_zero_warn(
                    f"{_listed(callbacks)} could not explain the model ({moment}): "
                    f"{reason.rstrip('.?! ')}. "
                    "The run goes on; it will not say this again."
                )
        self._untold.clear()

    def say(self, text: str) -> None:
        """Say what is no failure, once."""
        if text not in self._said:
            self._said.add(text)
            with _between_bars():
                rank_zero_info(text)


_between_bars = tqdm.external_write_mode
"""Takes tqdm's bars off the terminal, and draws them again afterwards."""


_OF_TRAINERS: WeakKeyDictionary[Trainer, Failures] = WeakKeyDictionary()


def failures_of(trainer: Trainer) -> Failures:
    """Those of the trainer, which its callbacks share; another trainer begins anew."""
    return _OF_TRAINERS.setdefault(trainer, Failures())


def _listed(names: Sequence[str]) -> str:
    names = list(dict.fromkeys(names))
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
