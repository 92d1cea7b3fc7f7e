"""Maps of a whole data set on disk: shards that are there completely or not at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from firstlight.arguments import Natural, checked
from firstlight.board.whole_file import write_whole
from firstlight.callbacks.examples import all_joined


class WrittenMaps(NamedTuple):
    """What :class:`~firstlight.callbacks.MapWriter` wrote, in the order of the data set.

    Attributes:
        indices: (N,), the places of the images in the data set.
        predicted: (N,), the classes, or outputs, whose scores are explained.
        maps: (N, C, H, W).
        labels: (N,), or None where the batches hold none.
        files: The names of the images' files, or None where the data set does not tell them.
    """

    indices: Tensor
    predicted: Tensor
    maps: Tensor
    labels: Tensor | None = None
    files: list[str] | None = None


@checked
def load_maps(folder: str | Path, dataloader_idx: Natural = 0) -> WrittenMaps:
    """Everything that is in the folder of a MapWriter, also of one still at work.

    Raises:
        FileNotFoundError: there is no shard.
    """
    paths = sorted(Path(folder).glob(f"maps-{dataloader_idx}-*.safetensors"))
    if not paths:
        raise FileNotFoundError(f"folder={str(folder)!r}: holds no maps")
    written = joined([_read(path) for path in paths])
    order = written.indices.argsort()
    return WrittenMaps(
        written.indices[order],
        written.predicted[order],
        written.maps[order],
        None if written.labels is None else written.labels[order],
        None if written.files is None else [written.files[i] for i in order.tolist()],
    )


def joined(parts: Sequence[WrittenMaps]) -> WrittenMaps:
    """Several parts as one; labels and files only where every part has them."""
    files = [part.files for part in parts if part.files is not None]
    return WrittenMaps(
        torch.cat([part.indices for part in parts]),
        torch.cat([part.predicted for part in parts]),
        torch.cat([part.maps for part in parts]),
        all_joined([part.labels for part in parts]),
        list(chain.from_iterable(files)) if len(files) == len(parts) else None,
    )


def write_shard(path: Path, shard: WrittenMaps) -> None:
    """Write a shard of safetensors; the names of the files stand in its metadata."""
    tensors = {
        name: value.contiguous()
        for name, value in shard._asdict().items()
        if isinstance(value, Tensor)
    }
    write_whole(path, save(tensors, {"files": json.dumps(shard.files)}), outlasts_power=True)


def plain(value: Any) -> Any:
    """A method and its parameters as plain data, the same in every process."""
    if is_dataclass(value):
        parameters = {field.name: plain(getattr(value, field.name)) for field in fields(value)}
        return {f"{type(value).__module__}.{type(value).__qualname__}": parameters}
    if isinstance(value, Tensor):
        return f"{tuple(value.shape)} {fingerprint([value])}"
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(one) for one in value]
    if hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    return repr(value)


def fingerprint(tensors: Iterable[Tensor]) -> str:
    """The SHA-256 of the tensors' bytes."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _read(path: Path) -> WrittenMaps:
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return WrittenMaps(**tensors, files=json.loads(file.metadata()["files"]))
