from __future__ import annotations

import errno
import subprocess
import sys
import warnings
from collections.abc import Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml  # type: ignore[import-untyped]
from lightning.pytorch import Trainer
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

import firstlight
from firstlight.callbacks import load_maps
from firstlight.command import main
from firstlight.command.configs import CONFIGS
from firstlight.pipeline.classifier import ImageClassifier
from firstlight.pipeline.networks import ConvNetwork, DenseNetwork

SHORT = (
    "--trainer.max_epochs=1",
    "--trainer.limit_train_batches=3",
    "--trainer.limit_val_batches=2",
    "--trainer.limit_test_batches=2",
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
)
PLAIN = (*SHORT, "--trainer.callbacks=null")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def mistake(capsys: pytest.CaptureFixture[str], args: Sequence[str]) -> str:
    with pytest.raises(SystemExit) as end:
        main(args)
    assert end.value.code == 2
    *warned, line = capsys.readouterr().err.splitlines()
    assert all(text.startswith("Warning: ") for text in warned)
    return line


def config(run: str) -> Any:
    return yaml.safe_load(Path(run, "config.yaml").read_text())


def paint(count: int, classes: str = "ab") -> None:
    """Noisy pictures in one folder for each class."""
    for i in range(count):
        path = Path("pictures", classes[i % len(classes)], f"{i}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((80, 70), 50).convert("RGB").save(path)


PICTURES = (*PLAIN, "--config=pictures.yaml", "--data.root=pictures", "--data.num_workers=0")


def test_the_sizes_of_the_network_are_those_of_the_data(folder: Path) -> None:
    paint(60, "abc")
    main([*PICTURES, "--data.image_size=16"])
    saved = config("runs/pictures/version_0")["model"]["network"]["init_args"]
    assert (saved["num_classes"], saved["input_shape"]) == (3, [3, 16, 16])
    network = "--model.network=torchvision.models.squeezenet1_1"
    main([*PICTURES, network, "--trainer.logger.name=foreign"])
    saved = config("runs/foreign/version_0")["model"]["network"]["init_args"]
    assert saved["num_classes"] == 3


@pytest.mark.parametrize("by", ["option", "file", "checkpoint"])
def test_given_sizes_of_the_network_are_kept(
    capsys: pytest.CaptureFixture[str], folder: Path, by: str
) -> None:
    paint(40)
    if by == "checkpoint":
        main([*PICTURES, "--trainer.max_epochs=1"])
        paint(41, "abc")
        capsys.readouterr()
        given = "--ckpt_path=last"
    elif by == "file":
        Path("mine.yaml").write_text("model: {network: {init_args: {num_classes: 10}}}")
        given = "--config=mine.yaml"
    else:
        given = "--model.network.num_classes=10"
    classes = {"checkpoint": (2, 3)}.get(by, (10, 2))
    said = "model.network: has num_classes={}, but that of the data is {}".format(*classes)
    assert said in mistake(capsys, [*PICTURES, given])


def test_without_arguments_it_fits_the_default_config(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", "--print_config"])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    monkeypatch.setattr(sys, "argv", ["train.py", *SHORT])
    main()
    saved = config("runs/sample/version_0")
    default = yaml.safe_load((CONFIGS / "default.yaml").read_text())
    assert [c["class_path"] for c in saved["trainer"]["callbacks"]] == [
        c["class_path"] for c in default["trainer"]["callbacks"]
    ]
    assert saved["seed_everything"] == default["seed_everything"]


def test_a_fit_logs_by_epoch_keeps_best_and_last_and_ends_with_the_test(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    main(["fit", *PLAIN, "--trainer.max_epochs=2"])
    out = capsys.readouterr().out
    events = EventAccumulator("runs/sample/version_0").Reload()
    for tag, points in [("train/loss", 2), ("train/accuracy", 2), ("val/accuracy", 2)]:
        assert len(events.Scalars(tag)) == points
    tested = events.Scalars("test/accuracy")[0].value
    assert f"{tested:.4f}" in out
    assert "runs/sample/version_0" in out
    assert "tensorboard --logdir runs/sample/version_0 --samples_per_plugin images=1000" in out
    best = ImageClassifier.load_from_checkpoint("runs/sample/version_0/checkpoints/best.ckpt")
    assert isinstance(best.network, DenseNetwork)
    assert Path("runs/sample/version_0/checkpoints/last.ckpt").is_file()


def test_the_test_is_of_the_best_weights_not_of_the_last(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    # The step size explodes in the second epoch.
    Path("schedule.py").write_text(
        "from torch.optim.lr_scheduler import StepLR\n"
        "class Explode(StepLR):\n"
        "    def __init__(self, optimizer):\n"
        "        super().__init__(optimizer, 1, 1e5)\n"
    )
    sys.path.insert(0, str(folder))
    try:
        main(
            [
                *PLAIN,
                "--trainer.max_epochs=2",
                "--trainer.limit_train_batches=60",
                "--optimizer=Adam",
                "--lr_scheduler=schedule.Explode",
            ]
        )
    finally:
        sys.path.remove(str(folder))
    events = EventAccumulator("runs/sample/version_0").Reload()
    first, second = (point.value for point in events.Scalars("val/accuracy"))
    assert second < first - 0.2
    assert events.Scalars("test/accuracy")[0].value > second + 0.2
    folder = Path("runs/sample/version_0/checkpoints")
    epochs = {n: torch.load(folder / f"{n}.ckpt")["epoch"] for n in ("best", "last")}
    assert epochs == {"best": 0, "last": 1}


def test_options_without_a_command_are_a_fit_and_override_the_config(folder: Path) -> None:
    main([*PLAIN, "--model.network.hidden=[8]", "--data.batch_size=16"])
    saved = config("runs/sample/version_0")
    assert saved["model"]["network"]["init_args"]["hidden"] == [8]
    assert saved["data"]["init_args"]["batch_size"] == 16
    assert saved["data"]["class_path"] == "firstlight.datamodules.MNIST"


def test_the_value_of_an_option_is_not_taken_for_a_command(folder: Path) -> None:
    main([*PLAIN, "--trainer.logger.name", "test"])
    assert Path("runs/test/version_0/config.yaml").is_file()


@pytest.mark.parametrize(
    ("options", "classes"),
    [
        (["--trainer.callbacks=LearningRateMonitor"], ["LearningRateMonitor"]),
        (
            ["--trainer.callbacks+=LearningRateMonitor"],
            ["FirstLayerMaps", "SensitivityMaps", "PatternMonitor", "LearningRateMonitor"],
        ),
        (["--trainer.callbacks=null"], []),
    ],
)
def test_default_callbacks_are_replaced_appended_and_removed(
    folder: Path, options: list[str], classes: list[str]
) -> None:
    main([*SHORT, *options])
    saved = config("runs/sample/version_0")["trainer"]["callbacks"] or []
    saved = [saved] if isinstance(saved, dict) else saved
    assert [callback["class_path"].rpartition(".")[2] for callback in saved] == classes
    assert Path("runs/sample/version_0/checkpoints/best.ckpt").is_file()


@pytest.mark.parametrize("name", ["mnist", "noise", "cnn", "pictures"])
def test_every_config_runs_by_its_short_name(folder: Path, name: str) -> None:
    options = {
        # The sample has the layout of MNIST's own files.
        "mnist": ["--data.root=null", "--data.download=false"],
        "pictures": ["--data.root=pictures"],
    }
    if name == "pictures":
        paint(40)
        options["pictures"] += ["--data.num_workers=0", "--data.batch_size=8"]
    main([*PLAIN, "--config", f"{name}.yaml", *options.get(name, [])])
    assert Path(f"runs/{name}/version_0/checkpoints/best.ckpt").is_file()


def test_maps_of_a_whole_data_set_are_written_and_another_batch_size_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(PLAIN)
    explain = [
        "predict",
        "--config=explain.yaml",
        "--ckpt_path=last",
        "--trainer.accelerator=cpu",
        "--trainer.limit_predict_batches=2",
        "--trainer.enable_progress_bar=false",
        "--trainer.callbacks.method.init_args.samples=2",
    ]
    main(explain)
    assert "runs/maps" in capsys.readouterr().out.splitlines()[-1]
    written = load_maps("runs/maps")
    assert written.indices.tolist() == list(range(128))
    assert written.maps.shape == (128, 1, 28, 28)
    assert written.maps.flatten(1).norm(dim=1).all()
    capsys.readouterr()
    for other in ("--data.batch_size=32", "--trainer.limit_predict_batches=3"):
        assert "holds maps of other settings" in mistake(capsys, [*explain, other])


def test_a_full_disk_is_said_in_a_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: Any, **_kwargs: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("lightning.pytorch.Trainer.save_checkpoint", full)
    line = mistake(capsys, PLAIN)
    assert line.startswith("firstlight: error:")
    assert "No space left on device" in line


def test_a_file_of_the_working_folder_comes_before_a_config_of_that_name(folder: Path) -> None:
    Path("cnn.yaml").write_text("trainer: {logger: {init_args: {name: mine}}}")
    main([*PLAIN, "--config=cnn.yaml"])
    assert Path("runs/mine/version_0").is_dir()


def test_a_saved_config_repeats_the_run_bit_for_bit(folder: Path) -> None:
    main([*PLAIN, "--model.training_noise=0.2", "--model.network.hidden=[9]"])
    main(["--config", "runs/sample/version_0/config.yaml"])
    first, second = (
        torch.load(f"runs/sample/version_{i}/checkpoints/last.ckpt")["state_dict"] for i in (0, 1)
    )
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_resumed_run_goes_on_in_its_folder_with_the_weights_of_an_uninterrupted_one(
    folder: Path,
) -> None:
    options = [*PLAIN, "--model.training_noise=0.2"]
    main([*options, "--trainer.max_epochs=3", "--trainer.logger.name=whole"])
    main([*options, "--trainer.max_epochs=1"])
    main([*options, "--trainer.max_epochs=3", "--ckpt_path=last"])
    whole, resumed = (
        torch.load(f"runs/{name}/version_0/checkpoints/last.ckpt") for name in ("whole", "sample")
    )
    assert whole["global_step"] == resumed["global_step"] == 9
    assert all(
        torch.equal(whole["state_dict"][name], resumed["state_dict"][name])
        for name in whole["state_dict"]
    )
    assert [path.name for path in Path("runs/sample").iterdir()] == ["version_0"]
    assert config("runs/sample/version_0")["trainer"]["logger"]["init_args"]["version"] is None
    steps = {
        name: [
            (point.step, point.value)
            for point in EventAccumulator(f"runs/{name}/version_0").Reload().Scalars("val/loss")
        ]
        for name in ("whole", "sample")
    }
    assert steps["whole"] == steps["sample"]


@pytest.mark.parametrize("path", [None, "best", "runs/sample/version_0/checkpoints/last.ckpt"])
def test_validate_test_and_predict_take_the_network_from_the_checkpoint(
    capsys: pytest.CaptureFixture[str], folder: Path, path: str | None
) -> None:
    main([*PLAIN, "--model.network.hidden=[7]"])
    before = Path("runs/sample/version_0/config.yaml").read_text()
    capsys.readouterr()
    for command in ("validate", "test", "predict"):
        main([command, *PLAIN, *([] if path is None else [f"--ckpt_path={path}"])])
        told = capsys.readouterr().out
        best = "Checkpoint     runs/sample/version_0/checkpoints/best.ckpt"
        assert (best in told) == (path in (None, "best"))
        does = {"validate": "Validates ", "test": "Tests     ", "predict": "Predicts  "}[command]
        assert f"{does}     DenseNetwork, 5,575 weights, on cpu; " in told
        assert ("Run            runs/sample/version_0" in told) == (command != "predict")
        if command != "predict":
            assert f"{command.removesuffix('idate')}/accuracy" in told
    assert [p.name for p in Path("runs/sample").iterdir()] == ["version_0"]
    assert Path("runs/sample/version_0/config.yaml").read_text() == before
    tested = EventAccumulator("runs/sample/version_0").Reload().Scalars("test/accuracy")
    assert len(tested) == 2, "of fit and of test"


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_without_any_checkpoint_the_other_commands_say_how_to_name_one(
    capsys: pytest.CaptureFixture[str], folder: Path, command: str
) -> None:
    assert "--ckpt_path" in mistake(capsys, [command, *PLAIN])
    assert list(folder.iterdir()) == []


def test_runs_of_another_name_are_named_where_there_is_none(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    main([*PLAIN, "--config=cnn.yaml"])
    saved = "runs/cnn/version_0/config.yaml"
    assert f"or the newest run by --config {saved}" in mistake(capsys, ["test", *PLAIN])
    capsys.readouterr()
    main(["test", "--config", saved])
    assert "runs/cnn/version_0/checkpoints/best.ckpt" in capsys.readouterr().out


class Foreign:
    """Something that is no plain data."""


def test_a_checkpoint_with_more_than_plain_data_is_loaded_when_it_is_trusted(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    main([*PLAIN, "--model.network.hidden=[7]"])
    path = "runs/sample/version_0/checkpoints/best.ckpt"
    torch.save(torch.load(path) | {"theirs": Foreign()}, path)
    for command in ("test", "fit"):
        args = [command, *PLAIN, f"--ckpt_path={path}"]
        line = mistake(capsys, args)
        assert f"ckpt_path='{path}': holds more than plain data" in line
        if "weights_only" not in signature(Trainer.fit).parameters:
            assert "Lightning 2.6 or newer" in line
            return
        assert "--weights_only false" in line
        main([*args, "--weights_only=false"])
        assert "Checkpoint" not in capsys.readouterr().err
    assert config("runs/sample/version_1")["model"]["network"]["init_args"]["hidden"] == [7]


@pytest.mark.parametrize(
    "wrong",
    [
        ["--data.root=nowhere"],
        ["--trainer.callbacks=ActivationMaps", "--trainer.callbacks.layers=[conv9]"],
        ["--checkpoint.monitor=val/nothing"],
    ],
)
def test_a_start_that_fails_leaves_no_run(
    capsys: pytest.CaptureFixture[str], folder: Path, wrong: list[str]
) -> None:
    mistake(capsys, [*PLAIN, *wrong])
    runs = [path.name for path in folder.glob("runs/sample/*")]
    # The monitor is looked for when an epoch is over, and then there is something to keep.
    assert runs == (["version_0"] if "monitor" in wrong[0] else [])


def test_a_foreign_network_is_named_by_its_class_path_and_rebuilt(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("elsewhere.py").write_text(
        "from torch import nn\n"
        "class Wide(nn.Sequential):\n"
        "    def __init__(self, width: int = 3):\n"
        "        super().__init__(nn.Flatten(), nn.Linear(784, width), nn.Linear(width, 10))\n"
    )
    monkeypatch.syspath_prepend(folder)
    main([*PLAIN, "--model.network=elsewhere.Wide", "--model.network.width=11"])
    path = "runs/sample/version_0/checkpoints/best.ckpt"
    linear = ImageClassifier.load_from_checkpoint(path).network.get_submodule("1")
    assert isinstance(linear, nn.Linear)
    assert linear.out_features == 11


def test_the_class_of_the_network_can_change_by_its_bare_name(folder: Path) -> None:
    main([*PLAIN, "--model.network=ConvNetwork", "--model.network.channels=[3]"])
    path = "runs/sample/version_0/checkpoints/last.ckpt"
    assert isinstance(ImageClassifier.load_from_checkpoint(path).network, ConvNetwork)


@pytest.mark.parametrize(
    ("args", "wanted"),
    [
        (["--trainer.max_epoch=3"], "trainer.max_epoch; did you mean trainer.max_epochs?"),
        (["fitt"], "fitt; did you mean fit?"),
        (["--model.lr=1"], "model.lr; did you mean model.learning_rate?"),
        (["--model.learning_rate=fast"], "model.learning_rate: Expected a float. Got value: fast"),
        (["--data.batchsize=3"], "batchsize; did you mean batch_size?"),
        (["--data.batch_size=-3"], "batch_size=-3: must be greater than or equal to 1"),
        (["--data.root=nowhere"], "nowhere"),
        (["--data=FashionMNST"], "did you mean FashionMNIST?"),
        (["--data=ImageFolder"], "root"),
        (["--model.network.hiden=[3]"], "hiden; did you mean hidden?"),
        (["--model.network.hidden=[0]"], "hidden[0]=0: must be"),
        (["--model.network.num_classes=7"], "num_classes=7, but that of the data is 10"),
        (["--model.training_noise=-1"], "training_noise=-1.0"),
        (["--trainer.callbacks+=SensitivtyMaps"], "did you mean SensitivityMaps?"),
        (["--trainer.accelerator=quantum"], "quantum"),
        (["--trainer.precision=33"], "'bf16-mixed'"),
        (["--config=nois.yaml"], "did you mean noise.yaml?"),
        (["--ckpt_path=last"], "there is no last checkpoint in runs/sample"),
        (["--ckpt_path=own.yaml"], "ckpt_path='own.yaml': is no checkpoint"),
        (["--model.network=torchvision.models.resnet18"], "does not take the images of the data"),
        (["--ckpt_path=nowhere.ckpt"], "ckpt_path='nowhere.ckpt': there is no such file"),
        (["--checkpoint.monitor=val/acc"], "val/acc"),
    ],
)
def test_a_mistake_in_the_arguments_is_one_line_that_names_it(
    capsys: pytest.CaptureFixture[str], folder: Path, args: list[str], wanted: str
) -> None:
    Path("own.yaml").write_text("a: 1")
    assert wanted in mistake(capsys, [*PLAIN, *args] if args[0].startswith("-") else args)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("trainer: {max_epoch: 3}", "trainer.max_epoch; did you mean trainer.max_epochs?"),
        ("modle: {training_noise: 0.1}", "did you mean model.training_noise?"),
        (
            "trainer: {callbacks: [{class_path: firstlight.callbacks.SensitivtyMaps}]}",
            "SensitivtyMaps; did you mean SensitivityMaps?",
        ),
        (
            "trainer: {callbacks: [{class_path: firstlight.callbacks.SensitivityMaps, "
            "init_args: {every_n_epoch: 2}}]}",
            "every_n_epoch; did you mean every_n_epochs?",
        ),
        (
            "trainer: {callbacks: [{class_path: firstlight.callbacks.SensitivityMaps, init_args: "
            "{methods: [{class_path: firstlight.pipeline.SmoothGrad, init_args: {sample: 9}}]}}]}",
            "SmoothGrad: there is no sample; did you mean samples?",
        ),
        (
            "trainer: {callbacks: [{class_path: firstlight.callbacks.SensitivityMaps, init_args: "
            "{methods: [{class_path: firstlight.pipeline.SmothGrad}]}}]}",
            "SmothGrad; did you mean SmoothGrad?",
        ),
        (
            "data: {class_path: firstlight.datamodules.MNIST, init_arg: {batch_size: 3}}",
            "init_arg; did you mean init_args?",
        ),
        ("trainer: [1\\n max: 3", "mine.yaml"),
        ("only text", "config='mine.yaml': must hold lines"),
        ("", "config='mine.yaml': must hold lines"),
    ],
)
def test_a_mistake_in_a_file_is_one_line_that_names_it(
    capsys: pytest.CaptureFixture[str], folder: Path, text: str, wanted: str
) -> None:
    Path("mine.yaml").write_text(text)
    assert wanted in mistake(capsys, [*PLAIN, "--config=mine.yaml"])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_picture_is_one_line_that_names_it(
    capsys: pytest.CaptureFixture[str], folder: Path, workers: int
) -> None:
    for i in range(20):
        path = Path("pictures", "ab"[i % 2], f"{i}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("no picture")
    options = ["--data.root=pictures"]
    workers_option = f"--data.num_workers={workers}"
    args = [*PLAIN, "--config=pictures.yaml", *options, workers_option]
    assert "pictures/" in mistake(capsys, args)


def test_a_run_says_what_it_trains_and_explains_and_which_epoch_was_best(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    main([*SHORT, "--trainer.callbacks=FirstLayerMaps", "--trainer.callbacks.every_n_epochs=2"])
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("Trains         DenseNetwork, 235,146 weights, on cpu; 9,000 images")
    assert told[0].endswith("10 classes; 1 epoch")
    assert told[1] == "Explains       before training, every 2 epochs: FirstLayerMaps"
    assert told[2].startswith("Best epoch     1 of 1, val/accuracy 0.")
    early = ["--trainer.callbacks.early=true", "--trainer.callbacks.every_n_train_steps=9"]
    main([*SHORT, "--trainer.callbacks=FirstLayerMaps", *early, "--trainer.max_steps=2"])
    told = capsys.readouterr().out.splitlines()
    assert told[0].endswith("; 1 epoch, at most 2 steps")
    moments = "before training, after steps 1, 2, 4, 8, … of the first epoch, every 9 steps"
    assert told[1] == f"Explains       {moments}, every epoch: FirstLayerMaps"
    resumed = ["--ckpt_path=last", "--trainer.max_epochs=3", "--trainer.max_steps=-1"]
    main([*SHORT, "--trainer.callbacks=FirstLayerMaps", *early, *resumed])
    told = capsys.readouterr().out.splitlines()
    assert told[1].endswith("; epochs 2 to 3")
    assert told[2] == "Explains       every 9 steps, every epoch: FirstLayerMaps"


def test_a_fit_ends_with_the_report_in_the_runs_folder_if_asked(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    main([*SHORT, "--trainer.callbacks=FirstLayerMaps", "--report=true"])
    told = capsys.readouterr().out.splitlines()
    path = Path("runs/sample/version_0/report.html")
    assert [line for line in told if line.startswith("Report")] == [f"Report         {path}"]
    assert "1_first_layer" in path.read_text()
    assert config("runs/sample/version_0")["report"] is True
    main([*SHORT, "--trainer.callbacks=FirstLayerMaps"])
    assert not Path("runs/sample/version_1/report.html").exists()


def test_a_report_that_cannot_be_written_is_a_warning(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    main([*PLAIN, "--report=true"])
    told = capsys.readouterr()
    assert told.err.startswith("Warning: There is no report: runs/sample/version_0: holds no expl")
    assert "Look at it" in told.out
    assert Path("runs/sample/version_0/checkpoints/best.ckpt").is_file()


def test_a_warning_begins_with_its_text(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            ImageClassifier, "on_fit_end", lambda _: warnings.warn("a word", stacklevel=1)
        )
        main(PLAIN)
    assert capsys.readouterr().err == "Warning: a word\n"


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--version"])
    assert capsys.readouterr().out == f"firstlight {firstlight.__version__}\n"


def test_an_experiment_is_a_command_as_well(capsys: pytest.CaptureFixture[str]) -> None:
    main(["experiment"])
    assert "pattern_toy" in capsys.readouterr().out


def test_a_fault_of_the_program_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ValueError("not the user's")

    monkeypatch.setattr(ImageClassifier, "training_step", broken)
    with pytest.raises(ValueError, match="not the user's"):
        main(PLAIN)


def test_the_script_runs_from_another_folder_and_says_little(folder: Path) -> None:
    script = Path(__file__).parents[1] / "train.py"
    done = subprocess.run(
        [sys.executable, str(script), *PLAIN], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert [line.split("  ")[0] for line in done.stdout.splitlines()] == [
        "Trains",
        "Best epoch",
        "Test accuracy",
        "Run",
        "Look at it",
    ]
