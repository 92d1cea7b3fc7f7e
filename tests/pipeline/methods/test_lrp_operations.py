"""LRP through operations that are no layers: by hand, and conserved."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from firstlight.pipeline.methods.lrp import LRP
from firstlight.pipeline.methods.lrp_rules import Epsilon
from tests.pipeline.methods.one_operation import RULE, Function, Under, relevance


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 4, 6, dtype=torch.float64, generator=torch.manual_seed(1))


ELEMENTWISE: dict[str, Function] = {
    "gelu": F.gelu,
    "gelu, tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "silu in place": lambda x: F.silu(x * 1, inplace=True),
    "elu in place": lambda x: F.elu(x * 1, 1.0, True),
    "sigmoid": torch.sigmoid,
    "sigmoid in place": lambda x: (x * 1).sigmoid_(),
    "tanh": torch.tanh,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "hardtanh": F.hardtanh,
    "elu": F.elu,
    "celu": F.celu,
    "selu": F.selu,
    "softplus": F.softplus,
    "mish": F.mish,
    "leaky_relu": F.leaky_relu,
    "prelu": lambda x: F.prelu(x, torch.tensor([0.2]).double()),
    "square": lambda x: x**2,
    "exp": torch.exp,
    "1 / x": lambda x: 1 / x,
    "relu": F.relu,
    "relu6": F.relu6,
    "scale and shift": lambda x: (3 * x - 2) / 7,
    "x sigmoid(x)": lambda x: x * torch.sigmoid(x),
    "x relu6(x + 3) / 6": lambda x: x * F.relu6(x + 3) / 6,
    "x x": lambda x: x * x,
    "x x in place": lambda x: (x * 1).mul_(x),
    "gelu written out": lambda x: x * 0.5 * (1 + torch.erf(x / math.sqrt(2))),
    "mish written out": lambda x: x * torch.tanh(F.softplus(x)),
    "rms_norm": lambda x: F.rms_norm(x, (6,)),
    "rms_norm written out": lambda x: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5),
    "normalize": lambda x: F.normalize(x, dim=-1),
    "normalize written out": lambda x: x / x.norm(dim=-1, keepdim=True),
    "divided by a signal": lambda x: x / (x.abs().sum(-1, keepdim=True) + 1),
    "softmax, constant factor": lambda x: x * torch.arange(1.0, 7.0).double().softmax(-1),
}


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_one_input_of_one_output_has_all_of_its_relevance(x: Tensor, name: str) -> None:
    maps, arrived = relevance(ELEMENTWISE[name], x)
    torch.testing.assert_close(maps, arrived)


def gate(x: Tensor) -> Tensor:
    return x[:, :2] * x[:, 2:].sigmoid()


def squeeze_and_excite(x: Tensor) -> Tensor:
    return x[:, 1:] * x[:, :1, :1].tanh()


def test_the_factors_of_a_product_share_equally(x: Tensor) -> None:
    for function in (gate, F.glu):
        rows = x if function is gate else x.mT.contiguous()
        maps, arrived = relevance(function, rows)
        first, second = maps.chunk(2, 1 if function is gate else 2)
        torch.testing.assert_close(first, arrived / 2)
        torch.testing.assert_close(second, arrived / 2)
    maps, arrived = relevance(squeeze_and_excite, x)
    torch.testing.assert_close(maps[:, 1:], arrived / 2)
    torch.testing.assert_close(maps[:, 0, 0], arrived.sum((1, 2)) / 2)


def test_a_factor_that_does_not_depend_on_the_image_gets_nothing(x: Tensor) -> None:
    wide = torch.randn(3, 1, 4, 6).double()
    maps, arrived = relevance(lambda x: (x * wide).transpose(0, 1), x)
    torch.testing.assert_close(maps, arrived.sum(1))


def test_a_parameter_that_is_added_is_a_bias_with_a_share(x: Tensor) -> None:
    maps, arrived = relevance(
        lambda x, p: x + p, x, p=torch.full((1, 4, 6), 0.3, dtype=torch.float64)
    )
    torch.testing.assert_close(maps, arrived * x / (x + 0.3))


def test_windows_that_are_put_back_share_each_place_by_what_they_add_there(x: Tensor) -> None:
    """By hand: six windows of 2 x 2 on 3 x 4 places, each place the sum of those that cover it."""
    maps, arrived = relevance(lambda x: F.fold(x, (3, 4), 2), x)
    expected = torch.zeros_like(x)
    y = F.fold(x, (3, 4), 2)
    for window in range(6):
        for tap in range(4):
            row, column = window // 3 + tap // 2, window % 3 + tap % 2
            share = x[:, tap, window] / y[:, 0, row, column]
            expected[:, tap, window] = share * arrived[:, 0, row, column]
    torch.testing.assert_close(maps, expected)


def test_softmax_is_its_taylor_expansion(x: Tensor) -> None:
    for dim in (-1, 1):
        maps, arrived = relevance(lambda x, d=dim: x.softmax(d), x)
        _, pull = torch.func.vjp(lambda x, d=dim: x.softmax(d), x)
        (slope,) = pull(arrived / x.softmax(dim))
        torch.testing.assert_close(maps, x * slope)


def test_what_is_masked_has_no_relevance(x: Tensor) -> None:
    mask = torch.arange(6) < 4
    for masked in (
        lambda x: x.masked_fill(~mask, -math.inf),
        lambda x: x + torch.where(mask, 0.0, -math.inf).expand(2, 4, 6),
        lambda x: torch.where(mask, x, -math.inf),
    ):
        maps, _ = relevance(lambda x, m=masked: m(x).softmax(-1), x)
        expected, _ = relevance(lambda x: F.pad(x[..., :4].softmax(-1), (0, 2)), x)
        torch.testing.assert_close(maps, expected)


def test_a_matrix_product_shares_by_its_terms_half_to_each_factor(x: Tensor) -> None:
    maps, arrived = relevance(lambda x: x @ x[:, :3].mT, x)
    expected = torch.zeros_like(x)
    for n in range(2):
        a, v, r = x[n].numpy(), x[n, :3].T.numpy(), arrived[n].numpy()
        o = a @ v
        for j in range(4):
            for p in range(3):
                for i in range(6):
                    share = a[j, i] * v[i, p] * r[j, p] / (2 * o[j, p])
                    expected[n, j, i] += share
                    expected[n, p, i] += share
    torch.testing.assert_close(maps, expected)
    for same in (
        lambda x: torch.einsum("nik,njk->nij", x, x[:, :3]),
        lambda x: torch.bmm(x, x[:, :3].transpose(1, 2)),
        lambda x: F.linear(x[:1], x[0, :3]),
    ):
        rows = x[:1] if same(x).shape[0] == 1 else x
        torch.testing.assert_close(relevance(same, rows)[0], expected[: len(rows)])


def test_a_matrix_product_with_a_constant_is_a_linear_layer(x: Tensor) -> None:
    w = torch.randn(6, 3).double()
    expected, _ = relevance(lambda x: F.linear(x, w.T), x)
    torch.testing.assert_close(relevance(lambda x: x @ w, x)[0], expected)
    bias = torch.randn(3).double()
    expected, _ = relevance(lambda x: F.linear(x, w.T, bias), x)
    rows = relevance(
        lambda x, b: torch.addmm(b, x.flatten(0, 1), w).unflatten(0, (2, 4)), x, b=bias
    )
    torch.testing.assert_close(rows[0], expected)


def test_norms_are_linear_with_their_statistics_held(x: Tensor) -> None:
    gamma, beta = torch.randn(2, 6).double()

    def by_hand(rows: Tensor, arrived: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        n = rows.shape[-1]
        sigma = ((rows - rows.mean(-1, keepdim=True)) ** 2).mean(-1, keepdim=True).add(1e-5).sqrt()
        jacobian = torch.eye(n).double() - 1 / n
        y = (rows @ jacobian) / sigma * gamma + beta
        return rows * ((arrived / y * gamma / sigma) @ jacobian)

    maps, arrived = relevance(
        lambda x, gamma, beta: F.layer_norm(x, (6,), gamma, beta), x, gamma=gamma, beta=beta
    )
    torch.testing.assert_close(maps, by_hand(x, arrived, gamma, beta))

    # Groups of two channels; every channel has its own scale.
    scale, shift = torch.randn(2, 4).double()
    maps, arrived = relevance(lambda x, w, b: F.group_norm(x, 2, w, b), x, w=scale, b=shift)
    wide, far = (v.repeat_interleave(6).reshape(2, 12) for v in (scale, shift))
    expected = by_hand(x.reshape(2, 2, 12), arrived.reshape(2, 2, 12), wide, far)
    torch.testing.assert_close(maps, expected.reshape(x.shape))
    maps, arrived = relevance(F.instance_norm, x)
    torch.testing.assert_close(
        maps, by_hand(x, arrived, torch.ones(6).double(), torch.zeros(6).double())
    )


@pytest.mark.parametrize(
    "norm",
    [
        lambda x: F.rms_norm(x, (6,)),
        lambda x: F.normalize(x, dim=-1),
        lambda x: F.local_response_norm(x, 2),
    ],
    ids=["rms_norm", "normalize", "local_response_norm"],
)
def test_a_norm_that_subtracts_no_mean_has_no_share_for_epsilon(x: Tensor, norm: Function) -> None:
    damped = LRP(Epsilon(0.5))
    expected = damped(Under(lambda y: y), norm(x).unsqueeze(1), 0)
    torch.testing.assert_close(damped(Under(norm), x.unsqueeze(1), 0), expected)


def test_attention_is_its_parts(x: Tensor) -> None:
    parts = (lambda x: x[:, :3] * 1.3, lambda x: x.flip(1) - 0.2, lambda x: x * x)

    def taken_apart(x: Tensor, mask: Tensor) -> Tensor:
        q, k, v = (part(x) for part in parts)
        return ((q / math.sqrt(6)) @ k.mT + mask).softmax(-1) @ v

    causal = torch.full((3, 4), -math.inf).double().triu(1)
    boolean = torch.tensor([True, False, True, True])
    for mask, options in (
        (torch.zeros(3, 4).double(), {}),
        (causal, {"is_causal": True}),
        (causal, {"attn_mask": causal}),
        (torch.where(boolean, 0.0, -math.inf).double(), {"attn_mask": boolean}),
    ):
        maps, _ = relevance(
            lambda x, o=options: F.scaled_dot_product_attention(*(p(x) for p in parts), **o), x
        )
        torch.testing.assert_close(maps, relevance(lambda x, m=mask: taken_apart(x, m), x)[0])


def test_grouped_queries_share_their_keys_and_values(x: Tensor) -> None:
    def grouped(x: Tensor, repeat: bool) -> Tensor:
        q, kv = x.unflatten(2, (3, 1, 2)).permute(0, 2, 3, 1, 4), x[:, None, :, 4:]
        q = q.flatten(1, 2)[:, :2]
        if repeat:
            kv = kv.expand(-1, 2, -1, -1)
        return F.scaled_dot_product_attention(q, kv, kv, enable_gqa=not repeat)

    maps = [relevance(lambda x, r=r: grouped(x, r), x)[0] for r in (False, True)]
    torch.testing.assert_close(*maps)


def test_multihead_attention_is_seen_part_by_part_and_by_no_fast_path(x: Tensor) -> None:
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(6, 2, batch_first=True).double().eval()
    nn.init.normal_(attention.in_proj_bias)
    nn.init.normal_(attention.out_proj.bias)
    attention.requires_grad_(False)

    def written_out(x: Tensor) -> Tensor:
        projected = F.linear(x, attention.in_proj_weight, attention.in_proj_bias)
        q, k, v = (p.unflatten(2, (2, 3)).transpose(1, 2) for p in projected.chunk(3, 2))
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return F.linear(y, attention.out_proj.weight, attention.out_proj.bias)

    expected, _ = relevance(written_out, x)
    for weights in (False, True):
        maps, _ = relevance(lambda x, w=weights: attention(x, x, x, need_weights=w)[0], x)
        torch.testing.assert_close(maps, expected)
    layer = nn.TransformerEncoderLayer(6, 2, 8, activation="gelu", batch_first=True)
    layer.double().eval().requires_grad_(False)
    maps, arrived = relevance(layer, x)
    assert maps.abs().sum() > 0 and arrived.shape == maps.shape


def test_with_constant_attention_weights_all_goes_through_the_values(x: Tensor) -> None:
    model = Under(lambda x: (x[:, :2] @ x[:, 2:].mT).softmax(-1) @ x[:, 2:])
    maps = LRP(RULE, softmax="constant")(model, x.unsqueeze(1), 0).squeeze(1)
    weights = (x[:, :2] @ x[:, 2:].mT).softmax(-1)
    expected, _ = relevance(lambda x: weights @ x[:, 2:], x)
    assert (maps[:, :2] == 0).all()
    torch.testing.assert_close(maps, expected)
    torch.testing.assert_close(maps.sum((1, 2)), model(x.unsqueeze(1))[:, 0])


CONSERVING: dict[str, Function] = {
    "layer_norm": lambda x: F.layer_norm(x, (6,)),
    "group_norm": lambda x: F.group_norm(x, 2),
    "instance_norm": F.instance_norm,
    "local_response_norm": lambda x: F.local_response_norm(x.unsqueeze(1), 2),
    "batch_norm": lambda x: F.batch_norm(x, torch.zeros(4).double(), torch.ones(4).double() * 3),
    "norm": lambda x: x.norm(dim=1),
    "std": lambda x: x.std(1, correction=0),
    "linalg norm": lambda x: torch.linalg.vector_norm(x, dim=2),
    "matmul": lambda x: x @ x.mT,
    "einsum": lambda x: torch.einsum("nik,nil,nij->nklj", x, x, x),
    "bilinear": lambda x: F.bilinear(x[:, :2], x[:, 2:], torch.ones(3, 6, 6).double()),
    "gate": gate,
    "a broadcast gate": squeeze_and_excite,
    "glu": F.glu,
    "addcmul": lambda x: torch.addcmul(x[:, :2], x[:, :2], x[:, 2:], value=2),
    "conv_transpose1d": lambda x: F.conv_transpose1d(x, torch.ones(4, 2, 3).double()),
    "interpolate": lambda x: F.interpolate(x, 9, mode="linear"),
    "average pooling": lambda x: F.adaptive_avg_pool1d(x, 4),
    "cumsum": lambda x: x.cumsum(1),
    "windows put back": lambda x: F.fold(x, (3, 4), 2),
    "residual": lambda x: x + x.roll(1, 1),
    "padding": lambda x: F.pad(x, (1, 1)),
} | ELEMENTWISE


@pytest.mark.parametrize("name", CONSERVING)
def test_relevance_is_conserved(x: Tensor, name: str) -> None:
    maps, arrived = relevance(CONSERVING[name], x)
    total = arrived.flatten(1).sum(1)
    torch.testing.assert_close(maps.sum((1, 2)), total, rtol=1e-8, atol=1e-8)
