"""The images that each class's score likes best, epoch by epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from firstlight.arguments import Count, checked
from firstlight.callbacks import families
from firstlight.callbacks.examples import Examples
from firstlight.callbacks.explanation import Explanation
from firstlight.callbacks.explanation_callback import ExplanationCallback
from firstlight.callbacks.moment import Moment
from firstlight.pipeline.drawing import Column, Picture, Sheet, Signed
from firstlight.pipeline.inside import (
    L2,
    Blur,
    Clip,
    Fooling,
    FoolingImages,
    GradientAscent,
    Jitter,
    PreferredImages,
)
from firstlight.pipeline.methods.logits import logits_of


@checked
@dataclass(eq=False)
class ClassImages(ExplanationCallback):
    """Logs, for every class, the image that gradient ascent finds and one that fools the network.

    The picture ``4_inside/class_images`` has a row for each class: a real image of it, the image
    that its score likes best, and the real image changed until the network sees the next class in
    it. Scalars: the mean score of the found and of the real images, and the mean length (L2) of the
    changes that fool.

    Args:
        ascent: how images are found; None for a gradient ascent that is held back by L2, jitter and
            blur, and clipped to the range of the real images.
        fooling: how images are changed; None for :class:`Fooling` with its defaults.
        most_classes: how many classes are shown.

    Raises:
        ArgumentError: an argument is not as described.
    """

    family: ClassVar[str] = families.INSIDE

    ascent: GradientAscent | None = None
    fooling: Fooling | None = None
    most_classes: Count = 10

    def pick(self, trainer: Trainer) -> Examples:
        return self.examples(trainer, 1, self.most_classes)

    def explain(self, model: LightningModule, picked: Examples, when: Moment) -> Explanation:
        images, labels = picked
        logits = logits_of(model, images.clone()).detach()
        self.outputs.must_be_classes("class images")
        classes = self.outputs.explained(logits, labels)
        if labels is None:
            # Classes are what the network sees, several times the same: one row for each.
            seen = classes.tolist()
            first = [seen.index(c) for c in sorted(set(seen))]
            images, logits, classes = images[first], logits[first], classes[first]
        found = (self.ascent or _ascent(images))(model, torch.zeros_like(images), classes)
        fooled = (self.fooling or Fooling())(model, images, (classes + 1) % logits.shape[1])
        real = logits.gather(1, classes[:, None]).squeeze(1)
        sheet = Sheet(
            rows=self.outputs.names_of(classes),
            columns=[
                Column("image", images, Picture(), notes=_notes("S = {:.1f}", real)),
                *_made(found, fooled, self.outputs.names_of(fooled.predicted)),
            ],
            title=f"What each class likes to see, and what fools the network, {when}",
            caption=f"S: score of the row's class. Fools: to see the next class. {Signed().legend}",
            about=families.about(f"{self.family}/class_images"),
        )
        return Explanation(
            sheets={"class_images": sheet},
            scalars={
                "score/found": float(found.scores[-1].mean()),
                "score/real": float(real.mean()),
                "fooling_length": float(fooled.norms.mean()),
            },
        )


def _made(found: PreferredImages, fooled: FoolingImages, names: Sequence[str]) -> list[Column]:
    """The images that were made, with what the network says of them."""
    likes, lengths = _notes("S = {:.1f}", found.scores[-1]), _notes("length {:.2f}", fooled.norms)
    return [
        Column("likes best", found.images, Signed(cap=100), notes=likes),
        Column("fools", fooled.images, Picture(), notes=[f"taken for {n}" for n in names]),
        Column("change", fooled.changes, Signed(cap=100), notes=lengths),
    ]


def _notes(text: str, values: Tensor) -> list[str | None]:
    return [text.format(value) for value in values.tolist()]


def _ascent(images: Tensor) -> GradientAscent:
    clip = Clip(float(images.min()), float(images.max()))
    return GradientAscent(regularisers=(L2(), Jitter(1), Blur(), clip))
