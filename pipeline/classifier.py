"""Training a classifier of images: any network that returns logits, cross entropy, Adam."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from firstlight.arguments import AboveZero, NotNegative, check_arguments
from firstlight.errors import ArgumentError
from firstlight.pipeline.methods.logits import logits_in
from firstlight.pipeline.networks import DenseNetwork
from firstlight.pipeline.tracing.images import noise_sigma
from firstlight.pipeline.tracing.torch_internals import without_look_for_gpu

Batch = tuple[Tensor, Tensor]
"""Images (N, C, H, W) and their labels (N,)."""


class Prediction(NamedTuple):
    """The prediction for a batch of N images."""

    classes: Tensor
    """The predicted classes (N,)."""
    probabilities: Tensor
    """The softmax of the logits (N, K)."""


class ImageClassifier(LightningModule):
    """Trains a network that returns logits: cross entropy, Adam, accuracy by epoch.

    It logs ``loss`` and ``accuracy`` of ``train``, ``val`` and ``test``, as in ``val/accuracy``.

    A checkpoint holds plain data alone, so it loads with ``weights_only=True``, and
    ``ImageClassifier.load_from_checkpoint(path)`` rebuilds the network: one of this package, one
    that a YAML file named by its ``class_path``, or one that keeps the arguments it was made with
    in a dictionary ``init_args``. Any other network is given again:
    ``load_from_checkpoint(path, network=...)``.

    Args:
        network: Any module from images (N, C, H, W) to logits (N, K); None makes a
            :class:`DenseNetwork`.
        training_noise: Standard deviation of Gaussian noise that is added to the images in
            training, and only there, as a share of each image's max - min (Smilkov et al. 2017,
            "SmoothGrad", Figs. 8-9). The noise is a function of torch's seed, the process, the
            epoch and the batch, so a resumed run draws what the uninterrupted one would have.
        learning_rate: Adam's step size.

    Raises:
        ArgumentError: ``network`` is no module, or a number is out of range.
    """

    def __init__(
        self,
        network: nn.Module | None = None,
        training_noise: NotNegative = 0.0,
        learning_rate: AboveZero = 1e-3,
    ) -> None:
        super().__init__()
        if not isinstance(network, nn.Module | None):
            problem = (
                "must be a torch.nn.Module that returns logits; to load a checkpoint of such a "
                "network use load_from_checkpoint(path, network=...)"
            )
            raise ArgumentError("network", problem, network)
        # Lightning looks for hyperparameters in the constructors' frames, so none may be wrapped.
        numbers = {"training_noise": training_noise, "learning_rate": learning_rate}
        check_arguments(ImageClassifier.__init__, **numbers)
        self.network = DenseNetwork() if network is None else network
        self.training_noise = training_noise
        self.learning_rate = learning_rate
        self.train_score, self.val_score, self.test_score = (EpochScore() for _ in range(3))
        self._network_takes_images = False
        self.save_hyperparameters(ignore="network")
        if "_instantiator" in self.hparams:
            # LightningCLI is at work and gives what the YAML says, which is plain data already.
            self.save_hyperparameters()
        else:
            self.save_hyperparameters(_plain(self.network))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, K) of images (N, C, H, W)."""
        logits: Tensor = self.network(images)
        return logits

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The mean cross entropy of a batch, whose images get the noise first."""
        images, labels = batch
        if self.training_noise:
            images = self._noisy(images, batch_idx)
        return self._step(self.train_score, images, labels)

    def validation_step(self, batch: Batch) -> None:
        """Loss and accuracy on the validation images."""
        self._step(self.val_score, *batch)

    def test_step(self, batch: Batch) -> None:
        """Loss and accuracy on the test images."""
        self._step(self.test_score, *batch)

    def predict_step(self, batch: Batch | Tensor) -> Prediction:
        """Classes and probabilities of a batch of images, with or without labels."""
        images = batch if isinstance(batch, Tensor) else batch[0]
        probabilities = self._logits(images).softmax(dim=1)
        return Prediction(probabilities.argmax(dim=1), probabilities)

    def setup(self, stage: str) -> None:
        """Forget what an interrupted epoch has left."""
        for score in (self.train_score, self.val_score, self.test_score):
            score.reset()

    def on_train_epoch_end(self) -> None:
        self._log_score("train", self.train_score)

    def on_validation_epoch_end(self) -> None:
        self._log_score("val", self.val_score)

    def on_test_epoch_end(self) -> None:
        self._log_score("test", self.test_score)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam; fused into one kernel where there is one, which halves its time."""
        devices = {p.device.type for p in self.parameters()}
        fused = devices <= {"cpu", "cuda"}
        adam = torch.optim.Adam(self.parameters(), lr=self.learning_rate, fused=fused)
        return without_look_for_gpu(adam) if devices == {"cpu"} else adam

    def __setattr__(self, name: str, value: Any) -> None:
        # Lightning notes the hook at work some fifty times a step; to torch, which asks each time
        # whether it is a parameter, that takes as long as a small layer.
        if name == "_current_fx_name":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def _step(self, score: EpochScore, images: Tensor, labels: Tensor) -> Tensor:
        logits = self._logits(images)
        loss = F.cross_entropy(logits, labels)
        score.add(loss.detach(), logits.detach().argmax(dim=1), labels)
        return loss

    def _logits(self, images: Tensor) -> Tensor:
        """The logits; an error that names the network if it cannot work on the first images."""
        try:
            logits = logits_in(self(images), len(images))
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            if self._network_takes_images:
                raise
            kind, shape = type(self.network).__name__, tuple(images.shape[1:])
            problem = f"{kind} cannot take the data's images, (C, H, W) = {shape}: {error}"
            raise ArgumentError("network", problem) from error
        self._network_takes_images = True
        return logits

    def _log_score(self, stage: str, score: EpochScore) -> None:
        score.finish()
        self.log(f"{stage}/loss", score.loss)
        self.log(f"{stage}/accuracy", score.accuracy, prog_bar=True)

    def _noisy(self, images: Tensor, batch_idx: int) -> Tensor:
        """Images (N, C, H, W) plus noise of sigma = training_noise * (max - min) of each."""
        key = (torch.initial_seed(), self.global_rank, self.current_epoch, batch_idx)
        (seed,) = np.random.SeedSequence(key).generate_state(1, np.uint64).tolist()
        generator = torch.Generator(images.device).manual_seed(seed)
        noise = torch.empty_like(images).normal_(generator=generator)
        return torch.addcmul(images, noise_sigma(images, self.training_noise), noise)


class EpochScore(nn.Module):
    """Mean loss and accuracy of an epoch, over all processes.

    A metric's update costs more than a layer of a small network, so the batches wait for the end
    of the epoch, as one loss each and two numbers per image.
    """

    def __init__(self) -> None:
        super().__init__()
        # NaN stands for NaN: a diverged loss shows.
        self.loss = MeanMetric(nan_strategy=math.nan)
        self.accuracy = MulticlassAccuracy(None, average="micro", validate_args=False)
        self._batches: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, loss: Tensor, predicted: Tensor, labels: Tensor) -> None:
        """Take a batch: its mean loss (), and its predicted and true classes (N,)."""
        self._batches.append((loss, predicted, labels))

    def finish(self) -> None:
        """Give the metrics the batches that wait."""
        if self._batches:
            losses, predicted, labels = zip(*self._batches, strict=True)
            sizes = torch.tensor([len(batch) for batch in labels], device=losses[0].device)
            self.loss.update(torch.stack(losses), sizes)
            self.accuracy.update(torch.cat(predicted), torch.cat(labels))
        self._batches.clear()

    def reset(self) -> None:
        """Forget the epoch."""
        self._batches.clear()
        self.loss.reset()
        self.accuracy.reset()


def _plain(network: nn.Module) -> dict[str, Any]:
    """Hyper-parameters from which Lightning makes the network again, or which say what it was."""
    class_path = f"{type(network).__module__}.{type(network).__qualname__}"
    init_args = vars(network).get("init_args")
    if not isinstance(init_args, dict):
        return {"network": class_path}
    return {
        "network": {"class_path": class_path, "init_args": init_args},
        "_instantiator": "lightning.pytorch.cli.instantiate_module",
    }
