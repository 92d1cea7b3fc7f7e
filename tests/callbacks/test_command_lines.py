"""The callbacks in the YAML of somebody else's LightningCLI, of either Lightning."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

PROGRAM = """
import torch
from PACKAGE import LightningModule
from PACKAGE.cli import LightningCLI
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Theirs(LightningModule):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 4))

    def forward(self, x):
        return None, self.layers(x)

    def training_step(self, batch, _):
        x, labels = batch
        return nn.functional.cross_entropy(self(x)[1], labels)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)

    def train_dataloader(self):
        return DataLoader(TensorDataset(torch.rand(32, 1, 8, 8), torch.arange(32) % 4), 8)


def second(module, x):
    return module(x)[1]


if __name__ == "__main__":
    torch.manual_seed(0)
    LightningCLI(Theirs)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "callbacks"),
    [
        ("lightning.pytorch", "firstlight.callbacks"),
        # It compares classes, and takes those of a module for it.
        ("pytorch_lightning", "firstlight.pytorch_lightning"),
    ],
)
def test_callbacks_and_a_function_for_logits_are_named_in_its_yaml(
    tmp_path: Path, package: str, callbacks: str
) -> None:
    pytest.importorskip(f"{package}.cli")
    said = {"logits": "my_project.second", "class_names": ["a", "b", "c", "d"]}
    gradient = {"methods": [{"class_path": "firstlight.pipeline.Gradient"}]}
    chosen = [
        {"class_path": f"{callbacks}.{name}", "init_args": said | own}
        for name, own in {
            "FirstLayerMaps": {},
            "SensitivityMaps": gradient,
            "PatternMonitor": {"count": 16},
            "ClassImages": {},
        }.items()
    ]
    trainer = {
        "max_epochs": 1,
        "accelerator": "cpu",
        "enable_progress_bar": False,
        "callbacks": chosen,
    }
    (tmp_path / "theirs.yaml").write_text(yaml.safe_dump({"trainer": trainer}))
    (tmp_path / "my_project.py").write_text(PROGRAM.replace("PACKAGE", package))
    # A process of its own: in one, the short names of both packages' callbacks are ambiguous.
    run = subprocess.run(
        [sys.executable, "my_project.py", "fit", "--config=theirs.yaml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert "could not explain" not in run.stderr
    (folder,) = tmp_path.glob("lightning_logs/version_0/plugins/firstlight")
    written = {str(path.parent.relative_to(folder)) for path in folder.rglob("*.safetensors")}
    assert written == {
        "1_first_layer/maps",
        "2_sensitivity/maps",
        "3_patterns/first_layer",
        "3_patterns/signal_and_attribution",
        "4_inside/class_images",
    }
