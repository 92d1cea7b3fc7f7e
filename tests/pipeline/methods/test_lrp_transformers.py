"""LRP through transformers: by hand, by the authors' code, and where removing pixels tells."""

from __future__ import annotations

import math
from itertools import cycle, islice

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from firstlight.datamodules import MNIST
from firstlight.pipeline import LRP, Epsilon, ImageDegradation, degradation_area


class Block(nn.Module):
    """One block of a vision transformer, on image rows as tokens, and a head."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 8), nn.Linear(8, width)
        self.head = nn.Linear(width, 3)

    def forward(self, images: Tensor) -> Tensor:
        x = images[:, 0]
        q, k, v = self.qkv(self.norm1(x)).chunk(3, -1)
        x = x + self.proj(F.scaled_dot_product_attention(q, k, v))
        x = x + self.fc2(F.gelu(self.fc1(self.norm2(x))))
        return self.head(x.mean(1))


def by_hand(model: Block, x: np.ndarray, target: int) -> np.ndarray:
    """The relevance of one image's rows x (tokens, width), in numpy, without any ε."""
    p = {name: value.detach().numpy() for name, value in model.named_parameters()}
    n, d = x.shape

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        y = (x - mean) / np.sqrt(variance + 1e-5)
        return y * p[f"{name}.weight"] + p[f"{name}.bias"]

    def through_norm(x: np.ndarray, r: np.ndarray, name: str) -> np.ndarray:
        slope = r / norm(x, name) * p[f"{name}.weight"]
        slope = slope / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return x * (slope - slope.mean(-1, keepdims=True))

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]

    def through_linear(x: np.ndarray, r: np.ndarray, name: str) -> np.ndarray:
        return x * ((r / linear(x, name)) @ p[f"{name}.weight"])

    # Forward.
    y1 = norm(x, "norm1")
    q, k, v = np.split(linear(y1, "qkv"), 3, -1)
    scores = q @ k.T / math.sqrt(d)
    a = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    o = a @ v
    x1 = x + linear(o, "proj")
    y2 = norm(x1, "norm2")
    h = linear(y2, "fc1")
    g = h * 0.5 * (1 + np.vectorize(math.erf)(h / math.sqrt(2)))
    x2 = x1 + linear(g, "fc2")
    mean = x2.mean(0)

    # Backward: the head, the mean, the residual connections and what is beside them.
    logits = linear(mean, "head")
    r = through_linear(mean, np.where(np.arange(3) == target, logits, 0), "head")
    r2 = x2 / n * (r / mean)
    skipped, r_mlp = x1 / x2 * r2, linear(g, "fc2") / x2 * r2
    r_h = through_linear(g, r_mlp, "fc2")
    r1 = skipped + through_norm(x1, through_linear(y2, r_h, "fc1"), "norm2")
    skipped, r_attention = x / x1 * r1, linear(o, "proj") / x1 * r1
    s = through_linear(o, r_attention, "proj") / (2 * o)
    r_a, r_v = a * (s @ v.T), v * (a.T @ s)
    r_scores = scores * (r_a - a * r_a.sum(-1, keepdims=True))
    t = r_scores / (2 * scores) / math.sqrt(d)
    r_qkv = np.concatenate([q * (t @ k), k * (t.T @ q), r_v], -1)
    return skipped + through_norm(x, through_linear(y1, r_qkv, "qkv"), "norm1")


def test_a_transformer_block_is_as_by_hand() -> None:
    torch.manual_seed(0)
    model = Block().double()
    for name, parameter in model.named_parameters():
        if name.startswith("norm") or name.endswith("bias"):
            nn.init.normal_(parameter)
    images = torch.randn(2, 1, 5, 6, dtype=torch.float64)
    maps = LRP(Epsilon(1e-13))(model, images, 1)
    for image, ours in zip(images, maps, strict=True):
        np.testing.assert_allclose(
            ours[0], by_hand(model, image[0].numpy(), 1), rtol=1e-6, atol=1e-9
        )


class Transformer(nn.Module):
    """Patches of 7 × 7 pixels as tokens, two encoder layers, the mean token."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, 7, 7)
        self.positions = nn.Parameter(torch.randn(1, 16, width) * 0.1)
        layer = nn.TransformerEncoderLayer(
            width, 4, 64, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).mT + self.positions
        return self.head(self.layers(tokens).mean(1))


def by_the_authors(model: Transformer, images: Tensor, target: int) -> Tensor:
    """The same network written with the operations of lxt, without the ε that they add to z."""
    f = pytest.importorskip("lxt.explicit.functional")
    rules = pytest.importorskip("lxt.explicit.rules")

    def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return f.linear_epsilon(x, weight, bias, 0.0)

    def norm(x: Tensor, at: nn.LayerNorm) -> Tensor:
        return f.layer_norm_grad_fn.apply(x, at.weight, at.bias, at.eps, 0.0)

    def attention(x: Tensor, at: nn.MultiheadAttention) -> Tensor:
        projected = linear(x, at.in_proj_weight, at.in_proj_bias)
        q, k, v = (
            p.unflatten(2, (at.num_heads, -1)).transpose(1, 2) for p in projected.chunk(3, 2)
        )
        scores = f.matmul(f.mul2(q, q.shape[-1] ** -0.5), k.mT, epsilon=0.0)
        y = f.matmul(f.softmax(scores, -1), v, epsilon=0.0).transpose(1, 2).flatten(2)
        return linear(y, at.out_proj.weight, at.out_proj.bias)

    leaf = images.clone().requires_grad_()
    x = rules.epsilon_lrp(model.patches, 0.0, leaf).flatten(2).mT
    x = f.add2(x, model.positions.expand_as(x), False, 0.0)
    for layer in model.layers.layers:
        x = f.add2(x, attention(norm(x, layer.norm1), layer.self_attn), False, 0.0)
        h = linear(norm(x, layer.norm2), layer.linear1.weight, layer.linear1.bias)
        h = linear(rules.identity(F.gelu, h), layer.linear2.weight, layer.linear2.bias)
        x = f.add2(x, h, False, 0.0)
    logits = linear(f.mean(x, 1, True, 0.0)[:, 0], model.head.weight, model.head.bias)
    (maps,) = torch.autograd.grad(logits[:, target], leaf, logits[:, target].detach())
    return maps


def test_a_transformers_map_is_that_of_the_authors_code() -> None:
    torch.manual_seed(0)
    model = Transformer().double().eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        if "norm" in name or name.endswith("bias"):
            nn.init.normal_(parameter)
    images = torch.rand(2, 1, 28, 28, dtype=torch.float64)
    ours, theirs = LRP(Epsilon(1e-14))(model, images, 3), by_the_authors(model, images, 3)
    assert (ours - theirs).norm() < 1e-9 * theirs.norm()


@pytest.fixture(scope="module")
def trained() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    data = MNIST(batch_size=100)
    data.prepare_data()
    data.setup("fit")
    model = Transformer()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for images, labels in islice(cycle(data.train_dataloader()), 200):
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
    images, labels = next(iter(data.val_dataloader()))
    model.eval()
    assert (model(images).argmax(1) == labels).float().mean() > 0.8
    return model, images


@pytest.mark.parametrize(
    "method",
    [LRP(), LRP("gamma"), LRP(softmax="constant")],
    ids=["epsilon", "gamma", "CP-LRP"],
)
def test_removing_pixels_by_relevance_beats_random_order(
    trained: tuple[nn.Module, Tensor], method: LRP
) -> None:
    model, images = trained
    judge = ImageDegradation(patch=4)
    torch.manual_seed(1)
    by_relevance, at_random = (
        degradation_area(judge.removal(model, images, maps)).mean()
        for maps in (method(model, images), torch.randn_like(images))
    )
    assert by_relevance < 0.8 * at_random
