"""Two processes: the callbacks neither change nor stop a distributed run."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

pytestmark = pytest.mark.slow

PROGRAM = '''
import sys
import warnings
from contextlib import ExitStack
from unittest.mock import patch

import torch
import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from firstlight.callbacks import record
from firstlight.callbacks import (
    ActivationMaps,
    ClassImages,
    Explanation,
    ExplanationCallback,
    FirstLayerMaps,
    MaximallyActivatingPatches,
    PatternMonitor,
    SensitivityMaps,
)
from firstlight.pipeline import PatternStatistics, SmoothGrad
from firstlight.pipeline.inside import Fooling
from firstlight.pipeline.inside import GradientAscent

COLLECTIVES = [
    name
    for name in ("all_reduce", "all_gather", "all_gather_object", "barrier", "broadcast",
                 "broadcast_object_list", "gather", "gather_object", "monitored_barrier", "reduce",
                 "reduce_scatter", "reduce_scatter_tensor", "all_gather_into_tensor", "all_to_all",
                 "all_to_all_single", "scatter", "scatter_object_list", "send", "recv")
    if hasattr(dist, name)
]


class Net(LightningModule):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.hidden = nn.Linear(64, 12)
        self.head = nn.Linear(12, 4)

    def forward(self, images):
        pooled = F.max_pool2d(F.relu(self.norm(self.conv(images))), 2).flatten(1)
        return self.head(F.dropout(F.relu(self.hidden(pooled)), 0.3, self.training))

    def training_step(self, batch):
        loss = F.cross_entropy(self(batch[0] + 0.1 * torch.randn_like(batch[0])), batch[1])
        self.log("loss", loss, on_step=False, on_epoch=True, sync_dist=True)
        return loss

    def validation_step(self, batch):
        self.log("val_loss", F.cross_entropy(self(batch[0]), batch[1]), sync_dist=True)

    test_step = validation_step

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.01)


class Raises(ExplanationCallback):
    """Fails on the one process that explains."""

    family = "9_raises"

    def pick(self, trainer):
        return None

    def explain(self, model, picked, when):
        raise ArithmeticError(f"no light on rank {model.global_rank}")


def spied_on(callback, calls, explained):
    """The callback, which writes down that it explains, and the collectives that this calls."""
    explain, really_explain = callback._run, callback.explain

    def note_explaining(*arguments):
        explained.append(type(callback).__name__)
        return really_explain(*arguments)

    callback.explain = note_explaining

    def run(*arguments):
        with ExitStack() as stack:
            for name in COLLECTIVES:
                real = getattr(dist, name)
                note = lambda *a, real=real, name=name, **k: (calls.append(name), real(*a, **k))[1]
                stack.enter_context(patch.object(dist, name, note))
            explain(*arguments)

    callback._run = run
    return callback


def explanations():
    return [
        FirstLayerMaps(images_per_class=4),
        SensitivityMaps(methods=[SmoothGrad(samples=4)]),
        PatternMonitor(count=20),
        ActivationMaps(),
        MaximallyActivatingPatches(count=20),
        ClassImages(GradientAscent(steps=2), Fooling(steps=2)),
    ]


def trained(callbacks, logger):
    seed_everything(5, verbose=False)
    torch.manual_seed(5)
    model = Net()
    trainer = Trainer(
        accelerator="cpu", devices=2, strategy="ddp", max_epochs=2, callbacks=callbacks,
        logger=logger, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, log_every_n_steps=1,
    )
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(48) % 4
    images = torch.rand(48, 1, 8, 8, generator=generator) + labels[:, None, None, None] / 4
    data = TensorDataset(images, labels)
    loaders = DataLoader(data, 8, shuffle=True), DataLoader(data, 8)
    trainer.fit(model, *loaders)
    left = {
        "weights and buffers": {n: t.clone() for n, t in model.state_dict().items()},
        "optimiser": trainer.optimizers[0].state_dict()["state"],
        "random numbers": torch.get_rng_state(),
    }
    if callbacks:
        trainer.test(model, loaders[1], verbose=False)
    return left


def statistics():
    """Patterns of two processes with every other batch, and of one with all."""
    torch.manual_seed(7)
    model = Net().eval()
    batches = torch.rand(9, 6, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    shared, alone = PatternStatistics(model), PatternStatistics(model, sync_on_compute=False)
    for batch in batches[dist.get_rank()::2]:
        shared.update(batch)
    for batch in batches:
        alone.update(batch)
    fields = "weight", "linear", "positive", "negative", "input_mean", "input_variance"
    return [
        {
            layer: {name: getattr(pattern, name) for name in (*fields, "positive_count", "count")}
            for layer, pattern in metric.compute().items()
        }
        for metric in (shared, alone)
    ]


def counting(write):
    """The function that writes a sheet, which counts how often this process does."""
    def counted(*arguments):
        written.append(arguments[1])
        return write(*arguments)

    return counted


if __name__ == "__main__":
    collectives, explained, noticed, written = [], [], [], []
    record.write_sheet = counting(record.write_sheet)
    found = {"without": trained([], False)}
    callbacks = [spied_on(callback, collectives, explained) for callback in explanations()]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found["with"] = trained(callbacks, [TensorBoardLogger("board"), CSVLogger("csv")])
        found["failures"] = [str(w.message) for w in caught if "explain" in str(w.message)]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found["raising"] = trained([Raises()], False)
        found["told"] = [str(w.message) for w in caught if "Raises" in str(w.message)]
    found["files"] = trained([spied_on(SensitivityMaps(), collectives, explained)], False)
    found["written"] = [str(folder) for folder in written]
    found["collectives"], found["explained"] = collectives, explained
    careless = SensitivityMaps()
    careless._run = lambda: dist.barrier()
    spied_on(careless, noticed, [])._run()
    found["noticed"] = noticed
    found["patterns"] = statistics()
    torch.save(found, f"rank{dist.get_rank()}.pt")
'''


@pytest.fixture(scope="module")
def run(program: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of two processes, which has ended: a collective that only one of them
    calls would have kept it waiting."""
    folder = tmp_path_factory.mktemp("two_processes")
    ended = program(folder, PROGRAM, timeout=400)
    assert ended.returncode == 0, ended.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def ranks(run: Path) -> list[Any]:
    return [torch.load(run / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)]


def assert_identical(a: Any, b: Any) -> None:
    if isinstance(a, Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_identical(a[key], b[key])
    else:
        assert a == b


@pytest.mark.parametrize("callbacks", ["with", "raising", "files"])
@pytest.mark.parametrize("rank", [0, 1])
def test_training_is_bit_identical_with_the_callbacks(
    ranks: list[Any], callbacks: Any, rank: Any
) -> None:
    assert_identical(ranks[rank]["without"], ranks[rank][callbacks])


def test_both_processes_trained_and_have_the_same_weights(
    ranks: list[Any],
) -> None:
    """So that the comparison above is not of two runs that did nothing."""
    name = "weights and buffers"
    for layer in ("conv.weight", "head.bias"):
        assert torch.equal(ranks[0]["with"][name][layer], ranks[1]["with"][name][layer])
    assert ranks[0]["with"]["optimiser"][0]["step"] == 6


def test_explanations_call_no_collective(ranks: list[Any]) -> None:
    assert [rank["collectives"] for rank in ranks] == [[], []]
    assert [rank["noticed"] for rank in ranks] == [["barrier"], ["barrier"]]


def test_only_one_process_explains(ranks: list[Any]) -> None:
    """Before training, after both epochs and in the test, and once to measure what that costs; and
    once more with files."""
    explained = Counter(ranks[0]["explained"])
    assert explained.pop("SensitivityMaps") == 10
    assert set(explained.values()) == {5}
    assert ranks[1]["explained"] == []


def test_nothing_failed(ranks: list[Any]) -> None:
    assert [rank["failures"] for rank in ranks] == [[], []]


def test_a_failure_on_one_process_is_told_once_and_keeps_nobody_waiting(ranks: list[Any]) -> None:
    (said,) = ranks[0]["told"]
    assert "no light on rank 0" in said
    assert ranks[1]["told"] == []


def test_pictures_are_logged_once_at_the_steps_of_the_training_curve(run: Path) -> None:
    (folder,) = (run / "board" / "lightning_logs").iterdir()
    events = EventAccumulator(str(folder), size_guidance={"images": 0}).Reload()
    curve = [scalar.step for scalar in events.Scalars("loss")]
    assert curve == [2, 5]
    training = [tag for tag in events.Tags()["images"] if not tag.startswith("test/")]
    assert {tag.split("/")[0] for tag in training} == {
        "1_first_layer",
        "2_sensitivity",
        "3_patterns",
        "4_inside",
    }
    for tag in training:
        assert [image.step for image in events.Images(tag)] == [0, *curve]
        assert len(events.Images(f"test/{tag}")) == 1


def test_each_sheet_is_written_once_by_one_process(run: Path, ranks: list[Any]) -> None:
    assert ranks[1]["written"] == []
    for logger in "board", "csv":
        (folder,) = (run / logger / "lightning_logs").iterdir()
        sheets = Counter(path.parent for path in folder.rglob("plugins/**/*.safetensors"))
        tags = {
            str(sheet.relative_to(folder / "plugins/firstlight")): sheets[sheet] for sheet in sheets
        }
        training = {tag: count for tag, count in tags.items() if not tag.startswith("test/")}
        # Before training and after both epochs; and once in the test.
        assert len(training) == 7
        assert set(training.values()) == {3}
        assert tags == training | {f"test/{tag}": 1 for tag in training}
        assert ranks[0]["written"].count(str(folder.relative_to(run))) == sum(tags.values())


def test_files_are_written_once(run: Path) -> None:
    pictures = run / "explanations" / "2_sensitivity" / "maps"
    steps = ["step_0000000.png", "step_0000002.png", "step_0000005.png"]
    assert sorted(path.name for path in pictures.iterdir()) == steps


def test_pattern_statistics_of_two_processes_are_those_of_one(ranks: list[Any]) -> None:
    shared, alone = ranks[0]["patterns"]
    assert list(shared) == ["conv", "hidden", "head"]
    assert_identical(shared, ranks[1]["patterns"][0])
    for layer, fields in alone.items():
        for name, value in fields.items():
            if isinstance(value, Tensor) and value.is_floating_point():
                scale = value.abs().max()
                assert (shared[layer][name] - value).abs().max() <= 1e-12 * scale, (layer, name)
            else:
                assert_identical(shared[layer][name], value)
