"""A device that has no float64, as Apple's MPS: what is summed there is kept on the CPU.

The stand-in holds its numbers on the CPU, says that it is on ``mps``, and refuses what that device
refuses: a number of 64 bits, and an operation with a tensor of another device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from firstlight.pipeline.patterns import PatternStatistics, signal_quality
from firstlight.pipeline.patterns.samples import sums_device

MPS = torch.device("mps")


class OnDevice(Tensor):
    """A tensor of the device."""

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return MPS

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if name == "__get__":
            return super().__torch_function__(func, types, args, kwargs)
        if name in ("to", "cpu"):
            return moved(args[0], name, *args[1:], **kwargs)
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if name != "copy_" and any(t.ndim and not isinstance(t, cls) for t in tensors):
            raise RuntimeError(f"{name}: tensors on mps and on the cpu")
        return checked(super().__torch_function__(func, types, args, kwargs))


def checked(result: Any) -> Any:
    for leaf in tree_leaves(result):
        if isinstance(leaf, OnDevice) and leaf.dtype == torch.float64:
            raise TypeError("the MPS framework doesn't support float64")
    return result


def on_device(values: Tensor) -> OnDevice:
    return checked(values.as_subclass(OnDevice))


def moved(values: Tensor, name: str, *args: Any, **kwargs: Any) -> Tensor:
    """``to`` and ``cpu``: the device is the argument that is one, or that of a tensor."""
    with torch._C.DisableTorchFunctionSubclass():
        target = torch.device("cpu") if name == "cpu" else None
        dtype = None
        for arg in (*args, *kwargs.values()):
            if isinstance(arg, Tensor):
                target, dtype = MPS if isinstance(arg, OnDevice) else torch.device("cpu"), arg.dtype
            elif isinstance(arg, (str, torch.device)):
                target = torch.device(arg)
            elif isinstance(arg, torch.dtype):
                dtype = arg
        here = isinstance(values, OnDevice) if target is None else target.type == "mps"
        plain = values.as_subclass(Tensor)
        plain = plain if dtype is None else plain.to(dtype)
    return on_device(plain) if here else plain


class Device(TorchFunctionMode):
    """Makes tensors on the device where they are asked for."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        moving = getattr(func, "__name__", "") in ("to", "cpu")
        if moving and not isinstance(args[0], OnDevice):
            return moved(args[0], func.__name__, *args[1:], **kwargs)
        device = kwargs.get("device")
        if device is not None and not moving and torch.device(device).type == "mps":
            return on_device(func(*args, **kwargs | {"device": "cpu"}))
        return func(*args, **kwargs)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The device, with a random state: how many numbers were drawn."""
    drawn = [7]

    def put_back(state: Tensor) -> None:
        drawn[0] = int(state)

    monkeypatch.setattr(torch.mps, "get_rng_state", lambda: torch.tensor(drawn[0]))
    monkeypatch.setattr(torch.mps, "set_rng_state", put_back)
    with Device():
        yield drawn


def network(drawn: list[int] | None = None) -> nn.Sequential:
    """A network that draws from the device's random numbers, if it is on it."""

    class Drawing(nn.Identity):
        def forward(self, images: Tensor) -> Tensor:
            if drawn is not None:
                drawn[0] += 1
            return images

    torch.manual_seed(0)
    convolution = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()
    depthwise = nn.Conv2d(4, 4, 3, groups=4), nn.ReLU(), nn.Conv2d(4, 3, 1), nn.ReLU()
    return nn.Sequential(
        Drawing(), *convolution, *depthwise, nn.Flatten(), nn.Linear(3 * 36, 5)
    ).eval()


def to_device(model: nn.Module) -> nn.Module:
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            setattr(module, name, nn.Parameter(on_device(parameter.detach())))
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, on_device(buffer))
    return model


def pictures(seed: int) -> Tensor:
    return torch.rand(90, 2, 8, 8, generator=torch.Generator().manual_seed(seed))


def test_the_stand_in_refuses_what_such_a_device_refuses(device: list[int]) -> None:
    with pytest.raises(TypeError, match="float64"):
        torch.zeros(3, dtype=torch.float64, device="mps")
    values = torch.ones(3, device="mps")
    for refused in (
        values.double,
        lambda: values.to(torch.float64),
        lambda: values.sum(dtype=torch.float64),
    ):
        with pytest.raises(TypeError, match="float64"):
            refused()
    with pytest.raises(RuntimeError, match="mps and on the cpu"):
        values + torch.ones(3).cpu()
    assert sums_device(values.device) == torch.device("cpu")
    assert (values * 2).device == MPS


@pytest.mark.filterwarnings("ignore:.*device_type of 'mps'")
def test_patterns_and_their_quality_are_those_of_the_cpu(device: list[int]) -> None:
    fit, held_out = pictures(1), pictures(2)
    found = []
    for move, model in ((lambda x: x, network()), (on_device, to_device(network(device)))):
        statistics = PatternStatistics(model)
        statistics.update(move(fit[:50]))
        statistics.update(move(fit[50:]))
        assert {state.device.type for state in statistics.metric_state.values()} == {"cpu"}
        patterns = statistics.compute()
        found.append((patterns, signal_quality(model, patterns, move(held_out))))
    (expected, expected_quality), (patterns, quality) = found
    assert len(patterns) == 4
    for name, pattern in patterns.items():
        for estimator in ("linear", "positive", "negative"):
            assert torch.equal(pattern.of(estimator), expected[name].of(estimator))
        for estimator, rho in quality[name].items():
            torch.testing.assert_close(
                rho, expected_quality[name][estimator], rtol=0, atol=1e-12, equal_nan=True
            )


@pytest.mark.filterwarnings("ignore:.*device_type of 'mps'")
def test_the_random_state_of_the_device_is_put_back(device: list[int]) -> None:
    PatternStatistics(to_device(network(device))).update(on_device(pictures(1)))
    assert device == [7]
