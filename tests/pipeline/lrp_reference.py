"""LRP by another road, to judge ours by: slow, in float64, and with none of its code.

The network becomes a graph of aten operations without writes (``make_fx`` and ``functionalize``),
which is below modules, ``torch.nn.functional`` and in-place operators. The graph is run forwards
node by node, then walked backwards, and each operation hands its relevance on as the papers say:

- Bach et al. 2015, eq. 56-58, for what is linear: R_i = x_i ∂z/∂x_i R / (z + ε sign z);
- Achtibat et al. 2024 (arXiv:2402.05602), eq. 9 for functions of one number (identity), prop. 3.1
  for softmax, 3.2 for products (equal shares), 3.3 for matrix products, 3.4 for norms;
- Montavon et al. 2019, sec. 10.3.2, for a BatchNorm behind a layer: one linear map with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.func import functionalize
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.attention import SDPBackend, sdpa_kernel

Tensors = tuple[Tensor, ...]


def names(text: str) -> frozenset[str]:
    """The names of aten operations in a text."""
    return frozenset(text.split())


SELECTING = names("""
    _to_copy _unsafe_view alias_copy amax cat clone constant_pad_nd diagonal_copy expand
    expand_copy flip getitem im2col index index_select masked_fill max max_pool2d_with_indices
    permute permute_copy pixel_shuffle pixel_unshuffle repeat roll select_copy slice_copy
    slice_scatter split_copy split_with_sizes_copy squeeze squeeze_copy stack t t_copy
    transpose transpose_copy unbind_copy unfold_copy unsqueeze unsqueeze_copy view view_copy where
""")
OF_ONE_NUMBER = names("""
    abs clamp clamp_max clamp_min elu erf exp gelu hardsigmoid hardswish hardtanh leaky_relu log
    mish neg pow reciprocal relu rsqrt rsub sigmoid silu softplus sqrt square tanh
""")
LINEAR = names("""
    _adaptive_avg_pool2d add addmm avg_pool2d bmm col2im convolution cumsum mean mm sub sum
    upsample_bicubic2d upsample_bilinear2d upsample_nearest2d
""")
SOFTMAX = names("_safe_softmax _softmax")
LAYERS = ("addmm", "convolution", "mm")
GROWING_IN_PROPORTION = {"linalg_vector_norm"}


def _name(node: fx.Node) -> str:
    if node.op != "call_function":
        return node.op
    name = str(getattr(node.target, "__name__", "")).split(".")[0]
    # Earlier versions of torch have an operation of its own for evaluation.
    return "native_batch_norm" if name.startswith("_native_batch_norm_legit") else name


class Reference(fx.Interpreter):
    """A network that was run on images, and LRP-ε's way back through it.

    Args:
        model: from images to logits, in evaluation mode.
        images: (N, C, H, W), float64.
    """

    def __init__(self, model: Callable[[Tensor], Tensor], images: Tensor) -> None:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            graph = make_fx(functionalize(model, remove="mutations_and_views"))(images)
            super().__init__(graph, garbage_collect_values=False)
            self.logits = self.run(images)

    def relevance(self, target: int, epsilon: float, constant_attention: bool = False) -> Tensor:
        """The relevance (N, C, H, W) of the score of class ``target``.

        Args:
            target: a class.
            epsilon: ε.
            constant_attention: whether attention weights are constants (Ali et al. 2022).
        """
        self.epsilon, self.held = epsilon, SOFTMAX if constant_attention else frozenset()
        self.arrived: dict[fx.Node, Any] = {}
        self.active: set[fx.Node] = set()
        self.learnt: set[fx.Node] = set()
        self.divisors: set[fx.Node] = set()
        *nodes, output = self.module.graph.nodes
        for node in nodes:
            self._note(node)
        start = torch.zeros_like(self.logits)
        start[:, target] = self.logits[:, target]
        self._give(output.args[0], start)
        for node in reversed(nodes):
            if node in self.arrived and node.op != "placeholder":
                self._hand_on(node, self.arrived.pop(node))
        (images,) = (node for node in nodes if node.op == "placeholder")
        relevance: Tensor = self.arrived[images]
        return relevance

    def _note(self, node: fx.Node) -> None:
        """Note if a node depends on the image, is learnt, stands for a divisor."""
        before = node.all_input_nodes
        name = _name(node)
        number = not isinstance(self.env.get(node), Tensor) or self.env[node].is_floating_point()
        number = number and not name.startswith("new_") and not name.endswith("_like")
        number = number and name not in self.held
        if node.op == "placeholder" or (number and any(n in self.active for n in before)):
            self.active.add(node)
            inputs = self._inputs(node)
            inverts = name in ("reciprocal", "rsqrt") or (name == "pow" and node.args[1] < 0)
            inverts = inverts or (name == "div" and node.args[0] not in self.active)
            hands_on = name in SELECTING | {"mul", "div", "add"}
            if inverts or (hands_on and inputs and all(n in self.divisors for n in inputs)):
                self.divisors.add(node)
        elif node.op == "get_attr":
            if isinstance(self.env[node], nn.Parameter):
                self.learnt.add(node)
        elif any(n in self.learnt for n in before):
            self.learnt.add(node)

    def _give(self, node: fx.Node, relevance: Tensor) -> None:
        before = self.arrived.get(node)
        self.arrived[node] = relevance if before is None else before + relevance

    def _inputs(self, node: fx.Node) -> list[fx.Node]:
        """The arguments that depend on the image, one that is there twice, twice."""
        inputs: list[fx.Node] = []

        def note(argument: fx.Node) -> fx.Node:
            if argument in self.active:
                inputs.append(argument)
            return argument

        fx.map_arg((node.args, node.kwargs), note)
        return inputs

    def _function(self, node: fx.Node) -> Callable[..., Any]:
        """The node as a function of the arguments that depend on the image."""

        def function(*xs: Tensor) -> Any:
            given = iter(xs)

            def value(argument: fx.Node) -> Any:
                return next(given) if argument in self.active else self.env[argument].detach()

            args, kwargs = fx.map_arg((node.args, node.kwargs), value)
            return node.target(*args, **kwargs)  # type: ignore[operator]

        return function

    def _hand_on(self, node: fx.Node, relevance: Any) -> None:
        name = _name(node)
        if name == "getitem":
            source, index = node.args
            parts = self.arrived.setdefault(source, {})  # type: ignore[arg-type]
            parts[index] = parts.get(index, 0) + relevance
            return
        chain = self._layer(node)
        inputs = self._inputs(chain[0])
        if len(chain) > 1:
            relevance = relevance[0] if isinstance(relevance, dict) else relevance
            xs = tuple(self.env[n] for n in inputs)
            shares = self._in_proportion(self._composed(chain), xs, relevance, self.epsilon)
        else:
            shares = self._shares(name, node, inputs, relevance)
        for source, share in zip(inputs, shares, strict=True):
            if share is not None:
                self._give(source, share)

    def _shares(
        self, name: str, node: fx.Node, inputs: list[fx.Node], relevance: Any
    ) -> tuple[Tensor | None, ...]:
        xs = tuple(self.env[n] for n in inputs)
        function = self._function(node)
        if name in SELECTING:
            return self._selected(function, xs, relevance)
        if name in OF_ONE_NUMBER or self._is_a_shift(name, node, inputs):
            (x,) = xs
            return (relevance.sum_to_size(x.shape),)
        if name in ("mul", "div"):
            takers = [n not in self.divisors for n in inputs]
            if name == "div":
                takers = [n is node.args[0] for n in inputs]
            takers = takers if any(takers) else [True] * len(inputs)
            equal = relevance / sum(takers)
            return tuple(
                equal.sum_to_size(x.shape) if takes else None
                for x, takes in zip(xs, takers, strict=True)
            )
        if name in LINEAR | GROWING_IN_PROPORTION or (name == "addcmul" and len(xs) == 1):
            # Two factors make up z together: each has R / (2 z + ε).
            degree = 2 if name in ("bmm", "mm") and len(xs) == 2 else 1
            return self._in_proportion(function, xs, relevance / degree, self.epsilon / degree)
        if name in SOFTMAX:
            (x,), s = xs, self.env[node]
            slope = relevance - s * relevance.sum(node.args[1], keepdim=True)
            return (x.nan_to_num(neginf=0) * slope,)
        if name in ("native_layer_norm", "native_group_norm"):
            held = self._held_norm(name, node)
            return self._in_proportion(held, xs, relevance[0], self.epsilon)
        if name == "native_batch_norm":
            return self._in_proportion(lambda x: function(x)[0], xs, relevance[0], 0.0)
        raise NotImplementedError(f"{node.target}: no rule")

    def _is_a_shift(self, name: str, node: fx.Node, inputs: list[fx.Node]) -> bool:
        """Whether a constant that nobody learnt is added to each number."""
        if name not in ("add", "sub") or len(inputs) > 1:
            return False
        learnt = any(n in self.learnt for n in node.all_input_nodes)
        return not learnt and self.env[inputs[0]].shape == self.env[node].shape

    @staticmethod
    def _selected(function: Callable[..., Any], xs: Tensors, relevance: Any) -> Tensors:
        leaves = tuple(x.detach().requires_grad_() for x in xs)
        made = function(*leaves)
        if not isinstance(relevance, dict):
            return torch.autograd.grad(made, leaves, relevance)
        parts = [made[i] for i in relevance]
        return torch.autograd.grad(parts, leaves, list(relevance.values()))

    @staticmethod
    def _in_proportion(
        function: Callable[..., Tensor], xs: Tensors, relevance: Tensor, epsilon: float
    ) -> Tensors:
        leaves = tuple(x.detach().requires_grad_() for x in xs)
        z = function(*leaves)
        damped = z.detach() + epsilon * torch.where(z >= 0, 1.0, -1.0)
        ratio = torch.where(damped == 0, 0.0, relevance / damped)
        slopes = torch.autograd.grad(z, leaves, ratio)
        return tuple(x * slope for x, slope in zip(xs, slopes, strict=True))

    def _layer(self, node: fx.Node) -> list[fx.Node]:
        """A layer's operations up to this one, if it is the norm or the bias that belongs to it."""
        below = self._inputs(node)
        if _name(node) == "native_batch_norm" and _name(below[0]) in LAYERS:
            return [below[0], node]
        learnt = [n for n in node.all_input_nodes if n in self.learnt and self.env[n].ndim == 1]
        if _name(node) == "add" and len(below) == 1 and learnt:
            chain = [below[0], node]
            if _name(chain[0]) == "_unsafe_view":
                chain = [*self._inputs(chain[0]), *chain]
            if _name(chain[0]) in ("mm", "bmm") and len(self._inputs(chain[0])) == 1:
                return chain
        return [node]

    def _composed(self, chain: list[fx.Node]) -> Callable[..., Tensor]:
        def function(*xs: Tensor) -> Tensor:
            for node in chain:
                made = self._function(node)(*xs)
                xs = made[:1] if isinstance(made, tuple) else (made,)
            return xs[0]

        return function

    def _held_norm(self, name: str, node: fx.Node) -> Callable[[Tensor], Tensor]:
        """The norm with the standard deviation that it found, a constant, for a divisor."""
        values = fx.map_arg(node.args, lambda n: self.env[n])
        x, rstd = values[0], self.env[node][2]
        if name == "native_layer_norm":
            _, shape, weight, bias, _ = values
            rows = (*x.shape[: x.ndim - len(shape)], -1)
        else:
            _, weight, bias, batch, channels, _, groups, _ = values
            rows = (batch, groups, -1)
            weight, bias = (
                v if v is None else v.reshape(channels, *[1] * (x.ndim - 2)) for v in (weight, bias)
            )
        rstd = rstd.reshape(*rows[:-1], 1)

        def held(x: Tensor) -> Tensor:
            grouped = x.reshape(rows)
            y = ((grouped - grouped.mean(-1, keepdim=True)) * rstd).reshape(x.shape)
            y = y if weight is None else y * weight
            return y if bias is None else y + bias

        return held
