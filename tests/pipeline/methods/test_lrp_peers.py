"""LRP beside autolrp and beside the AttnLRP authors' lxt, operation by operation.

Where autolrp differs, its rule stands here as a formula, so that the reason is known, and a linear
network, of which there is only one decomposition, tells which rule is right.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from firstlight.pipeline import LRP, InputXGradient
from firstlight.pipeline.methods.lrp_rules import Bounded, Epsilon, Gamma, LRPRule, Z, ZPlus
from tests.pipeline.methods.one_operation import Function, Under, relevance

autolrp = pytest.importorskip("autolrp")
authors = pytest.importorskip("lxt.explicit.functional")

BASE = autolrp.LRPConfig()
ATTNLRP = autolrp.LRPConfig(rule={**autolrp.BASE, **autolrp.ATTNLRP})


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 4, 6, dtype=torch.float64, generator=torch.manual_seed(1))


def random(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.manual_seed(3))


def of_autolrp(model: nn.Module, images: Tensor, config: object = BASE) -> Tensor:
    """Its maps, of the scores: it starts with 1 in their place, and takes one image at a time, for
    it divides a sum over images by their sizes."""
    maps = []
    for image in images.split(1):
        wrapped = autolrp.tensor(image)
        score = model(wrapped)[0, 0]
        score.lrp(config=config)
        maps.append((wrapped.relevance * score).detach().as_subclass(Tensor))
    return torch.cat(maps)


def autolrps(function: Function, x: Tensor, config: object = BASE, **parameters: Tensor) -> Tensor:
    model = Under(function, **parameters)
    return of_autolrp(model, x.unsqueeze(1), config).squeeze(1)


THE_SAME: dict[str, tuple[Function, dict[str, Tensor]]] = {
    "linear": (lambda x, w: F.linear(x, w), {"w": random(3, 6)}),
    "conv": (lambda x, w: F.conv1d(x, w), {"w": random(5, 4, 3)}),
    "matmul": (lambda x: x @ x[:, :3].mT, {}),
    "einsum": (lambda x: torch.einsum("nik,njk->nij", x, x[:, :3]), {}),
    "softmax": (lambda x: x.softmax(-1), {}),
    "attention": (lambda x: F.scaled_dot_product_attention(x, x.flip(1), x * 2), {}),
    "relu": (F.relu, {}),
    "gelu": (F.gelu, {}),
    "square": (torch.square, {}),
    "max_pool": (lambda x: F.max_pool1d(x, 2), {}),
    "rms_norm": (lambda x: F.rms_norm(x, (6,)), {}),
    "normalize": (lambda x: F.normalize(x, dim=-1), {}),
    "x / rms(x)": (lambda x: x * x.pow(2).mean(-1, keepdim=True).add(1e-5).rsqrt(), {}),
    "cumsum": (lambda x: x.cumsum(1), {}),
}


@pytest.mark.parametrize("name", THE_SAME)
def test_where_the_rule_is_the_same_so_is_the_map(x: Tensor, name: str) -> None:
    function, parameters = THE_SAME[name]
    ours, _ = relevance(function, x, **parameters)
    torch.testing.assert_close(ours, autolrps(function, x, ATTNLRP, **parameters))


WEIGHT, BIAS = random(3, 6), random(3)


def by_size(x: Tensor, y: Tensor) -> Tensor:
    return x.abs() / (x.abs() + y.abs())


def without_its_share_for_the_bias(x: Tensor, r: Tensor) -> Tensor:
    z = x @ WEIGHT.T
    return x * ((r * z.sign() / (z.abs() + BIAS.abs())) @ WEIGHT)


OTHER_RULES: dict[str, tuple[Function, Callable[[Tensor, Tensor], Tensor], dict[str, Tensor]]] = {
    # Name: the operation, their rule, parameters.
    "bias": (
        lambda x, w, b: F.linear(x, w, b),
        without_its_share_for_the_bias,
        {"w": WEIGHT, "b": BIAS},
    ),
    "residual sum": (
        lambda x: x + x.roll(1, 1),
        lambda x, r: r * by_size(x, x.roll(1, 1)) + (r * by_size(x.roll(1, 1), x)).roll(-1, 1),
        {},
    ),
    "mean": (
        lambda x: x.mean(1),
        lambda x, r: r[:, None] * x.abs() / x.abs().sum(1, keepdim=True),
        {},
    ),
    "average pooling": (
        lambda x: F.avg_pool1d(x, 2),
        lambda x, r: r.repeat_interleave(2, -1) / 2,
        {},
    ),
    "product": (
        lambda x: x[:, :2] * x[:, 2:],
        lambda x, r: torch.cat(
            [r * by_size(x[:, :2], x[:, 2:]), r * by_size(x[:, 2:], x[:, :2])], 1
        ),
        {},
    ),
    "layer_norm": (lambda x: F.layer_norm(x, (6,)), lambda x, r: r, {}),
    "group_norm": (lambda x: F.group_norm(x, 2), lambda x, r: r, {}),
    "batch_norm": (
        lambda x: F.batch_norm(x, random(4), random(4).exp()),
        lambda x, r: r,
        {},
    ),
    "softmax": (lambda x: x.softmax(-1), lambda x, r: r, {}),
}


@pytest.mark.parametrize("name", OTHER_RULES)
def test_where_autolrp_differs_it_follows_another_rule(x: Tensor, name: str) -> None:
    function, their_rule, parameters = OTHER_RULES[name]
    ours, arrived = relevance(function, x, **parameters)
    theirs = autolrps(function, x, **parameters)
    torch.testing.assert_close(theirs, their_rule(x, arrived))
    assert (ours - theirs).norm() > 0.1 * ours.norm()


@pytest.mark.parametrize("name", sorted(OTHER_RULES.keys() - {"bias", "batch_norm", "softmax"}))
def test_both_conserve_relevance(x: Tensor, name: str) -> None:
    """So a sum over all pixels does not tell the rules apart. Biases, and the expansion of softmax,
    keep what is theirs."""
    function, _, parameters = OTHER_RULES[name]
    ours, arrived = relevance(function, x, **parameters)
    total = arrived.flatten(1).sum(1)
    torch.testing.assert_close(ours.sum((1, 2)), total)
    torch.testing.assert_close(autolrps(function, x, **parameters).sum((1, 2)), total)


class OnlyLinear(nn.Module):
    """A linear function of the image, as networks compute it; or, with biases, an affine one."""

    def __init__(self, bias: bool) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 3, 3, padding=1, bias=bias)
        self.second = nn.Conv2d(3, 3, 3, padding=1, bias=bias)
        self.head = nn.Linear(3, 1, bias=bias)

    def forward(self, images: Tensor) -> Tensor:
        x = self.first(images)
        x = F.avg_pool2d(x + self.second(x), 2)
        return self.head(x.mean((2, 3)))


@pytest.mark.parametrize("bias", [False, True])
def test_of_a_linear_function_there_is_only_one_decomposition(bias: bool) -> None:
    """x_i w_i, and the bias for itself: the Shapley values, and what every rule of proportion makes
    of w · x + b. By autolrp's rules what speaks against a class can speak for it."""
    torch.manual_seed(0)
    model = OnlyLinear(bias).double().eval()
    images = torch.randn(2, 1, 4, 4, dtype=torch.float64)
    every_pixel_alone = torch.eye(16, dtype=torch.float64).reshape(16, 1, 4, 4)
    with torch.no_grad():
        weights = model(every_pixel_alone)[:, 0] - model(torch.zeros(1, 1, 4, 4).double())[0, 0]
    expected = images * weights.reshape(1, 1, 4, 4)
    torch.testing.assert_close(LRP(Z())(model, images, 0), expected)
    theirs = of_autolrp(model, images)
    assert (theirs - expected).norm() > 0.3 * expected.norm()
    assert (theirs * expected < 0).any()


def test_in_a_network_of_relus_lrp_0_is_input_times_gradient_biases_or_not() -> None:
    """Shrikumar et al. 2016, "Not Just a Black Box" (arXiv:1605.01713)."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 2)
    ).double()
    images = torch.randn(2, 1, 8, 8, dtype=torch.float64)
    expected = InputXGradient()(model, images, 0)
    torch.testing.assert_close(LRP(Z())(model, images, 0), expected)
    theirs = of_autolrp(model.eval(), images)
    assert (theirs - expected).norm() > 0.05 * expected.norm()


WITHOUT_A_RULE_THERE: dict[str, Function] = {
    "glu": F.glu,
    "addcmul": lambda x: torch.addcmul(x[:, :2], x[:, :2], x[:, 2:], value=2),
    "prelu": lambda x: F.prelu(x, torch.tensor([0.2]).double()),
    "erf": torch.erf,
    "std": lambda x: x.std(1, correction=0),
}


@pytest.mark.parametrize("name", WITHOUT_A_RULE_THERE)
def test_for_operations_without_a_rule_autolrp_passes_the_gradient(x: Tensor, name: str) -> None:
    """With a warning: relevance is then neither conserved nor shared. We have a rule for these."""
    function = WITHOUT_A_RULE_THERE[name]
    ours, arrived = relevance(function, x)
    with pytest.warns(UserWarning, match="native gradient runs"):
        theirs = autolrps(function, x)
    total = arrived.flatten(1).sum(1)
    torch.testing.assert_close(ours.sum((1, 2)), total)
    assert (theirs.sum((1, 2)) - total).abs().max() > 0.1 * total.abs().max()


@pytest.mark.parametrize("function", [lambda x: x.prod(-1), lambda x: x.logsumexp(-1)])
def test_an_operation_without_a_rule_is_an_error_here(x: Tensor, function: Function) -> None:
    with pytest.raises(ValueError, match=r"LRP has no rule for torch\.Tensor\.(prod|logsumexp)"):
        relevance(function, x)
    with pytest.warns(UserWarning, match="native gradient runs"):
        autolrps(function, x)


def test_autolrps_preset_named_after_the_paper_loses_relevance_at_activations(x: Tensor) -> None:
    """It multiplies the relevance by y / x. The paper hands all on (eq. 9), and multiplies the
    gradient by y / x where gradient times input stands for relevance (its sec. 3.4)."""
    theirs = autolrps(F.gelu, x, autolrp.LRPConfig.attnlrp())
    ours, arrived = relevance(F.gelu, x)
    torch.testing.assert_close(ours, arrived)
    torch.testing.assert_close(theirs, arrived * F.gelu(x) / x)


@pytest.mark.parametrize(
    ("rule", "theirs"),
    [
        (ZPlus(), "zplus"),
        (Gamma(0.25, 1e-11), ("gamma", {"gamma": 0.25})),
        (Bounded(-4.0, 5.0), ("zbox", {"low": -4.0, "high": 5.0})),
    ],
)
def test_other_rules_of_layers_are_the_same(rule: LRPRule, theirs: object) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False), nn.Flatten(), nn.Linear(64, 2, bias=False)
    )
    images = torch.randn(2, 1, 6, 6, dtype=torch.float64)
    config = autolrp.LRPConfig(rule={**autolrp.BASE, "ConvolutionBackward": theirs})
    ours = LRP({"convolution": rule, "linear": Epsilon(1e-11)})(model.double(), images, 0)
    torch.testing.assert_close(ours, of_autolrp(model.eval(), images, config))


def test_constant_attention_weights_are_the_same(x: Tensor) -> None:
    def attention(x: Tensor) -> Tensor:
        return (x[:, :2] @ x[:, 2:].mT).softmax(-1) @ x[:, 2:]

    ours = LRP(Epsilon(1e-11), softmax="constant")(Under(attention), x.unsqueeze(1), 0)
    theirs = autolrps(attention, x, autolrp.LRPConfig.cplrp())
    torch.testing.assert_close(ours.squeeze(1), theirs)


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The authors', without the ε that they add to z."""
    normed: Tensor = authors.layer_norm_grad_fn.apply(x, weight, bias, 1e-5, 0.0)
    return normed


OF_THE_AUTHORS: dict[str, tuple[Function, Function, dict[str, Tensor]]] = {
    "linear": (
        lambda x, w, b: F.linear(x, w, b),
        lambda x, w, b: authors.linear_epsilon(x, w, b, 0.0),
        {"w": random(3, 6), "b": random(3)},
    ),
    "sum": (
        lambda x: x + x.roll(1, 1),
        lambda x: authors.add2(x, x.roll(1, 1), False, 0.0),
        {},
    ),
    "mean": (lambda x: x.mean(1), lambda x: authors.mean(x, 1, True, 0.0).squeeze(1), {}),
    "softmax": (lambda x: x.softmax(-1), lambda x: authors.softmax(x, -1), {}),
    "layer_norm": (
        lambda x, g, b: F.layer_norm(x, (6,), g, b),
        layer_norm,
        {"g": random(6), "b": random(6) + 1},
    ),
    "rms_norm": (
        lambda x, g: F.rms_norm(x, (6,), g, 1e-5),
        lambda x, g: authors.rms_norm_identity(x, g, 1e-5),
        {"g": random(6)},
    ),
    "normalize": (lambda x: F.normalize(x, dim=-1), lambda x: authors.normalize(x, dim=-1), {}),
    "matmul": (
        lambda x: x @ x[:, :2].mT,
        lambda x: authors.matmul(x, x[:, :2].mT, epsilon=0.0),
        {},
    ),
    "product": (
        lambda x: x[:, :2] * x[:, 2:],
        lambda x: authors.mul2(x[:, :2], x[:, 2:]),
        {},
    ),
}


@pytest.mark.parametrize("name", OF_THE_AUTHORS)
def test_the_rules_are_those_of_the_authors_code(x: Tensor, name: str) -> None:
    ours, theirs, parameters = OF_THE_AUTHORS[name]
    maps, arrived = relevance(ours, x, **parameters)
    leaf = x.clone().requires_grad_()
    theirs(leaf, *parameters.values()).backward(arrived)
    torch.testing.assert_close(maps, leaf.grad)
