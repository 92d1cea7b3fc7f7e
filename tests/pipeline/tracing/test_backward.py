"""The mechanism behind guided backprop, DeconvNet, LRP and the pattern methods."""

from __future__ import annotations

import copy
import gc
import inspect
import warnings
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from firstlight.pipeline.methods.base import Method
from firstlight.pipeline.methods.gradient import Gradient, InputXGradient
from firstlight.pipeline.methods.guided_backprop import DeconvNet, GuidedBackprop
from firstlight.pipeline.methods.integrated_gradients import IntegratedGradients
from firstlight.pipeline.methods.lrp import LRP
from firstlight.pipeline.methods.occlusion import Occlusion
from firstlight.pipeline.methods.pattern_methods import PatternAttribution, PatternNet
from firstlight.pipeline.methods.smoothgrad import SmoothGrad
from firstlight.pipeline.patterns import PatternStatistics


class Blocks(nn.Module):
    """A network with its ReLUs written in a way of one's choice."""

    def __init__(self, relu: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv1, self.bn = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 6, 3, stride=2, groups=2)
        self.skip = nn.Conv2d(6, 6, 1, stride=2)
        self.head = nn.Linear(6 * 3, 4)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(F.max_pool2d(self.bn(self.conv1(x)), 2))
        x = self.relu(self.conv2(F.pad(x, (1, 1, 1, 1))) + self.skip(x)[..., :4, :4])
        return self.head(F.adaptive_avg_pool2d(x, (3, 1)).flatten(1))


def in_place(x: Tensor) -> Tensor:
    x.relu_()
    return x


WAYS: dict[str, Callable[[Tensor], Tensor]] = {
    "one module for all": nn.ReLU(),
    "module in place": nn.ReLU(inplace=True),
    "F.relu": F.relu,
    "F.relu(input=)": lambda x: F.relu(input=x),
    "F.relu in place": lambda x: F.relu(x, inplace=True),
    "F.relu_": F.relu_,
    "torch.relu": torch.relu,
    "torch.relu_": torch.relu_,
    "Tensor.relu": Tensor.relu,
    "Tensor.relu_, result unused": in_place,
    "clamp": lambda x: x.clamp(min=0),
    "clamp_min_": lambda x: x.clamp_min_(0),
    "threshold": lambda x: F.threshold(x, 0, 0),
    "aten": torch.ops.aten.relu.default,
}


def blocks(relu: Callable[[Tensor], Tensor] = F.relu) -> nn.Module:
    torch.manual_seed(0)
    model = Blocks(relu).double()
    model.bn.running_mean.normal_(0, 0.1)
    model.bn.running_var.uniform_(0.5, 2.0)
    return model.eval()


@pytest.fixture
def images() -> Tensor:
    return torch.rand(2, 3, 14, 14, dtype=torch.float64, generator=torch.manual_seed(1))


def all_methods(model: nn.Module, images: Tensor) -> dict[str, Method]:
    statistics = PatternStatistics(model)
    statistics.update(images)
    patterns = statistics.compute()
    methods = (
        Gradient(),
        IntegratedGradients(3),
        GuidedBackprop(),
        DeconvNet(),
        PatternNet(patterns),
        InputXGradient(),
        LRP(),
        LRP("z+", first="bounded"),
        PatternAttribution(patterns, "linear"),
        Occlusion(7),
    )
    return {f"{type(method).__name__} {i}": method for i, method in enumerate(methods)}


REWRITTEN = ["DeconvNet", "GuidedBackprop", "LRP", "PatternAttribution", "PatternNet"]


@pytest.mark.parametrize("way", WAYS)
def test_however_a_relu_is_written_the_maps_are_the_same(images: Tensor, way: str) -> None:
    reference, model = blocks(), blocks(WAYS[way])
    for name, method in all_methods(reference, images).items():
        expected = method(reference, images, 1)
        assert expected.abs().max() > 0, name
        torch.testing.assert_close(
            method(model, images, 1), expected, msg=lambda m, n=name: f"{n}: {m}"
        )


class Clamp(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(0, 6)


def test_a_relu6_passes_between_0_and_6() -> None:
    for relu in (nn.ReLU6(), nn.ReLU6(inplace=True), Clamp(), nn.Hardtanh(0, 6)):
        model = nn.Sequential(nn.Flatten(), nn.Linear(3, 3), relu, nn.Linear(3, 1))
        with torch.no_grad():
            model[1].weight.copy_(torch.eye(3))
            model[1].bias.zero_()
            model[3].weight.copy_(torch.tensor([[1.0, 1.0, 1.0]]))
        x = torch.tensor([-1.0, 2.0, 8.0]).reshape(1, 1, 1, 3)
        assert GuidedBackprop()(model, x, 0).flatten().tolist() == [0.0, 1.0, 0.0]
        assert DeconvNet()(model, x, 0).flatten().tolist() == [1.0, 1.0, 1.0]


def test_a_reused_layer_and_convolutions_in_1_and_3_dimensions_follow_the_rules() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.line = nn.Conv1d(2, 2, 3, padding=1, bias=False)
            self.volume = nn.Conv3d(1, 2, 3, dilation=2, padding="same", bias=False)
            self.head = nn.Linear(2 * 2 * 36, 3, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            x = self.line(self.line(x.flatten(2)).relu()).relu().reshape(-1, 1, 2, 6, 6)
            return self.head(self.volume(x).relu().flatten(1))

    torch.manual_seed(0)
    model, x = Odd().double(), torch.rand(2, 2, 6, 6, dtype=torch.float64)
    torch.testing.assert_close(LRP("z")(model, x, 1), InputXGradient()(model, x, 1))
    score = model(x)[:, 1].detach()
    torch.testing.assert_close(LRP("z+", "w2")(model, x, 1).sum((1, 2, 3)), score)


def test_a_compiled_model_is_explained_like_the_model_itself(images: Tensor) -> None:
    model = blocks(nn.ReLU(inplace=True))
    inside = nn.Sequential(torch.compile(model))
    for name, method in all_methods(inside, images).items():
        plain = all_methods(nn.Sequential(model), images)[name]
        expected = plain(nn.Sequential(model), images, 1)
        torch.testing.assert_close(method(inside, images, 1), expected)
    for method in (GuidedBackprop(), DeconvNet(), LRP()):
        torch.testing.assert_close(
            method(torch.compile(model), images, 1), method(model, images, 1)
        )


def test_the_models_dtype_is_kept(images: Tensor) -> None:
    for dtype in (torch.float32, torch.float64):
        model = blocks().to(dtype)
        for method in all_methods(model, images).values():
            assert method(model, images.float(), 1).dtype == dtype


def filled(x: Tensor, where: Tensor, value: float = 1.0) -> Tensor:
    x[where] = value
    return x


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # TorchScript is deprecated, but in use

    @torch.jit.script
    def scripted_swish(x: Tensor) -> Tensor:
        return x * x.sigmoid()


OPERATIONS: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "gelu": (F.gelu, "gelu"),
    "sigmoid": (torch.sigmoid, "torch.sigmoid"),
    "silu in place": (lambda x: F.silu(x, inplace=True), "silu"),
    "leaky_relu": (F.leaky_relu, "leaky_relu"),
    "hardtanh": (F.hardtanh, "hardtanh"),
    "softmax": (lambda x: x.softmax(1), "Tensor.softmax"),
    "attention": (
        lambda x: F.scaled_dot_product_attention(x, x, x),
        "scaled_dot_product_attention",
    ),
    "a gate": (lambda x: x * torch.tanh(x), "tanh|mul"),
    "a mask": (lambda x: x * (x > 0), "Tensor.mul"),
    "a mask of numbers": (lambda x: x * (x > 0).float(), "Tensor.mul"),
    "a mask of its own type": (lambda x: x * (x > 0).to(x.dtype), "Tensor.mul"),
    "a mask made by writing": (lambda x: x * filled(torch.zeros_like(x), x > 0), "Tensor.mul"),
    "a written zero": (lambda x: filled(x.clone(), x < 0, 0.0), "Tensor.__setitem__"),
    "a maximum": (lambda x: torch.max(x, torch.zeros(())), "torch.max"),
    "where": (lambda x: torch.where(x > 0, x, 0.0), "torch.where"),
}


PASSED = {
    "DeconvNet": {"softmax", "attention"},
    "GuidedBackprop": {"softmax", "attention"},
    "LRP": {"softmax", "attention", "gelu", "sigmoid", "silu in place", "leaky_relu", "hardtanh"}
    | {"a gate"},
}
"""What a method has a rule for. Guided backprop and DeconvNet change rectifiers only."""


@pytest.mark.parametrize(
    ("method", "operation"),
    [(m, o) for m in REWRITTEN for o in OPERATIONS if o not in PASSED.get(m, ())],
)
def test_what_has_no_rule_is_an_error_that_names_operation_and_layer(
    images: Tensor, method: str, operation: str
) -> None:
    function, name = OPERATIONS[operation]
    model = nn.Sequential(nn.Sequential(nn.Conv2d(3, 3, 3), nn.Identity()), nn.Flatten()).double()
    model.append(nn.Linear(3 * 12 * 12, 2).double())
    model[0][1].forward = function
    found = {n.split()[0]: m for n, m in all_methods(model, images).items()}[method]
    message = rf"model: {method} has no rule for .*({name}) in layer '0\.1'"
    with pytest.raises(ValueError, match=message):
        found(model, images, 0)


def test_a_constant_of_the_activations_shape_is_no_mask(images: Tensor) -> None:
    class Scaled(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x.relu() * torch.full_like(x, 2.0)).flatten(1)[:, :2]

    maps = GuidedBackprop()(Scaled(), images, 0)
    torch.testing.assert_close(maps, Gradient()(Scaled(), images, 0))


@pytest.mark.parametrize("method", [LRP(), GuidedBackprop()], ids=lambda m: m.label)
def test_what_a_scripted_function_does_is_not_taken_for_nothing(
    images: Tensor, method: Method
) -> None:
    class Scripted(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return scripted_swish(x).flatten(1)[:, :2]

    with pytest.raises(ValueError, match="what comes from an operation that cannot be seen"):
        method(Scripted(), images, 0)


class Overwriting(nn.Module):
    """Adds to a part of its attention in place, as to relative positions; or beside it."""

    def __init__(self, in_place: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.in_place = in_place
        self.conv, self.positions = nn.Conv2d(3, 4, 3), nn.Linear(6, 5)
        self.head = nn.Linear(4 * 36, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).flatten(2)[..., :6]
        y = x.mT @ x
        part = y[:, 1:, 1:] + self.positions(y)[:, 1:]
        if self.in_place:
            y[:, 1:, 1:] = part
        else:
            y = torch.cat((y[:, :1], torch.cat((y[:, 1:, :1], part), 2)), 1)
        return self.head(torch.stack([y, y * 2, y, y], 1).flatten(1))


@pytest.mark.parametrize("method", [LRP(), LRP("gamma"), GuidedBackprop()], ids=repr)
def test_a_sum_may_be_written_over_its_own_summands(method: Method) -> None:
    """Autograd allows it, for the gradient of a sum needs no summand; a share in it does."""
    images = torch.rand(2, 3, 6, 7, generator=torch.manual_seed(1)).double()
    maps, expected = (
        method(Overwriting(in_place).double().eval(), images, 1) for in_place in (True, False)
    )
    torch.testing.assert_close(maps, expected)


def test_tensors_may_be_taken_apart_and_put_together(images: Tensor) -> None:
    class Apart(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            red, green, blue = x.relu().unbind(1)
            first, *others = red.flatten(1).mT.mT
            rows = torch.stack([first, *others])
            return torch.cat((rows, green.flatten(1).T.T, blue.flatten(1)), 1)[:, :2]

    maps = GuidedBackprop()(Apart(), images, 0)
    torch.testing.assert_close(maps, Gradient()(Apart(), images, 0))


class HalfFrozen(nn.Module):
    """A backbone that is not to be trained, as in transfer learning, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten())
        self.head = nn.LazyLinear(2)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            features = self.backbone(x)
        return self.head(features)


@pytest.mark.parametrize(
    "method",
    [Gradient(), GuidedBackprop(), IntegratedGradients(2), SmoothGrad(samples=2), LRP()],
    ids=lambda m: m.label,
)
def test_a_forward_pass_without_gradients_is_an_error_and_no_zero_map(
    images: Tensor, method: Method
) -> None:
    model = HalfFrozen().double()
    model(images)
    with pytest.raises(ValueError, match="autograd sees no way from the images to the score"):
        method(model, images, 0)


@pytest.mark.parametrize("method", [PatternNet({}), PatternAttribution({})])
def test_products_of_activations_have_no_pattern_but_a_gradient(
    images: Tensor, method: Method
) -> None:
    class Product(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x * x).flatten(1)[:, :2]

    with pytest.raises(
        ValueError, match=r"no rule for torch\.Tensor\.mul in the model's own forward"
    ):
        method(Product(), images, 0)
    torch.testing.assert_close(
        GuidedBackprop()(Product(), images, 0), Gradient()(Product(), images, 0)
    )


def test_what_no_score_comes_through_needs_no_rule(images: Tensor) -> None:
    class Auxiliary(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.seen = blocks(), torch.zeros(1)

        def forward(self, x: Tensor) -> Tensor:
            self.seen = torch.sigmoid(x).mean().detach() + torch.sigmoid(x).sum()
            return self.body(x)

    model = Auxiliary()
    for method in (GuidedBackprop(), LRP()):
        torch.testing.assert_close(method(model, images, 1), method(model.body, images, 1))


class Rectify(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.relu()

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return gradient


@pytest.mark.filterwarnings("ignore:.*jit.trace.* is deprecated")
@pytest.mark.parametrize("method", [GuidedBackprop(), DeconvNet(), LRP()])
def test_what_cannot_be_seen_is_an_error(images: Tensor, method: Method) -> None:
    with pytest.raises(ValueError, match="no rule for Rectify, an autograd function"):
        method(blocks(Rectify.apply), images, 0)
    scripted = torch.jit.trace(nn.ReLU(), images)
    with pytest.raises(ValueError, match="cannot see inside 'relu', a TopLevelTracedModule"):
        method(blocks(scripted), images, 0)


class Raises(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.requires_grad or not torch.is_grad_enabled():
            raise RuntimeError("no")
        return x


def state(model: nn.Module) -> list[object]:
    """All that an explanation could leave behind."""
    found: list[object] = []
    for name, module in model.named_modules():
        hooks = {
            k: len(v) for k, v in vars(module).items() if "hooks" in k and hasattr(v, "__len__")
        }
        found.append((name, module.training, hooks, module.forward.__qualname__))
    for name, p in model.named_parameters():
        grad = None if p.grad is None else p.grad.clone().tolist()
        found.append((name, p.detach().clone().tolist(), grad, p.requires_grad, id(p)))
    found += [(name, b.clone().tolist(), id(b)) for name, b in model.named_buffers()]
    return found


@pytest.mark.parametrize("situation", ["normal", "wrong target", "no rule", "the model raises"])
@pytest.mark.parametrize("name", list(all_methods(blocks(), torch.rand(2, 3, 14, 14).double())))
def test_a_method_leaves_the_model_as_it_was(images: Tensor, name: str, situation: str) -> None:
    relu = {"no rule": lambda x: torch.where(x > 0, x, 0.0), "the model raises": Raises()}.get(
        situation, nn.ReLU(inplace=True)
    )
    method = all_methods(blocks(), images)[name]
    model = blocks(relu).train()
    model.bn.eval()
    model.skip.weight.requires_grad_(False)
    model.conv1.weight.grad = torch.ones_like(model.conv1.weight)
    pixels, ordinary = images.clone(), None
    if situation == "normal":
        ordinary = torch.autograd.grad(model(images).sum(), model.head.weight)[0]
    before = state(model)
    try:
        method(model, images, 99 if situation == "wrong target" else 1)
        failed = False
    except (ValueError, RuntimeError):
        failed = True
    assert failed == (
        situation in ("wrong target", "the model raises")
        or (situation == "no rule" and name.split()[0] in REWRITTEN)
    )
    assert state(model) == before and torch.equal(images, pixels) and not images.requires_grad
    x = torch.tensor([-1.0, 1.0], requires_grad=True)
    (gradient,) = torch.autograd.grad(F.relu(x), x, torch.tensor([-1.0, -1.0]))
    assert gradient.tolist() == [0.0, -1.0]
    if ordinary is not None:
        again = torch.autograd.grad(model(images).sum(), model.head.weight)[0]
        assert torch.equal(again, ordinary)


def test_no_graph_is_left_behind(images: Tensor) -> None:
    model = blocks()
    for method in all_methods(model, images).values():
        seen: list[weakref.ref[Tensor]] = []
        handle = model.conv2.register_forward_hook(
            lambda _m, _x, y, s=seen: s.append(weakref.ref(y))
        )
        gc.disable()
        try:
            maps = method(model, images, 1)
            alive = [ref for ref in seen if ref() is not None]
        finally:
            gc.enable()
            handle.remove()
        assert seen and not alive and maps.grad_fn is None


def test_a_method_states_only_what_differs() -> None:
    for method in (GuidedBackprop, DeconvNet, PatternNet, PatternAttribution, Gradient, LRP):
        assert len(inspect.getsource(method).splitlines()) <= 60
    assert copy.deepcopy(LRP("z+")) == LRP("z+")
