"""The model-randomisation checks: they tell if a map depends on what the network has learnt."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Generator, Tensor, nn
from torch.overrides import TorchFunctionMode

from firstlight.arguments import checked
from firstlight.pipeline.judging.correlation import rank_correlation
from firstlight.pipeline.maps import scaled
from firstlight.pipeline.methods.base import Method
from firstlight.pipeline.methods.scores import Score, Target, as_score
from firstlight.pipeline.tracing.images import checked_images
from firstlight.pipeline.tracing.undisturbed import undisturbed


@checked
def cascading_randomisation(
    method: Method, model: nn.Module, images: Tensor, target: Target = None, seed: int = 0
) -> dict[str, Tensor]:
    """The rank correlation of maps with the original ones as the layers become random, from the
    top, the logits, to the bottom (Adebayo et al. 2018, arXiv:1810.03292, sec. 3).

    A method that explains the network falls to about 0; one that stays near 1 shows the image: one
    that multiplies by an image with much 0 in it, say, whatever the network. The score is the
    original one throughout, also where the network now predicts another class. What a method was
    given, such as patterns, stays as it is.

    A layer is a module with parameters of its own, and all of them become random: drawn from
    N(mean, std²) of each parameter's entries. That needs no initialiser, so that any module will
    do, and it keeps the size of what the layer computes and of its gradient. Parameters whose
    entries are all equal, such as a new BatchNorm's, stay, and so do buffers.

    The model's parameters are not written to: for the time of a map others stand in their places,
    and they are put back, also after an error. The random numbers have a generator of their own,
    and are the same in every epoch.

    Args:
        method: the method to judge.
        model, images, target: as for calling the method.
        seed: of the random parameters.

    Returns:
        Spearman's correlation of |map| with the original one, (N,) each, by the name of the layer
        that became random last, in order; see :func:`rank_correlation`.

    Raises:
        ArgumentError: an argument is not as described; the message names it.
    """
    correlations = {}
    with undisturbed(model), ExitStack() as random_layers:
        images = checked_images(model, images)
        score = as_score(model, images, target)
        original = method(model, images, score)
        generator = Generator(images.device).manual_seed(seed)
        for layer, parameters in reversed(_layers(model, images, score).items()):
            random_layers.enter_context(_randomised(model, parameters, generator))
            correlations[layer] = rank_correlation(method(model, images, score), original)
    return correlations


@checked
def efficient_randomisation(
    method: Method,
    model: nn.Module,
    images: Tensor,
    target: Target = None,
    seed: int = 0,
    bins: Annotated[int, Field(ge=2)] = 100,
) -> Tensor:
    """The relative rise (H' - H) / H of the complexity of maps when all layers become random.

    eMPRT of Hedström et al. 2024 (arXiv:2401.06465): H is the entropy of the histogram of a map's
    values, H' that of the same network's with random parameters. Above 0 where the maps of the
    trained network are simpler than those of the random one; 0 for a method that does not ask the
    network. It takes two maps of each image, :func:`cascading_randomisation` one for each layer,
    and compares no map with another pixel by pixel.

    Parameters become random as in :func:`cascading_randomisation`.

    Args:
        method: the method to judge.
        model, images, target: as for calling the method.
        seed: of the random parameters.
        bins: of the histogram, from the smallest to the largest value of each map.

    Returns:
        (N,); NaN where a map is constant or not finite.

    Raises:
        ArgumentError: an argument is not as described; the message names it.
    """
    with undisturbed(model):
        images = checked_images(model, images)
        score = as_score(model, images, target)
        before = _histogram_entropy(method(model, images, score), bins)
        parameters = [p for layer in _layers(model, images, score).values() for p in layer]
        with _randomised(model, parameters, Generator(images.device).manual_seed(seed)):
            after = _histogram_entropy(method(model, images, score), bins)
    return ((after - before) / before).where(before > 0, torch.nan)


def _histogram_entropy(maps: Tensor, bins: int) -> Tensor:
    """-Σ p ln p (N,) of the shares p of each map's values that lie in equally wide bins."""
    values = scaled(maps).flatten(1)
    low, high = values.amin(1, keepdim=True), values.amax(1, keepdim=True)
    place = (bins * (values - low) / (high - low)).nan_to_num(0.0).long().clamp(0, bins - 1)
    counts = values.new_zeros(len(values), bins).scatter_add_(1, place, torch.ones_like(values))
    entropy = torch.special.entr(counts / values.shape[1]).sum(1)
    return entropy.where(values.isfinite().all(1), torch.nan)


def _layers(model: nn.Module, images: Tensor, score: Score) -> dict[str, list[nn.Parameter]]:
    """The layers in the order in which the images reach them, each with its parameters."""
    uses = _Uses(model)
    first = torch.zeros(1, dtype=torch.int64, device=images.device)
    with torch.no_grad(), uses:
        score.select(first)(model, images[:1].clone())
    return uses.layers


class _Uses(TorchFunctionMode):
    """Notes which parameters a forward pass computes with, whether modules or functions do it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.names = {id(p): n for n, p in model.named_parameters() if p.is_floating_point()}
        self.layers: dict[str, list[nn.Parameter]] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Any = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        # A look at a parameter's dtype or device, say, is no use of it.
        if isinstance(result, (Tensor, tuple, list)) and not isinstance(result, torch.Size):
            for argument in (*args, *(kwargs or {}).values()):
                for value in argument if isinstance(argument, (tuple, list)) else (argument,):
                    self._note(value)
        return result

    def _note(self, value: Any) -> None:
        name = self.names.pop(id(value), None)
        if name is not None:
            layer = name.rpartition(".")[0] or name
            self.layers.setdefault(layer, []).append(value)


@contextmanager
def _randomised(
    model: nn.Module, parameters: Sequence[nn.Parameter], generator: Generator
) -> Iterator[None]:
    """Random parameters in all places of these, which return afterwards."""
    drawn = {id(p): _drawn_like(p, generator) for p in parameters}
    places = [
        (module, name, p)
        for module in model.modules()
        for name, p in module.named_parameters(recurse=False, remove_duplicate=False)
        if id(p) in drawn
    ]
    try:
        for module, name, p in places:
            setattr(module, name, drawn[id(p)])
        yield
    finally:
        for module, name, p in places:
            setattr(module, name, p)


def _drawn_like(parameter: nn.Parameter, generator: Generator) -> nn.Parameter:
    values = parameter.detach()
    # At least single precision, in which the moments of many entries are right.
    values = values.to(torch.promote_types(values.dtype, torch.float32))
    noise = torch.empty_like(values).normal_(generator=generator)
    random = values.mean() + values.std(correction=0) * noise
    return nn.Parameter(random.to(parameter.dtype), parameter.requires_grad)
