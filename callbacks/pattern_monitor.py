"""Pattern statistics, epoch by epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from firstlight.arguments import Count, Natural, Share, checked
from firstlight.callbacks import families
from firstlight.callbacks.examples import Examples
from firstlight.callbacks.explanation import Explanation
from firstlight.callbacks.explanation_callback import ExplanationCallback
from firstlight.callbacks.moment import Moment
from firstlight.callbacks.outputs import gaps
from firstlight.errors import ArgumentError, FirstlightError
from firstlight.pipeline import (
    Method,
    Pattern,
    PatternAttribution,
    PatternNet,
    PatternStatistics,
)
from firstlight.pipeline.drawing import Column, Picture, Sheet, Signed
from firstlight.pipeline.methods.logits import logits_of
from firstlight.pipeline.patterns import SignalQuality, UnitSummary, summary

_MOST_BYTES = 14 * 2**20
_VALUES_PER_PASS = 2**20
_MOST_LINES = 3


class _Picked(NamedTuple):
    fit: Sequence[Tensor]
    quality: SignalQuality
    examples: Examples


@checked
@dataclass(eq=False)
class PatternMonitor(ExplanationCallback):
    """Logs what the units of the network detect, as opposed to the weights they do it with.

    Scalars ``3_patterns/rho/<layer>/<estimator>``: the quality of signal estimators (random
    directions, S_w, S_a, S_a±), the mean over a layer's units, on images that the patterns were
    not fitted on; ``3_patterns/excluded/<layer>`` counts the units that have none, and the captions
    say why where all have none. Pictures: the patterns of the layer that sees the image, below its
    weights, if it has patterns; PatternNet and PatternAttribution of an image of each class. With
    ``images``, the first half of them is fitted on, the second half judged on.

    Args:
        count: how many training images the patterns are fitted on, and on how many others they are
            judged; at most half of the data each, and no more than 14 MiB together. ρ of S_a and
            S_a± rises with the number, since few images leave the patterns inexact.
        layers: the layers to judge, by their names in ``model.named_modules()``; None for all with
            at most ``most_inputs`` inputs per unit.
        cutoff: directions of a layer's inputs with at most this share of the largest variance are
            left out of the quality: so few images cannot tell what lies there from noise.
        most_inputs: see above; the cost grows with its cube.
        units: how many units of the first layer are shown.
        most_classes: of how many classes an image is explained.
        seed: of the choice of images and of the random directions.

    Raises:
        ArgumentError: an argument is not as described; when the run starts, a layer that is not
            there.

    Example::

        Trainer(callbacks=[PatternMonitor()])
    """

    family: ClassVar[str] = families.PATTERNS
    # Patterns belong to the network's own layers, and the second logit of two would be another.
    two_logits: ClassVar[bool] = False
    needs_logits: ClassVar[bool] = False

    count: Count = 2048
    layers: Sequence[str] | None = None
    cutoff: Share = 1e-3
    most_inputs: Count = 1024
    units: Count = 10
    most_classes: Count = 10
    seed: Natural = 0

    def check(self, model: LightningModule) -> None:
        PatternStatistics(model, None if self.layers is None else list(self.layers))

    def pick(self, trainer: Trainer) -> _Picked:
        pool = self.random_examples(trainer, 2 * self.count, self.seed, _MOST_BYTES).images
        if self.images is None:
            examples = self.examples(trainer, 1, self.most_classes)
        else:
            examples = Examples(pool[: self.most_classes], None)
        if len(pool) < 2:
            raise FirstlightError(f"images: patterns need at least two images, got {len(pool)}")
        fit, judged = pool.tensor_split(2)
        batch = max(1, _VALUES_PER_PASS // pool[0].numel())
        quality = SignalQuality(judged, seed=self.seed, batch_size=batch, cutoff=self.cutoff)
        # Copies of their own: a part of the pool would keep the whole of it.
        return _Picked(fit.clone().split(batch), quality, examples)

    def explain(self, model: LightningModule, picked: _Picked, when: Moment) -> Explanation:
        # On rank 0 alone, so nothing may wait for the other processes.
        statistics = PatternStatistics(model, sync_on_compute=False)
        for batch in picked.fit:
            statistics.update(batch)
        patterns = statistics.compute()
        found = Explanation()
        judged = self._judged(patterns)
        quality = summary(picked.quality(model, judged)) if judged else {}
        for layer, by_estimator in quality.items():
            for estimator, units in by_estimator.items():
                # Some loggers drop what is not ASCII, and would take S_a± for S_a.
                found.scalars[f"rho/{layer}/{estimator.replace('±', '+-')}"] = units.mean
            found.scalars[f"excluded/{layer}"] = float(by_estimator["S_a±"].excluded)
        shape = picked.fit[0].shape[1:]
        first = _first(patterns, shape)
        if first is not None:
            found.sheets["first_layer"] = self._units(first, patterns[first], shape, when)
        try:
            found.sheets["signal_and_attribution"] = self._signals(model, patterns, picked, when)
        except (FirstlightError, ValueError) as error:
            # No logits, or other activations than ReLUs: the rest is worth having.
            found.failures.append(str(error))
        if without := _without_rho(quality):
            found.sheets = {
                name: replace(sheet, caption="\n".join((sheet.caption, *without)))
                for name, sheet in found.sheets.items()
            }
        return found

    def _judged(self, patterns: Mapping[str, Pattern]) -> dict[str, Pattern]:
        if self.layers is None:
            return {n: p for n, p in patterns.items() if p.weight[0].numel() <= self.most_inputs}
        missing = [name for name in self.layers if name not in patterns]
        if missing:
            raise ArgumentError("layers", "the model never calls them", missing)
        return {name: patterns[name] for name in self.layers}

    def _units(self, name: str, first: Pattern, shape: Sequence[int], when: Moment) -> Sheet:
        """The weights and patterns of the first layer's first units, as images."""
        rows = {
            "weights w": first.weight,
            "pattern a": first.linear,
            "pattern a+": first.positive,
            "pattern a-": first.negative,
        }
        counts = first.positive_count, first.count - first.positive_count
        shown = min(self.units, len(first.weight))
        columns = []
        for unit in range(shown):
            own = [t[unit] for t in rows.values()]
            maps = [t.reshape(shape) if t.ndim == 1 else t for t in own]
            never = ["never so" if n[unit] == 0 else None for n in counts]
            notes = [None, None, *never]
            columns.append(Column(f"unit {unit}", torch.stack(maps), notes=notes))
        return Sheet(
            rows=list(rows),
            columns=columns,
            title=f"What units of {name} weigh and what they detect, {when}",
            caption=f"a+: where the unit is active, a-: where it is not. {Signed().legend}",
            about=families.about(self.family),
        )

    def _signals(
        self, model: LightningModule, patterns: dict[str, Pattern], picked: _Picked, when: Moment
    ) -> Sheet:
        examples, outputs = picked.examples, self.outputs
        if outputs.missing is not None:
            raise outputs.missing
        logits = logits_of(model, examples.images.clone()).detach()
        # Of classes, the one that the network itself predicts.
        target = outputs.explained(logits) if outputs.head == "values" else None
        methods: dict[str, Method] = {
            "PatternNet Sa": PatternNet(patterns, "linear"),
            "PatternNet Sa+-": PatternNet(patterns, "positive"),
            "Attribution Sa": PatternAttribution(patterns, "linear"),
            "Attribution Sa+-": PatternAttribution(patterns, "positive"),
        }
        return Sheet(
            rows=outputs.rows(examples, logits),
            columns=[
                Column("image", examples.images, Picture(), notes=outputs.notes(logits)),
                *(
                    Column(name, maps, notes=gaps(maps))
                    for name, method in methods.items()
                    for maps in (method(model, examples.images, target),)
                ),
            ],
            title=f"Signal and attribution of the {outputs.subject()}, {when}",
            caption=f"{outputs.caption(examples, logits)} {Signed().legend}",
            about=families.about(self.family),
        )


def _first(patterns: Mapping[str, Pattern], shape: Sequence[int]) -> str | None:
    """The first layer that sees the image, if its weights can be drawn as images."""
    for name, pattern in patterns.items():
        drawable = pattern.weight[0].ndim == 3 or pattern.weight[0].numel() == math.prod(shape)
        if pattern.sees_image and drawable:
            return name
    return None


def _without_rho(quality: Mapping[str, Mapping[str, UnitSummary]]) -> list[str]:
    """A line on each layer that has no ρ, as all its units are excluded: how many for which reason.

    No more than a few layers are told of.
    """
    lines = []
    for layer, by_estimator in quality.items():
        lacking = {name: units for name, units in by_estimator.items() if math.isnan(units.mean)}
        if lacking:
            of = "" if len(lacking) == len(by_estimator) else f" of {', '.join(lacking)}"
            # If no estimator has one, the reasons are those that all have in common.
            reasons = next(iter(lacking.values())).reasons
            why = ", ".join(f"{n} unit{'s' * (n > 1)} with {what}" for what, n in reasons.items())
            lines.append(f"No ρ{of} for layer {layer}: {why}.")
    more = len(lines) - _MOST_LINES
    return lines[:_MOST_LINES] + [f"No ρ for {more} more layers."] * (more > 0)
