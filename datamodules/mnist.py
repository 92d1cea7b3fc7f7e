"""MNIST and Fashion-MNIST, served from memory."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import torch
import torchvision

from firstlight.datamodules.batches import InMemory
from firstlight.datamodules.idx import read_idx
from firstlight.datamodules.splits import SplitData, Splits, hold_out

_SAMPLE = Path(__file__).parent / "sample"


class MNIST(SplitData):
    """Handwritten digits: an embedded sample, or the full set.

    The sample is 10,000 training and 2,000 test images, the same number of each digit. The
    validation images are held out of the training images; the official test set stays whole.

    Args:
        root: Folder that holds `MNIST/raw` with the four IDX files (plain or `.gz`), as
            torchvision lays them out. None takes the embedded sample.
        download: Fetch what is missing into `root` (by torchvision).
        batch_size: Images per batch.
        validation_size: Share (float below 1) or number (int) of the training images to hold out
            for validation; 0 holds out none.
        seed: Seed of the split and of the order of the batches.

    Raises:
        ValueError: For an argument out of range and for files that are damaged or do not fit
            each other.
        FileNotFoundError: If a file is missing.
    """

    class_names = tuple("0123456789")
    input_shape = (1, 28, 28)
    source: ClassVar[type[torchvision.datasets.MNIST]] = torchvision.datasets.MNIST

    def __init__(
        self,
        root: str | Path | None = None,
        download: bool = False,
        batch_size: int = 64,
        validation_size: int | float = 0.1,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, seed)
        if not isinstance(root, str | Path | None):
            raise TypeError(f"root={root!r} must be a folder, or None for the embedded sample")
        if not isinstance(download, bool):
            raise TypeError(f"download={download!r} must be True or False")
        if root is None and download:
            raise ValueError("download=True needs a root, the folder to download to")
        self.root = None if root is None else Path(root).expanduser()
        self.download = download
        self.validation_size = validation_size

    def prepare_data(self) -> None:
        """Download, if asked to; Lightning calls this in one process per machine."""
        if not self.download:
            return
        try:
            self.source(str(self.root), download=True)
        except (OSError, RuntimeError) as error:
            raise RuntimeError(
                f"{self.source.__name__} could not be downloaded to {self.root} ({error}); check "
                f"the connection, or put the four IDX files into {self._folder} yourself"
            ) from error

    def read_splits(self) -> Splits:
        """Read the IDX files and hold out the validation images."""
        training = self._read("train")
        kept, held = hold_out(training.targets, self.validation_size, self.seed)
        return Splits(
            training.subset(kept),
            training.subset(held) if len(held) else None,
            self._read("t10k"),
        )

    @property
    def _folder(self) -> Path:
        return _SAMPLE if self.root is None else self.root / self.source.__name__ / "raw"

    def _read(self, part: str) -> InMemory:
        """Read the images and labels whose file names begin with `part`."""
        image_path = self._find(f"{part}-images-idx3-ubyte")
        label_path = self._find(f"{part}-labels-idx1-ubyte")
        images, labels = read_idx(image_path), read_idx(label_path)
        remedy = f"replace it with the file of that name from {self.source.__name__}"
        if images.shape[1:] != self.input_shape[1:]:
            raise ValueError(
                f"{image_path} must hold images of shape (N, 28, 28), not {tuple(images.shape)}; "
                f"{remedy}"
            )
        if labels.shape != images.shape[:1] or not len(labels):
            raise ValueError(
                f"{label_path} must hold one label for each of the {len(images)} images of "
                f"{image_path.name}, not an array of shape {tuple(labels.shape)}; replace both"
            )
        if labels.max() >= self.num_classes:
            raise ValueError(
                f"{label_path} must hold labels from 0 to {self.num_classes - 1}, not "
                f"{int(labels.max())}; {remedy}"
            )
        return InMemory(images.unsqueeze(1).to(torch.float32).div_(255), labels.to(torch.int64))

    def _find(self, name: str) -> Path:
        for path in (self._folder / name, self._folder / f"{name}.gz"):
            if path.is_file():
                return path
        raise FileNotFoundError(
            f"{self._folder / name} is missing (and so is {name}.gz): set root to the folder that "
            f"holds {self.source.__name__}/raw, or download=True to fetch the data"
        )


class FashionMNIST(MNIST):
    """Pictures of clothes in MNIST's format (Xiao, Rasul and Vollgraf 2017, arXiv:1708.07747).

    As `MNIST`, but there is no embedded sample: `root` (which holds `FashionMNIST/raw`) is needed.
    """

    class_names = tuple(torchvision.datasets.FashionMNIST.classes)
    source = torchvision.datasets.FashionMNIST

    def __init__(
        self,
        root: str | Path,
        download: bool = False,
        batch_size: int = 64,
        validation_size: int | float = 0.1,
        seed: int = 0,
    ) -> None:
        if root is None:
            raise TypeError("root=None: there is no embedded sample of FashionMNIST; name a folder")
        super().__init__(root, download, batch_size, validation_size, seed)
