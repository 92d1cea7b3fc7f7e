"""Pattern statistics beside their bare matrix products, and ρ beside least squares."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.compare import Aim, Comparison, Measured, NotTheSame, relative_error, timed
from benchmarks.scale import Scale, default_network, training_images
from benchmarks.scale import test_images as held_out_images
from firstlight.pipeline import Pattern, PatternStatistics, signal_quality
from firstlight.pipeline.patterns import Quality
from firstlight.pipeline.patterns.judged_layer import DEAD_INPUT
from firstlight.pipeline.patterns.pattern import PatternName

_LINEAR = ("linear1", "linear2", "linear3")
_ESTIMATORS = ("random", "S_w", "S_a", "S_a±")


def fitted(scale: Scale) -> PatternStatistics:
    model, data = default_network(scale.mnist), training_images(scale.mnist)
    statistics = PatternStatistics(model)
    for batch in data.images[: scale.pick(len(data), 2000)].split(512):
        statistics.update(batch)
    return statistics


def statistics(scale: Scale) -> Comparison:
    model, data = default_network(scale.mnist), training_images(scale.mnist)
    images = data.images[: scale.pick(len(data), 2000)]
    weights = [model.get_parameter(f"{name}.weight") for name in _LINEAR]
    biases = [model.get_parameter(f"{name}.bias") for name in _LINEAR]

    def ours() -> Mapping[str, Tensor]:
        sums = fitted(scale)
        sums.compute()
        return {name: getattr(sums, f"products {name}") for name in _LINEAR}

    def theirs() -> Mapping[str, Tensor]:
        sums = {
            name: torch.zeros(3, *weight.shape, dtype=torch.float64)
            for name, weight in zip(_LINEAR, weights, strict=True)
        }
        with torch.no_grad():
            for batch in images.split(512):
                x = batch.flatten(1)
                for name, weight, bias in zip(_LINEAR, weights, biases, strict=True):
                    z = F.linear(x, weight, bias)
                    behind = z.relu()
                    for total, g in zip(sums[name], (z, behind, behind.sign()), strict=True):
                        total += g.T @ x
                    x = behind
        return sums

    return Comparison(
        f"pattern statistics, {scale.digits}, {len(images)} images, all layers and estimators",
        "the matrix products alone",
        Aim(1.5),
        timed(ours),
        {"": timed(theirs)},
        _same_sums,
        scale.pick(5, 1),
    )


def forward_passes(scale: Scale, name: str, estimators: Sequence[PatternName]) -> Comparison:
    """How many forward passes an update costs, on a network's own image size."""
    # Comes with the tests, so only this row asks for it.
    import timm

    torch.manual_seed(0)
    model = timm.create_model(name).eval()
    images = torch.rand(scale.pick(32, 2), 3, 224, 224)
    statistics = PatternStatistics(model, estimators=list(estimators))

    def ours() -> int:
        statistics.update(images)
        return len(statistics.metric_state)

    def theirs() -> int:
        with torch.no_grad():
            model(images)
        return len(statistics.metric_state)

    said = "all estimators" if len(estimators) > 1 else f"{estimators[0]} alone"
    return Comparison(
        f"pattern statistics of {name}, {said}, {len(images)} images of 224 × 224",
        "a forward pass of the network",
        Aim(5 if len(estimators) > 1 else 3.5),
        timed(ours),
        {"": timed(theirs)},
        lambda ours, theirs: "the same network, the same images",
        scale.pick(3, 1),
    )


def _same_sums(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> str:
    error = max(relative_error(ours[name], theirs[name]) for name in _LINEAR)
    if not error <= 1e-5:
        raise NotTheSame(f"the sums differ by {error:.2g} of their norm")
    return f"equal within {error:.0e}"


def quality(scale: Scale) -> Comparison:
    """The rival is timed on a few units of each layer, and its time multiplied by how many more
    there are."""
    model, patterns = default_network(scale.mnist), fitted(scale).compute()
    images = held_out_images(scale.mnist).images[: scale.pick(10_000, 1_000)]
    few = scale.pick(2, 1)

    def theirs() -> Measured:
        seconds, found = 0.0, {}
        for name, (x, z) in _inputs(model, images).items():
            began = time.perf_counter()
            pattern = patterns[name]
            units = [u for u in range(len(pattern.weight)) if _often(z[:, u], pattern, u)][:few]
            found[name] = {
                estimator: {u: _rho(x, z[:, u], pattern, u, estimator) for u in units}
                for estimator in _ESTIMATORS
            }
            seconds += (time.perf_counter() - began) * len(pattern.weight) / len(units)
        return Measured(seconds, found)

    return Comparison(
        f"ρ of every unit, default network, {len(images)} images, four estimators",
        f"least squares per unit ({few} units of each layer timed, scaled up)",
        Aim.faster(100),
        timed(lambda: signal_quality(model, patterns, images, _ESTIMATORS)),
        {"": theirs},
        _same_quality,
        scale.pick(2, 1),
    )


def _inputs(model: nn.Module, images: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """The inputs and outputs of the linear layers, in float64 like ours."""
    x, found = images.flatten(1), {}
    with torch.no_grad():
        for name in _LINEAR:
            z = model.get_submodule(name)(x)
            found[name] = x.double(), z.double()
            x = z.relu()
    return found


def _often(z: Tensor, pattern: Pattern, unit: int) -> bool:
    positive = int(pattern.positive_count[unit])
    active = int((z > 0).sum())
    return min(active, len(z) - active, positive, pattern.count - positive) >= 50


def _rho(x: Tensor, z: Tensor, pattern: Pattern, unit: int, estimator: str) -> float:
    """1 - max_v corr(y, vᵀd), by regressing y on d = x - S(x)."""
    variance = pattern.input_variance[unit]
    live = variance > DEAD_INPUT * variance.max()
    x, w = x[:, live], pattern.weight[unit, live]
    y = x @ w

    def direction(a: Tensor) -> Tensor:
        return a / (w @ a)

    def pattern_of(kind: str) -> Tensor:
        return direction(getattr(pattern, kind)[unit, live])

    if estimator == "S_a±":
        signal = torch.where(z > 0, y, 0)[:, None] * pattern_of("positive")
        signal = signal + torch.where(z > 0, 0, y)[:, None] * pattern_of("negative")
    elif estimator == "S_a":
        signal = y[:, None] * pattern_of("linear")
    elif estimator == "S_w":
        signal = y[:, None] * direction(w)
    else:
        generator = torch.Generator().manual_seed(unit)
        signal = y[:, None] * direction(torch.randn(len(w), generator=generator).double())
    d = x - signal
    d, y = d - d.mean(0), y - y.mean()
    v = torch.linalg.lstsq(d, y[:, None], driver="gelsd").solution
    return float(1 - ((d @ v).squeeze(1).norm() / y.norm()))


def _same_quality(ours: Quality, theirs: dict[str, dict[str, dict[int, float]]]) -> str:
    # Random directions are random.
    differences = [
        abs(float(ours[layer][estimator][unit]) - rho)
        for layer, estimators in theirs.items()
        for estimator, units in estimators.items()
        for unit, rho in units.items()
        if estimator != "random"
    ]
    if not max(differences) <= 1e-4:
        raise NotTheSame(f"ρ differs by {max(differences):.2g}")
    return f"equal within {max(differences):.0e}"
