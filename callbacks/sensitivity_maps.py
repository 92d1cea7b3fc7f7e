"""Sensitivity maps of single images, epoch by epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from firstlight.callbacks.examples import Examples, Unpack, unpack
from firstlight.callbacks.explanation import Explanation, ExplanationCallback, whole_number
from firstlight.pipeline import Gradient, SmoothGrad
from firstlight.pipeline.map_quality import gini, total_variation
from firstlight.pipeline.method import Method
from firstlight.pipeline.pictures import grid
from firstlight.pipeline.rendering import Absolute, Rendering, Signed, input_picture
from firstlight.pipeline.scores import logits_of


class SensitivityMaps(ExplanationCallback):
    """Logs the maps of any methods for a few images of every class.

    The picture ``2_sensitivity/maps`` has a row for each image: the image, what the network takes
    it for, and a map for each method. Scalars for each method, averaged over the images: roughness
    ``tv`` and sparsity ``gini``.

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
        every_n_epochs, before_training, unpack, images: as in :class:`ExplanationCallback`.

    Raises:
        TypeError, ValueError: an argument is not as described; the message names it.

    Example::

        Trainer(callbacks=[SensitivityMaps(methods=[Gradient(), SmoothGrad(samples=100)])])
    """

    family: ClassVar[str] = "2_sensitivity"

    def __init__(
        self,
        methods: Sequence[Method] | None = None,
        target: Literal["predicted", "label"] = "predicted",
        images_per_class: int = 1,
        most_classes: int = 10,
        rendering: Rendering | None = None,
        noise_levels: Sequence[float] | None = None,
        sample_sizes: Sequence[int] | None = None,
        every_n_epochs: int = 1,
        before_training: bool = True,
        unpack: Unpack = unpack,
        images: Callable[[Trainer], Any] | None = None,
    ) -> None:
        super().__init__(every_n_epochs, before_training, unpack, images)
        whole_number("images_per_class", images_per_class)
        whole_number("most_classes", most_classes)
        if target not in ("predicted", "label"):
            raise ValueError(f"target={target!r}: must be 'predicted' or 'label'")
        methods = [Gradient(), SmoothGrad()] if methods is None else list(methods)
        if not methods or not all(isinstance(method, Method) for method in methods):
            raise TypeError(f"methods={methods!r}: must be explanation methods such as Gradient()")
        self.methods = _named(methods)
        self.target = target
        self.images_per_class = images_per_class
        self.most_classes = most_classes
        self.rendering = rendering
        smooth = next((m for m in methods if isinstance(m, SmoothGrad)), SmoothGrad())
        self.sweeps = {
            "noise_levels": {
                f"{level:.0%}": replace(smooth, noise_level=level) for level in noise_levels or ()
            },
            "sample_sizes": {f"n = {n}": replace(smooth, samples=n) for n in sample_sizes or ()},
        }

    def pick(self, trainer: Trainer) -> Examples:
        return self.examples(trainer, self.images_per_class, self.most_classes)

    def explain(self, model: LightningModule, picked: Examples, when: str) -> Explanation:
        images, labels = picked
        probabilities = logits_of(model, images).softmax(dim=1)
        predicted = probabilities.argmax(dim=1)
        target = predicted if labels is None or self.target == "predicted" else labels
        names = [str(int(c)) for c in (predicted if labels is None else labels)]
        notes = [
            f"{c}: {p:.0%}"
            for c, p in zip(predicted.tolist(), probabilities.amax(1).tolist(), strict=True)
        ]
        maps = {name: method(model, images, target) for name, method in self.methods.items()}
        draw = _Drawing(
            images,
            names,
            notes,
            self.rendering or (Signed() if images.shape[1] == 1 else Absolute()),
        )
        of_what = (
            f"of the {'predicted' if self.target == 'predicted' else 'labelled'} class, {when}"
        )
        found = Explanation(pictures={"maps": draw(maps, f"Sensitivity of the score {of_what}")})
        for sweep, methods in self.sweeps.items():
            if methods:
                swept = {name: method(model, images, target) for name, method in methods.items()}
                title = f"SmoothGrad by {sweep.replace('_', ' ').removesuffix('s')} {of_what}"
                found.pictures[sweep] = draw(swept, title)
        for name, m in maps.items():
            found.scalars[f"tv/{name}"] = float(total_variation(m).nanmean())
            found.scalars[f"gini/{name}"] = float(gini(m).nanmean())
        return found


class _Drawing:
    """Draws one map of each method beside each image."""

    def __init__(
        self, images: Tensor, names: list[str], notes: list[str], rendering: Rendering
    ) -> None:
        self.images = images
        self.names = names
        self.notes = notes
        self.rendering = rendering

    def __call__(self, maps: dict[str, Tensor], title: str) -> Tensor:
        columns = [
            input_picture(self.images),
            *(self.rendering(m, self.images) for m in maps.values()),
        ]
        return grid(
            rows=[[column[i].cpu() for column in columns] for i in range(len(self.images))],
            row_labels=self.names,
            column_labels=["image", *maps],
            title=title,
            caption=f"Rows: label; below each image what the network sees. {self.rendering.legend}",
            notes=[[note, *(None for _ in maps)] for note in self.notes],
            bars=[None, *(self.rendering.bar for _ in maps)],
        )


def _named(methods: Sequence[Method]) -> dict[str, Method]:
    """The methods by their label, with a number where several have the same."""
    labels = [method.label for method in methods]
    return {
        label if labels.count(label) == 1 else f"{label} {labels[: i + 1].count(label)}": method
        for i, (label, method) in enumerate(zip(labels, methods, strict=True))
    }
