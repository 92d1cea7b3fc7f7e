"""The callbacks in the YAML of somebody else's LightningCLI, of either Lightning."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch.utils.data import DataLoader

LINES = [
    ("lightning.pytorch", "firstlight.callbacks"),
    # It compares classes, and takes those of a module for it.
    ("pytorch_lightning", "firstlight.pytorch_lightning"),
]


@pytest.mark.parametrize(("package", "callbacks"), LINES)
def test_callbacks_and_a_function_for_logits_are_named_in_its_yaml(
    data: Any,
    theirs: Any,
    told: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    recwarn: Any,
    package: str,
    callbacks: str,
) -> None:
    cli = pytest.importorskip(f"{package}.cli")
    module = type(theirs(importlib.import_module(package)))

    class WithData(module):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            super().__init__(answer=lambda logits: (None, logits))

        def train_dataloader(self) -> Any:
            return DataLoader(data, 8)

    Path(tmp_path, "my_project.py").write_text("def second(module, x):\n    return module(x)[1]\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
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
    Path("theirs.yaml").write_text(yaml.safe_dump({"trainer": trainer}))
    torch.manual_seed(0)
    cli.LightningCLI(WithData, args=["fit", "--config=theirs.yaml"])
    assert not told(recwarn)
    (folder,) = tmp_path.glob("lightning_logs/version_0/plugins/firstlight")
    written = {str(path.parent.relative_to(folder)) for path in folder.rglob("*.safetensors")}
    assert written == {
        "1_first_layer/maps",
        "2_sensitivity/maps",
        "3_patterns/first_layer",
        "3_patterns/signal_and_attribution",
        "4_inside/class_images",
    }
