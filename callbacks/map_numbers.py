"""Numbers of the maps of several methods, epoch by epoch."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from torch import Tensor, nn

from firstlight.callbacks.moment import Moment
from firstlight.callbacks.outputs import Head
from firstlight.pipeline import Method
from firstlight.pipeline.judging import (
    ImageDegradation,
    cascading_randomisation,
    correlation,
    degradation_area,
    efficient_randomisation,
    entropy,
    gini,
    magnitude,
    map_changes,
    total_variation,
)

MapNumber = Literal[
    "tv",
    "gini",
    "entropy",
    "magnitude",
    "degradation",
    "insertion",
    "change",
    "randomisation",
    "efficient_randomisation",
    "similarity_to_last",
    "similarity_to_control",
]
"""A number for maps: roughness ``"tv"``, sparsity ``"gini"``, spread ``"entropy"`` and size
``"magnitude"``, the sum of |map|; ``"degradation"`` and ``"insertion"``, the areas under the class
probability as patches go or come in the order of the map, with ``"random"`` as another method;
``"change"``, how much the map changes when the image hardly does; ``"randomisation"``, the rank
correlation with the maps of the same network with random layers; ``"efficient_randomisation"``, how
much more complex the maps become when all layers are random; ``"similarity_to_last"`` and
``"similarity_to_control"``, the correlation with the map of the explanation before and with that
before training."""

OF_PROBABILITIES: Collection[MapNumber] = ("degradation", "insertion")
"""Those that follow the probability of a class or a label: values have none."""

DEFAULT_NUMBERS: tuple[MapNumber, ...] = (
    "tv",
    "gini",
    "degradation",
    "similarity_to_last",
    "similarity_to_control",
)


class Explained(NamedTuple):
    """The scores that maps are of, and when.

    Attributes:
        model: ``model(images)`` is logits.
        images: (N, C, H, W).
        target: (N,), the outputs that are explained.
        head: The meaning of the outputs.
        when: The moment.
        earlier: The maps to compare with: those before training, "control", and the latest ones,
            "last", by the method's name, with their "last_step".
    """

    model: nn.Module
    images: Tensor
    target: Tensor
    head: Head
    when: Moment
    earlier: dict[str, Any]

    @property
    def degradation(self) -> ImageDegradation:
        """How the probability goes as patches of the images do."""
        shares: Literal["softmax", "sigmoid"] = "sigmoid" if self.head == "several" else "softmax"
        return ImageDegradation(steps=12, probability=shares)


def map_numbers(
    numbers: Sequence[MapNumber],
    methods: Mapping[str, Method],
    maps: Mapping[str, Tensor],
    explained: Explained,
) -> dict[str, float]:
    """The numbers by ``<number>/<method>``, averaged over the images.

    Args:
        numbers: Those that are asked for.
        methods: By name.
        maps: By the method's name.
        explained: What the maps are of. Its earlier maps are replaced by these.
    """
    found = {}
    for number in numbers:
        if explained.head == "values" and number in OF_PROBABILITIES:
            continue
        for name, own in maps.items():
            value = _number(number, name, methods[name], own, explained)
            if value is not None:
                found[f"{number}/{name}"] = float(value.nanmean())
        if number == "degradation":
            at_random = explained.degradation.random_removal(explained.model, explained.images)
            found["degradation/random"] = float(degradation_area(at_random).nanmean())
    if explained.when.stage == "fit" and any(n.startswith("similarity") for n in numbers):
        _keep(maps, explained)
    return found


def _number(
    number: MapNumber, name: str, method: Method, maps: Tensor, explained: Explained
) -> Tensor | None:
    """One number per image; None where there is nothing to compare with."""
    model, images, target, _, when, earlier = explained
    match number:
        case "tv":
            return total_variation(maps)
        case "gini":
            return gini(maps)
        case "entropy":
            return entropy(maps)
        case "magnitude":
            return magnitude(maps)
        case "degradation":
            return degradation_area(explained.degradation.removal(model, images, maps))
        case "insertion":
            return degradation_area(explained.degradation.insertion(model, images, maps))
        case "change":
            return map_changes(method, model, images, target, draws=1, maps=maps)
        case "randomisation":
            correlations = cascading_randomisation(method, model, images, target)
            return list(correlations.values())[-1]
        case "efficient_randomisation":
            return efficient_randomisation(method, model, images, target)
        case "similarity_to_last" | "similarity_to_control":
            kept = number.removeprefix("similarity_to_")
            # An explanation of the same step is no earlier one.
            is_earlier = kept == "control" or when.step > earlier.get("last_step", 0)
            other = earlier.get(kept, {}).get(name) if is_earlier else None
            # A test explains other images.
            if other is None or other.shape != maps.shape or when.stage != "fit":
                return None
            return correlation(maps, other.to(maps))


def _keep(maps: Mapping[str, Tensor], explained: Explained) -> None:
    last = {name: own.cpu() for name, own in maps.items()}
    explained.earlier.update(last=last, last_step=explained.when.step)
    if explained.when.is_control:
        explained.earlier["control"] = last
