"""One slider moves everything."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from firstlight.board import Column, RawSheet, write_sheet


def press(page: Any, *keys: str) -> None:
    ActionChains(page.driver).send_keys(*keys).perform()


def test_there_is_one_slider_over_the_epochs(page: Any) -> None:
    page.open()
    (slider,) = [found for found in page.all("input[type=range]") if found.is_displayed()]
    assert (slider.get_attribute("min"), slider.get_attribute("max")) == ("0", "4")
    assert slider.get_attribute("value") == "4" and page.epoch == 4
    page.move(0)
    assert "before training" in slider.get_attribute("aria-valuetext")


def test_the_slider_moves_all_maps_and_both_runs(page: Any) -> None:
    page.open(epoch=0)
    kinds = [f"{row}, approach 1, {run}" for row in range(10) for run in page.runs]
    before = {label: page.pixels(f"{label}, epoch 0") for label in kinds}
    page.move(3)
    for label in kinds:
        assert (page.pixels(f"{label}, epoch 3") != before[label]).any(), label
    # The other sections follow once the slider rests.
    page.until(lambda: not any("epoch 0" in label for label in page.labels()), "all of them moved")
    for run in page.runs:
        page.pixels(f"linear, unit 0, {run}, epoch 3", "3_patterns/layers.2")


def test_arrow_keys_and_space_move_the_time(page: Any) -> None:
    page.open(epoch=2)
    press(page, Keys.ARROW_RIGHT)
    page.until(lambda: page.epoch == 3, "→ goes one epoch on")
    press(page, Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    page.until(lambda: page.epoch == 1, "← goes one epoch back")
    press(page, " ")
    page.until(lambda: page.epoch == 4, "space plays to the end")
    page.settle()
    assert page.pixels(f"3, approach 1, {page.runs[1]}, epoch 4").any()


def test_the_play_button_begins_again_at_the_end_and_stops_where_it_is_told(page: Any) -> None:
    page.open()
    play = page.one("button[name=play]")
    assert play.get_attribute("aria-label") == "Play"
    play.click()
    page.until(lambda: page.epoch == 1, "it begins again")
    play.click()
    assert play.get_attribute("aria-label") == "Play" and page.epoch < 4


def test_a_frame_of_the_film_above_the_slider_is_its_epoch(page: Any) -> None:
    page.open()
    page.until(lambda: len(page.all(".films .frame canvas")) == 10, "a film of each run")
    page.all('.films .frame[data-epoch="1"]')[0].click()
    page.until(lambda: page.epoch == 1, "the page follows")
    assert page.all('.films .frame[data-epoch="1"]')[0].get_attribute("aria-current") is not None


def test_the_chart_shows_where_in_training_one_is(page: Any) -> None:
    page.open(epoch=1)
    assert len(page.all("svg.chart polyline")) == 2
    assert page.one("select[name=chart]").get_attribute("value") == "val/accuracy"
    early = page.texts(".values span")
    page.move(4)
    late = page.texts(".values span")
    assert all(float(a) < float(b) for a, b in zip(early, late, strict=True))


def test_runs_are_aligned_by_epoch_not_by_step(
    opened: Any, example_runs: ModuleType, tmp_path: Path
) -> None:
    """A run with other steps, explained every second epoch: the last before is shown and named."""
    example_runs.write_run(tmp_path / "a/version_0", 4)
    for epoch in (0, 2, 4):
        maps = Column("approach 1", "signed", example_runs.strokes(3, epoch))
        rows = [str(row) for row in range(10)]
        sheet = RawSheet("1_first_layer", "maps", 1000 * epoch, epoch, rows, [maps])
        write_sheet(sheet, tmp_path / "b/version_0")
    page = opened(tmp_path).open(epoch=3)
    page.pixels("3, approach 1, a/version_0, epoch 3")
    page.pixels("3, approach 1, b/version_0, epoch 2")
    # The folder that both share says nothing.
    assert {"a", "b (epoch 2)"} <= set(page.texts("th.lane"))


def test_a_move_of_ten_by_seven_maps_takes_at_most_a_tenth_of_a_second(
    opened: Any, example_runs: ModuleType, tmp_path: Path
) -> None:
    for epoch in range(6):
        columns = [Column(f"m{j}", "signed", example_runs.strokes(j, epoch)) for j in range(7)]
        rows = [str(row) for row in range(10)]
        write_sheet(RawSheet("f", "maps", epoch, epoch, rows, columns), tmp_path / "run")
    page = opened(tmp_path).open(epoch=0)
    durations = []
    for epoch in (1, 2, 3, 4, 3, 2, 1, 2, 3, 4):
        page.js("window.movedAt = performance.now()")
        page.move(epoch)
        durations.append(
            page.js(
                """return performance.getEntriesByName("firstlight:move")
                    .filter((entry) => entry.startTime >= performance.getEntriesByName(
                        "firstlight:input").at(-1).startTime)
                    .map((entry) => entry.startTime + entry.duration)[0]
                    - performance.getEntriesByName("firstlight:input").at(-1).startTime"""
            )
        )
    print("milliseconds:", np.round(durations, 1))
    assert np.median(durations) <= 100
