"""Dark rooms, running runs, empty folders, damaged files, hostile names, readers who do not see."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


def lightness(page: Any) -> float:
    """Of the ground, from 0 to 255."""
    colour = page.js("return getComputedStyle(document.body).backgroundColor")
    return sum(float(part) for part in colour.strip("rgba()").split(",")[:3]) / 3


def test_the_tab_is_dark_when_tensorboard_is(tab: Any) -> None:
    tab.open()
    assert lightness(tab) > 240
    tab.js("parent.document.body.classList.add('dark-mode')")
    tab.until(lambda: lightness(tab) < 40, "it turns dark")
    tab.js("parent.document.body.classList.remove('dark-mode')")
    tab.until(lambda: lightness(tab) > 240, "it turns light")


def test_the_report_is_dark_when_the_system_is(driver: Any, request: Any) -> None:
    from_conftest = request.getfixturevalue("report_page")
    for wanted, right in (("dark", lambda x: x < 40), ("light", lambda x: x > 240)):
        driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia",
            {"features": [{"name": "prefers-color-scheme", "value": wanted}]},
        )
        from_conftest.open()
        assert right(lightness(from_conftest))


def test_new_epochs_appear_while_the_run_goes_on(
    opened: Any, example_runs: ModuleType, tmp_path: Path
) -> None:
    example_runs.write_run(tmp_path / "run", 1)
    page = opened(tmp_path).open()
    assert page.epoch == 1
    for epoch in (2, 3):
        example_runs.write_run(tmp_path / "run", epoch)
        page.until(lambda epoch=epoch: page.epoch == epoch, "who stands at the end follows")
    page.settle()
    page.pixels("3, approach 1, run, epoch 3")
    page.move(0)
    example_runs.write_run(tmp_path / "run", 4)
    page.until(lambda: page.one("input[name=time]").get_attribute("max") == "4", "epoch 4 is there")
    assert page.epoch == 0
    assert not page.errors()


def test_the_first_sheets_appear_on_an_empty_page(
    opened: Any, example_runs: ModuleType, tmp_path: Path
) -> None:
    """Which until then says which lines to add to a Trainer."""
    page = opened(tmp_path).open(settle=False)
    page.until(lambda: page.all("section.empty pre"), "the lines")
    assert "Trainer(callbacks=[" in page.one("section.empty pre").text
    assert not page.one("input[name=time]").is_displayed()
    example_runs.write_scalars(tmp_path / "run", 1)
    example_runs.write_run(tmp_path / "run", 1)
    page.settle()
    assert not page.all("section.empty") and page.epoch == 1
    assert not page.errors()


def test_damaged_files_are_named_and_skipped(
    opened: Any, example_runs: ModuleType, tmp_path: Path
) -> None:
    example_runs.write_damaged(tmp_path / "damaged")
    page = opened(tmp_path).open(epoch=0)
    page.pixels("3, approach 1, damaged, epoch 0")
    page.open(epoch=1, settle=False)
    problem = page.until(
        lambda: [
            text
            for text in page.texts(".problems, .trouble")
            if "epoch1" in text or "epoch 1" in text
        ],
        "the file that is cut short is named",
    )
    assert "damaged" in problem[0]


def test_a_sheet_that_is_cut_in_its_middle_leaves_the_others(
    opened: Any, example_runs: ModuleType, tmp_path: Path
) -> None:
    example_runs.write_run(tmp_path / "run", 2)
    (file,) = (tmp_path / "run/plugins/firstlight/1_first_layer/maps").glob("*epoch1.*")
    file.write_bytes(file.read_bytes()[:30_000])
    page = opened(tmp_path).open(epoch=1, settle=False)
    page.until(
        lambda: page.all('article[data-sheet="1_first_layer/relu"] canvas'), "the sheet beside it"
    )
    page.until(lambda: any("1_first_layer/maps" in t for t in page.texts(".problems")), "its name")
    page.move(2)
    page.pixels("3, approach 1, run, epoch 2")


def test_names_from_files_never_become_html(
    opened: Any, example_runs: ModuleType, tmp_path: Path
) -> None:
    example_runs.write_nasty(tmp_path)
    page = opened(tmp_path).open()
    assert page.js("return window.hacked ?? parent.hacked ?? null") is None
    assert not page.all("img")
    assert example_runs.NASTY in page.texts("th.column")
    page.one("button.cell").click()
    page.until(lambda: page.all("dialog[open]"), "the cell opens")
    assert page.js("return window.hacked ?? parent.hacked ?? null") is None
    assert not page.all("img") and not page.errors()


def test_colour_pictures_and_families_of_other_stages(
    opened: Any, example_runs: ModuleType, tmp_path: Path
) -> None:
    example_runs.write_colour(tmp_path / "deep/er/run", 2)
    page = opened(tmp_path).open(epoch=1)
    assert page.texts("h2")[:2] == ["Sensitivity", "Test: sensitivity"]
    pixels = page.pixels("cat, image", "2_sensitivity/maps")
    assert pixels.shape == (48, 64, 3) and len({*map(tuple, pixels.reshape(-1, 3))}) > 100
    colourful = page.pixels("cat, PatternNet", "2_sensitivity/maps")
    assert np_spread(colourful) > 20
    assert not page.errors()


def np_spread(pixels: Any) -> float:
    """How far apart the channels of pixels are."""
    return float((pixels.max(axis=2) - pixels.min(axis=2)).mean())


def test_everything_has_a_name_for_screen_readers(page: Any) -> None:
    page.open()
    unnamed = page.js(
        """const named = "canvas, select, input, button, svg[role=img], dialog";
        return [...document.querySelectorAll(named)]
            .filter((e) => !(e.ariaLabel || e.textContent.trim() || e.labels?.length || e.title
                || e.getAttribute("aria-labelledby") || e.querySelector("canvas[aria-label]")
                || e.closest("dialog:not([open])")))
            .map((e) => e.outerHTML.slice(0, 200))"""
    )
    assert unnamed == []
    assert page.js("return document.querySelectorAll('table th[scope=row]').length") >= 10
    # One stop of the Tab key for each table.
    assert page.js(
        """return [...document.querySelectorAll("article table")].filter((t) => t.rows.length > 2)
            .every((t) => t.querySelectorAll('button.cell[tabindex="0"]').length === 1)"""
    )


@pytest.mark.parametrize("width", [390, 1280, 1920])
def test_words_and_choices_fit_every_width(page: Any, width: int) -> None:
    """Tables may be wider than the window; then the page scrolls, and names and slider stay."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        page.open()
        page.js("scrollTo(400, 600)")
        beyond = page.js(
            """return [...document.querySelectorAll(".toolbar > *, .timeline > *, h2, .about")]
                .filter((e) => e.offsetWidth && e.getBoundingClientRect().right > innerWidth + 1)
                .map((e) => e.className + e.textContent.slice(0, 40))"""
        )
        assert beyond == []
        slider = page.one("input[name=time]").rect
        top = page.js("return document.querySelector('.timeline').getBoundingClientRect().top")
        assert top == 0 and slider["width"] > width / 3
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("size", [112, 168])
def test_columns_for_which_the_page_is_too_narrow_stand_below_the_others(
    page: Any, size: int
) -> None:
    """Two runs of six units, in maps of this size, are wider than the window."""
    page.open(size=size)
    assert page.js("return document.documentElement.scrollWidth <= innerWidth")
    tables = 'article[data-sheet="3_patterns/layers.0"] table'
    assert len(page.all(tables)) > 1
    units = [page.texts(f"{tables}:nth-of-type({n}) th.column") for n in (1, 2)]
    assert units[0][0] == "unit 0" and units[1][0] == f"unit {len(units[0])}"


def test_the_browser_forgets_what_is_far(tab: Any) -> None:
    """The cache never holds more than its limit, and keeps what was asked for last."""
    found = tab.open().driver.execute_async_script(
        """const done = arguments[0];
        const { Cache } = await import(new URL("./static/cache.js", document.baseURI));
        const cache = new Cache(10, (value) => value);
        const made = [];
        const get = (key, weight) => cache.get(key, async () => (made.push(key), weight));
        for (const key of ["a", "b", "a", "c", "a", "d"]) await get(key, 4);
        for (const key of ["a", "d", "b"]) await get(key, 4);
        done([made, cache.weight]);"""
    )
    assert found == [["a", "b", "c", "d", "b"], 8]


def test_half_precision_is_read_without_the_browsers_help(tab: Any) -> None:
    """By table, as browsers without Float16Array do; all 65536 numbers."""
    wrong = tab.open().driver.execute_async_script(
        """const done = arguments[0];
        const { byTable } = await import(new URL("./static/float16.js", document.baseURI));
        const bits = Uint16Array.from({ length: 65536 }, (_, i) => i);
        const own = byTable(bits);
        const browsers = [...new Float16Array(bits.buffer)];
        done(browsers.filter((value, i) => !Object.is(value, own[i])).length);"""
    )
    assert wrong == 0


def test_a_folder_that_is_moved_away_leaves_what_is_shown(
    opened: Any, example_runs: ModuleType, tmp_path: Path
) -> None:
    example_runs.write_run(tmp_path / "logs/run", 1)
    page = opened(tmp_path / "logs").open()
    shutil.move(tmp_path / "logs/run/plugins", tmp_path / "elsewhere")
    page.until(
        lambda: page.all("section.empty, .trouble, .problems p"), "the page says what is missing"
    )
    shutil.move(tmp_path / "elsewhere", tmp_path / "logs/run/plugins")
    page.until(lambda: not page.all("section.empty"), "it is back")
    page.settle()
