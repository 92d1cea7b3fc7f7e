"""Pictures of one's own: a folder with one folder per class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image, ImageOps
from torch import Tensor, nn
from torchvision.datasets.folder import IMG_EXTENSIONS
from torchvision.transforms import v2

from firstlight.datamodules.batches import LabelledImages
from firstlight.datamodules.splits import SplitData, Splits, hold_out, require_at_least

_MODES = {1: "L", 3: "RGB"}


class Labelled(NamedTuple):
    """Files and their labels, int64, (N,)."""

    paths: list[Path]
    targets: Tensor

    def take(self, indices: Tensor) -> Labelled:
        """The files at `indices`, int64, (M,)."""
        return Labelled([self.paths[i] for i in indices.tolist()], self.targets[indices])


class PictureFiles(LabelledImages):
    """Picture files that are decoded when they are asked for."""

    def __init__(self, files: Labelled, mode: str, transform: Callable[..., Tensor]) -> None:
        self.paths, self.targets = files
        self.mode = mode
        self.transform = transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """One image, float32 in [0, 1], (C, H, W), and its label."""
        return self.transform(_open(self.paths[index], self.mode)), int(self.targets[index])


class ImageFolder(SplitData):
    """Pictures sorted into one folder per class.

    `root` either holds the class folders, or `train` and perhaps `val` and `test`, which hold
    them. What is not there as a folder is held out of the training pictures with the seed. Classes
    are numbered in the alphabetical order of their folders in the training set.

    Args:
        root: The folder.
        image_size: Pictures are resized so that the shorter side has this many pixels, and
            cropped to the square in the middle.
        channels: 3 for colour, 1 for grey.
        batch_size: Images per batch.
        validation_size: Share (float below 1) or number (int) of the training pictures to hold
            out for validation if there is no `val` folder.
        test_size: The same for the test, if there is no `test` folder.
        num_workers: Processes that decode pictures.
        augmentation: A torchvision v2 transform (any module from image to image of the same
            shape) for the training pictures only; it draws from torch's random numbers.
        seed: Seed of the split and of the order of the batches.

    Raises:
        ValueError: For an argument out of range, fewer than two classes, a class without
            pictures, or, when it is read, a file that is no picture.
        FileNotFoundError: If `root` is not a folder.
    """

    def __init__(
        self,
        root: str | Path,
        image_size: int = 64,
        channels: int = 3,
        batch_size: int = 64,
        validation_size: int | float = 0.1,
        test_size: int | float = 0.1,
        num_workers: int = 2,
        augmentation: nn.Module | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, seed, num_workers)
        require_at_least(1, "image_size", image_size)
        if not isinstance(root, str | Path):
            raise TypeError(f"root={root!r} must be a folder")
        if not isinstance(augmentation, nn.Module | None):
            raise TypeError(f"augmentation={augmentation!r} must be a torchvision v2 transform")
        if type(channels) is not int or channels not in _MODES:
            raise ValueError(f"channels must be 1 (grey) or 3 (colour), not {channels!r}")
        self.root = Path(root).expanduser()
        if not self.root.is_dir():
            raise FileNotFoundError(
                f"{self.root} is not a folder: set root to the folder that holds one folder of "
                "pictures per class"
            )
        self.validation_size = validation_size
        self.test_size = test_size
        self.augmentation = augmentation
        self.input_shape = (channels, image_size, image_size)
        # The classes are needed before the data are, to size the network's output.
        self.class_names = _class_names(self._training_folder)

    def read_splits(self) -> Splits:
        """List the pictures of each split; they are decoded later, batch by batch."""
        training = _list_pictures(self._training_folder, self.class_names)
        training, test = self._part("test", training, self.test_size, self.seed + 1)
        training, validation = self._part("val", training, self.validation_size, self.seed)
        return Splits(
            self._pictures(training, self.augmentation),
            self._pictures(validation) if validation.paths else None,
            self._pictures(test) if test.paths else None,
        )

    @property
    def _training_folder(self) -> Path:
        return self.root / "train" if (self.root / "train").is_dir() else self.root

    def _part(
        self, name: str, training: Labelled, size: int | float, seed: int
    ) -> tuple[Labelled, Labelled]:
        """What is left for training, and the pictures of the folder `name` or held out for it."""
        if self._training_folder != self.root and (self.root / name).is_dir():
            return training, _list_pictures(self.root / name, self.class_names)
        argument = {"val": "validation_size", "test": "test_size"}[name]
        kept, held = hold_out(training.targets, size, seed, argument)
        return training.take(kept), training.take(held)

    def _pictures(self, files: Labelled, augmentation: nn.Module | None = None) -> PictureFiles:
        channels, size, _ = self.input_shape
        steps: list[nn.Module] = [
            v2.ToImage(),
            v2.Resize(size, antialias=True),
            v2.CenterCrop(size),
            v2.ToDtype(torch.float32, scale=True),
            v2.ToPureTensor(),
        ]
        if augmentation is not None:
            steps.insert(3, augmentation)
        return PictureFiles(files, _MODES[channels], v2.Compose(steps))


def _open(path: Path, mode: str) -> Image.Image:
    """Decode a picture, turned upright as its EXIF data say."""
    try:
        with Image.open(path) as picture:
            upright = ImageOps.exif_transpose(picture)
            # Pillow would clip wider values to 255 without a word.
            if upright.mode.startswith(("I", "F")):
                raise OSError(f"more than 8 bits per channel, mode {upright.mode}")
            return upright.convert(mode)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(
            f"{path} cannot be read as a picture ({error}); replace, convert or remove it"
        ) from error


def _class_names(folder: Path) -> tuple[str, ...]:
    """The names of the class folders in `folder`, in alphabetical order."""
    names = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if len(names) < 2:
        raise ValueError(
            f"{folder} must hold at least two class folders with pictures, not "
            f"{len(names)} ({', '.join(names) or 'none'})"
        )
    if set(names) <= {"val", "test"}:
        raise ValueError(f"{folder} holds {' and '.join(names)} but no train folder; add it")
    return tuple(names)


def _list_pictures(folder: Path, class_names: Sequence[str]) -> Labelled:
    """All picture files below the class folders of `folder`, in alphabetical order."""
    unknown = sorted(set(_class_names(folder)) - set(class_names))
    if unknown:
        raise ValueError(
            f"{folder} holds classes that the training pictures lack: {', '.join(unknown)}; "
            f"remove them, or add them to the training folder"
        )
    paths: list[Path] = []
    targets: list[int] = []
    for label, name in enumerate(class_names):
        found = sorted(p for p in (folder / name).rglob("*") if p.suffix.lower() in IMG_EXTENSIONS)
        if not found:
            raise ValueError(
                f"{folder / name} holds no pictures ({', '.join(IMG_EXTENSIONS)}); add some, or "
                "remove the class"
            )
        paths += found
        targets += [label] * len(found)
    return Labelled(paths, torch.tensor(targets))
