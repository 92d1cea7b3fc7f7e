"""Services get the pictures, of either Lightning: each is run here, offline, and its files read."""

from __future__ import annotations

import importlib
import io
import json
import socket
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import DataLoader

from firstlight.callbacks import SensitivityMaps
from firstlight.pipeline import Gradient

Shown = list[NDArray[Any]]
"""The pictures of a run, from before training to the last epoch."""

TAG = "2_sensitivity/maps"
PACKAGES = ["lightning.pytorch", "pytorch_lightning"]


@pytest.fixture(params=PACKAGES)
def package(request: Any) -> ModuleType:
    return pytest.importorskip(request.param)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Nothing reaches the network, and nobody tries."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("COMET_START_ONLINE", "false")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.chdir(tmp_path)
    tried: list[Any] = []

    def connect(real: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(self: socket.socket, address: Any) -> Any:
            # Connecting a datagram socket, as Comet does to learn its own address, sends nothing.
            local = self.family == socket.AF_UNIX or self.type == socket.SOCK_DGRAM
            if not local and address[0] not in ("127.0.0.1", "::1", "localhost"):
                tried.append(address)
                raise OSError("no network in this test")
            return real(self, address)

        return guarded

    for name in "connect", "connect_ex":
        monkeypatch.setattr(socket.socket, name, connect(getattr(socket.socket, name)))
    yield
    assert not tried


def trained(package: ModuleType, data: Any, folder: Path, logger: Any) -> Any:
    """A run of two epochs with one callback; the same pictures whatever the logger is."""

    class Theirs(package.LightningModule):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 4))

        def forward(self, images: Any) -> Any:
            return self.net(images)

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return torch.nn.functional.cross_entropy(self(batch[0]), batch[1])

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    trainer = package.Trainer(
        max_epochs=2,
        accelerator="cpu",
        default_root_dir=folder,
        callbacks=[SensitivityMaps([Gradient()], numbers=["tv"], most_classes=2)],
        logger=logger,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Theirs(), DataLoader(data, 16))
    return trainer


def read(files: Any) -> Shown:
    """PNG files in the order of their names."""
    return [np.asarray(Image.open(path)) for path in sorted(files)]


def expected(package: ModuleType, data: Any, folder: Path) -> Shown:
    """The pictures of the same run without a logger, which are files."""
    trained(package, data, folder / "without", False)
    return read((folder / "without/explanations" / TAG).iterdir())


def assert_same(shown: Shown, those: Shown) -> None:
    assert len(shown) == len(those) == 3
    for one, other in zip(shown, those, strict=True):
        assert np.array_equal(one, other)


def sheets_of(folder: Path) -> int:
    """How many sheets the run has in its own folder."""
    return len(list(Path(folder, "plugins/firstlight", TAG).iterdir()))


def test_tensorboard(package: ModuleType, data: Any, tmp_path: Path) -> None:
    logger = package.loggers.TensorBoardLogger(tmp_path)
    trained(package, data, tmp_path, logger)
    events = EventAccumulator(logger.log_dir, size_guidance={"images": 0}).Reload()
    files = [io.BytesIO(image.encoded_image_string) for image in events.Images(TAG)]
    shown = [np.asarray(Image.open(file)) for file in files]
    assert_same(shown, expected(package, data, tmp_path))
    assert sheets_of(logger.log_dir) == 3
    assert [scalar.step for scalar in events.Scalars("2_sensitivity/tv/Gradient")] == [0, 2, 5]


def test_csv_has_no_place_for_pictures_and_one_line_says_where_they_are(
    package: ModuleType, data: Any, tmp_path: Path, caplog: Any
) -> None:
    logger = package.loggers.CSVLogger(tmp_path)
    with caplog.at_level("INFO"):
        trained(package, data, tmp_path, logger)
    folder = Path(logger.log_dir, "explanations")
    said = [record.message for record in caplog.records if "Pictures" in record.message]
    assert said == [f"Pictures of explanations are files in {folder}"]
    assert_same(read((folder / TAG).iterdir()), expected(package, data, tmp_path))
    assert sheets_of(Path(logger.log_dir)) == 3
    assert "2_sensitivity/tv/Gradient" in Path(logger.log_dir, "metrics.csv").read_text()


@pytest.mark.slow
def test_wandb_offline(package: ModuleType, data: Any, tmp_path: Path) -> None:
    wandb = pytest.importorskip("wandb")
    logger = package.loggers.WandbLogger(save_dir=tmp_path, offline=True, project="stars")
    try:
        trained(package, data, tmp_path, logger)
    finally:
        wandb.finish()
    files = list(tmp_path.glob(f"wandb/offline-run-*/files/media/images/{TAG}_*.png"))
    files.sort(key=lambda path: int(path.stem.split("_")[1]))
    shown = [np.asarray(Image.open(path)) for path in files]
    assert_same(shown, expected(package, data, tmp_path))
    assert sheets_of(tmp_path / "stars" / str(logger.version)) == 3


@pytest.mark.slow
def test_wandb_switched_off_leaves_files(package: ModuleType, data: Any, tmp_path: Path) -> None:
    wandb = pytest.importorskip("wandb")
    logger = package.loggers.WandbLogger(save_dir=tmp_path, project="stars", mode="disabled")
    try:
        trained(package, data, tmp_path, logger)
    finally:
        wandb.finish()
    assert_same(
        read(tmp_path.glob(f"stars/*/explanations/{TAG}/*.png")), expected(package, data, tmp_path)
    )


@pytest.mark.slow
def test_mlflow_with_a_database(package: ModuleType, data: Any, tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    logger = package.loggers.MLFlowLogger(
        tracking_uri=f"sqlite:///{tmp_path}/runs.db", artifact_location=str(tmp_path / "artifacts")
    )
    trained(package, data, tmp_path, logger)
    files = tmp_path.glob(f"artifacts/*/artifacts/{TAG}/*.png")
    assert_same(read(files), expected(package, data, tmp_path))
    history = logger.experiment.get_metric_history(logger.run_id, "2_sensitivity/tv/Gradient")
    assert [metric.step for metric in history] == [0, 2, 5]
    # Beside the checkpoints, where another run of the same database has a folder of its own.
    assert sheets_of(tmp_path / str(logger.name) / str(logger.version)) == 3


@pytest.mark.slow
def test_comet_offline(package: ModuleType, data: Any, tmp_path: Path) -> None:
    pytest.importorskip("comet_ml")
    logger = package.loggers.CometLogger(
        project="stars",
        offline_directory=str(tmp_path),
        log_env_details=False,  # Comet asks the machine's provider which machine this is.
    )
    trained(package, data, tmp_path, logger)
    logger.experiment.end()
    (archive,) = tmp_path.glob("*.zip")
    with zipfile.ZipFile(archive) as files:
        told = [json.loads(line) for line in files.read("messages.json").splitlines()]
        uploads = [one["payload"] for one in told if one["type"] == "file_upload"]
        images = [u for u in uploads if u["additional_params"].get("figName") == TAG]
        shown = [np.asarray(Image.open(files.open(image["file_path"]))) for image in images]
    assert [image["additional_params"]["step"] for image in images] == [0, 2, 5]
    assert_same(shown, expected(package, data, tmp_path))
    assert sheets_of(tmp_path / "stars" / str(logger.version)) == 3


@pytest.mark.slow
def test_comet_switched_off_leaves_files(package: ModuleType, data: Any, tmp_path: Path) -> None:
    """Lightning takes ``online=False`` for that."""
    pytest.importorskip("comet_ml")
    logger = package.loggers.CometLogger(
        project="stars", offline_directory=str(tmp_path), online=False
    )
    trained(package, data, tmp_path, logger)
    files = tmp_path.glob(f"stars/*/explanations/{TAG}/*.png")
    assert_same(read(files), expected(package, data, tmp_path))


def test_no_service_is_imported_for_the_callbacks() -> None:
    loggers = importlib.import_module("firstlight.callbacks.loggers")
    assert not {"wandb", "mlflow", "comet_ml"} & set(vars(loggers))
