"""How good a signal estimator is: the quality ρ(S) of every unit, from one factorisation."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence

import torch
from pydantic import InstanceOf
from torch import Tensor, nn

from firstlight.arguments import Count, Share, checked
from firstlight.errors import ArgumentError
from firstlight.pipeline.patterns.judged_layer import JudgedLayer, Remembered
from firstlight.pipeline.patterns.layer_quality import LayerQuality, Quality
from firstlight.pipeline.patterns.pattern import Pattern
from firstlight.pipeline.tracing.images import checked_images
from firstlight.pipeline.tracing.layer_observer import LayerObserver, Observation
from firstlight.pipeline.tracing.layers import LayerCall, layer_names
from firstlight.pipeline.tracing.undisturbed import undisturbed

_PARTS: Mapping[str, tuple[str, ...]] = {
    "random": (),
    "S_w": ("weight",),
    "S_a": ("linear",),
    "S_a±": ("positive", "negative"),
}
"""The attributes of a Pattern that make an estimator."""

ESTIMATORS = tuple(_PARTS)
"""Random directions, the weights, the linear pattern, the patterns for z > 0 and for z ≤ 0."""


@checked
class SignalQuality:
    """ρ(S) = 1 - max_v corr(wᵀx, vᵀ(x - S(x))): how much of a unit's output y = wᵀx is absent from
    what the estimator S of its signal leaves over (P.-J. Kindermans et al., "Learning how to
    explain neural networks", 2017, eq. 1).

    With C = cov[x] = RRᵀ, everything is said in whitened directions, Rᵀw for weights and R⁻¹u for
    patterns (:mod:`~firstlight.pipeline.patterns.correlation`). So one factorisation serves all
    units and estimators of a layer (of a group, in a grouped convolution).

    - In a direction in which the images do not vary, what u has tells y, and ρ of a linear
      estimator is 0, as in least squares.
    - Inputs that hardly varied in the data of the fit (``judged_layer.DEAD_INPUT``) are dropped
      from x, w and u. y is then that of the inputs kept, and patterns are scaled to wᵀa = 1 again.
    - ρ is NaN for a unit with fewer than ``min_samples`` samples with z > 0 or with z ≤ 0, here or
      in the fit, for one without a pattern, for one whose y does not vary, and where there are no
      more samples than inputs, so that some v always fits. :func:`summary` counts the reasons.
    - n samples of P inputs correlate by √(P/n) by chance: take n ≫ P, or leave out with ``cutoff``
      the directions in which the inputs hardly vary. And take other images than those of the fit:
      there S_a and S_a± have ρ = 1 by construction.
    - S_x, the input itself, leaves nothing over, so it has no correlation and no ρ.

    An object of this class judges a network again and again, on the same images. The second moments
    of an input that is nothing but the images reshaped do not change as the network learns; they
    are computed once. Images given as a tensor are copied, so nobody can change them; an iterable
    is gone through at each call and nothing is kept.

    Args:
        images: (N, C, H, W), floating point, or an iterable of such batches.
        estimators: Some of :data:`ESTIMATORS`.
        min_samples: The fewest samples in a regime.
        seed: Of the random directions.
        batch_size: Images in a forward pass, if ``images`` is a tensor.
        cutoff: Directions of the inputs whose variance is at most this share of the largest (the
            eigenvalues of C) are projected out of w and u. 0 keeps all, as in the definition.

    Raises:
        ArgumentError: An estimator is unknown, or is S_x.
    """

    def __init__(
        self,
        images: InstanceOf[Iterable[Tensor]],
        estimators: Sequence[str] = ESTIMATORS,
        min_samples: Count = 50,
        seed: int = 0,
        batch_size: Count = 512,
        cutoff: Share = 0.0,
    ) -> None:
        for estimator in estimators:
            _check_estimator(estimator)
        self._cutoff = cutoff
        self._images = (
            images.detach().clone().split(batch_size) if isinstance(images, Tensor) else images
        )
        self._remembers = isinstance(images, Tensor)
        self._estimators = tuple(estimators)
        self._min_samples = min_samples
        self._seed = seed
        self._remembered: dict[str, Remembered] = {}

    def __call__(self, model: nn.Module, patterns: Mapping[str, Pattern]) -> Quality:
        """ρ of the layers in ``patterns``.

        Args:
            model: The module that the patterns are of, unchanged since. It is left as it was.
            patterns: From ``PatternStatistics(model).compute()``, or some of them.

        Returns:
            ρ in [0, 1] by layer and estimator, (units,) in float64, NaN for excluded units.

        Raises:
            ArgumentError: A batch is no images. No images, no patterns, or those of a layer that
                the model did not call or has changed since.
        """
        if not patterns:
            raise ArgumentError("patterns", "must hold a layer, got none")
        layers = self._observed(model, patterns)
        if not all(layer.consistent for layer in layers.values()):
            self._remembered.clear()
            layers = self._observed(model, patterns)
        if self._remembers:
            found = {name: layer.remember() for name, layer in layers.items()}
            self._remembered |= {name: old for name, old in found.items() if old is not None}
        seeded = torch.Generator().manual_seed(self._seed)
        return {name: self._rho(patterns[name], layers[name], seeded) for name in patterns}

    def _observed(
        self, model: nn.Module, patterns: Mapping[str, Pattern]
    ) -> dict[str, JudgedLayer]:
        """The layers after one pass over the images."""
        names = {key: name for key, name in layer_names(model).items() if name in patterns}
        layers: dict[str, JudgedLayer] = {}
        with undisturbed(model), torch.no_grad():
            for batch in self._images:
                images = checked_images(model, batch)
                with LayerObserver(names, self._added_to(layers, patterns, images)):
                    model(images)
        missing = [name for name in patterns if name not in layers]
        if missing:
            raise ArgumentError(
                "patterns",
                f"the model has called no layer {', '.join(missing)}, or there were no images",
            )
        return layers

    def _added_to(
        self, layers: dict[str, JudgedLayer], patterns: Mapping[str, Pattern], images: Tensor
    ) -> Callable[[Observation], None]:
        """Takes the observations of a pass over some images to their layers."""
        version = images._version

        def add(observation: Observation) -> None:
            name, pattern = observation.name, patterns[observation.name]
            unwritten = images._version == version
            origin = _origin(observation.call, images) if unwritten else None
            if name not in layers:
                _check_weights(pattern, observation)
                groups = observation.call.options.get("groups", 1)
                remembered = self._remembered.get(name)
                layers[name] = JudgedLayer(pattern, groups, origin, remembered, self._cutoff)
            layers[name].add(observation, origin)

        return add

    def _rho(
        self, pattern: Pattern, layer: JudgedLayer, generator: torch.Generator
    ) -> LayerQuality:
        """ρ of every estimator for the units of a layer."""
        reasons = self._reasons(pattern, layer)
        unfitted = torch.zeros_like(layer.still)
        excluded = torch.stack(list(reasons.values())).any(0)
        rho: dict[str, Tensor] = {}
        for name in self._estimators:
            parts = [pattern.of(part) for part in _PARTS[name]]
            if not parts:
                parts = [torch.randn(pattern.weight.shape, generator=generator).to(pattern.weight)]
            without = torch.stack([part.flatten(1).any(1) for part in parts]).logical_not().any(0)
            correlation = layer.correlation(parts).flatten()
            rho[name] = (1 - correlation).masked_fill(excluded | without, torch.nan)
            unfitted |= without
        return LayerQuality(rho, reasons | {"no pattern": unfitted})

    def _reasons(self, pattern: Pattern, layer: JudgedLayer) -> dict[str, Tensor]:
        """The units (units,) that no estimator has a ρ of, by reason."""
        (count, inputs), active = layer.counts, layer.positive_count
        regimes = [active, count - active, pattern.positive_count, pattern.negative_count]
        few = f"fewer than {self._min_samples} samples with z > 0 or with z ≤ 0"
        return {
            few: torch.stack(regimes).amin(0) < self._min_samples,
            "no more samples than inputs": count <= inputs + 1,
            "an output that does not vary": layer.still,
        }


def signal_quality(
    model: nn.Module,
    patterns: Mapping[str, Pattern],
    images: Tensor | Iterable[Tensor],
    estimators: Sequence[str] = ESTIMATORS,
    min_samples: int = 50,
    seed: int = 0,
) -> Quality:
    """ρ(S) on images that the patterns were not fitted on: :class:`SignalQuality`, used once."""
    return SignalQuality(images, estimators, min_samples, seed)(model, patterns)


def _origin(call: LayerCall, images: Tensor) -> Hashable:
    """How the layer reads the images, if its input is nothing but the images reshaped; else None.

    Equal origins mean that the samples are the same function of the images, whatever the network
    has learnt.
    """
    if call.input.untyped_storage().data_ptr() != images.untyped_storage().data_ptr():
        return None
    x = call.input
    layout = x.shape[1:], x.stride(), x.storage_offset(), x.dtype
    return (*layout, call.weight.shape[2:], repr(call.options))


def _check_weights(pattern: Pattern, observation: Observation) -> None:
    now, then = observation.weight, pattern.weight.to(observation.weight)
    # Equal ones, the usual case, are known at once.
    same = torch.equal(then, now) or (then.shape == now.shape and torch.allclose(then, now, 1e-4))
    if not same:
        raise ArgumentError(
            "patterns",
            f"those of layer {observation.name!r} are of other weights than the model has now; "
            "fit them again",
        )


def _check_estimator(estimator: str) -> None:
    if estimator == "S_x":
        raise ArgumentError(
            "estimators",
            "S_x takes the whole input as signal and leaves nothing over, "
            "so it has no correlation and no ρ",
        )
    if estimator not in ESTIMATORS:
        raise ArgumentError("estimators", f"{estimator!r} is none of {', '.join(ESTIMATORS)}")
