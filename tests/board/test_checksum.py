"""The checksum of TensorBoard's files."""

from __future__ import annotations

import random

import pytest
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import crc32c as of_tensorboard

from firstlight.board.checksum import crc32c


@pytest.mark.parametrize(
    ("message", "sum_"),
    [
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(reversed(range(32))), 0x113FDB5C),
    ],
    ids=["zeros", "ones", "rising", "falling"],
)
def test_it_is_that_of_the_examples_in_rfc_3720(message, sum_):
    assert crc32c(message) == sum_


def test_it_is_that_of_tensorboard_for_any_length():
    for count in [*range(70), 4095, 4096, 4097, 100_003]:
        message = random.Random(count).randbytes(count)
        assert crc32c(message) == of_tensorboard(message)
