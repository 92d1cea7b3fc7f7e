"""Maps of a whole data set, streamed to disk."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from firstlight.callbacks import MapWriter, load_maps
from firstlight.datamodules import ImageFolder
from firstlight.errors import FirstlightError
from firstlight.pipeline import Gradient, IntegratedGradients, SmoothGrad


def predict(trainer_in: Any, stranger: Any, data: Any, *callbacks: Callback) -> None:
    stranger.predict_step = lambda batch: stranger(batch[0])
    trainer = trainer_in(callbacks=list(callbacks), logger=False)
    trainer.predict(stranger, DataLoader(data, 5), return_predictions=False)


def test_every_image_has_its_map_in_the_order_of_the_data(trainer_in, stranger, data, tmp_path):
    folder = tmp_path / "maps"
    predict(trainer_in, stranger, data, MapWriter(folder, Gradient(), batches_per_shard=4))
    written = load_maps(folder)
    images = data.tensors[0]
    assert written.indices.tolist() == list(range(48))
    assert torch.equal(written.predicted, stranger.eval()(images).argmax(1))
    torch.testing.assert_close(written.maps, Gradient()(stranger, images))
    assert len(list(folder.glob("*.safetensors"))) == 3
    assert not list(folder.glob("*.part"))


def test_maps_carry_labels_and_the_files_of_pictures(trainer_in, stranger, tmp_path):
    for number in range(12):
        path = tmp_path / "pictures" / "abcd"[number % 4] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 20 * number).save(path)
    data = ImageFolder(tmp_path / "pictures", 8, 1, batch_size=2, num_workers=0, test_size=0.5)
    stranger.predict_step = lambda batch: stranger(batch[0])
    writer = MapWriter(tmp_path / "maps", Gradient(), batches_per_shard=2)
    trainer_in(callbacks=[writer], logger=False).predict(stranger, data, return_predictions=False)
    written = load_maps(tmp_path / "maps")
    assert len(set(written.files)) == len(written.maps) == 6
    for file, label, map_ in zip(written.files, written.labels, written.maps, strict=True):
        assert Path(file).parent.name == "abcd"[label]
        grey = 20 * int(Path(file).stem) / 255
        image = torch.full((1, 1, 8, 8), grey)
        torch.testing.assert_close(map_[None], Gradient()(stranger.eval(), image))


def test_data_without_labels_or_files_have_none(trainer_in, stranger, data, tmp_path):
    stranger.predict_step = lambda batch: stranger(batch[0])
    writer = MapWriter(tmp_path / "maps", Gradient())
    loader = DataLoader(TensorDataset(data.tensors[0]), 5)
    trainer_in(callbacks=[writer], logger=False).predict(stranger, loader)
    written = load_maps(tmp_path / "maps")
    assert written.labels is None
    assert written.files is None


def first_two(module: Any, images: Tensor) -> Tensor:
    """The logits of two of the classes."""
    return module(images)[:, :2]


def first_only(module: Any, images: Tensor) -> Tensor:
    return module(images)[:, :1]


def test_other_logits_and_heads(trainer_in, stranger, data, tmp_path):
    images, labels = data.tensors
    unlabelled = TensorDataset(images)
    two = MapWriter(tmp_path / "two", Gradient(), logits=first_two)
    predict(trainer_in, stranger, unlabelled, two)
    written, logits = load_maps(tmp_path / "two"), stranger.eval()(images)
    assert torch.equal(written.predicted, logits[:, :2].argmax(1))
    expected = Gradient()(stranger, images, logits[:, :2].argmax(1))
    torch.testing.assert_close(written.maps, expected)

    binary = TensorDataset(images, labels % 2)
    predict(
        trainer_in, stranger, binary, MapWriter(tmp_path / "one", Gradient(), logits=first_only)
    )
    written = load_maps(tmp_path / "one")
    assert torch.equal(written.predicted, (logits[:, 0] > 0).long())
    sign = torch.where(logits[:, 0] > 0, 0.5, -0.5)[:, None, None, None]
    torch.testing.assert_close(written.maps, sign * Gradient()(stranger, images, 0))

    value = MapWriter(tmp_path / "value", Gradient(), logits=first_only, head="values")
    predict(trainer_in, stranger, data, value)
    torch.testing.assert_close(load_maps(tmp_path / "value").maps, Gradient()(stranger, images, 0))
    with pytest.raises(ValueError, match="holds maps of other settings"):
        predict(trainer_in, stranger, data, MapWriter(tmp_path / "value", Gradient()))


def test_labels_that_are_no_classes_of_the_network_end_the_run_with_the_reason(
    trainer_in, stranger, data, tmp_path
):
    with pytest.raises(FirstlightError, match=r"labels reach 3, but .* 2 classes; .*head="):
        predict(trainer_in, stranger, data, MapWriter(tmp_path, Gradient(), logits=first_two))


class Counting(Gradient):
    """A gradient that counts the images it is asked for, and stops at one of them."""

    asked = 0
    stop_at = 10**9

    def maps(self, model: Any, images: Tensor, score: Any) -> Tensor:
        if Counting.asked + len(images) > Counting.stop_at:
            raise KeyboardInterrupt
        Counting.asked += len(images)
        return super().maps(model, images, score)


def test_a_run_that_was_stopped_goes_on_where_it_ended(trainer_in, stranger, data, tmp_path):
    Counting.asked, Counting.stop_at = 0, 27
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        predict(trainer_in, stranger, data, MapWriter(tmp_path / "maps", Counting(), 2))
    assert len(load_maps(tmp_path / "maps").indices) == 20
    Counting.asked, Counting.stop_at = 0, 10**9
    predict(trainer_in, stranger, data, MapWriter(tmp_path / "maps", Counting(), 2))
    assert Counting.asked == 28
    written = load_maps(tmp_path / "maps")
    assert written.indices.tolist() == list(range(48))
    torch.testing.assert_close(written.maps, Gradient()(stranger, data.tensors[0]))


def test_the_settings_are_written_once(trainer_in, stranger, data, tmp_path):
    manifest = tmp_path / "manifest.json"
    predict(trainer_in, stranger, data, MapWriter(tmp_path, Gradient()))
    compact = json.dumps(json.loads(manifest.read_text()))
    manifest.write_text(compact)
    predict(trainer_in, stranger, data, MapWriter(tmp_path, Gradient()))
    assert manifest.read_text() == compact


def test_the_first_process_alone_writes_the_settings(trainer_in, stranger, tmp_path, monkeypatch):
    writer = MapWriter(tmp_path / "maps", Gradient())
    trainer = trainer_in(callbacks=[writer], logger=False)
    for is_first in (False, True):
        monkeypatch.setattr(type(trainer), "is_global_zero", is_first)
        monkeypatch.setattr(type(trainer), "num_predict_batches", [1], raising=False)
        monkeypatch.setattr(type(trainer), "predict_dataloaders", [], raising=False)
        writer.on_predict_start(trainer, stranger)
        assert Path(tmp_path, "maps", "manifest.json").exists() is is_first


def test_maps_of_other_settings_are_not_mixed(trainer_in, stranger, data, tmp_path):
    predict(trainer_in, stranger, data, MapWriter(tmp_path / "maps", Gradient()))
    with pytest.raises(ValueError, match="holds maps of other settings"):
        predict(trainer_in, stranger, data, MapWriter(tmp_path / "maps", SmoothGrad(samples=2)))
    with torch.no_grad():
        stranger.head.bias += 1
    with pytest.raises(ValueError, match="holds maps of other settings"):
        predict(trainer_in, stranger, data, MapWriter(tmp_path / "maps", Gradient()))


def test_other_images_batches_or_amounts_are_not_mixed(trainer_in, stranger, data, tmp_path):
    def run(images: Any, batch_size: int, **options: Any) -> None:
        stranger.predict_step = lambda batch: stranger(batch[0])
        writer = MapWriter(tmp_path / "maps", Gradient())
        trainer = trainer_in(callbacks=[writer], logger=False, **options)
        trainer.predict(stranger, DataLoader(images, batch_size), return_predictions=False)

    run(data, 5)
    run(data, 5)
    others = TensorDataset(1 - data.tensors[0], data.tensors[1])
    for images, batch_size, options in (
        (data, 6, {}),
        (data, 5, {"limit_predict_batches": 2}),
        (others, 5, {}),
    ):
        with pytest.raises(ValueError, match="holds maps of other settings"):
            run(images, batch_size, **options)


def no_light(images: Tensor) -> Tensor:
    return torch.zeros_like(images)


@pytest.mark.parametrize("baseline", [no_light, torch.full((1, 1, 8, 8), 0.25)])
def test_methods_with_functions_and_tensors_go_on_too(
    trainer_in, stranger, data, tmp_path, baseline
):
    for _ in range(2):
        method = IntegratedGradients(2, copy.copy(baseline))
        predict(trainer_in, stranger, data, MapWriter(tmp_path / "maps", method))
    with pytest.raises(ValueError, match="holds maps of other settings"):
        other = IntegratedGradients(2, torch.full((1, 1, 8, 8), 0.5))
        predict(trainer_in, stranger, data, MapWriter(tmp_path / "maps", other))


def test_an_empty_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no maps"):
        load_maps(tmp_path)


TWO_PROCESSES = """
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from firstlight.callbacks import MapWriter
from firstlight.pipeline import Gradient


class Theirs(LightningModule):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(16, 6), nn.ReLU(), nn.Linear(6, 3))

    def forward(self, images):
        return self.net(images)

    def predict_step(self, batch):
        return self(batch[0])


if __name__ == "__main__":
    images = torch.rand(23, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    trainer = Trainer(
        accelerator="cpu", devices=2, strategy="ddp", logger=False,
        enable_progress_bar=False, callbacks=[MapWriter("maps", Gradient(), 2)],
    )
    trainer.predict(Theirs(), DataLoader(TensorDataset(images), 4), return_predictions=False)
"""


@pytest.mark.slow
def test_two_processes_share_the_data_set(tmp_path):
    (tmp_path / "program.py").write_text(TWO_PROCESSES)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    ran = subprocess.run(
        [sys.executable, "program.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    written = load_maps(tmp_path / "maps")
    assert written.indices.tolist() == list(range(23))
    ranks = {path.name.split("-")[2] for path in Path(tmp_path, "maps").glob("*.safetensors")}
    assert ranks == {"00000", "00001"}
