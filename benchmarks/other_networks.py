"""Networks that nobody here wrote, by small members of their families, ready to be explained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import timm
import torch
import torchvision
from torch import Tensor, nn

QUICK = ("timm/test_resnet", "timm/test_vit", "timm/test_convnext")
"""Tried in every run of the tests."""

_TIMM = """
    test_byobnet test_coatnet test_convnext test_convnext2 test_convnext3 test_efficientnet
    test_efficientnet_evos test_efficientnet_gn test_efficientnet_ln test_mambaout test_maxvit
    test_nfnet test_resnet test_vit test_vit2 test_vit3 test_vit4 test_vit_relpos convnext_atto
    deit_tiny_patch16_224 densenet121 eca_nfnet_l0 efficientformer_l1 efficientnet_b0 fastvit_t8
    ghostnet_050 levit_128s mobilenetv3_small_050 mobileone_s0 mobilevit_xxs poolformer_s12
    pvt_v2_b0 regnetx_002 regnety_002 repvgg_a0 resmlp_12_224 resnet10t skresnet18 starnet_s1
    tf_efficientnet_lite0 tiny_vit_5m_224 vgg11_bn vit_tiny_patch16_224 xcit_nano_12_p16_224
"""
_TORCHVISION = """
    alexnet convnext_tiny googlenet googlenet+transform_input inception_v3 mobilenet_v2
    shufflenet_v2_x0_5 squeezenet1_0 swin_t
"""
_SMALLER: Mapping[str, Mapping[str, Any]] = {
    "ConvMixer": {"dim": 24, "depth": 3},
    "GlobalContextVit": {"embed_dim": 16, "depths": (1, 1, 1, 1), "num_heads": (1, 2, 2, 4)},
    "Nest": {"embed_dims": (16, 32, 32), "num_heads": (1, 2, 2), "depths": (1, 1, 1)},
    "botnet26t_256": {},
    "hiera_tiny_224": {"stages": (1, 1, 1, 1), "embed_dim": 16},
    "lambda_resnet26t": {},
    "maxvit_rmlp_pico_rw_256": {},
    "sam2_hiera_tiny": {"stages": (1, 1, 1, 1), "embed_dim": 16},
    "sequencer2d_s": {
        "layers": (1, 1, 1, 1),
        "embed_dims": (16, 32, 32, 32),
        "hidden_sizes": (4, 8, 8, 8),
    },
    "tnt_s_patch16_224": {"depth": 2},
    "visformer_tiny": {
        "init_channels": 8,
        "embed_dim": 48,
        "depth": (1, 1, 1),
        "num_heads": 2,
    },
    "xception41": {},
}
"""Members of timm without a small one: what makes them smaller. Classes have no member whose size
can be chosen."""
_STAGES = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]}
_TOKENS = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "image_size": 32,
    "patch_size": 8,
}
_TRANSFORMERS: Mapping[str, Mapping[str, Any]] = {
    "resnet": {**_STAGES, "layer_type": "basic"},
    "convnext": {"num_stages": 2, "hidden_sizes": [8, 16], "depths": [1, 1]},
    "vit": _TOKENS,
    "beit": {**_TOKENS, "use_relative_position_bias": True},
    "regnet": {**_STAGES, "groups_width": 8},
    "swin": {
        "image_size": 32,
        "embed_dim": 16,
        "depths": [2, 2],
        "num_heads": [2, 4],
        "window_size": 4,
    },
}
"""Small configurations. The first three are tried as they are, too, returning objects with
``.logits``."""

ALL = (
    *(f"timm/{name}" for name in (*_TIMM.split(), *_SMALLER)),
    *(f"torchvision/{name}" for name in _TORCHVISION.split()),
    *(f"transformers/{name}" for name in _TRANSFORMERS),
    *(f"transformers/{name}.logits" for name in list(_TRANSFORMERS)[:3]),
)
"""All that are tried."""

CLASSES = 5
CLASS = 4
"""One whose logit is alive in all of them, for both images."""


class Logits(nn.Module):
    """A network that returns the logits of one that returns an object with ``.logits``."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images).logits
        return logits


def network(name: str) -> tuple[nn.Module, Tensor]:
    """A network in evaluation mode, in float64, and two images (2, 3, H, W) of the least size that
    it takes.

    Constant parameters are random and BatchNorm's statistics are of data, so that nothing goes
    unnoticed because it is 0 or 1.
    """
    for model, size in _candidates(name):
        torch.manual_seed(0)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim and (parameter == parameter.flatten()[0]).all():
                    parameter.add_(torch.randn_like(parameter), alpha=0.1)
        if _takes(model, size):
            images = torch.rand(2, 3, size, size, dtype=torch.float64)
            return model.double().eval(), images
    raise ValueError(f"{name}: no size is taken")


def _candidates(name: str) -> Iterator[tuple[nn.Module, int]]:
    """The network for images of one size after the other."""
    library, member = name.split("/")
    torch.manual_seed(0)
    if library == "transformers":
        yield _of_transformers(member), 32
        return
    if library == "torchvision":
        model = _of_torchvision(member)
        yield from ((model, size) for size in (64, 96, 128))
        return
    # A VGG with its whole head takes gigabytes.
    options: Mapping[str, Any] = {"mlp_ratio": 1 / 64} if member.startswith("vgg") else {}
    options = {"num_classes": CLASSES, **options, **_SMALLER.get(member, {})}
    make = (
        getattr(timm.models, member) if member[0].isupper() else partial(timm.create_model, member)
    )
    with suppress(TypeError):  # takes images of any size, or of one
        yield make(**options, img_size=64), 64
    model = make(**options)
    yield from ((model, size) for size in (64, 96, 128, 224))


def _of_torchvision(member: str) -> nn.Module:
    member, _, option = member.partition("+")
    given = {"aux_logits": False, "init_weights": False}
    options = given if member in ("googlenet", "inception_v3") else {}
    options |= {option: True} if option else {}
    model: nn.Module = torchvision.models.get_model(
        member, weights=None, num_classes=CLASSES, **options
    )
    return model


def _of_transformers(member: str) -> nn.Module:
    # Here, for it takes seconds.
    from transformers import AutoConfig, AutoModelForImageClassification

    kind, _, as_it_is = member.partition(".")
    config = AutoConfig.for_model(kind, num_labels=CLASSES, **_TRANSFORMERS[kind])
    model: nn.Module = AutoModelForImageClassification.from_config(config)
    return model if as_it_is else Logits(model)


def _takes(model: nn.Module, size: int) -> bool:
    model.train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    try:
        with torch.no_grad():
            for _ in range(3):
                model(torch.rand(8, 3, size, size))
    except (RuntimeError, AssertionError, ValueError):
        return False
    return True
