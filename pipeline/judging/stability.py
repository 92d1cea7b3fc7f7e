"""How much a map changes when the image hardly does."""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from firstlight.arguments import AboveZero, Count, checked
from firstlight.pipeline.maps import maps_of
from firstlight.pipeline.methods.base import Method
from firstlight.pipeline.methods.scores import Target, as_score
from firstlight.pipeline.tracing.images import checked_images, noise_sigma
from firstlight.pipeline.tracing.undisturbed import undisturbed


@checked
def map_changes(
    method: Method,
    model: nn.Module,
    images: Tensor,
    target: Target = None,
    noise_level: AboveZero = 0.02,
    draws: Count = 4,
    seed: int = 0,
    maps: Tensor | None = None,
) -> Tensor:
    """‖M(x + ε) - M(x)‖₂ / ‖M(x)‖₂ for each image x and draw of ε ~ N(0, σ²); returns (N, draws).

    0 is perfectly stable, about √2 is where the two maps have nothing to do with each other. The
    mean over the draws is the average sensitivity of Bhatt et al. 2020 (arXiv:2005.00631, def. 2),
    the largest estimates from below the max-sensitivity of Yeh et al. 2019 (arXiv:1901.09392),
    both here with Gaussian noise, and relative to the map's norm so that methods compare. The
    local Lipschitz constant of Alvarez-Melis and Jaakkola 2018 (arXiv:1806.08049) would divide by
    ‖ε‖, the same for all methods, as well.

    Every image gets the same ε, scaled to its range, and the explained class is that of x. So the
    numbers of one image do not depend on the others, and those of two methods or epochs differ by
    more than luck. A method with noise of its own, such as SmoothGrad, draws the same for x and
    x + ε.

    Args:
        method: the method M to judge.
        model, images, target: as for calling the method.
        noise_level: σ as a share of each image's own range, max(x) - min(x).
        draws: how many ε; each costs one call of the method.
        seed: of the noise, which has a generator of its own.
        maps: (N, C, H, W), the method's maps of these images where they are known already, which
            saves one call of the method.

    Returns:
        Relative changes (N, draws); NaN where they are undefined: for a map that is zero everywhere
        or not finite, and for an image of one colour, which has no range.

    Raises:
        ArgumentError: an argument is not as described; the message names it.
    """
    with undisturbed(model):
        images = checked_images(model, images)
        score = as_score(model, images, target)
        generator = Generator(images.device).manual_seed(seed)
        sigma = noise_sigma(images, noise_level)
        maps = method(model, images, score) if maps is None else maps_of(images, maps)
        changes = []
        for _ in range(draws):
            noise = torch.randn(
                images[:1].shape, generator=generator, device=images.device, dtype=images.dtype
            )
            noisy = method(model, images + sigma * noise, score)
            changes.append(_relative_distance(noisy, maps))
    return torch.stack(changes, dim=1).where(sigma.reshape(-1, 1) > 0, torch.nan)


def _relative_distance(maps: Tensor, reference: Tensor) -> Tensor:
    # Both over the largest |x| of the reference: no square overflows or vanishes, and 0/0 is NaN.
    scale = reference.abs().amax((1, 2, 3), keepdim=True).float()
    distance, norm = (
        torch.linalg.vector_norm(m.float() / scale, dim=(1, 2, 3))
        for m in (maps - reference, reference)
    )
    change: Tensor = distance / norm
    return change.where(change.isfinite(), torch.nan)
