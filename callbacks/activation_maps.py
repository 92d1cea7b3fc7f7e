"""The answers of a layer's channels to an image, epoch by epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lightning.pytorch import LightningModule, Trainer

from firstlight.arguments import Count, checked
from firstlight.callbacks import families
from firstlight.callbacks.examples import Examples
from firstlight.callbacks.explanation import Explanation
from firstlight.callbacks.explanation_callback import ExplanationCallback
from firstlight.callbacks.layers import outer_convolutions
from firstlight.callbacks.moment import Moment
from firstlight.pipeline.drawing import Column, Picture, Positive, Sheet
from firstlight.pipeline.inside import activation_maps, share_of_zeros
from firstlight.pipeline.tracing.layers import module_named


@checked
@dataclass(eq=False)
class ActivationMaps(ExplanationCallback):
    """Logs the activation maps of a layer, a ReLU behind it.

    They are mostly black: the scalars ``4_inside/zeros/<layer>`` and
    ``4_inside/zeros_behind_relu/<layer>`` say how much of that is the ReLU's doing.

    Args:
        layer: the layer's name in ``model.named_modules()``; None for the first convolution.
        channels: how many channels are shown, the first ones.
        images_per_class: how many validation (else training) images of each class are shown.
        most_classes: how many classes are shown.

    Raises:
        ArgumentError: an argument is not as described; when the run starts, there is no such layer.
    """

    family: ClassVar[str] = families.INSIDE
    needs_logits: ClassVar[bool] = False

    layer: str | None = None
    channels: Count = 12
    images_per_class: Count = 1
    most_classes: Count = 5

    def check(self, model: LightningModule) -> None:
        if self.layer is not None:
            module_named(model, self.layer)

    def pick(self, trainer: Trainer) -> Examples:
        return self.examples(trainer, self.images_per_class, self.most_classes)

    def explain(self, model: LightningModule, picked: Examples, when: Moment) -> Explanation:
        images = picked.images
        rows, what = self.outputs.labelled(picked)
        layer = outer_convolutions(model)[0] if self.layer is None else self.layer
        before = activation_maps(model, images, layer)
        behind = before.relu()
        sheet = Sheet(
            rows=rows,
            columns=[
                Column("image", images, Picture()),
                *(
                    Column(f"channel {i}", behind[:, i : i + 1], Positive(cap=100))
                    for i in range(min(self.channels, behind.shape[1]))
                ),
            ],
            title=f"Activation maps of {layer} behind a ReLU, {when}",
            caption=f"{what} {Positive().legend}",
            about=families.about(f"{self.family}/activation_maps"),
        )
        return Explanation(
            sheets={f"activation_maps/{layer}": sheet},
            scalars={
                f"zeros/{layer}": float(share_of_zeros(before).mean()),
                f"zeros_behind_relu/{layer}": float(share_of_zeros(behind).mean()),
            },
        )
