"""How each of ATen's operations changes what the elements of a tensor see of the image.

A new operation is a rule of its own or a name more in the table at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from firstlight.pipeline.inside.receptive_fields.fields import Field, NoRule

_Pair = Sequence[int]
_Arguments = Mapping[str, Any]
_Rule = Callable[[Field, _Arguments, Tensor], Field]


def takes_only_a_shape(func: Any) -> bool:
    """True for zeros_like, new_empty and their kind."""
    name = func.overloadpacket.__name__
    return bool(name.startswith("new_") or name.endswith("_like"))


def field_after(func: Any, fields: list[Field], arguments: _Arguments, output: Tensor) -> Field:
    """The field of an operation's output, given those of its inputs.

    Raises:
        NoRule: It is not known.
    """
    field = reduce(Field.union, fields)
    if field.dims is None:
        return field
    name = func.overloadpacket.__name__
    rule = _keeps_positions if torch.Tag.pointwise in func.tags else _RULES.get(name.rstrip("_"))
    if rule is None or torch.Tag.inplace_view in func.tags:
        raise NoRule("has no rule")
    return rule(field, arguments, output)


def _keeps_positions(field: Field, arguments: _Arguments, output: Tensor) -> Field:
    # One unit may have been spread over a line of them, which then all see the same.
    sizes = len(field.rows.seen), len(field.columns.seen)
    kept = all(output.shape[d] == n for d, n in zip(field.dims or (), sizes, strict=True))
    return field if kept else field.everything


def _sees_everything(field: Field, arguments: _Arguments, output: Tensor) -> Field:
    return field.everything


def _convolution(field: Field, arguments: _Arguments, output: Tensor) -> Field:
    if arguments["transposed"]:
        raise NoRule("is transposed: its units do not all see equally much")
    kernel = arguments["weight"].shape[2:]
    if len(kernel) < 2:
        raise NoRule("slides over one dimension of an image")
    return _pool(field, {"kernel_size": kernel, **arguments}, output)


def _pool(field: Field, arguments: _Arguments, output: Tensor) -> Field:
    if field.dims != (-2, -1):
        raise NoRule(f"meets rows and columns in dimensions {field.dims}, not in the last two")
    kernel = _pair(arguments["kernel_size"])
    dilation = _pair(arguments.get("dilation", 1))
    return field.windows(
        output,
        first=[-p for p in _pair(arguments["padding"])],
        stride=_pair(arguments["stride"] or kernel),
        taps=_taps(kernel, dilation),
    )


def _adaptive_pool(field: Field, arguments: _Arguments, output: Tensor) -> Field:
    before, after = (len(field.rows.seen), len(field.columns.seen)), tuple(output.shape[-2:])
    if (
        field.dims != (-2, -1)
        or 1 in after
        or any(b % a for b, a in zip(before, after, strict=True))
    ):
        return field if before == after else field.everything
    stride = [b // a for b, a in zip(before, after, strict=True)]
    return field.windows(output, (0, 0), stride, _taps(stride, (1, 1)))


def _pad(field: Field, arguments: _Arguments, output: Tensor) -> Field:
    # Given from the last dimension to the first, before and after each.
    before = dict(enumerate(arguments["pad"][::2], start=1))
    return _moved(field, output, {-d: -p for d, p in before.items()}, {})


def _slice(field: Field, arguments: _Arguments, output: Tensor) -> Field:
    source, (dim,) = arguments["self"], _dims(arguments["dim"], arguments["self"].ndim)
    start, _, step = slice(arguments["start"], None, arguments["step"]).indices(source.shape[dim])
    return _moved(field, output, {dim: start}, {dim: step})


def _moved(
    field: Field, output: Tensor, first: Mapping[int, int], stride: Mapping[int, int]
) -> Field:
    dims = field.dims or ()
    return field.windows(
        output,
        first=[first.get(d, 0) for d in dims],
        stride=[stride.get(d, 1) for d in dims],
        taps=_taps((1, 1), (1, 1)),
    )


def _reshape(field: Field, arguments: _Arguments, output: Tensor) -> Field:
    trailing = min(field.dims or ())
    kept = output.shape[trailing:] == arguments["self"].shape[trailing:]
    return field if kept and output.ndim >= -trailing else field.everything


def _permute(field: Field, arguments: _Arguments, output: Tensor) -> Field:
    if "dims" in arguments:
        order = _dims(arguments["dims"], output.ndim)
    else:
        order = list(range(-output.ndim, 0))
        a, b = _dims([arguments.get("dim0", 0), arguments.get("dim1", 1)], output.ndim)
        order[a], order[b] = order[b], order[a]
    return field.at(*(order.index(d) - output.ndim for d in field.dims or ()))


def _along(field: Field, arguments: _Arguments, output: Tensor) -> Field:
    """Operations along dimensions, which they may drop: positions stay apart across the others."""
    source = arguments["self"]
    dims = _dims(arguments.get("dim"), source.ndim)
    if not dims or not set(dims).isdisjoint(field.dims or ()):
        return field.everything
    return field if output.ndim == source.ndim else _without(dims, field)


def _take(field: Field, arguments: _Arguments, output: Tensor) -> Field:
    result = _along(field, arguments, output)
    if result.dims is None:
        raise NoRule("takes the image's rows or columns apart")
    return result


def _squeeze(field: Field, arguments: _Arguments, output: Tensor) -> Field:
    shape = arguments["self"].shape
    asked = _dims(arguments.get("dim"), len(shape)) or range(-len(shape), 0)
    return _without([d for d in asked if shape[d] == 1], field)


def _without(dropped: Sequence[int], field: Field) -> Field:
    if not set(dropped).isdisjoint(field.dims or ()):
        raise NoRule("drops the image's rows or columns")
    return field.at(*(d + sum(other > d for other in dropped) for d in field.dims or ()))


def _insert(field: Field, arguments: _Arguments, output: Tensor) -> Field:
    (new,) = _dims(arguments["dim"], output.ndim)
    return field.at(*(d if d > new else d - 1 for d in field.dims or ()))


def _concatenate(field: Field, arguments: _Arguments, output: Tensor) -> Field:
    (dim,) = _dims(arguments["dim"], output.ndim)
    if dim in (field.dims or ()):
        raise NoRule("joins rows or columns that belong to different places")
    return field


def _layer_norm(field: Field, arguments: _Arguments, output: Tensor) -> Field:
    dims = range(-len(arguments["normalized_shape"]), 0)
    return field.everything if set(dims) & set(field.dims or ()) else field


def _batch_norm(field: Field, arguments: _Arguments, output: Tensor) -> Field:
    # With the batch's own statistics (as instance norm has them) every position matters.
    return field.everything if arguments.get("training") else field


def _pair(value: int | _Pair) -> list[int]:
    values = [value] if isinstance(value, int) else list(value)
    return (values * 2)[:2] if len(values) == 1 else values[-2:]


def _taps(kernel: _Pair, dilation: _Pair) -> tuple[range, range]:
    rows, columns = (range(0, (k - 1) * d + 1, d) for k, d in zip(kernel, dilation, strict=True))
    return rows, columns


def _dims(dims: int | Sequence[int] | None, ndim: int) -> list[int]:
    """Dimensions counted from the last one, -1."""
    dims = [dims] if isinstance(dims, int) else dims or []
    return [d % ndim - ndim for d in dims]


_RULES: Mapping[str, _Rule] = {
    name: rule
    for rule, names in {
        _keeps_positions: "_prelu_kernel _to_copy alias contiguous copy detach expand hardswish "
        "lift_fresh masked_fill native_channel_shuffle",
        _sees_everything: "_native_multi_head_attention addmm baddbmm bmm mm mv native_group_norm "
        "_scaled_dot_product_attention_math _scaled_dot_product_flash_attention_for_cpu "
        "_scaled_dot_product_flash_attention _scaled_dot_product_efficient_attention "
        "_scaled_dot_product_cudnn_attention",
        _convolution: "convolution",
        _pool: "max_pool2d_with_indices avg_pool2d avg_pool3d",
        _adaptive_pool: "_adaptive_avg_pool2d adaptive_max_pool2d",
        _pad: "constant_pad_nd",
        _slice: "slice",
        _reshape: "_reshape_alias _unsafe_view reshape view",
        _permute: "permute t transpose",
        _along: "_log_softmax _softmax amax amin cumsum linalg_vector_norm logsumexp max mean min "
        "prod std sum var",
        _take: "select split split_with_sizes unbind",
        _squeeze: "squeeze",
        _insert: "stack unsqueeze",
        _concatenate: "cat",
        _layer_norm: "native_layer_norm",
        _batch_norm: "_batch_norm_with_update _native_batch_norm_legit_no_training "
        "cudnn_batch_norm miopen_batch_norm native_batch_norm",
    }.items()
    for name in names.split()
}
