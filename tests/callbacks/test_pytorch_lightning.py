"""Programs that say ``import pytorch_lightning as pl``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from firstlight.callbacks import FirstLayerMaps, PatternMonitor, SensitivityMaps
from firstlight.pipeline import Gradient

pl = pytest.importorskip("pytorch_lightning")


class Theirs(pl.LightningModule):
    """A classifier of the other package."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 4))

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return F.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.training_step(batch, batch_idx)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trained(data: Any, folder: Path, callbacks: Any, **arguments: Any) -> Any:
    torch.manual_seed(0)
    trainer = pl.Trainer(
        max_epochs=2,
        accelerator="cpu",
        default_root_dir=folder,
        callbacks=callbacks,
        enable_progress_bar=False,
        enable_model_summary=False,
        **arguments,
    )
    module = Theirs()
    trainer.fit(module, DataLoader(data, 8), DataLoader(data, 8))
    return trainer, module.state_dict()


def test_its_trainer_and_its_tensorboard_have_all_pictures(
    data: Any, tmp_path: Path, recwarn: Any
) -> None:
    callbacks = [FirstLayerMaps(), SensitivityMaps([Gradient()]), PatternMonitor(24)]
    trainer, weights = trained(
        data, tmp_path, callbacks, logger=pl.loggers.TensorBoardLogger(tmp_path)
    )
    assert not [str(w.message) for w in recwarn if "could not" in str(w.message)]
    events = EventAccumulator(trainer.logger.log_dir, size_guidance={"images": 0}).Reload()
    assert {tag.split("/")[0] for tag in events.Tags()["images"]} == {
        "1_first_layer",
        "2_sensitivity",
        "3_patterns",
    }
    assert [image.step for image in events.Images("2_sensitivity/maps")] == [0, 5, 11]
    assert len(list(Path(trainer.logger.log_dir, "plugins").rglob("*.safetensors"))) == 12
    _, without = trained(data, tmp_path / "without", [], logger=False)
    assert all(torch.equal(weights[name], without[name]) for name in without)


def test_its_fast_dev_run_writes_nothing(data: Any, tmp_path: Path) -> None:
    trained(data, tmp_path, [SensitivityMaps([Gradient()])], fast_dev_run=True)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_its_spreading_strategies_are_refused(data: Any, tmp_path: Path) -> None:
    trainer = pl.Trainer(accelerator="cpu", default_root_dir=tmp_path)
    trainer.strategy.__class__ = pl.strategies.FSDPStrategy
    with pytest.raises(Exception, match="SensitivityMaps needs the whole model"):
        SensitivityMaps().setup(trainer, Theirs(), "fit")


def test_nobody_else_imports_it(program: Any, tmp_path: Path) -> None:
    source = "import sys, firstlight.callbacks; print('pytorch_lightning' in sys.modules)"
    assert program(tmp_path, source).stdout.strip() == "False"
