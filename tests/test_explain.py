"""A run that is over is explained as if it had been explained while it trained."""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml  # type: ignore[import-untyped]
from lightning.pytorch.cli import LightningCLI

from firstlight.board.scalars import read_series
from firstlight.board.sheet_file import read_sheet
from firstlight.command import main

RUN = Path("runs/sample/version_0")
SHORT = (
    "--trainer.limit_train_batches=4",
    "--trainer.limit_val_batches=1",
    "--trainer.limit_test_batches=1",
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
)
GRADIENT = "--trainer.callbacks.methods=[{class_path: firstlight.pipeline.Gradient}]"
SENSITIVITY = ("--trainer.callbacks=SensitivityMaps", GRADIENT)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


def sheets(run: Path = RUN) -> dict[str, bytes]:
    """The files of all sheets of the training."""
    top = run / "plugins" / "firstlight"
    files = {str(path.relative_to(top)): path for path in top.rglob("*.safetensors")}
    return {
        name: path.read_bytes()
        for name, path in files.items()
        if not name.startswith(("test", "."))
    }


def keep_all(*, steps: int | None = None) -> list[str]:
    """The options that keep a checkpoint of every epoch, or every so many steps."""
    every = "" if steps is None else f", every_n_train_steps: {steps}"
    name = "epoch-{epoch}" if steps is None else "step-{step}"
    args = f"{{filename: '{name}', save_top_k: -1, auto_insert_metric_name: false{every}}}"
    path = "lightning.pytorch.callbacks.ModelCheckpoint"
    return [f"--trainer.callbacks+={{class_path: {path}, init_args: {args}}}"]


def mistake(capsys: pytest.CaptureFixture[str], args: list[str]) -> str:
    with pytest.raises(SystemExit) as end:
        main(["explain", *args])
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_the_sheets_are_bit_for_bit_those_of_the_run(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    callbacks = ["--trainer.callbacks=FirstLayerMaps", "--trainer.callbacks+=SensitivityMaps"]
    main([*SHORT, *callbacks, GRADIENT, *keep_all(), "--trainer.max_epochs=3"])
    written, numbers = sheets(), read_series(RUN)
    assert len(written) == 8, "two sheets before training and at three epochs"
    shutil.rmtree(RUN / "plugins")
    capsys.readouterr()
    files = sorted(str(path) for path in RUN.glob("checkpoints/epoch-*.ckpt"))
    main(["explain", *reversed(files)])
    told = capsys.readouterr().out.splitlines()
    assert sheets() == written
    assert [line.split("  ")[0] for line in told] == [
        *("Network", "Explains", "Untrained", "Epoch 1", "Epoch 2", "Epoch 3"),
        *("Sheets", "Run", "Report", "Look at it"),
    ]
    assert told[1] == "Explains       3 checkpoints: FirstLayerMaps, SensitivityMaps"
    assert told[6] == "Sheets         8 new: 1_first_layer/maps, 2_sensitivity/maps"
    assert read_series(RUN) == numbers, "no number is logged twice"


def test_what_is_there_already_stays_untouched(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    main([*SHORT, *SENSITIVITY, "--trainer.max_epochs=2"])
    places = list(RUN.rglob("*.safetensors"))
    before = {path: path.stat().st_mtime_ns for path in places}
    files = sorted(RUN.iterdir())
    capsys.readouterr()
    main(["explain", str(RUN)])
    told = capsys.readouterr().out
    assert "last.ckpt: of the same step as best.ckpt" in told or "2 as before" in told
    assert " new" not in told
    assert {path: path.stat().st_mtime_ns for path in RUN.rglob("*.safetensors")} == before
    assert sorted(RUN.iterdir()) == files


def test_a_run_without_callbacks_is_explained_afterwards(folder: Path) -> None:
    options = [*SHORT, "--trainer.max_epochs=1", "--trainer.logger.name"]
    main([*options, "with", *SENSITIVITY])
    main([*options, "without", "--trainer.callbacks=null"])
    without = Path("runs/without/version_0")
    settings = ["--trainer.callbacks=SensitivityMaps", GRADIENT]
    main(["explain", *settings, f"{without}/checkpoints/last.ckpt"])
    explained, written = sheets(without), sheets(Path("runs/with/version_0"))
    assert explained == written
    tags = {tag: s for tag, s in read_series(without).items() if tag.startswith("2_sensitivity")}
    for tag, series in read_series(Path("runs/with/version_0")).items():
        if tag.startswith("2_sensitivity") and "seconds" not in tag and "share" not in tag:
            assert tags[tag] == series, tag


@pytest.mark.parametrize("logger", ["csv", "none"])
def test_a_run_with_another_logger_keeps_its_numbers(folder: Path, logger: str) -> None:
    options = {
        "csv": ["--trainer.logger=CSVLogger", "--trainer.logger.save_dir=runs"],
        "none": ["--trainer.logger=false", "--trainer.default_root_dir=runs/plain"],
    }[logger]
    main([*SHORT, *options, "--trainer.max_epochs=1", "--trainer.callbacks=null"])
    run = {"csv": RUN, "none": Path("runs/plain")}[logger]
    numbers = read_series(run)
    assert bool(numbers) == (logger == "csv")
    main(["explain", f"{run}/checkpoints/last.ckpt", *SENSITIVITY])
    assert sorted(sheets(run)) == [
        f"2_sensitivity/maps/{moment}.safetensors"
        for moment in ("step000000000-epoch0", "step000000004-epoch1")
    ]
    later = read_series(run)
    assert {tag: later[tag] for tag in numbers} == numbers
    assert ("2_sensitivity/tv/Gradient" in later) == (logger == "csv")
    pictures = run / "explanations" / "2_sensitivity" / "maps"
    assert [path.name for path in sorted(pictures.iterdir())] == [
        "step_0000000.png",
        "step_0000003.png",
    ]


def test_moments_within_an_epoch_are_those_of_the_run(folder: Path) -> None:
    steps = "--trainer.callbacks.every_n_train_steps=3"
    options = ["--trainer.max_epochs=2", "--trainer.limit_train_batches=5"]
    main([*SHORT, *options, *SENSITIVITY, steps, *keep_all(steps=3)])
    written = sheets()
    shutil.rmtree(RUN / "plugins")
    main(["explain", *map(str, RUN.glob("checkpoints/step-*.ckpt"))])
    explained = sheets()
    assert "2_sensitivity/maps/step000000003-epoch0.6.safetensors" in explained
    assert len(explained) == 4, "before training and three times within two epochs"
    assert {name: written[name] for name in explained} == explained


def test_other_settings_replace_a_sheet_and_keep_the_earlier_one(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    main([*SHORT, *SENSITIVITY, "--trainer.max_epochs=1"])
    ((name, earlier),) = (item for item in sheets().items() if "step000000004" in item[0])
    other = "--trainer.callbacks.methods=[{class_path: firstlight.pipeline.InputXGradient}]"
    last = str(RUN / "checkpoints/last.ckpt")
    capsys.readouterr()
    main(["explain", last, "--trainer.callbacks=SensitivityMaps", other])
    told = capsys.readouterr().out
    replaced = RUN / "plugins/firstlight/.replaced"
    assert f"the earlier sheets are in {replaced}" in told
    assert (replaced / name).read_bytes() == earlier
    columns = [column.name for column in read_sheet(RUN / "plugins/firstlight" / name).columns]
    assert columns == ["image", "InputXGradient"]
    main(["explain", last])
    assert sheets()[name] == earlier
    assert len(list(replaced.rglob("*~2"))) == 1


THEIRS = """
    import torch
    from lightning.pytorch import LightningDataModule, LightningModule
    from torch import nn
    from torch.nn import functional as F
    from torch.utils.data import DataLoader, IterableDataset, TensorDataset

    class Net(LightningModule):
        def __init__(self, width: int = 5):
            super().__init__()
            self.layers = nn.Sequential(
                nn.Conv2d(1, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.Flatten(),
                nn.Linear(36 * width, 4),
            )
        def forward(self, x):
            return self.layers(x)
        def training_step(self, batch, i):
            return F.cross_entropy(self(batch[0]), batch[1])
        def validation_step(self, batch, i):
            self.log("val_loss", F.cross_entropy(self(batch[0]), batch[1]))
        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), 0.01)

    class Stream(IterableDataset):
        def __init__(self, data):
            self.data = data
        def __iter__(self):
            return iter([self.data[i] for i in range(len(self.data))])

    class Data(LightningDataModule):
        def __init__(self, stream: bool = False):
            super().__init__()
            g = torch.Generator().manual_seed(0)
            data = TensorDataset(torch.rand(48, 1, 8, 8, generator=g), torch.arange(48) % 4)
            self.data = Stream(data) if stream else data
        def train_dataloader(self):
            return DataLoader(self.data, 8)
        def val_dataloader(self):
            return DataLoader(self.data, 8)
"""

THEIR_OPTIONS = (
    "fit",
    "--model=theirs.Net",
    "--model.width=3",
    "--data=theirs.Data",
    "--trainer.max_epochs=2",
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--optimizer=SGD",
    "--optimizer.lr=0.1",
    "--trainer.callbacks=firstlight.callbacks.SensitivityMaps",
    GRADIENT,
)
THEIR_RUN = Path("lightning_logs/version_0")


def their_run(*options: str) -> list[str]:
    """The checkpoints of a run of somebody else's LightningCLI."""
    Path("theirs.py").write_text(textwrap.dedent(THEIRS))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path.cwd())
        LightningCLI(args=[*THEIR_OPTIONS, *options])
    # It is imported again, by our own command.
    del sys.modules["theirs"]
    return [str(path) for path in THEIR_RUN.glob("checkpoints/*.ckpt")]


CHECKPOINT = "lightning.pytorch.callbacks.ModelCheckpoint"
AVERAGED = "--trainer.callbacks+=lightning.pytorch.callbacks.EMAWeightAveraging"


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ((), [12]),
        (("--data.stream=true",), [12]),
        ((AVERAGED, "--trainer.callbacks.decay=0.5"), [12]),
        # Checkpoints are written at the end of validation, in the middle and at the end of epochs.
        (
            (
                "--trainer.callbacks.every_n_train_steps=3",
                "--trainer.val_check_interval=0.5",
                f"--trainer.callbacks+={{class_path: {CHECKPOINT}, init_args: {{save_top_k: -1}}}}",
            ),
            [3, 6, 9, 12],
        ),
        (
            (
                "--trainer.accumulate_grad_batches=2",
                "--trainer.callbacks.every_n_train_steps=2",
                f"--trainer.callbacks+={CHECKPOINT}",
                "--trainer.callbacks.save_top_k=-1",
                "--trainer.callbacks.every_n_train_steps=1",
            ),
            [1, 2, 3, 4, 5, 6],
        ),
    ],
    ids=["plain", "stream", "averaged", "validated", "accumulated"],
)
def test_checkpoints_of_another_program_are_explained(
    folder: Path, options: tuple[str, ...], steps: list[int]
) -> None:
    if AVERAGED in options:
        pytest.importorskip("lightning.pytorch.callbacks.weight_averaging")
    paths = their_run(*options)
    written = sheets(THEIR_RUN)
    shutil.rmtree(THEIR_RUN / "plugins")
    main(["explain", *paths])
    explained = sheets(THEIR_RUN)
    found = sorted(int(re.findall(r"step(\d+)", name)[0]) for name in explained)
    assert found == [0, *steps]
    common = explained.keys() & written.keys()
    assert {name: written[name] for name in common} == {name: explained[name] for name in common}
    lacking = [name for name in explained if name not in written]
    assert not lacking or "--trainer.accumulate_grad_batches=2" in options


@pytest.mark.parametrize(
    ("model", "wanted"),
    [
        ({"width": 3}, "config='lightning_logs/version_0/config.yaml': names no class_path"),
        ({"class_path": "theirs.Nothing"}, "theirs.Nothing"),
        ({"class_path": "pytorch_lightning.demos.boring_classes.BoringModel"}, "BoringModel"),
    ],
)
def test_what_config_cannot_be_run_is_said_in_a_line(
    capsys: pytest.CaptureFixture[str], folder: Path, model: dict[str, Any], wanted: str
) -> None:
    content = {"epoch": 0, "global_step": 1, "state_dict": {"a": torch.ones(1)}}
    (THEIR_RUN / "checkpoints").mkdir(parents=True)
    torch.save(content, THEIR_RUN / "checkpoints" / "x.ckpt")
    (THEIR_RUN / "config.yaml").write_text(yaml.safe_dump({"model": model}))
    assert wanted in mistake(capsys, [str(THEIR_RUN)])


def test_a_config_without_a_class_takes_it_from_another(folder: Path) -> None:
    paths = their_run()
    written = sheets(THEIR_RUN)
    saved = THEIR_RUN / "config.yaml"
    whole = yaml.safe_load(saved.read_text())
    Path("mine.yaml").write_text(yaml.safe_dump({"model": whole["model"]}))
    saved.write_text(yaml.safe_dump(whole | {"model": whole["model"]["init_args"]}))
    shutil.rmtree(THEIR_RUN / "plugins")
    main(["explain", *paths, "--config", "mine.yaml"])
    last = "2_sensitivity/maps/step000000012-epoch2.safetensors"
    assert sheets(THEIR_RUN)[last] == written[last]


def test_a_checkpoint_outside_of_a_run_needs_a_config_and_makes_a_run_of_its_own(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    main([*SHORT, *SENSITIVITY, "--trainer.max_epochs=1"])
    Path("elsewhere").mkdir()
    shutil.copy(RUN / "checkpoints/last.ckpt", "elsewhere/mine.ckpt")
    capsys.readouterr()
    line = mistake(capsys, ["elsewhere/mine.ckpt"])
    assert "elsewhere/mine.ckpt" in line
    assert "name one by --config" in line
    main(["explain", "elsewhere/mine.ckpt", "--config", f"{RUN}/config.yaml"])
    own = RUN.with_name("version_1")
    name = "2_sensitivity/maps/step000000004-epoch1.safetensors"
    assert sheets(own) == {name: sheets()[name]}
    assert read_series(own)


@pytest.mark.parametrize(
    ("args", "wanted"),
    [
        ([], "checkpoints: name at least one"),
        (["nowhere.ckpt"], "checkpoints='nowhere.ckpt': there is no"),
        (["empty"], "checkpoints='empty': there is no *.ckpt in this folder"),
        (["text.ckpt", "--config=cnn.yaml"], "checkpoints='text.ckpt': is no checkpoint"),
        (["other.zip", "--config=cnn.yaml"], "checkpoints='other.zip': is no checkpoint"),
        (["theirs.ckpt", "--config=cnn.yaml"], "checkpoints='theirs.ckpt': is of another network"),
        (["code.ckpt", "--config=cnn.yaml"], "checkpoints='code.ckpt': holds more than plain"),
        (["text.ckpt", "--config=nois.yaml"], "did you mean noise.yaml?"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_argument(
    capsys: pytest.CaptureFixture[str], folder: Path, args: list[str], wanted: str
) -> None:
    Path("empty").mkdir()
    Path("text.ckpt").write_text("no checkpoint")
    shutil.make_archive("other", "zip", "empty")
    content: dict[str, Any] = {"epoch": 0, "global_step": 1, "state_dict": {"a": torch.ones(1)}}
    torch.save(content, "theirs.ckpt")
    torch.save(content | {"hyper_parameters": {"f": Path("x")}}, "code.ckpt")
    assert wanted in mistake(capsys, args)


def test_several_runs_are_explained_each_with_its_own_config(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    for size in (7, 9):
        main([*SHORT, *SENSITIVITY, "--trainer.max_epochs=1", f"--model.network.hidden=[{size}]"])
    runs = sorted(Path("runs/sample").iterdir())
    written = [sheets(run) for run in runs]
    for run in runs:
        shutil.rmtree(run / "plugins")
    main(["explain", *(str(path) for path in Path("runs").rglob("last.ckpt"))])
    assert [sheets(run) for run in runs] == written


def test_the_help_says_how_it_is_called(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["explain", "--help"])
    assert not end.value.code
    text = " ".join(capsys.readouterr().out.split())
    assert "firstlight explain CKPT [CKPT ...] [options]" in text
    assert "--weights_only" in text
