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
    """

    model: nn.Module
    images: Tensor
    target: Tensor
    head: Head
    when: Moment

    @property
    def degradation(self) -> ImageDegradation:
        """How the probability goes as patches of the images do."""
        shares: Literal["softmax", "sigmoid"] = "sigmoid" if self.head == "several" else "softmax"
        return ImageDegradation(steps=12, probability=shares)


class MapNumbers:
    """The chosen numbers, and the earlier maps that some of them compare with."""

    def __init__(self, numbers: Sequence[MapNumber]) -> None:
        self.numbers = numbers
        self.forget()

    def forget(self) -> None:
        """Begin another run."""
        self._last: Mapping[str, Tensor] = {}
        self._control: Mapping[str, Tensor] = {}
        self._last_step = 0

    def state_dict(self) -> dict[str, Any]:
        """The earlier maps, which a run that goes on could not make again."""
        return {"control": self._control, "last": self._last, "last_step": self._last_step}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on with the earlier maps of a run."""
        self._control, self._last = state_dict["control"], state_dict["last"]
        self._last_step = state_dict["last_step"]

    def __call__(
        self,
        methods: Mapping[str, Method],
        maps: Mapping[str, Tensor],
        explained: Explained,
    ) -> dict[str, float]:
        """The numbers by ``<number>/<method>``, averaged over the images."""
        found = {}
        for number in self.numbers:
            if explained.head == "values" and number in OF_PROBABILITIES:
                continue
            for name, own in maps.items():
                value = self._number(number, name, methods[name], own, explained)
                if value is not None:
                    found[f"{number}/{name}"] = float(value.nanmean())
            if number == "degradation":
                at_random = explained.degradation.random_removal(explained.model, explained.images)
                found["degradation/random"] = float(degradation_area(at_random).nanmean())
        self._keep(maps, explained.when)
        return found

    def _number(
        self,
        number: MapNumber,
        name: str,
        method: Method,
        maps: Tensor,
        explained: Explained,
    ) -> Tensor | None:
        """One number per image; None where there is nothing to compare with."""
        model, images, target, _, when = explained
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
            case "similarity_to_last":
                # An explanation of the same step is no earlier one.
                earlier = self._last if when.step > self._last_step else {}
                return _similarity(maps, earlier.get(name))
            case "similarity_to_control":
                return _similarity(maps, self._control.get(name))

    def _keep(self, maps: Mapping[str, Tensor], when: Moment) -> None:
        compared = any(number.startswith("similarity") for number in self.numbers)
        if compared and when.stage == "fit":
            self._last = {name: own.cpu() for name, own in maps.items()}
            self._last_step = when.step
            self._control = self._last if when.is_control else self._control


def _similarity(maps: Tensor, earlier: Tensor | None) -> Tensor | None:
    if earlier is None or earlier.shape != maps.shape:
        return None
    return correlation(maps, earlier.to(maps))
