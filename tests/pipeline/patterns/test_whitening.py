"""Whitening: R with R Rᵀ = C, its inverse on the range of C, and the directions beside that."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from firstlight.pipeline.patterns.whitening import Whitening


def covariance(*variances: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """C (1, d, d) with these variances along the columns of an orthogonal matrix (d, d)."""
    generator = torch.Generator().manual_seed(seed)
    size = len(variances)
    basis = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64)).Q
    return (basis * torch.tensor(variances, dtype=torch.float64) @ basis.T)[None], basis


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-12)


def test_a_covariance_of_two_inputs_by_hand() -> None:
    """C = [[4, 2], [2, 5]] is R Rᵀ with R = [[2, 0], [1, 2]], and R⁻¹ = [[1/2, 0], [-1/4, 1/2]]."""
    found = Whitening.of(torch.tensor([[[4.0, 2.0], [2.0, 5.0]]], dtype=torch.float64))
    assert found.root.tolist() == [[[2.0, 0.0], [1.0, 2.0]]]
    assert found.inverse.tolist() == [[[0.5, 0.0], [-0.25, 0.5]]]
    assert found.still.shape == (1, 2, 0)


@pytest.mark.parametrize("variances", [(3.0, 2.0, 1.0), (1.0, 1e-3, 1e-8), (5.0, 1.0, 0.0, 0.0)])
def test_root_and_inverse_are_those_of_the_covariance(variances: tuple[float, ...]) -> None:
    c, _ = covariance(*variances)
    found = Whitening.of(c)
    close(found.root @ found.root.mT, c)
    # R⁻ᵀR⁻¹ is the pseudo-inverse, and R⁻¹ C R⁻ᵀ the identity of the range.
    precision = found.inverse.mT @ found.inverse
    torch.testing.assert_close(
        precision, torch.linalg.pinv(c, rtol=1e-12, hermitian=True), rtol=1e-6, atol=1e-6
    )
    whitened = found.inverse @ c @ found.inverse.mT
    rank = sum(variance > 0 for variance in variances)
    # C's rounding counts for as much more as the smallest variance is smaller.
    rounding = 1e-15 * max(variances) / min(variance for variance in variances if variance)
    spectrum = torch.linalg.eigvalsh(whitened)[0, -rank:]
    assert float((spectrum - 1).abs().max()) <= 10 * rounding
    assert float(whitened.diagonal(dim1=1, dim2=2).sum()) == pytest.approx(rank, rel=1e-6)


def test_directions_that_do_not_vary_are_those_of_the_null_space() -> None:
    c, basis = covariance(5.0, 1.0, 0.0, 0.0)
    found = Whitening.of(c)
    close(found.still[0] @ found.still[0].T, basis[:, 2:] @ basis[:, 2:].T)
    weights, patterns = found.weights(basis.T[None]), found.patterns(basis.T[None])
    close(
        weights.varying.norm(dim=2),
        torch.tensor([[5.0, 1.0, 0.0, 0.0]], dtype=torch.float64).sqrt(),
    )
    close(
        patterns.varying.norm(dim=2),
        torch.tensor([[0.2, 1.0, 0.0, 0.0]], dtype=torch.float64).sqrt(),
    )
    for direction in (weights, patterns):
        close(direction.still.norm(dim=2), torch.tensor([[0.0, 0.0, 1.0, 1.0]]).double())


def test_a_group_with_fewer_such_directions_has_columns_of_zeros() -> None:
    found = Whitening.of(
        torch.stack([torch.eye(3), torch.diag(torch.tensor([1.0, 0, 0]))]).double()
    )
    assert found.still.shape == (2, 3, 2)
    assert not found.still[0].any()
    assert found.still[1].norm(dim=0).tolist() == [1.0, 1.0]


def test_directions_below_the_cutoff_are_neither_varying_nor_still() -> None:
    c, basis = covariance(4.0, 1.0, 0.01)
    found = Whitening.of(c, cutoff=0.1)
    kept = basis[:, :2]
    close(found.root @ found.root.mT, (kept * torch.tensor([4.0, 1.0]).double() @ kept.T)[None])
    assert found.still.shape == (1, 3, 0)
    left_out = found.patterns(basis.T[None, 2:])
    close(left_out.varying, torch.zeros_like(left_out.varying))


def test_both_ways_to_the_root_give_the_same_lengths() -> None:
    """Cholesky's factor and the eigenvectors differ by a rotation, which lengths do not see."""
    c, _ = covariance(3.0, 2.0, 0.5)
    generator = torch.Generator().manual_seed(1)
    w = torch.randn(1, 4, 3, generator=generator, dtype=torch.float64)
    by_cholesky, by_eigenvectors = Whitening.of(c), Whitening.of(c, cutoff=1e-9)
    assert not torch.allclose(by_cholesky.root, by_eigenvectors.root)
    for found in (by_cholesky, by_eigenvectors):
        close((found.weights(w).varying ** 2).sum(2), ((w @ c) * w).sum(2))
        close((found.patterns(w).varying ** 2).sum(2), (torch.linalg.solve(c, w.mT).mT * w).sum(2))
        close(
            (found.weights(w).varying * found.patterns(w.flip(1)).varying).sum(2),
            (w * w.flip(1)).sum(2),
        )
