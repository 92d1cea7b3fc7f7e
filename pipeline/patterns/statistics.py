"""Pattern statistics: sums over the data that the patterns of a network's layers follow from."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from firstlight.arguments import checked
from firstlight.errors import ArgumentError
from firstlight.pipeline.patterns.pattern import (
    PATTERNS,
    LayerSums,
    Pattern,
    PatternName,
    Regimes,
)
from firstlight.pipeline.patterns.samples import InputSums, Samples, sums_device, unit_outputs
from firstlight.pipeline.tracing.first_layer import FirstLayers
from firstlight.pipeline.tracing.images import checked_images
from firstlight.pipeline.tracing.layer_observer import LayerObserver, Observation
from firstlight.pipeline.tracing.layers import layer_names
from firstlight.pipeline.tracing.undisturbed import undisturbed


@checked
class PatternStatistics(Metric):
    """Fits the patterns of every linear and convolution layer in one pass over the data.

    For a regime r of samples (all; z > 0; z ≤ 0, where z = wᵀx + b) and y = wᵀx,

        k_r = E_r[xy] - E_r[x] E[y],    a_r = k_r / (wᵀ k_r),

    with E[y] over all samples (P.-J. Kindermans et al., "Learning how to explain neural networks",
    2017, eqs. 3 and 7; the source leaves E[y] in eq. 7 over both regimes). Adding a constant to y
    leaves k_r as it is, so the sums are taken of z and the bias matters for the regimes only. For a
    convolution each patch is a sample x; patches are cut out, a few images at a time, only where
    positions are at most an eighth of a patch's numbers. Layers are found by their calls, whether
    modules or functional calls make them; calls of one layer add up.

    A BatchNorm in evaluation mode that takes a layer's output is folded: the unit is both together.
    Operations other than ``F.linear`` and ``F.conv1d/2d/3d``, and layers whose weight is computed
    anew at every call, have no patterns.

    Only sums are kept, so processes add up theirs. Within a batch they are summed in the model's
    dtype (float32 at least), over batches in float64. On MNIST that leaves the patterns of a
    float32 network within a relative 1e-7 (median), 1e-6 (most) and 1e-4 (where wᵀk_r is nearly 0)
    of those computed in float64 throughout, whose products take 2.4 times as long.

    Args:
        model: Any module for which ``model(images)`` works. It is used, not owned, left as it was,
            and must not change between the first :meth:`update` and :meth:`compute`.
        layers: The names of the layers to fit, as in ``model.named_modules()``; None for all.
        estimators: The patterns to fit. All take about three times as long as a forward pass beside
            it, "linear" alone a third of that, "positive" or "negative" alone two thirds.
        kwargs: As for every ``torchmetrics.Metric``.

    Raises:
        ArgumentError: ``model`` has no weights of a linear or convolution layer, or lacks one of
            ``layers``.

    Example:
        >>> statistics = PatternStatistics(model)
        >>> for images, _ in loader:
        ...     statistics.update(images)
        >>> statistics.compute()["conv1"].positive
    """

    full_state_update = False
    higher_is_better = None
    is_differentiable = False

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[str] | None = None,
        estimators: Sequence[PatternName] = PATTERNS,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not estimators:
            raise ArgumentError("estimators", "must name a pattern, got none")
        self._estimators = tuple(estimators)
        self._regimes = Regimes.of(set(estimators))
        self._first: set[str] | None = None
        # In a tuple, or the model would become a part of the metric: of its state, its device and
        # its parameters.
        self._model = (model,)
        weights = _layer_weights(model)
        self._names = _chosen(layers, list(weights))
        for name in self._names:
            units, *inputs = weights[name].shape
            # x is the same for every unit of a group.
            groups = _groups(model, weights[name])
            device = sums_device(weights[name].device)
            self._add_sums(f"products {name}", (self._regimes.products, units, *inputs), device)
            self._add_sums(f"inputs {name}", (2, groups, *inputs), device)
            self._add_sums(f"units {name}", (7, units), device)
            lowest = torch.full((3, units), -torch.inf, dtype=torch.float64, device=device)
            self.add_state(f"extremes {name}", lowest, dist_reduce_fx="max")

    def update(self, images: Tensor) -> None:
        """Add a batch.

        Args:
            images: (N, C, H, W), floating point, in the units that the model takes.

        Raises:
            ArgumentError: ``images`` are not as described above, or the model called none of the
                layers.
        """
        (model,) = self._model
        weights = _layer_weights(model)
        names = {id(weights[name]): name for name in self._names}
        called: set[str] = set()

        input_sums = InputSums()

        def add(observation: Observation) -> None:
            called.add(observation.name)
            # The sums may have been made in inference mode, and only there may those be written to.
            with torch.inference_mode():
                self._add(observation, input_sums)

        with undisturbed(model), torch.no_grad():
            images = checked_images(model, images)
            if self._first is None:
                # Two images, as a norm over the batch takes no single one.
                with FirstLayers(few := images[:2].clone()) as first:
                    model(few)
                weights_seen = [layer.call.weight for layer in first.layers]
                self._first = {names[id(w)] for w in weights_seen if id(w) in names}
            with LayerObserver(names, add):
                model(images)
        if not called:
            raise ArgumentError(
                "model",
                f"called none of its layers {', '.join(self._names)} as F.linear or F.conv1d/2d/3d",
            )

    def compute(self) -> dict[str, Pattern]:
        """The patterns by layer name, in the model's order, without layers that were not called.

        Raises:
            RuntimeError: No images were added yet.
            ArgumentError: A layer's outputs were not finite, or went to one norm here and to
                another there.
        """
        (model,) = self._model
        weights = _layer_weights(model)
        called = [name for name in self._names if self._sums(name).units.any()]
        if not called:
            raise RuntimeError(
                "PatternStatistics has seen no images: call update(images) before compute()"
            )
        return {
            name: self._sums(name).pattern(name, weights[name].detach(), self._estimators)
            for name in called
        }

    def _add(self, observation: Observation, input_sums: InputSums) -> None:
        sums = self._sums(observation.name)
        device = sums.units.device
        x, outputs = Samples.of(observation.call), unit_outputs(observation)
        inputs = input_sums.of(observation.call, x, device)
        sums.inputs.add_(inputs.repeat_interleave(sums.inputs.shape[1] // x.groups, 1))
        for samples, z in x.parts(outputs):
            active = z.clamp(min=0)
            factors = self._regimes.factors(z, active)
            for total, g in zip(sums.products, factors, strict=True):
                total += samples.product(g).to(device)
            positions = (0, *range(2, z.ndim))
            sums.units[1] += z.sum(positions).to(device)
            sums.units[2] += active.sum(positions).to(device)
            highest, lowest = z.amax(positions), z.amin(positions)
            together = torch.full_like(highest, z[:, 0].numel())
            extremes = torch.stack((highest, -lowest, together)).to(device)
            torch.maximum(sums.extremes, extremes.to(sums.extremes), out=sums.extremes)
        scale = observation.scale
        factor = 1.0 if scale is None else scale.to(device).double()
        count = outputs.numel() // outputs.shape[1]
        sees_image = observation.name in (self._first or ())
        rows = (count * factor, count * factor**2, count * (scale is not None), count * sees_image)
        for total, row in zip((sums.units[0], *sums.units[3:]), (count, *rows), strict=True):
            total += row

    def _wrap_compute(self, compute: Callable[..., Any]) -> Callable[..., Any]:
        # torchmetrics strips the dimensions of every tensor with one element that it finds in a
        # result: a layer with one unit would lose its shape. So the result passes through it in a
        # shell.
        wrapped = super()._wrap_compute(lambda: _Shell(compute()))
        return wraps(compute)(lambda: wrapped().content)

    def _add_sums(self, name: str, shape: tuple[int, ...], device: torch.device) -> None:
        self.add_state(
            name, torch.zeros(shape, dtype=torch.float64, device=device), dist_reduce_fx="sum"
        )

    def _sums(self, name: str) -> LayerSums:
        return LayerSums(*(getattr(self, f"{kind} {name}") for kind in LayerSums._fields))


class _Shell:
    def __init__(self, content: Any) -> None:
        self.content = content


def _layer_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """Every parameter that may be the weight of a linear layer or a convolution, by layer name."""
    names = layer_names(model)
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    weights = (p for p in model.parameters() if 2 <= p.ndim <= 5 and id(p) not in tables)
    return {names[id(weight)]: weight for weight in weights}


def _groups(model: nn.Module, weight: Tensor) -> int:
    """How many groups of units with inputs of their own the layer may have."""
    if weight.ndim == 2:
        return 1
    for module in model.modules():
        groups = getattr(module, "groups", None)
        if isinstance(groups, int) and any(p is weight for p in module.parameters(recurse=False)):
            return groups
    # A bare parameter may be used with any number of groups.
    return len(weight)


def _chosen(layers: Sequence[str] | None, names: list[str]) -> tuple[str, ...]:
    """The names of ``layers`` in the model's order."""
    if not names:
        raise ArgumentError(
            "model", "has no weight of a linear layer or convolution, so there is nothing to fit"
        )
    unknown = next((layer for layer in layers or () if layer not in names), None)
    if unknown is not None:
        near = difflib.get_close_matches(unknown, names, n=3, cutoff=0.4) or names
        raise ArgumentError(
            "layers", f"the model has no layer {unknown!r} with weights; near it: {', '.join(near)}"
        )
    return tuple(name for name in names if layers is None or name in layers)
