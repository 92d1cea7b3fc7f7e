"""The callbacks work in models and programs that were not written for them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from torchvision.models import resnet18

from firstlight.callbacks import FirstLayerMaps, PatternMonitor, SensitivityMaps
from firstlight.pipeline import GuidedBackprop, SmoothGrad

FAMILIES = {"1_first_layer", "2_sensitivity", "3_patterns"}


def test_a_plain_module_with_batch_norm_dropout_and_functional_relu(
    fit, stranger, data, board, recwarn
):
    callbacks = [FirstLayerMaps(), SensitivityMaps(), PatternMonitor(count=24)]
    events = board(fit(stranger, data, callbacks=callbacks))
    assert {tag.split("/")[0] for tag in events.Tags()["images"]} == FAMILIES
    assert not [str(w.message) for w in recwarn if "could not explain" in str(w.message)]
    # The convolution and its batch norm are one unit; the head is found behind the functional ReLU.
    rho = {tag for tag in events.Tags()["scalars"] if "/rho/" in tag}
    assert {tag.split("/")[2] for tag in rho} == {"conv", "head"}


class Configured(LightningModule):
    """Makes its layers late, with an activation that is no ReLU."""

    def configure_model(self) -> None:
        if not hasattr(self, "net"):
            self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.GELU(), nn.Linear(8, 4))

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return F.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("loss", self.training_step(batch, batch_idx))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def test_layers_may_be_made_late_and_what_can_be_explained_is(fit, data, board, recwarn):
    callbacks = [FirstLayerMaps(other=0), FirstLayerMaps(other=3), PatternMonitor(count=24)]
    events = board(fit(Configured(), data, callbacks=callbacks))
    told = [str(w.message) for w in recwarn if "could not explain" in str(w.message)]
    assert len(told) == 1
    assert told[0].startswith("PatternMonitor (in part) could not explain")
    assert "model: PatternNet has no rule for" in told[0]
    tags = events.Tags()
    assert {"1_first_layer/maps", "3_patterns/first_layer"} <= set(tags["images"])
    assert {tag.rpartition("/")[2] for tag in tags["scalars"] if "/rho/net.1/" in tag} == {
        "random",
        "S_w",
        "S_a",
        "S_a+-",
    }


class ResNet(LightningModule):
    """As in a tutorial: a torchvision network and a loss."""

    def __init__(self) -> None:
        super().__init__()
        self.net = resnet18(num_classes=4)

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        return F.cross_entropy(self(batch["image"]), batch["label"])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


class Dictionaries(TensorDataset):
    """Batches as dictionaries."""

    def __getitem__(self, index: int) -> Any:
        image, label = super().__getitem__(index)
        return {"label": label, "image": image}


@pytest.mark.slow
def test_a_torchvision_resnet18_with_batches_as_dictionaries(trainer_in, board, recwarn):
    torch.manual_seed(0)
    data = Dictionaries(torch.randn(8, 3, 64, 64), torch.arange(8) % 4)
    callbacks = [
        FirstLayerMaps(images_per_class=2),
        SensitivityMaps(methods=[SmoothGrad(samples=4), GuidedBackprop()]),
        PatternMonitor(count=4, most_inputs=200),
    ]
    trainer = trainer_in(callbacks=callbacks, max_epochs=1)
    trainer.fit(ResNet(), DataLoader(data, 4))
    assert not [str(w.message) for w in recwarn if "could not explain" in str(w.message)]
    events = board(trainer)
    assert {tag.split("/")[0] for tag in events.Tags()["images"]} == FAMILIES
    for tag in events.Tags()["images"]:
        assert [image.step for image in events.Images(tag)] == [0, 1]


PROGRAM = """
import callbacks.own
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LightningCLI
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Theirs(LightningModule):
    def __init__(self, width: int = 12):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.Tanh(), nn.Linear(width, 3))

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def train_dataloader(self):
        torch.manual_seed(0)
        return DataLoader(TensorDataset(torch.rand(60, 1, 8, 8), torch.arange(60) % 3), 20)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters())


if __name__ == "__main__":
    LightningCLI(Theirs, save_config_kwargs={"overwrite": True})
"""

YAML = """
trainer:
  max_epochs: 1
  accelerator: cpu
  enable_progress_bar: false
  callbacks:
    - class_path: callbacks.own.Mine
    - class_path: firstlight.callbacks.FirstLayerMaps
      init_args:
        images_per_class: 3
    - class_path: firstlight.callbacks.SensitivityMaps
      init_args:
        methods:
          - class_path: firstlight.pipeline.Gradient
          - class_path: firstlight.pipeline.SmoothGrad
            init_args:
              base:
                class_path: firstlight.pipeline.IntegratedGradients
                init_args:
                  steps: 3
              samples: 4
        rendering:
          class_path: firstlight.pipeline.rendering.Absolute
          init_args:
            cap: 95
"""


@pytest.mark.slow
def test_somebody_elses_command_line_with_the_callbacks_in_its_yaml_only(tmp_path):
    """Their project has a package ``callbacks`` of its own, too."""
    own = tmp_path / "callbacks"
    own.mkdir()
    (own / "__init__.py").touch()
    (own / "own.py").write_text("import lightning.pytorch as pl\nclass Mine(pl.Callback): ...\n")
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "theirs.yaml").write_text(YAML)
    ran = subprocess.run(
        [sys.executable, "program.py", "fit", "--config", "theirs.yaml"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "could not explain" not in ran.stderr
    (folder,) = Path(tmp_path, "lightning_logs").iterdir()
    tags = EventAccumulator(str(folder)).Reload().Tags()
    assert "1_first_layer/maps" in tags["images"]
    assert "2_sensitivity/tv/SmoothGrad of IntegratedGradients" in tags["scalars"]
