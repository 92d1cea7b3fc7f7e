"""Sensitivity maps of single images, epoch by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

from lightning.pytorch import LightningModule, Trainer
from pydantic import Field
from torch import Tensor

from firstlight.arguments import Count, checked
from firstlight.callbacks import families
from firstlight.callbacks.examples import Examples
from firstlight.callbacks.explanation import Explanation
from firstlight.callbacks.explanation_callback import ExplanationCallback
from firstlight.callbacks.map_numbers import (
    DEFAULT_NUMBERS,
    OF_PROBABILITIES,
    Explained,
    MapNumber,
    map_numbers,
)
from firstlight.callbacks.moment import Moment
from firstlight.callbacks.outputs import gaps
from firstlight.callbacks.private_lightning import state_key
from firstlight.errors import FirstlightError
from firstlight.pipeline import Gradient, Method, SmoothGrad
from firstlight.pipeline.drawing import Column, Picture, Rendering, Sheet
from firstlight.pipeline.drawing.rendering import usual
from firstlight.pipeline.methods.logits import logits_of

Methods = Annotated[Sequence[Method], Field(min_length=1)]


@checked
@dataclass(eq=False)
class SensitivityMaps(ExplanationCallback):
    """Logs the maps of any methods for a few images of every class.

    The picture ``2_sensitivity/maps`` has a row for each image: the image, what the network takes
    it for, and a map for each method. Scalars ``2_sensitivity/<number>/<method>`` are averages over
    the images.

    Args:
        methods: the methods to compare; None for the gradient and SmoothGrad.
        target: whether the score of the predicted class is explained or that of the label.
        images_per_class: how many validation (else training) images of each class are shown.
        most_classes: how many classes are shown.
        rendering: how maps become pictures; None is :class:`Signed` for grey images and
            :class:`Absolute` for colour.
        noise_levels: noise levels of SmoothGrad to show side by side in
            ``2_sensitivity/noise_levels``, as in Fig. 3 of the paper; None for no such picture.
        sample_sizes: numbers of samples of SmoothGrad for ``2_sensitivity/sample_sizes``, as in
            Fig. 4.
        numbers: which numbers are computed of each method's maps, see
            :data:`~firstlight.callbacks.map_numbers.MapNumber`: those by default are cheap, and so
            are ``"entropy"`` and ``"magnitude"``; ``"insertion"`` costs as much as
            ``"degradation"``, twelve forward passes, ``"change"`` and
            ``"efficient_randomisation"`` two maps, and ``"randomisation"`` a map per layer.

    Raises:
        ArgumentError: an argument is not as described.

    Example::

        Trainer(callbacks=[SensitivityMaps(methods=[Gradient(), SmoothGrad(samples=100)])])
    """

    family: ClassVar[str] = families.SENSITIVITY

    methods: Methods | None = None
    target: Literal["predicted", "label"] = "predicted"
    images_per_class: Count = 1
    most_classes: Count = 10
    rendering: Rendering | None = None
    noise_levels: Sequence[float] | None = None
    sample_sizes: Sequence[Count] | None = None
    numbers: Sequence[MapNumber] = DEFAULT_NUMBERS

    def __post_init__(self) -> None:
        methods = [Gradient(), SmoothGrad()] if self.methods is None else self.methods
        smooth = next((m for m in methods if isinstance(m, SmoothGrad)), SmoothGrad())
        by_level = [replace(smooth, noise_level=level) for level in self.noise_levels or ()]
        by_size = [replace(smooth, samples=n) for n in self.sample_sizes or ()]
        self.named_methods = _named(methods)
        self.sweeps = {
            "noise_levels": {f"{method.noise_level:.0%}": method for method in by_level},
            "sample_sizes": {f"n = {method.samples}": method for method in by_size},
        }

    @property
    def state_key(self) -> str:
        """By which a checkpoint tells several of these callbacks apart."""
        return state_key(
            self,
            methods=list(self.named_methods),
            target=self.target,
            images_per_class=self.images_per_class,
            most_classes=self.most_classes,
        )

    def pick(self, trainer: Trainer) -> Examples:
        return self.examples(trainer, self.images_per_class, self.most_classes)

    def explain(self, model: LightningModule, picked: Examples, when: Moment) -> Explanation:
        images, labels = picked
        if labels is None and self.target == "label":
            raise FirstlightError("target='label': the batches hold no labels")
        logits = logits_of(model, images.clone()).detach()
        target = self.outputs.explained(logits, labels if self.target == "label" else None)
        subject = self.outputs.subject(self.target == "label")
        of_what = f"of the {subject}, {when}"
        score = "" if subject == "value" else "of the score "

        def maps_of(methods: Mapping[str, Method]) -> dict[str, Tensor]:
            return {name: method(model, images, target) for name, method in methods.items()}

        maps = maps_of(self.named_methods)
        title = f"Sensitivity {score}{of_what}"
        found = Explanation(sheets={"maps": self._sheet(picked, logits, maps, title)})
        for sweep, methods in self.sweeps.items():
            if methods:
                title = f"SmoothGrad by {sweep.replace('_', ' ').removesuffix('s')} {of_what}"
                found.sheets[sweep] = self._sheet(picked, logits, maps_of(methods), title)
        explained = Explained(model, images, target, self.outputs.head, when, self.earlier)
        found.scalars = map_numbers(self.numbers, self.named_methods, maps, explained)
        asked = [number for number in self.numbers if number in OF_PROBABILITIES]
        if subject == "value" and asked and tuple(self.numbers) != DEFAULT_NUMBERS:
            missing = f"numbers={asked}: they follow a probability, and values have none"
            found.failures.append(missing)
        return found

    def _sheet(
        self, picked: Examples, logits: Tensor, maps: Mapping[str, Tensor], title: str
    ) -> Sheet:
        images = picked.images
        drawn = self.rendering or usual(images)
        return Sheet(
            rows=self.outputs.rows(picked, logits),
            columns=[
                Column("image", images, Picture(), notes=self.outputs.notes(logits)),
                *(Column(name, m, drawn, notes=gaps(m), images=images) for name, m in maps.items()),
            ],
            title=title,
            caption=f"{self.outputs.caption(picked, logits)} {drawn.legend}",
            about=families.about(self.family),
        )


def _named(methods: Sequence[Method]) -> dict[str, Method]:
    """The methods by their label, with a number where several have the same."""
    labels = [method.label for method in methods]
    return {
        label if labels.count(label) == 1 else f"{label} {labels[: i + 1].count(label)}": method
        for i, (label, method) in enumerate(zip(labels, methods, strict=True))
    }
