"""The operations of torch that are known, by what they do to a signal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

import torch
from torch import Tensor

from firstlight.pipeline.tracing.call import Call, names
from firstlight.pipeline.tracing.layers import LayerCall


class Kind(Enum):
    """A kind of operations that have one backward rule in a method."""

    ROUTING = auto()
    """Picks inputs. The gradient brings any signal back to where it came from."""
    LAYER = auto()
    """Linear and convolution layers, one together with the BatchNorm that belongs to it."""
    BATCH_NORM = auto()
    """A BatchNorm with fixed statistics that belongs to no layer."""
    NORM = auto()
    """Subtracts the mean and divides by a statistic; as a function, with the divisor held."""
    RESCALING = auto()
    """Divides by a statistic of its input, and subtracts nothing."""
    SUM = auto()
    """Sums and averages, residual connections and added parameters among them."""
    SCALE = auto()
    """Scales and shifts one input element by element, where all else is constant."""
    PRODUCT = auto()
    """The element-wise product of signals; also a quotient, where only the dividend counts."""
    MATRIX_PRODUCT = auto()
    """Linear in each of its inputs."""
    SOFTMAX = auto()
    SMOOTH = auto()
    """An element-wise activation that is no ReLU."""
    GATE = auto()
    """An element-wise function into a bounded range, usually there to be multiplied with."""
    ELEMENTWISE = auto()
    """Any other function of one input, element by element."""
    SIZE = auto()
    """A size of many numbers that grows in proportion to them, such as their norm."""
    STATISTIC = auto()
    """Any other number that tells of many, and a norm by the statistics of the batch."""
    COMPOSED = auto()
    """Made of other operations, as which it can be taken apart."""


_NAMES = {
    Kind.ROUTING: """
        adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d alpha_dropout amax broadcast_to
        cat channel_shuffle chunk clone concat concatenate contiguous cpu cuda double dropout
        dropout1d dropout2d dropout3d dstack expand expand_as feature_alpha_dropout flatten flip
        float gather get getitem half hstack index_select masked_fill max max_pool1d
        max_pool1d_with_indices max_pool2d max_pool2d_with_indices max_pool3d
        max_pool3d_with_indices moveaxis movedim narrow pad permute pixel_shuffle pixel_unshuffle
        ravel repeat repeat_interleave requires_grad reshape reshape_as roll rot90 select setitem
        split split_with_sizes squeeze stack swapaxes swapdims t tensor_split tile to transpose type
        type_as unbind unflatten unfold unsqueeze view view_as vstack where
    """,
    Kind.NORM: "group_norm instance_norm layer_norm",
    Kind.RESCALING: "local_response_norm normalize rms_norm",
    Kind.SUM: """
        adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d avg_pool1d avg_pool2d avg_pool3d
        cumsum fold interpolate mean sum upsample
    """,
    Kind.SCALE: "neg",
    Kind.MATRIX_PRODUCT: """
        bmm conv_transpose1d conv_transpose2d conv_transpose3d einsum matmul mm mv
    """,
    Kind.SOFTMAX: "softmax",
    Kind.SMOOTH: """
        celu clamp clamp_max clamp_min elu gelu hardshrink hardswish hardtanh leaky_relu mish prelu
        relu6 rrelu selu silu softplus softshrink tanhshrink threshold
    """,
    Kind.GATE: "erf hardsigmoid logsigmoid sigmoid softsign tanh",
    Kind.ELEMENTWISE: "abs cos exp expm1 log log1p pow rdiv reciprocal rsqrt sin sqrt square",
    Kind.SIZE: "norm std",
    Kind.STATISTIC: "batch_norm var",
    Kind.COMPOSED: """
        addcmul addmm baddbmm bilinear glu multi_head_attention_forward
        scaled_dot_product_attention
    """,
}
_KINDS = {name: kind for kind, text in _NAMES.items() for name in names(text)}

_OF_ONE_SIGNAL = (Kind.SMOOTH, Kind.GATE, Kind.ELEMENTWISE, Kind.NORM, Kind.RESCALING)

RECTIFIERS = names("clamp clamp_min hardtanh relu relu6 threshold")
"""Operations that are a ReLU, if their other arguments say so."""

INVERSES = names("rdiv reciprocal rsqrt")
"""Operations whose result stands for a divisor."""

CONSTANT = names("""
    empty_like full_like new_empty new_full new_ones new_zeros ones_like rand_like randn_like
    zeros_like
""")
"""Operations whose results only have the shape and kind of what they are given."""


@dataclass(frozen=True, eq=False)
class Operation:
    """One operation of the forward pass.

    Attributes:
        name: Its name, such as ``avg_pool2d``.
        where: The name of the module that is at work, or of the layer that holds the weight.
        inputs: The tensors that depend on the image and are to get a signal.
        function: The operation as a function of these alone.
    """

    name: str
    where: str
    inputs: tuple[Tensor, ...]
    function: Callable[..., Tensor]


@dataclass(frozen=True, eq=False)
class Layer(Operation):
    """A linear or convolution layer, one together with the BatchNorm that belongs to it.

    Attributes:
        call: The layer at work. Its weight and bias have the BatchNorm's scale and shift in them.
        folded: Whether there is a BatchNorm.
        first: Whether no other layer stands between the image and this one.
    """

    call: LayerCall
    first: bool
    folded: bool = False


@dataclass(frozen=True, eq=False)
class Softmax(Operation):
    """A softmax over the dimension ``dim``."""

    dim: int


def kind_of(call: Call, learnt: Callable[[Tensor], bool]) -> Kind | None:
    """The kind of an operation of signals; None for one that is not known.

    Args:
        call: Has active tensors. Layers, and BatchNorms that are not of the batch, are told apart
            before.
        learnt: Whether a constant is a parameter, or computed from parameters.
    """
    if call.name in ("add", "sub", "rsub"):
        # A parameter that is added is a bias: it has a share in the sum.
        alone = _one_scaled(call) and not any(map(learnt, call.tensors))
        return Kind.SCALE if alone else Kind.SUM
    if call.name == "mul":
        return Kind.SCALE if _one_scaled(call) else Kind.PRODUCT
    if call.name == "div":
        if call.kwargs.get("rounding_mode"):
            return None
        if call.args[0] is not call.active[0]:
            return Kind.ELEMENTWISE
        return Kind.SCALE if _one_scaled(call) else Kind.PRODUCT
    kind = _KINDS.get(call.name)
    if kind in _OF_ONE_SIGNAL and len(call.active) > 1:
        return None
    return kind


def softmax_dim(call: Call) -> int:
    """The dimension that a softmax runs over."""
    dim = call.kwargs.get("dim", next(iter(call.args[1:]), None))
    if isinstance(dim, int):
        return dim
    # What torch takes for it where none is given.
    return 0 if call.args[0].ndim in (0, 1, 3) else 1


def _one_scaled(call: Call) -> bool:
    """Whether there is one signal, which no other factor or summand repeats."""
    if len(call.active) != 1:
        return False
    shape = torch.broadcast_shapes(*(tensor.shape for tensor in call.tensors))
    return shape == call.active[0].shape
