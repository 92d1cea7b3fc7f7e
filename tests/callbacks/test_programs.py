"""The table of programs and features: what each program of somebody else has of the callbacks.

A row of :data:`PROGRAMS` is a program. Each runs once with the callbacks and once without, in
either package of Lightning; every test is a feature that all of them have.
"""

from __future__ import annotations

import copy
import csv
import pickle
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from firstlight.board.sheet_file import read_sheet
from firstlight.callbacks import (
    ActivationMaps,
    ClassImages,
    FirstLayerMaps,
    MaximallyActivatingPatches,
    PatternMonitor,
    SensitivityMaps,
)
from firstlight.pipeline import Gradient
from firstlight.pipeline.drawing import input_picture
from firstlight.pipeline.drawing.input_picture import as_bytes as as_pixels
from firstlight.pipeline.inside import Fooling, GradientAscent

PACKAGES = ["lightning.pytorch", "pytorch_lightning"]
THREE = {"1_first_layer/maps", "2_sensitivity/maps", "3_patterns/signal_and_attribution"}
OF_VALUES = THREE - {"1_first_layer/maps"}
INSIDE = {"4_inside/activation_maps/net.0", "4_inside/patches/net.0", "4_inside/class_images"}
LABELS = ["0", "1", "2", "3"]
NAMES = ["north", "east", "south", "west"]


@dataclass
class Program:
    """A program, and what is expected of its sheets.

    Attributes:
        parts: What its module does in its own way, see ``their_module``.
        data: Its data set, made of images (24, 1, 8, 8) with a class each.
        collate: How a batch is made.
        arguments: Those of all callbacks.
        also: More callbacks than the three.
        beside: Callbacks of the program itself.
        in_data_module: Whether hooks are those of a data module.
        sheets: The sheets that there are.
        rows: The names of the rows of the sensitivity maps.
        caption: The beginning of their caption.
        note: What is below an image, of the module's outputs for it.
        told: What is said beside; nothing by default.
    """

    parts: dict[str, Any] = field(default_factory=dict)
    data: Callable[[Tensor, Tensor], Dataset[Any]] = TensorDataset
    collate: Callable[[Any], Any] | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    also: Sequence[Callable[[], Any]] = ()
    beside: Callable[[Any], list[Any]] = lambda package: []
    in_data_module: bool = False
    sheets: set[str] = field(default_factory=lambda: THREE)
    rows: list[str] = field(default_factory=lambda: LABELS)
    caption: str = "Rows: label; below each image what the network sees."
    note: Callable[[Tensor], str] = lambda z: f"{int(z.argmax())}: {float(z.softmax(0).max()):.0%}"
    told: str = ""


# What the parts are made of


def to_float(self: Any, batch: Any, dataloader_idx: int) -> Any:
    images, labels = batch
    return images.float() / 255, labels


def to_channels_first(self: Any, batch: Any, dataloader_idx: int) -> Any:
    images, labels = batch
    return images.permute(0, 3, 1, 2).float() / 255, labels


def augment(self: Any, batch: Any, dataloader_idx: int) -> Any:
    images, labels = batch
    return (1 - images if self.trainer.training else images), labels


def as_bytes(images: Tensor, labels: Tensor) -> Dataset[Any]:
    return TensorDataset((100 * images).byte(), labels)


def channels_last(images: Tensor, labels: Tensor) -> Dataset[Any]:
    return TensorDataset((100 * images).byte().permute(0, 2, 3, 1), labels)


def with_labels(make: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], Dataset[Any]]:
    return lambda images, labels: TensorDataset(images, make(labels))


def several(labels: Tensor) -> Tensor:
    return (F.one_hot(labels, 4) | F.one_hot((labels + 1) % 4, 4)).float()


def named(images: Tensor, labels: Tensor) -> Dataset[Any]:
    dataset = TensorDataset(images, labels)
    dataset.classes = NAMES  # type: ignore[attr-defined]
    return dataset


class Stream(IterableDataset[Any]):
    def __init__(self, *tensors: Tensor) -> None:
        self.data = TensorDataset(*tensors)

    def __iter__(self) -> Iterator[Any]:
        return (self.data[i] for i in range(len(self.data)))


def collated(pack: Callable[[Tensor], Any]) -> Callable[[Any], Any]:
    def collate(items: Any) -> Any:
        images, labels = zip(*items, strict=True)
        return pack(torch.stack(images)), torch.stack(labels)

    return collate


def second(module: Any, images: Any) -> Tensor:
    """The logits of a module that returns several things."""
    return module(images)[1]


def without_labels(module: Any, images: Any) -> Tensor:
    """The logits of a module that also takes labels."""
    return module(images, None)[0]


def takes_labels(self: Any, images: Any, labels: Any) -> Any:
    logits = self.net(images)
    return logits, None if labels is None else F.cross_entropy(logits, labels)


def by_hand(self: Any, batch: Any, batch_idx: int) -> None:
    """Two optimisers that take turns."""
    self.trained.append(batch[0])
    for optimizer in self.optimizers():
        optimizer.zero_grad()
        self.manual_backward(F.cross_entropy(self(batch[0]), batch[1]))
        optimizer.step()


def two_optimizers(self: Any) -> Any:
    halves = self.net[1], self.net[3]
    return [torch.optim.SGD(half.parameters(), lr=0.1) for half in halves]


def convolutions() -> nn.Module:
    pooled = nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 4)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), *pooled)


def binary(z: Tensor) -> str:
    """One logit, of which the class is the sign."""
    return f"{int(z > 0)}: {float(z.abs().sigmoid()):.0%}"


def seen_labels(z: Tensor) -> str:
    """The strongest label, and the next if it is seen as well."""
    share, label = z.sigmoid().topk(2)
    found = [f"{int(i)}: {s:.0%}" for i, s in zip(label, share.tolist(), strict=True)]
    return ", ".join(found if share[1] > 0.5 else found[:1])


def values(z: Tensor) -> str:
    return ", ".join(f"{value:.3g}" for value in z.tolist())


BINARY = {"data": with_labels(lambda labels: (labels % 2).float()), "rows": ["0", "1"]}
CROSS_ENTROPY_OF_ONE = {
    "outputs": 1,
    "loss": lambda z, y: F.binary_cross_entropy_with_logits(z.flatten(), y.float()),
}
AVERAGED: dict[str, Any] = {}
SQUARES = {"loss": lambda z, y: F.mse_loss(z.squeeze(1), y.float())}
VALUE_ROWS = "Rows: right values; below each image the network's."

PROGRAMS = {
    "a plain module": Program(),
    "convolutions": Program(
        {"net": convolutions},
        also=(
            lambda: ActivationMaps(channels=2),
            lambda: MaximallyActivatingPatches(channels=2, k=2),
            lambda: ClassImages(GradientAscent(steps=2), Fooling(steps=2)),
        ),
        sheets=THREE | INSIDE,
    ),
    "no convolution to look into": Program(
        also=(ActivationMaps,), told="ActivationMaps could not explain .* no Conv2d; name a layer"
    ),
    # The images that validation sees
    "hooks that convert before and augment after the transfer": Program(
        {"on_before_batch_transfer": to_float, "on_after_batch_transfer": augment}, as_bytes
    ),
    "the same hooks in the data module": Program(
        {"on_before_batch_transfer": to_float, "on_after_batch_transfer": augment},
        as_bytes,
        in_data_module=True,
    ),
    "bytes (N, H, W, C) that a hook converts": Program(
        {"on_after_batch_transfer": to_channels_first}, channels_last
    ),
    "bytes that the module converts": Program(
        {"enter": lambda images: images.float() / 255}, as_bytes
    ),
    "images (N, H, W)": Program(collate=collated(lambda images: images.squeeze(1))),
    "lists of (C, H, W)": Program(
        {"enter": lambda images: torch.stack(list(images))}, collate=collated(list)
    ),
    "a stream": Program(data=Stream),
    # The scores that the program means
    "one logit": Program(CROSS_ENTROPY_OF_ONE, **BINARY, note=binary),
    "one logit without a dimension for it": Program(
        {**CROSS_ENTROPY_OF_ONE, "answer": lambda z: z.squeeze(1)}, **BINARY, note=binary
    ),
    "a sigmoid at the end": Program(
        {**CROSS_ENTROPY_OF_ONE, "answer": lambda z: torch.sigmoid(z).squeeze(1)},
        **BINARY,
        note=binary,
    ),
    "a log_softmax at the end": Program({"answer": lambda z: F.log_softmax(z, dim=1)}),
    "several labels": Program(
        {"loss": F.binary_cross_entropy_with_logits},
        with_labels(several),
        rows=["0, 1", "1, 2", "2, 3", "0, 3"],
        caption="Rows: the image's labels; below each image the labels that the network sees.",
        note=seen_labels,
    ),
    "one value": Program(
        {"outputs": 1, **SQUARES},
        with_labels(lambda labels: labels.float() / 3),
        sheets=OF_VALUES,
        rows=["0", "0.333", "0.667", "1", "0", "0.333", "0.667", "1", "0", "0.333"],
        caption=VALUE_ROWS,
        note=values,
        told="FirstLayerMaps could not explain .* need labelled images",
    ),
    "several values": Program(
        {"outputs": 2, "loss": F.mse_loss},
        with_labels(lambda labels: torch.stack((labels / 3, labels / 4), 1)),
        sheets=OF_VALUES,
        rows=["0, 0", "0.333, 0.25", "0.667, 0.5", "1, 0.75"] * 2 + ["0, 0", "0.333, 0.25"],
        caption=f"{VALUE_ROWS} Maps explain the first value.",
        note=values,
        told="FirstLayerMaps could not explain .* need labelled images",
    ),
    "whole numbers as values": Program(
        {"outputs": 1, **SQUARES},
        arguments={"head": "values"},
        sheets=OF_VALUES,
        caption=VALUE_ROWS,
        note=values,
        told="FirstLayerMaps could not explain .* outputs are values",
    ),
    "an object with logits": Program(
        {"answer": lambda logits: SimpleNamespace(logits=logits, loss=None)}
    ),
    "a dictionary": Program({"answer": lambda logits: {"loss": None, "logits": logits}}),
    "a tuple": Program({"answer": lambda logits: (None, logits)}, arguments={"logits": second}),
    "a forward that takes labels": Program(
        {"forward": takes_labels}, arguments={"logits": without_labels}
    ),
    "data that name their classes": Program(
        data=named,
        rows=NAMES,
        note=lambda z: f"{NAMES[int(z.argmax())]}: {float(z.softmax(0).max()):.0%}",
    ),
    # How it trains
    "averaged weights": Program(
        AVERAGED,
        # Lightning before 2.6 has none.
        beside=lambda package: [package.callbacks.EMAWeightAveraging(decay=0.5)],
    ),
    "manual optimisation": Program(
        {
            "automatic_optimization": False,
            "training_step": by_hand,
            "configure_optimizers": two_optimizers,
        }
    ),
    # What cannot be explained
    "no images": Program(
        {"net": lambda: nn.Linear(64, 4)},
        lambda images, labels: TensorDataset(images.flatten(1), labels),
        sheets=set(),
        told="FirstLayerMaps, SensitivityMaps and PatternMonitor could .* no images",
    ),
    "a forward that takes no images": Program(
        {"net": lambda: nn.Linear(64, 4), "enter": lambda images: images.flatten(1)}
        | {"forward": lambda self, x: self.net(x)},
        sheets=set(),
        told=r"FirstLayerMaps, .* does not take images \(1, 1, 8, 8\): .* pass .* logits=",
    ),
    "a map as output": Program(
        {"net": lambda: nn.Conv2d(1, 4, 1), "loss": lambda z, y: z.square().mean()},
        also=(ActivationMaps,),
        sheets={"4_inside/activation_maps/net"},
        told=r"FirstLayerMaps, .* must return logits .* \(1, 4, 8, 8\); pass the callback logits=",
    ),
    "labels that are not of its outputs": Program(
        {"outputs": 2, "loss": lambda z, y: z.square().mean()},
        sheets=set(),
        told="FirstLayerMaps, .* the labels reach 3, but the network has outputs for 2 classes",
    ),
}


# How they run


@dataclass
class Ran:
    """A program that ran with the callbacks."""

    program: Program
    module: Any
    callbacks: list[Any]
    folder: Path
    told: list[str]
    without: dict[str, Tensor]

    def sheet(self, tag: str) -> Any:
        """The last sheet of this tag."""
        return read_sheet(max(Path(self.folder, "plugins/firstlight", tag).iterdir()))

    def sheets(self) -> set[str]:
        files = Path(self.folder, "plugins/firstlight").rglob("*.safetensors")
        found = {str(file.parent.relative_to(self.folder / "plugins/firstlight")) for file in files}
        # The weights and patterns of a layer, and patches of the other layers, are beside these.
        return found - {"3_patterns/first_layer"}

    def validated(self) -> Tensor:
        """All images that reached the validation, as floats (N, C, H, W)."""
        images = torch.cat([torch.stack(list(batch)) for batch in self.module.validated]).float()
        return images if images.ndim == 4 else images[:, None]

    def shown(self, tag: str) -> list[int]:
        """Which of these images the rows of a sheet show; -1 for another."""
        known = as_pixels(input_picture(self.validated()))[..., 0].numpy()  # they are grey
        pictures = np.asarray(self.sheet(tag).columns[0].values)
        assert pictures.shape[1:] == known.shape[1:]
        places = [[i for i, one in enumerate(known) if np.array_equal(one, p)] for p in pictures]
        return [found[0] if found else -1 for found in places]


def run(package: Any, program: Program, theirs: Any, folder: Path, callbacks: list[Any]) -> Any:
    """Train the program for an epoch, and return its module."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(3)
    labels = torch.arange(24) % 4
    images = torch.rand((24, 1, 8, 8), generator=generator)
    dataset = program.data(images, labels)
    loader = DataLoader(dataset, 8, collate_fn=program.collate)
    hooks = {name: hook for name, hook in program.parts.items() if name.startswith("on_")}
    parts = program.parts
    if program.in_data_module:
        parts = {name: part for name, part in parts.items() if name not in hooks}
    module = theirs(package, **parts)
    trainer = package.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=package.loggers.CSVLogger(folder, name="", version="run"),
        callbacks=[*program.beside(package), *callbacks],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    if program.in_data_module:
        loaders = {f"{name}_dataloader": lambda self: loader for name in ("train", "val")}
        data = type("Data", (package.LightningDataModule,), {**hooks, **loaders})()
        trainer.fit(module, datamodule=data)
    else:
        trainer.fit(module, loader, loader)
    return module


@pytest.fixture(scope="module", params=PACKAGES)
def package(request: Any) -> Any:
    return pytest.importorskip(request.param)


@pytest.fixture(scope="module", params=PROGRAMS)
def ran(request: Any, package: Any, theirs: Any, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    program, folder = PROGRAMS[request.param], tmp_path_factory.mktemp("program")
    if program.parts is AVERAGED and not hasattr(package.callbacks, "EMAWeightAveraging"):
        pytest.skip("this Lightning does not average weights")
    # Once is enough here; that it is done before training too is a test of the callback's base.
    common = {"before_training": False, **program.arguments}
    callbacks = [
        FirstLayerMaps(images_per_class=2, **common),
        SensitivityMaps([Gradient()], **common),
        PatternMonitor(count=12, units=2, **common),
        *(make() for make in program.also),
    ]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        module = run(package, program, theirs, folder, callbacks)
        without = run(package, program, theirs, folder / "without", [])
    told = [str(w.message) for w in caught if "could not explain" in str(w.message)]
    return Ran(program, module, callbacks, folder / "run", told, without.state_dict())


# The features


def test_training_is_bit_identical(ran: Ran) -> None:
    trained = ran.module.state_dict()
    assert trained.keys() == ran.without.keys()
    assert all(torch.equal(trained[name], ran.without[name]) for name in trained)


def test_what_can_be_explained_has_a_sheet_and_the_rest_is_told_in_one_line(ran: Ran) -> None:
    assert ran.sheets() == ran.program.sheets
    assert len(ran.told) == bool(ran.program.told)
    for said in ran.told:
        assert re.search(ran.program.told, said)


def test_images_are_those_that_validation_saw(ran: Ran) -> None:
    if "2_sensitivity/maps" not in ran.program.sheets:
        pytest.skip("nothing is shown")
    for tag in ran.program.sheets & THREE - {"1_first_layer/maps"}:
        assert ran.shown(tag) == list(range(len(ran.program.rows)))


def test_rows_and_notes_say_what_the_program_means(ran: Ran) -> None:
    if "2_sensitivity/maps" not in ran.program.sheets:
        pytest.skip("nothing is shown")
    sheet = ran.sheet("2_sensitivity/maps")
    assert list(sheet.rows) == ran.program.rows
    assert sheet.caption.startswith(ran.program.caption)
    if ran.program.parts is AVERAGED:
        return  # weights are averaged, and the module's own are not those that were explained
    with torch.no_grad():
        outputs = ran.module.net.eval()(ran.module.enter(ran.validated()))
    expected = [ran.program.note(outputs[i]) for i in ran.shown("2_sensitivity/maps")]
    assert [sheet.note(i, 0) for i in range(len(expected))] == expected


def test_numbers_are_logged(ran: Ran) -> None:
    with (ran.folder / "metrics.csv").open() as file:
        names = set(csv.DictReader(file).fieldnames or ())
    assert "val_loss" in names
    shown = {tag.split("/")[0] for tag in ran.program.sheets}
    assert {name.split("/")[0] for name in names if name[1:2] == "_"} >= shown
    assert ("2_sensitivity/tv/Gradient" in names) == ("2_sensitivity/maps" in ran.program.sheets)


def test_callbacks_are_pickled_and_copied_without_images(ran: Ran) -> None:
    for callback in ran.callbacks:
        if not ran.program.arguments:
            assert len(pickle.dumps(callback)) <= len(pickle.dumps(type(callback)())) + 600
        assert not tensors_in(copy.deepcopy(callback))


def tensors_in(value: Any, deeper: int = 5) -> list[Tensor]:
    """All tensors that an object holds."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        parts = list(value.values())
    elif isinstance(value, (list, tuple)):
        parts = list(value)
    else:
        parts = list(getattr(value, "__dict__", {}).values())
    return [t for part in parts if deeper for t in tensors_in(part, deeper - 1)]
