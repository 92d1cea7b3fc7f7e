"""Where the pictures go."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from PIL import Image
from tensorboard.compat.tensorflow_stub import pywrap_tensorflow

from firstlight.callbacks import SensitivityMaps
from firstlight.callbacks.loggers import sender_to, sends_pictures
from firstlight.callbacks.private_tensorboard import quick_checksums
from firstlight.pipeline import Gradient

PICTURE = torch.arange(3 * 4 * 5, dtype=torch.uint8).view(3, 4, 5)


def test_tensorboard_holds_the_very_pixels(tmp_path, board):
    logger = TensorBoardLogger(tmp_path)
    sender_to(logger)(logger, {"a/b": PICTURE}, 7)
    events = board(type("Run", (), {"logger": logger}))
    (image,) = events.Images("a/b")
    shown = np.asarray(Image.open(io.BytesIO(image.encoded_image_string)))
    assert image.step == 7
    assert np.array_equal(shown, PICTURE.permute(1, 2, 0).numpy())


def test_the_quick_checksum_is_tensorboards_own():
    theirs, messages = pywrap_tensorflow.crc32c, [bytes(range(n)) * 3 for n in range(20)]
    with quick_checksums():
        quick = [pywrap_tensorflow.masked_crc32c(message) for message in messages]
        assert pywrap_tensorflow.crc32c is not theirs
    assert pywrap_tensorflow.crc32c is theirs
    assert quick == [pywrap_tensorflow.masked_crc32c(message) for message in messages]


class Listed:
    """Somebody's own logger: keeps the pictures that it is taught to take."""

    def __init__(self) -> None:
        self.kept: list[Any] = []


def test_another_logger_can_be_taught(tmp_path):
    @sends_pictures("Listed")
    def send(logger: Any, pictures: Any, step: int) -> None:
        logger.kept.append((pictures, step))

    logger = Listed()
    sender_to(logger)(logger, {"a/b": PICTURE}, 7)
    assert logger.kept == [({"a/b": PICTURE}, 7)]


@pytest.mark.parametrize("logger", [False, "csv"])
def test_without_a_place_for_pictures_they_are_files_beside_the_run(
    fit, stranger, data, tmp_path, logger
):
    callback = SensitivityMaps(methods=[Gradient()])
    trainer = fit(
        stranger,
        data,
        callbacks=[callback],
        logger=CSVLogger(tmp_path) if logger == "csv" else False,
    )
    folder = Path(trainer.log_dir or tmp_path) / "explanations" / "2_sensitivity" / "maps"
    assert [p.name for p in sorted(folder.iterdir())] == [
        "step_0000000.png",
        "step_0000005.png",
        "step_0000011.png",
    ]
    assert Image.open(folder / "step_0000005.png").size[0] > 100
    if logger == "csv":
        assert "2_sensitivity/tv/Gradient" in Path(trainer.log_dir, "metrics.csv").read_text()


def test_a_logger_that_fails_does_not_keep_the_others_from_their_pictures(
    fit, stranger, data, tmp_path, board
):
    class Broken(CSVLogger):
        def log_metrics(self, metrics: Any, step: int | None = None) -> None:
            if any(name.startswith("2_") for name in metrics):
                raise OSError("No space left on device")

    board_logger = TensorBoardLogger(tmp_path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer = fit(
            stranger,
            data,
            callbacks=[SensitivityMaps(methods=[Gradient()])],
            logger=[Broken(tmp_path), board_logger],
            max_epochs=1,
        )
    assert any("Broken did not take" in str(w.message) for w in caught)
    assert any("No space left" in str(w.message) for w in caught)
    events = board(type("Run", (), {"logger": board_logger}))
    assert [i.step for i in events.Images("2_sensitivity/maps")] == [0, 5]
    assert trainer.current_epoch == 1


def test_a_fast_dev_run_leaves_nothing_behind(fit, stranger, data, tmp_path):
    fit(stranger, data, callbacks=[SensitivityMaps(methods=[Gradient()])], fast_dev_run=True)
    assert not list(tmp_path.rglob("*.png"))
