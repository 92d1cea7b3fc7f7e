"""Maps of a whole data set, streamed to disk."""

from __future__ import annotations

import json
from collections.abc import Sequence, Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter
from torch import Tensor, nn
from torch.utils.data import ConcatDataset, Subset

from firstlight.arguments import Count, checked
from firstlight.board.whole_file import write_whole
from firstlight.callbacks.common_arguments import ReadingArguments
from firstlight.callbacks.examples import leaves, read
from firstlight.callbacks.explained_module import as_explained
from firstlight.callbacks.outputs import Outputs
from firstlight.callbacks.picking import is_indexable
from firstlight.callbacks.whole_model import needs_whole_model
from firstlight.callbacks.written_maps import (
    WrittenMaps,
    fingerprint,
    joined,
    plain,
    write_shard,
)
from firstlight.errors import ArgumentError, FirstlightError
from firstlight.pipeline import Method, SmoothGrad, undisturbed
from firstlight.pipeline.methods.logits import logits_of


# In this order, in which jsonargparse finds the types of the arguments.
@checked
@dataclass(eq=False)
class MapWriter(ReadingArguments, BasePredictionWriter):
    """Writes a map of every image that ``trainer.predict`` sees, in shards that it resumes from.

    Each process writes its own images, so it works with any strategy that gives every process the
    whole model, and memory holds one shard. A shard is there completely or not at all; a run that
    is started again with the same settings and as many processes goes on where the last one ended.
    :func:`~firstlight.callbacks.load_maps` reads the folder.

    Args:
        folder: where the shards go.
        method: what is computed, of the predicted class, the strongest of several labels or the
            first value; None for :class:`SmoothGrad`.
        batches_per_shard: how many batches make up a shard.
        dtype: of the maps on disk, ``"float16"`` or ``"float32"``.

    Raises:
        ArgumentError: an argument is not as described; when the run starts, the folder holds maps
            of other settings.
    """

    folder: str | Path
    method: Method | None = None
    batches_per_shard: Count = 16
    dtype: Literal["float16", "float32"] = "float32"

    _explained: tuple[nn.Module, Outputs] | None = field(default=None, init=False, repr=False)
    _shard: list[WrittenMaps] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        BasePredictionWriter.__init__(self, "batch")
        self.folder = Path(self.folder)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        needs_whole_model(self, trainer)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._explained, self._shard = None, []
        settings = self._settings(trainer, pl_module)
        manifest = Path(self.folder, "manifest.json")
        if manifest.exists() and json.loads(manifest.read_text()) != settings:
            raise ArgumentError(
                "folder",
                "holds maps of other settings, see its manifest.json; name another folder or "
                "remove this one",
                str(self.folder),
            )
        trainer.strategy.barrier()
        if trainer.is_global_zero and not manifest.exists():
            write_whole(manifest, json.dumps(settings, indent=1).encode(), outlasts_power=True)
        trainer.strategy.barrier()

    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: Any,
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        if not batch_indices:
            raise FirstlightError("predict: the loader does not tell which images are in a batch")
        path = self._path(trainer, dataloader_idx, batch_idx)
        if path.exists():
            return
        examples = read(self.unpack, batch)
        images, labels = examples
        with undisturbed(pl_module):
            if self._explained is None:  # found once in a run
                self._explained = as_explained(pl_module, examples, self)
            model, outputs = self._explained
            with torch.no_grad():
                predicted = outputs.explained(logits_of(model, images.clone()))
            method = self.method or SmoothGrad()
            maps = method(model, images, predicted).to("cpu", getattr(torch, self.dtype))
        places = torch.as_tensor(batch_indices)
        files = _file_names(_loaders(trainer)[dataloader_idx].dataset, batch_indices)
        labels = None if labels is None else labels.cpu()
        self._shard.append(WrittenMaps(places, predicted.cpu(), maps, labels, files))
        last = batch_idx + 1 == trainer.num_predict_batches[dataloader_idx]
        if last or (batch_idx + 1) % self.batches_per_shard == 0:
            write_shard(path, joined(self._shard))
            self._shard = []

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._explained = None

    def _settings(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """What must be the same in a run that goes on."""
        return {
            "format": "safetensors",
            "method": plain(self.method or SmoothGrad()),
            "batches_per_shard": self.batches_per_shard,
            "dtype": self.dtype,
            "weights": fingerprint(pl_module.state_dict().values()),
            "processes": trainer.world_size,
            "batches": list(trainer.num_predict_batches),
            "data": [_described(loader) for loader in _loaders(trainer)],
        } | {
            name: plain(value)
            for name, value in (("logits", self.logits), ("head", self.head))
            if value is not None
        }

    def _path(self, trainer: Trainer, dataloader_idx: int, batch_idx: int) -> Path:
        number = batch_idx // self.batches_per_shard
        name = f"maps-{dataloader_idx}-{trainer.global_rank:05d}-{number:07d}.safetensors"
        return Path(self.folder, name)


def _loaders(trainer: Trainer) -> list[Any]:
    return list(leaves(trainer.predict_dataloaders))


def _described(loader: Any) -> dict[str, Any]:
    """How the images are split into batches, and by some of them, which images they are."""
    described: dict[str, Any] = {
        "batch_size": getattr(getattr(loader, "batch_sampler", None), "batch_size", None)
    }
    if is_indexable(loader):
        count = len(cast(Sized, loader.dataset))
        some = sorted({0, count // 2, max(0, count - 1)}) if count else []
        items = [value for i in some for value in leaves(loader.dataset[i])]
        described |= {
            "images": count,
            "some_of_them": fingerprint(v for v in items if isinstance(v, Tensor)),
        }
    return described


def _file_names(dataset: Any, places: Sequence[int]) -> list[str] | None:
    """The files of the images, where the data set lists them as torchvision's folders do."""
    if isinstance(dataset, Subset):
        return _file_names(dataset.dataset, [dataset.indices[i] for i in places])
    listed = next(
        (getattr(dataset, name) for name in ("samples", "paths") if hasattr(dataset, name)), None
    )
    if not isinstance(listed, list) or isinstance(dataset, ConcatDataset):
        return None
    files = [
        entry[0] if isinstance(entry, tuple) else entry for entry in map(listed.__getitem__, places)
    ]
    return [str(file) for file in files] if all(isinstance(f, (str, Path)) for f in files) else None
