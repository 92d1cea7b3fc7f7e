"""When there is an explanation, and when it is drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from firstlight.callbacks import SensitivityMaps
from firstlight.pipeline import Gradient


def test_early_steps_of_the_first_epoch(fit: Any, data: Any, theirs: Any, keeping: Any) -> None:
    keeps = keeping(early=True)
    fit(theirs(), data, callbacks=[keeps], max_epochs=2)
    titles = ["before training", "step 1", "step 2", "step 4", "epoch 1", "epoch 2"]
    assert [str(when) for when in keeps.when] == titles
    assert [when.step for when in keeps.when] == [0, 1, 2, 4, 6, 12]


def test_every_n_train_steps_of_the_optimiser(
    fit: Any, data: Any, theirs: Any, keeping: Any
) -> None:
    keeps = keeping(every_n_train_steps=2, every_n_epochs=2)
    fit(theirs(), data, callbacks=[keeps], max_epochs=2, accumulate_grad_batches=2)
    assert [str(when) for when in keeps.when] == ["before training", "step 2", "step 4", "epoch 2"]


@pytest.mark.parametrize(
    ("arguments", "drawn"),
    [
        ({}, [0, 1, 2, 4, 8, 12]),
        ({"pictures_every_n_epochs": 1}, list(range(13))),
        ({"pictures_every_n_epochs": 4}, [0, 1, 4, 8, 12]),
        ({"pictures_every_n_epochs": 5, "every_n_epochs": 3}, [0, 3, 6, 12]),
    ],
)
def test_sheets_are_kept_always_and_pictures_drawn_as_often_as_asked(
    fit: Any, data: Any, theirs: Any, board: Any, arguments: Any, drawn: list[int]
) -> None:
    callback = SensitivityMaps([Gradient()], numbers=["tv"], **arguments)
    trainer = fit(theirs(), data, callbacks=[callback], max_epochs=12)
    images = board(trainer).Images("2_sensitivity/maps")
    assert [image.step for image in images] == [max(0, 6 * epoch - 1) for epoch in drawn]
    sheets = list(Path(trainer.log_dir, "plugins/firstlight/2_sensitivity/maps").iterdir())
    assert len(sheets) == 1 + 12 // arguments.get("every_n_epochs", 1)


def test_the_last_explanation_is_drawn_though_the_run_ends_by_itself(
    fit: Any, data: Any, theirs: Any, board: Any
) -> None:
    def stops(self: Any) -> None:
        self.trainer.should_stop = self.trainer.current_epoch == 6

    callback = SensitivityMaps([Gradient()], numbers=["tv"])
    events = board(fit(theirs(on_train_epoch_end=stops), data, callbacks=[callback], max_epochs=20))
    assert [image.step for image in events.Images("2_sensitivity/maps")][-1] == 41
