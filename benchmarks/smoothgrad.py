"""SmoothGrad beside Captum and PAIR's saliency."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from statistics import fmean
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
    timed,
)
from benchmarks.scale import (
    Scale,
    as_colours,
    default_network,
    full_range,
    pictures,
    residual_network,
    trained_residual_network,
)
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


def trained_residual(scale: Scale) -> Explained:
    network = trained_residual_network(scale.mnist, scale.pick(10_000, 256), scale.pick(2, 1))
    images = digits_to_explain(scale.mnist).images[: scale.pick(16, 2)]
    return Explained.of(network, full_range(as_colours(images)))


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

    def gradients(
        images: Any, call_model_args: int | None = None, expected_keys: Any = None
    ) -> dict[str, Any]:
        x = torch.as_tensor(np.asarray(images), dtype=torch.float32).requires_grad_()
        (gradient,) = torch.autograd.grad(what.model(x)[:, call_model_args].sum(), x)
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


def reference(what: Explained, scale: Scale) -> Tensor:
    """So many samples that their own error does not count."""
    return ours(what, scale.pick(20_000, 2_000), seed=1)


def image_error(maps: Tensor, expected: Tensor) -> float:
    """The relative error of a map in L2, averaged over the images."""
    error, norm = ((m.double()).flatten(1).norm(dim=1) for m in (maps - expected, expected))
    return float((error / norm).mean())


def reference_error(expected: Tensor) -> Check:
    """Our error must not be the larger one."""
    return lambda a, b: _no_worse(image_error(a, expected), image_error(b, expected), 0.05)


def fewest(error: Callable[[int], float], rival: float, most: int) -> int:
    """The fewest samples, a pair at a time, whose error is not above the rival's."""
    return next((n for n in range(2, most, 2) if error(n) <= rival), most)


def _no_worse(a: float, b: float, spread: float) -> str:
    """Of two errors that differ by this share from draw to draw."""
    if not a <= (1 + spread) * b:
        raise NotTheSame(f"our error is {a:.4f}, the rival's {b:.4f}")
    return f"error {a:.4f}, rival {b:.4f}"


def repeated(what: Explained, draw: Any) -> Side:
    """A side that is timed once, but returns two draws, which tell the error of one."""

    def side() -> Measured:
        measured = timed(partial(draw, 0))()
        return Measured(measured.seconds, (measured.result, partial(draw, 1)))

    return side


def draw_error(a: Tensor, b: Tensor) -> float:
    """The error of one of two independent draws: their difference is √2 times that."""
    return float((a - b).norm() / (a + b).div(2).norm() / 2**0.5)


def spread_error(a: Any, b: Any) -> str:
    """The errors by the difference of two draws, since 20,000 samples would take hours.

    That both estimate the same is seen by their difference, which must not exceed what their errors
    explain.
    """
    (a0, a1), (b0, b1) = ((first, again()) for first, again in (a, b))
    error_a, error_b = draw_error(a0, a1), draw_error(b0, b1)
    apart = float((a0 + a1 - b0 - b1).norm() / (a0 + a1 + b0 + b1).div(2).norm())
    expected = ((error_a**2 + error_b**2) / 2) ** 0.5
    if apart > 1.5 * expected:
        raise NotTheSame(f"the means are {apart:.4f} apart, errors explain {expected:.4f}")
    return _no_worse(error_a, error_b, 0.1)


def default_equal_samples(scale: Scale) -> Comparison:
    what, n = default(scale), scale.pick(50, 10)
    return Comparison(
        f"SmoothGrad, default network, {len(what.images)} images, n = {n}",
        "Captum NoiseTunnel",
        Aim.faster(4),
        timed(partial(ours, what, n)),
        chunks(what, n),
        reference_error(reference(what, scale)),
        scale.pick(15, 1),
    )


def default_equal_error(scale: Scale) -> Comparison:
    what, n = default(scale), scale.pick(50, 20)
    sides = chunks(what, n)
    return _to_the_error(scale, what, n, "Captum NoiseTunnel", sides, Aim.faster(10), 15)


def default_pair(scale: Scale) -> Comparison:
    what, n = default(scale), scale.pick(50, 20)
    sides = {"one image at a time": timed(partial(saliency, what, n))}
    return _to_the_error(scale, what, n, "PAIR saliency", sides, Aim.faster(40), 5)


def _to_the_error(
    scale: Scale,
    what: Explained,
    n: int,
    rival: str,
    sides: Mapping[str, Side],
    aim: Aim,
    pairs: int,
) -> Comparison:
    """Our fewest samples that are no worse than n of the rival's."""
    expected = reference(what, scale)
    (side, *_) = sides.values()
    limit = fmean(image_error(side().result, expected) for _ in range(3))
    fewer = fewest(lambda samples: image_error(ours(what, samples), expected), limit, n)
    return Comparison(
        f"SmoothGrad to the error of the rival's n = {n} (ours: {fewer}), default network, "
        f"{len(what.images)} images",
        rival,
        aim,
        timed(partial(ours, what, fewer)),
        sides,
        reference_error(expected),
        scale.pick(pairs, 1),
    )


def residual_equal_samples(scale: Scale) -> Comparison:
    what, n = residual(scale), scale.pick(20, 4)
    return _residual(scale, f"n = {n}", "resnet18", what, n, n, Aim(1.0))


def residual_equal_error(scale: Scale) -> Comparison:
    return _residual_to_the_error(scale, "resnet18", residual(scale), Aim.faster(2.5))


def trained_residual_equal_error(scale: Scale) -> Comparison:
    what = trained_residual(scale)
    return _residual_to_the_error(scale, "resnet18 trained on digits", what, Aim.faster(1.8))


def _residual_to_the_error(scale: Scale, network: str, what: Explained, aim: Aim) -> Comparison:
    n = scale.pick(20, 4)
    limit = draw_error(captum(what, n, 2), captum(what, n, 2))
    fewer = fewest(
        lambda samples: draw_error(ours(what, samples), ours(what, samples, seed=1)), limit, n
    )
    work = f"to the error of the rival's n = {n} (ours: {fewer})"
    return _residual(scale, work, network, what, n, fewer, aim)


def _residual(
    scale: Scale, work: str, network: str, what: Explained, n: int, ours_n: int, aim: Aim
) -> Comparison:
    height, width = what.images.shape[-2:]
    return Comparison(
        f"SmoothGrad, {work}, {network}, {len(what.images)} images {height} × {width}",
        "Captum NoiseTunnel",
        aim,
        repeated(what, lambda seed: ours(what, ours_n, seed)),
        {
            f"{chunk} samples a pass": repeated(what, partial(_ignoring_seed, what, n, chunk))
            for chunk in (1, 2, 5, 10)
            if chunk <= n
        },
        spread_error,
        scale.pick(5, 1),
    )


def _ignoring_seed(what: Explained, samples: int, chunk: int, seed: int) -> Tensor:
    """Captum draws from torch's own generator, so every call is another draw."""
    return captum(what, samples, chunk)
