"""Integrated gradients, guided backprop and occlusion beside Captum."""

from __future__ import annotations

import warnings
from functools import partial

import captum.attr
from torch import Tensor

from benchmarks.compare import Aim, Comparison, close, timed
from benchmarks.scale import Scale
from benchmarks.smoothgrad import Explained, default, residual
from firstlight.pipeline import GuidedBackprop, IntegratedGradients, Occlusion

_SAME = Aim(1.0)


def _integrated_gradients(
    work: str, what: Explained, steps: int, pairs: int, tolerance: float
) -> Comparison:
    method = captum.attr.IntegratedGradients(what.model)

    def theirs(rows: int) -> Tensor:
        maps: Tensor = method.attribute(
            what.images,
            target=what.classes,
            n_steps=steps,
            method="riemann_middle",
            internal_batch_size=rows,
        )
        return maps

    rows = {r for r in (8, 32, 128, 512, 2048) if len(what.images) <= r <= steps * len(what.images)}
    if what.images[0].numel() > 10_000:
        rows &= {8, 32}
    return Comparison(
        f"integrated gradients, {work}, {steps} steps",
        "Captum",
        _SAME,
        timed(lambda: IntegratedGradients(steps)(what.model, what.images, what.classes)),
        {f"{r} rows a pass": timed(partial(theirs, r)) for r in sorted(rows)},
        close(tolerance),
        pairs,
    )


def _guided_backprop(work: str, what: Explained, pairs: int) -> Comparison:
    method = captum.attr.GuidedBackprop(what.model)

    def theirs() -> Tensor:
        with warnings.catch_warnings():
            # It says each time that it hooks into the model.
            warnings.simplefilter("ignore")
            maps: Tensor = method.attribute(what.images.clone(), target=what.classes)
        return maps

    return Comparison(
        f"guided backprop, {work}",
        "Captum",
        _SAME,
        timed(lambda: GuidedBackprop()(what.model, what.images, what.classes)),
        {"": timed(theirs)},
        close(1e-4),
        pairs,
    )


def _occlusion(work: str, what: Explained, window: int, stride: int, pairs: int) -> Comparison:
    method = captum.attr.Occlusion(what.model)

    def theirs(positions: int) -> Tensor:
        maps: Tensor = method.attribute(
            what.images,
            sliding_window_shapes=(what.images.shape[1], window, window),
            strides=(what.images.shape[1], stride, stride),
            target=what.classes,
            perturbations_per_eval=positions,
        )
        return maps

    method_ours = Occlusion(window, stride, fill=0.0)
    return Comparison(
        f"occlusion, {work}, windows of {window}, stride {stride}",
        "Captum",
        _SAME,
        timed(lambda: method_ours(what.model, what.images, what.classes)),
        {f"{p} positions a pass": timed(partial(theirs, p)) for p in (1, 4, 16)},
        close(1e-3),
        pairs,
    )


def default_integrated_gradients(scale: Scale) -> Comparison:
    what = default(scale)
    return _integrated_gradients(_named("default network", what), what, 50, scale.pick(9, 1), 1e-4)


def residual_integrated_gradients(scale: Scale) -> Comparison:
    what, steps = residual(scale), scale.pick(20, 4)
    # In float32 rounding decides some of its many ReLUs and maxima; in float64 both agree to 1e-8.
    return _integrated_gradients(_named("resnet18", what), what, steps, scale.pick(3, 1), 2e-3)


def default_guided_backprop(scale: Scale) -> Comparison:
    what = default(scale)
    return _guided_backprop(_named("default network", what), what, scale.pick(51, 1))


def residual_guided_backprop(scale: Scale) -> Comparison:
    what = residual(scale)
    return _guided_backprop(_named("resnet18", what), what, scale.pick(9, 1))


def default_occlusion(scale: Scale) -> Comparison:
    what = default(scale)
    return _occlusion(_named("default network", what), what, 7, 4, scale.pick(9, 1))


def residual_occlusion(scale: Scale) -> Comparison:
    what = residual(scale)
    side = what.images.shape[-1]
    return _occlusion(_named("resnet18", what), what, side // 4, side // 8, scale.pick(3, 1))


def _named(network: str, what: Explained) -> str:
    count, _, height, width = what.images.shape
    return f"{network}, {count} image{'s' if count > 1 else ''} {height} × {width}"
