"""First-layer gradient maps, epoch by epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from firstlight.arguments import Count, Natural, checked
from firstlight.callbacks import families
from firstlight.callbacks.examples import Examples
from firstlight.callbacks.explanation import Explanation
from firstlight.callbacks.explanation_callback import ExplanationCallback
from firstlight.callbacks.moment import Moment
from firstlight.callbacks.private_lightning import state_key
from firstlight.errors import FirstlightError
from firstlight.pipeline import FirstLayerGradient, NoFirstLayerMapError, without_class_mean
from firstlight.pipeline.drawing import Column, Picture, Positive, Sheet, Signed
from firstlight.pipeline.judging import correlation, gini, total_variation

_SIZES = (
    "1: cross entropy, other label (size)",
    "2: cross entropy, own label (size)",
    "3: own logit (size)",
    "4: other logit (size)",
)
"""The approaches where only the size of the gradient can be shown."""


@dataclass(frozen=True, eq=False)
class _Maps:
    """The maps of the classes.

    Attributes:
        classes: which they are.
        means: their mean images, (classes, C, H, W).
        by_approach: the maps of each approach, (classes, C, H, W).
        missing: why these are sizes, or None if they are what the approaches say.
    """

    classes: list[int]
    means: Tensor
    by_approach: dict[int, Tensor]
    missing: NoFirstLayerMapError | None

    @property
    def own(self) -> Tensor:
        """Those of approach 3."""
        return self.by_approach[3]


@checked
@dataclass(eq=False)
class FirstLayerMaps(ExplanationCallback):
    """Logs the four first-layer gradient maps of every class, beside those of the untrained
    network.

    The picture ``1_first_layer/maps`` has a row for each class: the mean of its images, the four
    approaches of :class:`~firstlight.pipeline.FirstLayerGradient`, approach 3 before training as
    the control, and what approach 3 shows beyond the mean image. Scalars, averaged over classes,
    are of approach 3 before its ReLU: roughness ``tv``, sparsity ``gini`` and the correlation with
    the class mean.

    Where a norm such as LayerNorm behind the first layer makes the mean over units nothing but
    rounding errors, the mean size of the gradient is shown in its place, and the caption says so.

    Args:
        other: the other class of approaches 1 and 4; its own images get the class before it.
        images_per_class: how many validation (else training) images of each class make up its map.
        most_classes: how many classes are shown.

    Raises:
        ArgumentError: an argument is not as described.

    Example::

        Trainer(callbacks=[FirstLayerMaps()])
    """

    family: ClassVar[str] = families.FIRST_LAYER

    other: Natural = 0
    images_per_class: Count = 20
    most_classes: Count = 10

    def pick(self, trainer: Trainer) -> Examples:
        return self.examples(trainer, self.images_per_class, self.most_classes)

    def explain(self, model: LightningModule, picked: Examples, when: Moment) -> Explanation:
        images, labels = picked
        if labels is None:
            raise FirstlightError("first-layer maps need labelled images; the batches hold none")
        self.outputs.must_be_classes("first-layer maps")
        try:
            maps = self._maps(model, images, labels, "mean")
        except NoFirstLayerMapError as error:
            maps = self._maps(model, images, labels, "size", error)
        if when.is_control:
            self.earlier["control"] = maps.own.cpu()
        sheet = Sheet(
            rows=[self.outputs.name(c) for c in maps.classes],
            columns=self._columns(maps),
            title=f"First-layer gradient maps, {when}",
            caption=self._caption(maps),
            about=families.about(self.family),
        )
        return Explanation(
            sheets={"maps": sheet},
            scalars={
                "tv": float(total_variation(maps.own).nanmean()),
                "gini": float(gini(maps.own).nanmean()),
                "correlation_with_class_mean": float(correlation(maps.own, maps.means).nanmean()),
            },
        )

    def _maps(
        self,
        model: LightningModule,
        images: Tensor,
        labels: Tensor,
        summary: Literal["mean", "size"],
        missing: NoFirstLayerMapError | None = None,
    ) -> _Maps:
        other = torch.where(labels == self.other, self._neighbour, self.other)
        found = {
            a: FirstLayerGradient(a, summary, relu=False).by_class(model, images, labels, other)
            for a in (1, 2, 3, 4)
        }
        classes, own = found[3]
        means = torch.stack([images[labels == c].mean(0) for c in classes]).to(own)
        return _Maps(classes, means, {a: maps for a, (_, maps) in found.items()}, missing)

    def _columns(self, maps: _Maps) -> list[Column]:
        mean = Column("mean image", maps.means, Picture())
        earlier = self.earlier.get("control")
        control = [] if earlier is None else [("3 before training", earlier)]
        if maps.missing is not None:
            named = [*zip(_SIZES, maps.by_approach.values(), strict=True), *control]
            return [mean, *(Column(name, of, Positive()) for name, of in named)]
        return [
            mean,
            Column("1: cross entropy, other label", maps.by_approach[1], Positive()),
            Column("2: cross entropy, own label, less 1", maps.by_approach[2] - 1, Signed()),
            Column("3: own logit", maps.own, Positive()),
            Column("4: other logit × −1", maps.by_approach[4], Positive()),
            *(Column(name, of, Signed()) for name, of in control),
            Column("3 without class mean", without_class_mean(maps.own, maps.means), Signed()),
        ]

    def _caption(self, maps: _Maps) -> str:
        other, neighbour = self.outputs.name(self.other), self.outputs.name(self._neighbour)
        caption = (
            f"Rows: label. Other class: {other} (for {other} itself: {neighbour}). "
            "Each map on its own scale. "
        )
        if maps.missing is None:
            return caption + "The last column shows what is beyond the mean image."
        return (
            f"{caption}\nThe mean gradient over units cannot be shown: the units' gradients add up "
            f"to nothing but rounding errors ({maps.missing.share:.1g} of their size). A norm over "
            "channels behind the first layer, such as LayerNorm, ignores what all units have in "
            "common. The mean size over units and images is shown in its place: how much the first "
            "weights of a pixel would change, not in which direction."
        )

    @property
    def _neighbour(self) -> int:
        """The other class of the other class's own images."""
        return self.other - 1 if self.other else 1

    @property
    def state_key(self) -> str:
        """By which a checkpoint tells several of these callbacks apart."""
        return state_key(
            self,
            other=self.other,
            images_per_class=self.images_per_class,
            most_classes=self.most_classes,
        )
