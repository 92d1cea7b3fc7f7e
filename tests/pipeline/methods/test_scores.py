"""Scores and targets: one number per image, of the images that it is asked for."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from firstlight.errors import ArgumentError
from firstlight.pipeline import ClassScore, Difference, Gradient, Method, Neuron, Score, SmoothGrad
from firstlight.pipeline.methods.base import gradient_of
from firstlight.pipeline.methods.logits import logits_of
from firstlight.pipeline.methods.passes import Passes
from firstlight.pipeline.methods.scores import LogitFunction, Probability, as_score


@pytest.fixture
def images() -> Tensor:
    return torch.rand(4, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture
def network() -> nn.Sequential:
    torch.manual_seed(0)
    conv = (nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.Flatten())
    return nn.Sequential(*conv, nn.Linear(48, 5), nn.ReLU(), nn.Linear(5, 3)).double()


CLASSES = torch.tensor([0, 2, 1, 2])

PER_IMAGE: dict[str, Score] = {
    "classes": ClassScore(CLASSES),
    "probabilities": Probability(CLASSES),
    "a difference": Difference(ClassScore(CLASSES), 0),
    "units": Neuron("0", torch.tensor([[0, 1, 1], [2, 3, 0], [1, 1, 2], [0, 0, 0]])),
}
EQUAL_FOR_ALL: dict[str, Score] = {
    "a function": LogitFunction(lambda logits: logits.square().sum(1)),
    "a difference of classes": Difference(0, 1),
    "a unit": Neuron("3", (2,)),
}


@pytest.mark.parametrize("score", [*PER_IMAGE.values(), *EQUAL_FOR_ALL.values()])
def test_a_part_of_the_images_has_a_part_of_the_scores(
    score: Score, network: nn.Module, images: Tensor
) -> None:
    index = torch.tensor([3, 1, 1])
    part = score.select(index)(network, images[index])
    torch.testing.assert_close(part, score(network, images)[index])


@pytest.mark.parametrize("score", PER_IMAGE.values(), ids=PER_IMAGE)
@pytest.mark.parametrize("rows", [1, 2, 3, 5, 8])
def test_scores_of_other_images_are_an_error_and_not_those_of_the_wrong_ones(
    score: Score, rows: int, network: nn.Module, images: Tensor
) -> None:
    others = images[torch.arange(rows) % 4]
    with pytest.raises(ArgumentError, match=rf"must be one per image, \({rows},\), got \(4,\)"):
        score(network, others)
    with pytest.raises(ArgumentError, match=rf"must be one per image, \({rows},\), got \(4,\)"):
        as_score(network, others, score)


class Forgetful(Method):
    """A method that runs twice as many rows and forgets to say which images they are."""

    def maps(self, model: nn.Module, images: Tensor, score: Score) -> Tensor:
        return gradient_of(score, model, torch.cat((images, images)))[: len(images)]


@pytest.mark.parametrize("target", [None, 1, CLASSES, Difference(ClassScore(CLASSES), 0)])
def test_a_method_that_forgets_which_images_its_rows_are_is_an_error(
    target: Any, network: nn.Module, images: Tensor
) -> None:
    with pytest.raises(ArgumentError, match="one per image"):
        Forgetful()(network, images, target)


@pytest.mark.parametrize("rows", [1, 2, 4, 5, 12, 100])
def test_passes_hold_every_variant_of_every_image_once_with_its_own_score(
    rows: int, network: nn.Module, images: Tensor
) -> None:
    passes = Passes(images, ClassScore(CLASSES), variants=3, rows=rows)
    seen = []
    for p in passes:
        assert len(p.image) <= rows
        logits = network(p.of(images))
        expected = logits[torch.arange(len(p.image)), CLASSES[p.image]]
        torch.testing.assert_close(p.score(network, p.of(images)), expected)
        seen += list(zip(p.variant.tolist(), p.image.tolist(), strict=True))
    assert seen == [(variant, image) for variant in range(3) for image in range(4)]
    assert len(passes) == len(list(passes))


def test_a_unit_is_that_of_the_layers_output(network: nn.Module, images: Tensor) -> None:
    outputs = network[0](images)
    torch.testing.assert_close(Neuron("0", (2, 1, 3))(network, images), outputs[:, 2, 1, 3])
    index = torch.tensor([[0, 1, 1], [2, 3, 0], [1, 1, 2], [0, 0, 0]])
    expected = torch.stack([o[tuple(i)] for o, i in zip(outputs, index.tolist(), strict=True)])
    torch.testing.assert_close(Neuron("0", index)(network, images), expected)
    assert Neuron("0", [2, 1, 3]) == Neuron("0", (2, 1, 3))  # type: ignore[arg-type]


SAME_CLASSES: dict[str, Any] = {
    "numpy": np.int64(2),
    "a tensor without dimensions": torch.tensor(2),
    "a list": [2, 2, 2, 2],
    "a tuple": (2, 2, 2, 2),
    "a list of numpy's": list(np.array([2, 2, 2, 2])),
    "a small tensor type": torch.tensor([2, 2, 2, 2], dtype=torch.uint8),
}


@pytest.mark.parametrize("target", SAME_CLASSES.values(), ids=SAME_CLASSES)
def test_classes_are_taken_as_people_write_them(
    target: Any, network: nn.Module, images: Tensor
) -> None:
    assert torch.equal(Gradient()(network, images, target), Gradient()(network, images, 2))


# Logits


class Returning(nn.Module):
    """The network, with something behind its logits."""

    def __init__(self, network: nn.Module, behind: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.network, self.behind = network, behind

    def forward(self, images: Tensor) -> Any:
        return self.behind(self.network(images))


WITH_LOGITS: dict[str, Callable[[Tensor], Any]] = {
    "an object's logits": lambda z: SimpleNamespace(logits=z),
    "a dictionary's logits": lambda z: {"loss": None, "logits": z},
    "F.softmax": lambda z: F.softmax(z, dim=1),
    "F.log_softmax": lambda z: F.log_softmax(z, dim=-1),
    "torch.softmax": lambda z: torch.softmax(z, 1),
    "torch.log_softmax": lambda z: torch.log_softmax(z, dim=1),
    "Tensor.softmax": lambda z: z.softmax(1),
    "Tensor.log_softmax": lambda z: z.log_softmax(dim=1),
    "nn.Softmax": nn.Softmax(dim=1),
    "nn.LogSoftmax": nn.LogSoftmax(dim=1),
    "a dictionary's softmax": lambda z: {"logits": z.softmax(1)},
}


@pytest.mark.parametrize("behind", WITH_LOGITS.values(), ids=WITH_LOGITS)
@pytest.mark.parametrize("method", [Gradient(), SmoothGrad(samples=4)])
def test_the_score_is_that_of_the_logits_wherever_they_are(
    behind: Callable[[Tensor], Any], method: Method, network: nn.Module, images: Tensor
) -> None:
    model = Returning(network, behind)
    assert torch.equal(logits_of(model, images), network(images))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for target in (None, 1, Difference(0, 2)):
            assert torch.equal(method(model, images, target), method(network, images, target))


OTHER_SOFTMAXES: dict[str, Callable[[Tensor], Tensor]] = {
    "over the batch": lambda z: z.softmax(0),
    "not at the end": lambda z: z.softmax(1) * 3,
    "in the middle": lambda z: z + z.softmax(1),
}


@pytest.mark.parametrize("behind", OTHER_SOFTMAXES.values(), ids=OTHER_SOFTMAXES)
def test_another_softmax_is_a_part_of_the_network(
    behind: Callable[[Tensor], Tensor], network: nn.Module, images: Tensor
) -> None:
    model = Returning(network, behind)
    assert torch.equal(logits_of(model, images), behind(network(images)))


@pytest.mark.parametrize(
    "hidden",
    [lambda z: z.exp() / z.exp().sum(1, keepdim=True), lambda z: z - z.logsumexp(1, keepdim=True)],
    ids=["softmax", "log_softmax"],
)
def test_outputs_that_look_like_probabilities_draw_one_warning(
    hidden: Callable[[Tensor], Tensor], network: nn.Module, images: Tensor
) -> None:
    model = Returning(network, hidden)
    with pytest.warns(UserWarning, match="look like probabilities") as caught:
        Gradient()(model, images, 1)
        Gradient()(model, images)
    assert len(caught) == 1


def test_ordinary_logits_draw_no_warning(network: nn.Module, images: Tensor) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Gradient()(Returning(network, lambda z: z.relu()), images)
        Gradient()(Returning(network, lambda z: z[:, :1]), images)
        Gradient()(Returning(network, lambda z: z - 100), images)
