"""SmoothGrad beside Captum and PAIR's saliency."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import saliency.core as pair
import torch
from captum.attr import NoiseTunnel, Saliency
from torch import Tensor, nn

from benchmarks.compare import (
    Aim,
    Check,
    Comparison,
    Measured,
    NotTheSame,
    Side,
    relative_error,
    timed,
)
from benchmarks.scale import Scale, default_network, full_range, pictures, residual_network
from benchmarks.scale import test_images as digits_to_explain
from firstlight.pipeline import SmoothGrad

_NOISE = 0.15
_CHUNKS = (1, 2, 5, 10, 25, 50)


class Explained(NamedTuple):
    """A network, images with the range [0, 1], and the classes whose scores are explained."""

    model: nn.Module
    images: Tensor
    classes: Tensor

    @classmethod
    def of(cls, model: nn.Module, images: Tensor) -> Explained:
        return cls(model, images, model(images).argmax(1))


def default(scale: Scale) -> Explained:
    images = digits_to_explain(scale.mnist).images[: scale.pick(100, 10)]
    return Explained.of(default_network(scale.mnist), full_range(images))


def residual(scale: Scale) -> Explained:
    return Explained.of(residual_network(), pictures(scale.pick(2, 1), scale.pick(224, 64)))


def ours(what: Explained, samples: int, seed: int = 0) -> Tensor:
    method = SmoothGrad(samples=samples, noise_level=_NOISE, seed=seed)
    return method(what.model, what.images, what.classes)


def captum(what: Explained, samples: int, chunk: int) -> Tensor:
    tunnel = NoiseTunnel(Saliency(what.model))
    maps: Tensor = tunnel.attribute(
        what.images.clone(),
        nt_samples=samples,
        nt_samples_batch_size=chunk,
        stdevs=_NOISE,
        target=what.classes,
        abs=False,
    )
    return maps.detach()


def saliency(what: Explained, samples: int) -> Tensor:
    """PAIR's package takes one image at a time, and calls the network for one noisy copy."""
    method = pair.GradientSaliency()

    def gradients(images: Any, target: int, expected_keys: Any = None) -> dict[str, Any]:
        x = torch.as_tensor(np.asarray(images), dtype=torch.float32).requires_grad_()
        (gradient,) = torch.autograd.grad(what.model(x)[:, target].sum(), x)
        return {pair.INPUT_OUTPUT_GRADIENTS: gradient.numpy()}

    maps = [
        method.GetSmoothedMask(
            image.numpy(), gradients, target, stdev_spread=_NOISE, nsamples=samples, magnitude=False
        )
        for image, target in zip(what.images, what.classes.tolist(), strict=True)
    ]
    return torch.as_tensor(np.stack(maps))


def chunks(what: Explained, samples: int) -> Mapping[str, Side]:
    return {
        f"{chunk} samples a pass": timed(partial(captum, what, samples, chunk))
        for chunk in _CHUNKS
        if chunk <= samples
    }


def reference_error(what: Explained, samples: int) -> Check:
    """Our error, relative to many samples, must not be the larger one."""

    def check(a: Tensor, b: Tensor) -> str:
        reference = ours(what, samples, seed=1)
        return _no_worse(relative_error(a, reference), relative_error(b, reference))

    return check


def _no_worse(a: float, b: float) -> str:
    if not a <= b:
        raise NotTheSame(f"our error is {a:.4f}, the rival's {b:.4f}")
    return f"error {a:.4f}, rival {b:.4f}"


def repeated(what: Explained, draw: Any) -> Side:
    """A side that is timed once, but returns two draws, which tell the error of one."""

    def side() -> Measured:
        measured = timed(partial(draw, 0))()
        return Measured(measured.seconds, (measured.result, partial(draw, 1)))

    return side


def spread_error(a: Any, b: Any) -> str:
    """The errors by the difference of two independent draws, which is √2 times that of one.

    A reference of 20,000 samples would take hours. That both estimate the same is seen by their
    difference, which must not exceed what their errors explain.
    """
    (a0, a1), (b0, b1) = ((first, again()) for first, again in (a, b))
    norm = (a0 + a1 + b0 + b1).div(4).norm()
    error_a, error_b = (float((x - y).norm() / norm / 2**0.5) for x, y in ((a0, a1), (b0, b1)))
    apart = float(((a0 + a1) / 2 - (b0 + b1) / 2).norm() / norm)
    expected = ((error_a**2 + error_b**2) / 2) ** 0.5
    if apart > 1.5 * expected:
        raise NotTheSame(f"the means are {apart:.4f} apart, errors explain {expected:.4f}")
    return _no_worse(error_a, error_b)


def default_equal_samples(scale: Scale) -> Comparison:
    what, n = default(scale), scale.pick(50, 10)
    return Comparison(
        f"SmoothGrad, default network, {len(what.images)} images, n = {n}",
        "Captum NoiseTunnel",
        Aim.faster(4),
        timed(partial(ours, what, n)),
        chunks(what, n),
        reference_error(what, scale.pick(20_000, 2_000)),
        scale.pick(15, 1),
    )


def default_equal_error(scale: Scale) -> Comparison:
    what, n, fewer = default(scale), scale.pick(50, 20), scale.pick(16, 8)
    return Comparison(
        f"SmoothGrad to the error of Captum's n = {n}, default network, {len(what.images)} images",
        "Captum NoiseTunnel",
        Aim.faster(10),
        timed(partial(ours, what, fewer)),
        chunks(what, n),
        reference_error(what, scale.pick(20_000, 2_000)),
        scale.pick(15, 1),
    )


def default_pair(scale: Scale) -> Comparison:
    what, n, fewer = default(scale), scale.pick(50, 20), scale.pick(16, 8)
    return Comparison(
        f"SmoothGrad to the error of saliency's n = {n}, default network, "
        f"{len(what.images)} images",
        "PAIR saliency",
        Aim.faster(40),
        timed(partial(ours, what, fewer)),
        {"one image at a time": timed(partial(saliency, what, n))},
        reference_error(what, scale.pick(20_000, 2_000)),
        scale.pick(5, 1),
    )


def residual_equal_samples(scale: Scale) -> Comparison:
    what, n = residual(scale), scale.pick(20, 4)
    return Comparison(
        f"SmoothGrad, resnet18, {len(what.images)} images {_size(what)}, n = {n}",
        "Captum NoiseTunnel",
        Aim(1.0),
        repeated(what, lambda seed: ours(what, n, seed)),
        {
            name: repeated(what, partial(_ignoring_seed, what, n, chunk))
            for name, chunk in _residual_chunks(n)
        },
        spread_error,
        scale.pick(3, 1),
    )


def residual_equal_error(scale: Scale) -> Comparison:
    what, n, fewer = residual(scale), scale.pick(20, 4), scale.pick(6, 2)
    return Comparison(
        f"SmoothGrad to the error of Captum's n = {n}, resnet18, "
        f"{len(what.images)} images {_size(what)}",
        "Captum NoiseTunnel",
        Aim.faster(2.5),
        repeated(what, lambda seed: ours(what, fewer, seed)),
        {
            name: repeated(what, partial(_ignoring_seed, what, n, chunk))
            for name, chunk in _residual_chunks(n)
        },
        spread_error,
        scale.pick(3, 1),
    )


def _residual_chunks(n: int) -> list[tuple[str, int]]:
    return [(f"{chunk} samples a pass", chunk) for chunk in (1, 2, 5, 10) if chunk <= n]


def _ignoring_seed(what: Explained, samples: int, chunk: int, seed: int) -> Tensor:
    """Captum draws from torch's own generator, so every call is another draw."""
    return captum(what, samples, chunk)


def _size(what: Explained) -> str:
    height, width = what.images.shape[-2:]
    return f"{height} × {width}"
