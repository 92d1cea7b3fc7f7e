"""The patches of the data that channels answer most strongly to, epoch by epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from lightning.pytorch import LightningModule, Trainer

from firstlight.arguments import Count, Natural, checked
from firstlight.callbacks import families
from firstlight.callbacks.examples import Examples
from firstlight.callbacks.explanation import Explanation
from firstlight.callbacks.explanation_callback import ExplanationCallback
from firstlight.callbacks.layers import outer_convolutions
from firstlight.callbacks.moment import Moment
from firstlight.pipeline import GuidedBackprop, Method
from firstlight.pipeline.drawing import Column, Picture, Sheet, Signed, input_picture
from firstlight.pipeline.inside import StrongestPatches, crop
from firstlight.pipeline.tracing.layers import module_named

_MOST_BYTES = 2**26
_VALUES_PER_PASS = 2**20


@checked
@dataclass(eq=False)
class MaximallyActivatingPatches(ExplanationCallback):
    """Logs, for channels of some layers, the patches with the strongest answers in the data.

    Beside each patch stands what in it the unit looks at: guided backprop of that very unit.

    Args:
        layers: their names in ``model.named_modules()``; None for the first and the last
            convolution, shallow and deep.
        channels: how many channels of each layer are shown, the first ones.
        k: how many patches per channel, from different images.
        count: in how many training images to look, no more than 64 MiB of them.
        method: explains the unit; None for :class:`GuidedBackprop`.
        seed: of the choice of images.

    Raises:
        ArgumentError: an argument is not as described; when the run starts, there is no such layer.
    """

    family: ClassVar[str] = families.INSIDE
    needs_logits: ClassVar[bool] = False

    layers: Sequence[str] | None = None
    channels: Count = 8
    k: Count = 5
    count: Count = 2000
    method: Method | None = None
    seed: Natural = 0

    def check(self, model: LightningModule) -> None:
        for layer in self.layers or ():
            module_named(model, layer)

    def pick(self, trainer: Trainer) -> Examples:
        return self.random_examples(trainer, self.count, self.seed, _MOST_BYTES)

    def explain(self, model: LightningModule, picked: Examples, when: Moment) -> Explanation:
        layers = outer_convolutions(model) if self.layers is None else self.layers
        return Explanation(
            sheets={f"patches/{layer}": self._layer(model, picked, layer, when) for layer in layers}
        )

    def _layer(self, model: LightningModule, picked: Examples, layer: str, when: Moment) -> Sheet:
        images, method = picked.images, self.method or GuidedBackprop()
        # On rank 0 alone, so nothing may wait for the other processes.
        metric = StrongestPatches(model, layer, self.k, sync_on_compute=False).to(images.device)
        for batch in images.split(max(1, _VALUES_PER_PASS // images[0].numel())):
            metric.update(batch)
        patches = metric.compute()
        seen, maps = [], []
        for channel in range(min(self.channels, len(patches.values))):
            own, boxes = images[patches.indices[channel]], patches.boxes[channel]
            # Stretched as whole images, so that the patches of a channel look alike.
            seen.append(crop(input_picture(own), boxes))
            maps.append(crop(method(model, own, patches.score(channel)), boxes))
        cells = torch.stack(seen, 1), torch.stack(maps, 1)
        return Sheet(
            rows=[f"channel {c}" for c in range(len(seen))],
            columns=[
                *(Column(f"patch {i + 1}", p, Picture()) for i, p in enumerate(cells[0])),
                *(Column(f"{method.label} {i + 1}", m) for i, m in enumerate(cells[1])),
            ],
            title=f"Patches that activate {layer} most, {when}",
            caption=f"Of {len(images)} images, cut to what the unit sees. {Signed().legend}",
            about=families.about(f"{self.family}/patches"),
        )
