"""Bad input is an error that names the argument, never a wrong map.

The table is made from the signatures of everything public: whatever a parameter's type does not
take must be refused, and so must what is of the right type and out of range.
"""

from __future__ import annotations

import inspect
import math
import re
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

import pytest
import torch
from lightning.pytorch import LightningDataModule
from PIL import Image
from torch import Tensor, nn

import firstlight.callbacks
import firstlight.datamodules
import firstlight.pipeline
from firstlight.callbacks import ExplanationCallback, load_maps
from firstlight.pipeline import (
    ClassScore,
    Difference,
    FirstLayerGradient,
    Fooling,
    Gradient,
    GradientAscent,
    ImageClassifier,
    ImageDegradation,
    IntegratedGradients,
    Method,
    Neuron,
    Pattern,
    PatternStatistics,
    Score,
    SignalQuality,
    SmoothGrad,
    activation_maps,
    cascading_randomisation,
    correlation,
    degradation_area,
    efficient_randomisation,
    entropy,
    gini,
    magnitude,
    map_changes,
    mass_on,
    rank_correlation,
    receptive_field,
    share_of_zeros,
    signal_quality,
    total_variation,
    undisturbed,
    without_class_mean,
)

MODULES = firstlight.pipeline, firstlight.callbacks, firstlight.datamodules


def network() -> nn.Module:
    torch.manual_seed(0)
    rest = nn.Flatten(), nn.Linear(48, 5), nn.ReLU(), nn.Linear(5, 3)
    return nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), *rest)


MODEL = network()
IMAGES = torch.rand(4, 1, 4, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 0])


def fitted() -> dict[str, Pattern]:
    statistics = PatternStatistics(MODEL)
    statistics.update(IMAGES)
    return statistics.compute()


PATTERNS = fitted()


# Constructors

REQUIRED: dict[str, dict[str, Any]] = {
    "PatternNet": {"patterns": PATTERNS},
    "PatternAttribution": {"patterns": PATTERNS},
    "PatternStatistics": {"model": MODEL},
    "SignalQuality": {"images": IMAGES},
    "StrongestPatches": {"model": MODEL, "layer": "0"},
    "MapWriter": {"folder": "maps"},
    "Neuron": {"layer": "0", "index": (0, 0, 0)},
    "Difference": {"first": 0, "second": 1},
    "ClassScore": {"classes": LABELS},
    "LogOdds": {"classes": LABELS},
    "Probability": {"classes": LABELS},
    "Examples": {"images": IMAGES, "labels": LABELS},
    "Moment": {"stage": "fit"},
    "FashionMNIST": {"root": "data"},
    "ImageFolder": {"root": "pictures", "num_workers": 0},
}
"""What a constructor must be given before one argument is made wrong."""

OF_EVERY_TYPE: list[Any] = ["nonsense", object(), None, True, -7, 1.5, math.nan, [], [object()], {}]

OUT_OF_RANGE: dict[str, list[Any]] = {
    "validation_size": [-1, 1.0, 10**6],
    "test_size": [-1, 1.0, 10**6],
    "cutoff": [-0.1, 1.0],
    "noise_levels": [[-0.1]],
    "sample_sizes": [[0]],
    "classes": [torch.tensor([0.0]), torch.tensor([-1, 0, 0, 0]), torch.tensor([[0]]), LABELS[:1]],
    "baseline": [torch.zeros(3)],
    "samples": [0, -1],
    "batch_size": [0, -1],
    "noise_level": [-0.1, 15, math.inf],
    "tolerance": [0.0, -1.0],
    "steps": [0, -1],
    "window": [0, (1,), (0, 2), (1, 2, 3)],
    "stride": [0, -1],
    "hidden": [[0], 0],
    "channels": [[0], 0],
    "input_shape": [[1, 2], [1, 0, 3], [1, 2, 3, 4]],
    "num_classes": [0, 1],
    "learning_rate": [0.0, -1.0, math.inf],
    "training_noise": [-0.1, math.inf],
    "every_n_epochs": [0],
    "images_per_class": [0],
    "most_classes": [0],
    "count": [0],
    "most_inputs": [0],
    "units": [0],
    "k": [0],
    "batches_per_shard": [0],
    "other": [-1],
    "approach": [0, 5],
    "methods": [[], [Gradient]],
    "layers": [["conv9"]],
    "image_size": [0],
    "num_workers": [-1],
}
"""Of the right type, by the name of the parameter."""


class Case(NamedTuple):
    construct: type[Any]
    right: dict[str, Any]
    name: str
    wrong: Any


def takes(hint: Any, value: Any) -> bool:
    """Whether a parameter of this type has a place for the value."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(takes(one, value) for one in inner)
    if origin is Literal:
        return any(type(value) is type(choice) and value == choice for choice in inner)
    if hint is float:
        return isinstance(value, int) or (isinstance(value, float) and not math.isnan(value))
    if hint is int:
        return type(value) is int
    # A text is a sequence, but nobody means its letters.
    if not isinstance(value, origin or hint) or (isinstance(value, str) and hint is not str):
        return False
    return not isinstance(value, list) or all(takes(inner[0], item) for item in value)


def constructors() -> Iterator[tuple[str, type[Any]]]:
    """Every public class that users make themselves; what calls return or raise is not made by
    them."""
    results = {"Explanation", "FoolingImages", "LayerQuality", "Patches", "Pattern"}
    results |= {"PreferredImages", "ReceptiveField"}
    for module in MODULES:
        for name in module.__all__:
            public = getattr(module, name)
            made = isinstance(public, type) and not inspect.isabstract(public)
            made = made and not issubclass(public, Exception)
            if made and not hasattr(public, "_fields") and name not in results:
                yield name, public


def constructor_cases() -> Iterator[Any]:
    for kind, construct in constructors():
        hints = typing.get_type_hints(construct if is_dataclass(construct) else construct.__init__)
        for name, parameter in inspect.signature(construct).parameters.items():
            if parameter.kind is parameter.VAR_KEYWORD:
                continue
            hint, out_of_range = hints[name], OUT_OF_RANGE.get(name, [])
            wrong = [value for value in OF_EVERY_TYPE if not takes(hint, value)] + out_of_range
            for value in wrong:
                case = Case(construct, REQUIRED.get(kind, {}), name, value)
                shown = re.sub(" at 0x\\w+", "", f"{value!r:.40}")
                yield pytest.param(case, id=f"{kind}({name}={shown})")


def used(made: Any) -> Any:
    """What is checked when the run starts and not before is used once."""
    if isinstance(made, Score):
        return Gradient()(MODEL, IMAGES, made)
    if isinstance(made, Method):
        return made(MODEL, IMAGES)
    if isinstance(made, SignalQuality):
        return made(MODEL, PATTERNS)
    if isinstance(made, ExplanationCallback):
        return made.check(ImageClassifier(MODEL))
    if isinstance(made, LightningDataModule):
        return made.setup("fit")
    return made


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with pictures and a data set in it."""
    for name in ("a", "b"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for i in range(4):
            Image.new("RGB", (8, 8)).save(tmp_path / "pictures" / name / f"{i}.png")
    (tmp_path / "data" / "FashionMNIST").mkdir(parents=True)
    sample = Path(inspect.getfile(firstlight.datamodules)).parent / "sample"
    (tmp_path / "data" / "FashionMNIST" / "raw").symlink_to(sample)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("kind", [name for name, _ in constructors()])
def test_the_right_arguments_are_taken(kind: str, folder: Path) -> None:
    """Else the table would prove nothing."""
    construct = dict(constructors())[kind]
    used(construct(**REQUIRED.get(kind, {})))


@pytest.mark.parametrize("case", list(constructor_cases()))
def test_a_constructor_refuses_what_it_cannot_use(case: Case, folder: Path) -> None:
    with pytest.raises((TypeError, ValueError, FileNotFoundError)) as error:
        used(case.construct(**{**case.right, case.name: case.wrong}))
    assert re.search(rf"\b{case.name.removesuffix('s')}", str(error.value))


# Calls

METHODS = [
    construct(**REQUIRED.get(name, {}))
    for name, construct in constructors()
    if issubclass(construct, Method)
]

CALLS: dict[str, Callable[..., Any]] = {
    **{type(method).__name__: method for method in METHODS},
    "SmoothGrad of IntegratedGradients": SmoothGrad(IntegratedGradients(2), samples=2),
    "SmoothGrad.estimate": SmoothGrad(samples=4).estimate,
    "FirstLayerGradient": lambda model, images, labels=LABELS: FirstLayerGradient()(
        model, images, labels
    ),
    "FirstLayerGradient.by_class": lambda model, images, labels=LABELS: FirstLayerGradient(
        1
    ).by_class(model, images, labels, (LABELS + 1) % 3),
    "FirstLayerGradient.pairs": lambda model, images, labels=LABELS: FirstLayerGradient(4).pairs(
        model, images, labels
    ),
    "PatternStatistics": lambda model, images: PatternStatistics(model).update(images),
    "signal_quality": lambda model, images: signal_quality(
        model, PATTERNS, images if isinstance(images, Tensor) else [images]
    ),
    "activation_maps": lambda model, images: activation_maps(model, images, "0"),
    "receptive_field": lambda model, images: receptive_field(model, images, "0"),
    "map_changes": lambda model, images: map_changes(Gradient(), model, images, draws=1),
    "cascading_randomisation": lambda model, images: cascading_randomisation(
        Gradient(), model, images
    ),
    "efficient_randomisation": lambda model, images: efficient_randomisation(
        Gradient(), model, images
    ),
    "ImageDegradation.removal": lambda model, images: ImageDegradation(steps=2).removal(
        model, images, IMAGES
    ),
    "ImageDegradation.insertion": lambda model, images: ImageDegradation(steps=2).insertion(
        model, images, IMAGES
    ),
    "GradientAscent": lambda model, images: GradientAscent(steps=1)(model, images, 0),
    "Fooling": lambda model, images: Fooling(steps=1)(model, images, LABELS),
}
"""All that is called with a model and images."""

WITH_LABELS = [name for name in CALLS if name.startswith("FirstLayerGradient")]
WITH_TARGET = [
    *(type(method).__name__ for method in METHODS),
    "SmoothGrad of IntegratedGradients",
    "SmoothGrad.estimate",
]

OF_MAPS: dict[str, Callable[[Any], Any]] = {
    "gini": gini,
    "total_variation": total_variation,
    "entropy": entropy,
    "magnitude": magnitude,
    "correlation": lambda maps: correlation(maps, IMAGES),
    "rank_correlation": lambda maps: rank_correlation(maps, IMAGES),
    "share_of_zeros": share_of_zeros,
    "mass_on": lambda maps: mass_on(maps, IMAGES > 0.5),
    "degradation_area": degradation_area,
    "ImageDegradation.removal": lambda maps: ImageDegradation(steps=2).removal(MODEL, IMAGES, maps),
}
"""All that is called with maps, or with curves of them."""

WRONG_IMAGES: dict[str, Any] = {
    "none": None,
    "numpy": IMAGES.numpy(),
    "a list": IMAGES.tolist(),
    "uint8": (255 * IMAGES).byte(),
    "int64": IMAGES.long(),
    "bool": IMAGES > 0.5,
    "complex": IMAGES.to(torch.complex64),
    "one image": IMAGES[0],
    "rows": IMAGES.flatten(1),
    "five dimensions": IMAGES[None],
    "no image": IMAGES[:0],
    "no pixel": IMAGES[..., :0],
    "another device": IMAGES.to("meta"),
    "NaN": IMAGES.clone().index_fill_(0, torch.tensor([2]), math.nan),
    "infinite": IMAGES.clone().index_fill_(0, torch.tensor([0]), math.inf),
    "both infinities": torch.cat((IMAGES[:2] + math.inf, IMAGES[2:] - math.inf)),
}

WRONG_CLASSES: dict[str, Any] = {
    "text": "1",
    "a float": 1.0,
    "true": True,
    "a list of fractions": LABELS.double().tolist(),
    "a list of truths": [True, False, True, False],
    "a list of lists": LABELS[:, None].tolist(),
    "a shorter list": [0, 1],
    "numpy": LABELS.numpy(),
    "negative": -1,
    "too large": 3,
    "float tensor": LABELS.float(),
    "bool tensor": LABELS > 0,
    "complex tensor": LABELS.to(torch.complex64),
    "too few": LABELS[:1],
    "too many": torch.cat((LABELS, LABELS)),
    "none at all": LABELS[:0],
    "a column": LABELS[:, None],
    "one-hot": torch.eye(3, dtype=torch.int64)[LABELS],
    "negative tensor": LABELS - 1,
    "too large tensor": LABELS + 1,
}

WRONG_TARGETS: dict[str, Any] = {
    **WRONG_CLASSES,
    "function without a tensor": lambda logits: 1.0,
    "function of all images": lambda logits: logits.sum(),
    "function of one image": lambda logits: logits[:1, 0],
    "function with a column": lambda logits: logits[:, :1],
}

WRONG_SCORES: dict[str, tuple[Callable[[], Score], str]] = {
    "classes of one image": (lambda: ClassScore(LABELS[:1]), "classes"),
    "a class that is not there": (lambda: ClassScore(LABELS + 1), "target=3"),
    "a difference with a class that is not there": (lambda: Difference(0, 3), "target=3"),
    "a difference with a negative class": (lambda: Difference(-1, 0), "target=-1"),
    "a difference of classes of one image": (
        lambda: Difference(ClassScore(LABELS[:1]), 0),
        "classes",
    ),
    "a layer that is not there": (lambda: Neuron("conv9", (0,)), "layer='conv9'"),
    "a unit that is not there": (lambda: Neuron("3", (5,)), r"index=\(5,\)"),
    "a unit with too many indices": (lambda: Neuron("3", (0, 0)), r"index=\(0, 0\)"),
    "a negative unit": (lambda: Neuron("3", (-1,)), r"index=\(-1,\)"),
}


class Returns(nn.Module):
    """A model that returns something else than logits."""

    def __init__(self, change: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.network = network()
        self.change = change

    def forward(self, images: Tensor) -> Any:
        return self.change(self.network(images))


WRONG_MODELS: dict[str, Any] = {
    "none": None,
    "text": "resnet18",
    "a function": lambda images: images.flatten(1),
    "a class": nn.Linear,
}

WITHOUT_LOGITS: dict[str, nn.Module] = {
    "a tuple": Returns(lambda logits: (logits, logits)),
    "a dictionary": Returns(lambda logits: {"scores": logits}),
    "classes": Returns(lambda logits: logits.argmax(1)),
    "a map of logits": Returns(lambda logits: logits[:, :, None, None]),
    "fewer rows": Returns(lambda logits: logits[:1]),
}


@pytest.mark.parametrize("call", CALLS)
def test_right_calls_are_answered(call: str) -> None:
    CALLS[call](MODEL, IMAGES)


@pytest.mark.parametrize("images", WRONG_IMAGES)
@pytest.mark.parametrize("call", CALLS)
def test_wrong_images_are_refused(call: str, images: str) -> None:
    with pytest.raises((TypeError, ValueError), match="images"):
        CALLS[call](MODEL, WRONG_IMAGES[images])


@pytest.mark.parametrize("target", WRONG_TARGETS)
@pytest.mark.parametrize("call", WITH_TARGET)
def test_wrong_targets_are_refused(call: str, target: str) -> None:
    with pytest.raises((TypeError, ValueError), match="target"):
        CALLS[call](MODEL, IMAGES, WRONG_TARGETS[target])


@pytest.mark.parametrize("score", WRONG_SCORES)
@pytest.mark.parametrize("call", WITH_TARGET)
def test_wrong_scores_are_refused(call: str, score: str) -> None:
    make, said = WRONG_SCORES[score]
    with pytest.raises((TypeError, ValueError), match=said):
        CALLS[call](MODEL, IMAGES, make())


@pytest.mark.parametrize("labels", WRONG_CLASSES)
@pytest.mark.parametrize("call", WITH_LABELS)
def test_wrong_labels_are_refused(call: str, labels: str) -> None:
    with pytest.raises((TypeError, ValueError), match="labels"):
        CALLS[call](MODEL, IMAGES, WRONG_CLASSES[labels])


@pytest.mark.parametrize("other", [*WRONG_CLASSES, "missing", "their own"])
@pytest.mark.parametrize("approach", [1, 4])
def test_a_wrong_other_class_is_refused(approach: Any, other: Any) -> None:
    wrong = {**WRONG_CLASSES, "missing": None, "their own": LABELS}[other]
    with pytest.raises((TypeError, ValueError), match="other"):
        FirstLayerGradient(approach)(MODEL, IMAGES, LABELS, wrong)


@pytest.mark.parametrize("model", WRONG_MODELS)
@pytest.mark.parametrize("call", [name for name in CALLS if name != "signal_quality"])
def test_what_is_no_module_is_refused(call: str, model: str) -> None:
    with pytest.raises(TypeError, match="model"):
        CALLS[call](WRONG_MODELS[model], IMAGES)


@pytest.mark.parametrize("model", WITHOUT_LOGITS)
@pytest.mark.parametrize("call", [*WITH_TARGET, *WITH_LABELS])
def test_a_model_without_logits_is_refused(call: str, model: str) -> None:
    with pytest.raises(ValueError, match="model: must return logits"):
        CALLS[call](WITHOUT_LOGITS[model], IMAGES)


@pytest.mark.parametrize("call", CALLS)
def test_images_that_do_not_fit_the_model_are_no_map(call: str) -> None:
    """The model's own error."""
    with pytest.raises((RuntimeError, ValueError)):
        CALLS[call](MODEL, torch.rand(4, 2, 5, 5))


@pytest.mark.parametrize("maps", ["none", "numpy", "a list"])
@pytest.mark.parametrize("call", OF_MAPS)
def test_what_are_no_maps_is_refused(call: str, maps: str) -> None:
    OF_MAPS[call](IMAGES)
    with pytest.raises(TypeError, match=r"\b(maps|curves)\b"):
        OF_MAPS[call](WRONG_IMAGES[maps])


NOTHING: Any = None


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: undisturbed(NOTHING).__enter__(), "module"),
        (lambda: without_class_mean(NOTHING, IMAGES), "maps"),
        (lambda: without_class_mean(IMAGES, NOTHING), "means"),
        (lambda: without_class_mean(IMAGES, IMAGES[:, :, :2]), "means"),
        (lambda: without_class_mean(IMAGES, IMAGES[:1]), "means"),
        (lambda: without_class_mean(IMAGES[0, 0], IMAGES[0, 0]), "means"),
        (lambda: signal_quality(MODEL, {}, IMAGES), "patterns"),
        (lambda: signal_quality(MODEL, {"conv9": PATTERNS["0"]}, IMAGES), "patterns"),
        (lambda: signal_quality(MODEL, {"3": PATTERNS["0"]}, IMAGES), "patterns"),
        (lambda: signal_quality(MODEL, PATTERNS, IMAGES, ["S_x"]), "estimators"),
        (lambda: signal_quality(MODEL, PATTERNS, IMAGES, ["S_b"]), "estimators"),
        (lambda: signal_quality(MODEL, PATTERNS, IMAGES, min_samples=0), "min_samples"),
        (lambda: load_maps(NOTHING), "folder"),
        (lambda: load_maps("nowhere"), "folder"),
    ],
)
def test_other_calls_refuse_what_they_cannot_use(call: Any, said: Any, folder: Path) -> None:
    with pytest.raises((TypeError, ValueError, FileNotFoundError), match=said):
        call()
