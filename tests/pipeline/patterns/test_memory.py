"""The memory that pattern statistics take while they are fitted, by the allocator's own count."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate

import torch
from torch import nn
from torch.profiler import profile

from firstlight.pipeline.patterns import PatternStatistics


def peak(work: Callable[[], object]) -> int:
    """The most bytes of tensors that are alive at a time, beyond those that are before."""
    with profile(profile_memory=True) as run:
        work()
    results = run.profiler.kineto_results  # type: ignore[union-attr]
    changes = [event.nbytes() for event in results.events() if event.name() == "[memory]"]
    return max(accumulate(changes))


def network(blocks: int) -> nn.Module:
    layers = [
        layer
        for _ in range(blocks)
        for layer in (nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
    ]
    return nn.Sequential(*layers).eval()


def of_batches(count: int) -> int:
    """The peak of as many batches of 8 images."""
    statistics = PatternStatistics(network(3))

    def work() -> None:
        for _ in range(count):
            statistics.update(torch.rand(8, 4, 12, 12))
        statistics.compute()

    return peak(work)


def test_it_does_not_grow_with_the_number_of_images() -> None:
    of_batches(1)
    assert of_batches(16) == of_batches(4)


def of_blocks(count: int) -> int:
    statistics, images = PatternStatistics(network(count)), torch.rand(8, 4, 24, 24)
    return peak(lambda: statistics.update(images))


def test_what_a_layer_took_and_returned_is_gone_when_the_network_has_gone_on() -> None:
    """Or it grows with the number of layers."""
    assert of_blocks(32) <= 1.1 * of_blocks(4)
