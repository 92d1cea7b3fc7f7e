from __future__ import annotations

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from firstlight.pipeline.inside import (
    ReceptiveField,
    receptive_field,
)
from firstlight.pipeline.tracing.layers import layer_output


class Residual(nn.Module):
    """A downsampling block whose branches see differently much, with functional calls."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(2, 4, 5, stride=2, padding=2)
        self.next = nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=2)
        self.short = nn.Conv2d(2, 4, 1, stride=2)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(F.softplus(self.wide(x)))
        y = self.next(y)
        y += self.short(x)
        return torch.cat([y[:, :2], F.avg_pool2d(F.pad(y, (1, 1, 1, 1))[:, 2:], 3, 1)], dim=1)


class Ghost(nn.Module):
    """Adds to a part of what a layer returned, in place."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(2, 6, 3, padding=1)
        self.short = nn.Conv2d(2, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        part = self.wide(x)[:, :4]
        part += self.short(F.avg_pool2d(x, 5, 1, 2))
        return part[:, 1:]


NETWORKS = {
    "a sum in a part of another tensor": [nn.Conv2d(1, 2, 3, stride=2), Ghost()],
    "strides and padding": [
        nn.Conv2d(1, 2, 3, stride=2, padding=1),
        nn.Softplus(),
        nn.Conv2d(2, 2, (5, 3), padding=(2, 0)),
    ],
    "pooling that leaves pixels out": [
        nn.AvgPool2d(3, stride=4),
        nn.Conv2d(1, 2, 3, padding=1),
    ],
    "a layer that looks beyond the last stride": [
        nn.Conv2d(1, 2, 2, stride=2),
        nn.Conv2d(2, 2, 3, padding=1),
    ],
    "pooling with ceil_mode": [nn.AvgPool2d(2, stride=2, padding=1, ceil_mode=True)],
    "more padding than kernel": [nn.Conv2d(1, 1, 1, padding=1), nn.Conv2d(1, 1, 3, padding=1)],
    "branches of different size": [nn.Conv2d(1, 2, 3), Residual()],
    "adaptive pooling that divides": [nn.Conv2d(1, 2, 2), nn.AdaptiveAvgPool2d((5, 4))],
}


def network(*layers: nn.Module) -> nn.Sequential:
    """Of positive weights and in float64, so that what can flow does flow."""
    model = nn.Sequential(*layers).double().eval()
    for parameter in model.parameters():
        nn.init.uniform_(parameter, 0.5, 1.0)
    return model


def support(model: nn.Module, images: Tensor, layer: str) -> Tensor:
    """(rows, columns, 4): the bounding box of the gradient of each unit, channel by channel."""
    images = images.requires_grad_()
    outputs = layer_output(model, layer, images).sum(dim=(0, 1))
    boxes = torch.zeros(*outputs.shape, 4, dtype=torch.long)
    for unit in (outputs == outputs).nonzero():
        (gradient,) = torch.autograd.grad(outputs[tuple(unit)], images, retain_graph=True)
        pixels = gradient.abs().sum(dim=(0, 1)).nonzero()
        if len(pixels):
            boxes[tuple(unit)] = torch.cat([pixels.amin(0), pixels.amax(0) + 1])
    return boxes


def positions_of(field: ReceptiveField) -> Tensor:
    rows, columns = torch.arange(len(field.rows.seen)), torch.arange(len(field.columns.seen))
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_formula_gives_the_support_of_every_units_gradient(name: str) -> None:
    model = network(*NETWORKS[name])
    images = torch.rand(1, 1, 21, 17, dtype=torch.float64)
    layer = str(len(model) - 1)
    field = receptive_field(model, images, layer)
    assert torch.equal(field.seen(positions_of(field)), support(model, images, layer))


windows = st.tuples(
    st.integers(1, 4), st.integers(1, 3), st.integers(0, 2), st.integers(1, 2), st.booleans()
)


@settings(max_examples=40, deadline=None)
@given(st.lists(windows, min_size=1, max_size=3), st.integers(9, 13), st.integers(9, 13))
def test_the_formula_gives_the_support_for_any_chain_of_windows(
    chain: list[tuple[int, int, int, int, bool]], height: int, width: int
) -> None:
    size, layers = min(height, width), []
    for kernel, stride, padding, dilation, pooled in chain:
        padding = min(padding, kernel // 2)
        dilation = 1 if pooled else dilation
        if size + 2 * padding < (kernel - 1) * dilation + 1:
            break
        size = (size + 2 * padding - (kernel - 1) * dilation - 1) // stride + 1
        layers.append(
            nn.AvgPool2d(kernel, stride, padding)
            if pooled
            else nn.Conv2d(1, 1, kernel, stride, padding, dilation)
        )
    model = network(*layers)
    images = torch.rand(1, 1, height, width, dtype=torch.float64)
    field = receptive_field(model, images, str(len(layers) - 1))
    assert torch.equal(
        field.seen(positions_of(field)), support(model, images, str(len(layers) - 1))
    )


def test_perturbing_outside_leaves_the_unit_unchanged_bit_for_bit() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, padding=1),
        nn.BatchNorm2d(4), nn.Conv2d(4, 5, 3, stride=2), nn.ReLU(inplace=True),
    ).double().eval()  # fmt: skip
    images = torch.randn(1, 3, 24, 20, dtype=torch.float64)
    field = receptive_field(model, images, "4")
    before = layer_output(model, "4", images)
    for row, column in ((0, 0), (2, 1), (4, 3)):
        top, left, bottom, right = field.seen(torch.tensor([row, column])).tolist()
        outside, inside = images + 5 * torch.randn_like(images), images.clone()
        outside[..., top:bottom, left:right] = images[..., top:bottom, left:right]
        inside[..., top:bottom, left:right] += 5 * torch.randn(3, bottom - top, right - left)
        after = layer_output(model, "4", outside)
        assert torch.equal(after[..., row, column], before[..., row, column])
        assert not torch.equal(after, before)
        after = layer_output(model, "4", inside)
        assert not torch.equal(after[..., row, column], before[..., row, column])


def test_boxes_reach_into_the_padding_and_are_equally_large() -> None:
    # By hand: 3 + 2 pixels of pooling, units two pixels apart, the first one pixel outside.
    model = network(nn.Conv2d(1, 1, 3, padding=1), nn.MaxPool2d(2))
    field = receptive_field(model, torch.zeros(1, 1, 8, 10), "1")
    assert field.size == (4, 4)
    corners = torch.tensor([[0, 0], [1, 2], [3, 4]])
    assert field.boxes(corners).tolist() == [[-1, -1, 3, 3], [1, 3, 5, 7], [5, 7, 9, 11]]
    assert field.seen(corners).tolist() == [[0, 0, 3, 3], [1, 3, 5, 7], [5, 7, 8, 10]]


def test_pixels_that_a_stride_leaves_out_are_not_seen() -> None:
    model = network(nn.Conv2d(1, 1, 2, stride=2), nn.Conv2d(1, 1, 3, padding=1))
    field = receptive_field(model, torch.zeros(1, 1, 5, 5), "1")
    assert field.boxes(torch.tensor([1, 1])).tolist() == [0, 0, 6, 6]
    assert field.seen(torch.tensor([1, 1])).tolist() == [0, 0, 4, 4]


def test_deeper_layers_see_larger_patches() -> None:
    model = torchvision.models.resnet18()
    layers = ["conv1", "maxpool", "layer1", "layer2", "layer3", "layer4"]
    sizes = [receptive_field(model, torch.zeros(1, 3, 64, 64), layer).size[0] for layer in layers]
    # Every 3x3 convolution adds twice the distance of its units: 4, 8, 16 and 32 pixels.
    assert sizes == [7, 11, 43, 99, 211, 435]


@pytest.mark.parametrize(
    ("model", "layer", "size"),
    [
        (lambda: torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["D"]), "30", 212),
        (torchvision.models.alexnet, "features.12", 195),
        (lambda: torchvision.models.inception_v3(init_weights=False), "Mixed_7c", 1311),
    ],
    ids=["vgg16", "alexnet", "inception_v3"],
)
def test_sizes_are_those_published(model: object, layer: str, size: int) -> None:
    # Araujo et al., "Computing Receptive Fields of Convolutional Neural Networks", 2019, table 1.
    field = receptive_field(model(), torch.zeros(1, 3, 96, 96), layer)  # type: ignore[operator]
    assert field.size == (size, size)


def test_channels_last_blocks_keep_their_positions() -> None:
    # Per block a 7x7 convolution on units 4 pixels apart: 4 + 3 * 6 * 4.
    field = receptive_field(
        torchvision.models.convnext_tiny(), torch.zeros(1, 3, 64, 64), "features.1"
    )
    assert field.size == (76, 76)


class Moves(nn.Module):
    """Takes the image there and back again without a look to its neighbours."""

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, None, ..., None].squeeze((1, 2)).squeeze(-1)
        x = x.permute(0, 3, 2, 1).transpose(1, 2).mul_(2).permute(0, 3, 1, 2)
        first, second = x.chunk(2, 1)
        stacked = torch.stack([first, second.softmax(1)], dim=-1).mean(-1)
        return stacked.flatten(0, 1)[None].sum(1, keepdim=True) + x.amax(1)[:, None]


def test_moving_dimensions_about_does_not_change_what_a_unit_sees() -> None:
    model = network(nn.Conv2d(1, 2, 3, stride=2), Moves(), nn.Conv2d(1, 1, 3, padding=1))
    images = torch.rand(1, 1, 11, 8, dtype=torch.float64)
    field = receptive_field(model, images, "2")
    assert field.size == (7, 7)
    assert torch.equal(field.seen(positions_of(field)), support(model, images, "2"))


def test_a_compiled_network_is_seen_through() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(2, 2, 3))
    field = receptive_field(torch.compile(model), torch.zeros(1, 1, 12, 12), "_orig_mod.3")
    assert field.size == (8, 8)


class Spread(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, x.shape[-1]) + torch.zeros(4, 4)


class WrittenBehindItsBack(nn.Module):
    """Returns a tensor after a part of it was written to."""

    def forward(self, x: Tensor) -> Tensor:
        whole = x * 2
        whole[:, :, :2].add_(x.mean())
        return whole


class SqueezeAndExcitation(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * F.avg_pool2d(x, x.shape[-1]).sigmoid()


@pytest.mark.parametrize(
    "layers",
    [
        [nn.Flatten()],
        [nn.Flatten(), nn.Linear(2 * 36, 3)],
        [nn.AdaptiveAvgPool2d(1)],
        [nn.AdaptiveAvgPool2d(1), nn.Conv2d(2, 3, 1)],
        [SqueezeAndExcitation(), nn.Conv2d(2, 3, 3)],
        [Spread(), nn.Conv2d(2, 2, 3)],
        [nn.GroupNorm(1, 2)],
        [nn.InstanceNorm2d(2)],
    ],
    ids=lambda layers: ", ".join(type(layer).__name__ for layer in layers),
)
def test_what_combines_all_positions_sees_the_whole_image(layers: list[nn.Module]) -> None:
    model = network(nn.Conv2d(1, 2, 3), *layers)
    field = receptive_field(model, torch.zeros(1, 1, 8, 8), str(len(layers)))
    last = torch.tensor([len(field.rows.seen) - 1, len(field.columns.seen) - 1])
    assert field.boxes(last).tolist() == field.seen(last).tolist() == [0, 0, 8, 8]


class Assigned(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        result = torch.zeros_like(x)
        result[:, :, 1:] = x[:, :, :-1]
        return result


@pytest.mark.parametrize(
    ("module", "operation"),
    [
        (nn.Upsample(scale_factor=2), "upsample_nearest2d"),
        (nn.ConvTranspose2d(1, 1, 2), "convolution"),
        (Assigned(), "copy_"),
        (WrittenBehindItsBack(), "add_"),
        (nn.Sequential(nn.Flatten(0, 1), nn.Conv1d(6, 2, 3)), "convolution"),
    ],
)
def test_an_operation_without_a_rule_is_named(module: nn.Module, operation: str) -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 3), module)
    with pytest.raises(ValueError, match=rf"layer='1'.*{operation}"):
        receptive_field(model, torch.zeros(1, 1, 8, 8), "1")


class Rolled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.fft2(x.roll((1, 2), dims=(2, 3))).abs()


class Overwriting(nn.Module):
    """Writes the layer's own output anew, and a part of it into another tensor."""

    def forward(self, x: Tensor) -> Tensor:
        x[:, :, 1:] = x[:, :, :-1].clone()
        return x.relu_()


@pytest.mark.parametrize(
    "after", [Rolled(), Overwriting(), Assigned(), nn.Upsample(scale_factor=2)]
)
def test_operations_after_the_layer_do_not_matter(after: nn.Module) -> None:
    model = network(nn.Conv2d(1, 2, 3, stride=2), nn.Softplus(), nn.Conv2d(2, 2, 3), after)
    images = torch.rand(1, 1, 15, 12, dtype=torch.float64)
    field = receptive_field(model, images, "2")
    assert field.size == (7, 7)
    assert torch.equal(field.seen(positions_of(field)), support(model[:3], images, "2"))


class Beside(nn.Module):
    """Computes something else of its input, for an operation behind it."""

    def __init__(self, other: nn.Module) -> None:
        super().__init__()
        self.other = other

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, self.other(x)


class Joined(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.on_the_way = nn.Conv2d(2, 2, 3)

    def forward(self, branches: tuple[Tensor, Tensor]) -> Tensor:
        x, other = branches
        return self.on_the_way(x) + other.mean()


@pytest.mark.parametrize("other", [Rolled(), Assigned(), nn.ConvTranspose2d(2, 1, 2)])
def test_operations_beside_the_way_to_the_layer_do_not_matter(other: nn.Module) -> None:
    model = network(nn.Conv2d(1, 2, 3, stride=2), Beside(other), Joined())
    images = torch.rand(1, 1, 15, 12, dtype=torch.float64)
    field = receptive_field(model, images, "2.on_the_way")
    assert field.size == (7, 7)
    alone = network(model[0], model[2].on_the_way)
    assert torch.equal(field.seen(positions_of(field)), support(alone, images, "1"))
    with pytest.raises(ValueError, match=r"layer='2': no receptive field, since aten"):
        receptive_field(model, images, "2")


def test_a_layer_that_is_called_twice_has_no_field_of_its_own() -> None:
    layer = nn.Conv2d(1, 1, 3)
    with pytest.raises(ValueError, match=r"layer='0'.*called once.*2 calls"):
        receptive_field(nn.Sequential(layer, Rolled(), layer), torch.zeros(1, 1, 8, 8), "0")


def test_layers_and_positions_that_do_not_exist_are_errors() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 3))
    with pytest.raises(ValueError, match="no such layer"):
        receptive_field(model, torch.zeros(1, 1, 8, 8), "conv")
    field = receptive_field(model, torch.zeros(1, 1, 8, 8), "0")
    with pytest.raises(ValueError, match="6 rows and 6 columns"):
        field.boxes(torch.tensor([6, 0]))
    with pytest.raises(ValueError, match="integer tensor"):
        field.seen(torch.tensor([0.5, 0]))


def test_looking_for_the_field_leaves_no_trace() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout()).train()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    images, random = torch.rand(2, 1, 8, 8), torch.get_rng_state()
    receptive_field(model, images, "2")
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert torch.equal(torch.get_rng_state(), random)
