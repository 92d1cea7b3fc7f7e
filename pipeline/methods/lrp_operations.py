"""How LRP hands relevance back through operations that are no layers.

Equations and propositions are those of Achtibat et al. 2024, "AttnLRP: Attention-Aware Layer-Wise
Relevance Propagation for Transformers" (arXiv:2402.05602).
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from firstlight.pipeline.methods.lrp_rules import in_proportion
from firstlight.pipeline.tracing.operations import Kind, Operation, Softmax
from firstlight.pipeline.tracing.rules import Rule


def operation_rules(
    epsilon: float,
) -> Mapping[Kind, Rule]:
    """The rule of each kind of operation but layers, with the ε that LRP-ε takes."""

    def shared(operation: Operation, relevance: Tensor) -> tuple[Tensor, ...]:
        """LRP-ε (eq. 8). A norm is linear once its statistics are constants (prop. 3.4)."""
        return in_proportion(operation.function, operation.inputs, relevance, epsilon)

    def shared_with_the_shift(operation: Operation, relevance: Tensor) -> tuple[Tensor, ...]:
        """LRP-0: one input makes one output, so there is nothing to damp."""
        return in_proportion(operation.function, operation.inputs, relevance, 0)

    def shared_by_factors(operation: Operation, relevance: Tensor) -> tuple[Tensor, ...]:
        """R(A_ji) = Σ_p A_ji V_ip R_jp / (2 O_jp + ε), and the same for V (prop. 3.3)."""
        xs = operation.inputs
        return in_proportion(operation.function, xs, relevance, epsilon, degree=len(xs))

    return {
        Kind.BATCH_NORM: shared_with_the_shift,
        Kind.NORM: shared,
        Kind.SUM: shared,
        Kind.SIZE: shared,
        Kind.MATRIX_PRODUCT: shared_by_factors,
        Kind.PRODUCT: shared_equally,
        Kind.SOFTMAX: through_softmax,
        Kind.RESCALING: handed_on,
        Kind.SCALE: handed_on,
        Kind.SMOOTH: handed_on,
        Kind.GATE: handed_on,
        Kind.ELEMENTWISE: handed_on,
    }


def handed_on(operation: Operation, relevance: Tensor) -> tuple[Tensor, ...]:
    """The identity rule (eq. 9): one input makes one output, and has all of its relevance."""
    return tuple(relevance.sum_to_size(x.shape) for x in operation.inputs)


def shared_equally(operation: Operation, relevance: Tensor) -> tuple[Tensor, ...]:
    """The uniform rule (prop. 3.2): the same share for every factor of a product."""
    share = relevance / len(operation.inputs)
    return tuple(share.sum_to_size(x.shape) for x in operation.inputs)


def through_softmax(operation: Softmax, relevance: Tensor) -> tuple[Tensor, ...]:
    """R_i = x_i (R_i - s_i Σ_j R_j), the Taylor expansion at x (prop. 3.1).

    The bias of the expansion keeps relevance, so that the sum is not conserved.
    """
    (x,) = operation.inputs
    s = operation.function(x)
    slope = relevance - s * relevance.sum(operation.dim, keepdim=True)
    # What is masked has no part in the softmax.
    return (x.masked_fill(x.isneginf(), 0) * slope,)
