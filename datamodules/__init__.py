"""Pictures in, batches out.

Three Lightning data modules: `MNIST` (an embedded sample, or the full set), `FashionMNIST`, and
`ImageFolder` for pictures of one's own. Images are float32 in [0, 1] of shape (N, C, H, W), labels
int64 of shape (N,).
"""

from __future__ import annotations

from firstlight.datamodules.folder import ImageFolder
from firstlight.datamodules.mnist import MNIST, FashionMNIST

__all__ = ["MNIST", "FashionMNIST", "ImageFolder"]
