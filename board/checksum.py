"""CRC-32C, the checksum of TensorBoard's files."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

_Words = npt.NDArray[np.uint32]

_POLYNOMIAL = np.uint32(0x82F63B78)
_START = bytes.fromhex("54641f64")
"""These bytes take an empty register to one of ones only, with which the checksum begins."""


def crc32c(data: bytes) -> int:
    """CRC-32C of bytes (RFC 3720, section 12.1), for long ones 30 times as fast as byte by byte.

    The register is linear in the message. So its first half may be left out if what it leaves in
    the register behind as many bytes as the second half has is added to the second half.
    """
    count = len(_START + data)
    levels = max(0, -(-count // 4) - 1).bit_length()
    # Zeros change nothing in an empty register.
    message = bytes((4 << levels) - count) + _START + data
    words: _Words = np.frombuffer(message, "<u4").astype(np.uint32)
    for level in reversed(range(levels)):
        first, second = np.split(words, 2)
        words = _behind(first, _zeros(level)) ^ second
    return int(~_behind(words, _zeros(0))[0])


def _behind(register: _Words, zeros: _Words) -> _Words:
    """Registers behind zeros, by the table (4, 256) of what each byte of a register becomes."""
    low = register & 255
    return (
        zeros[0][low]
        ^ zeros[1][register >> 8 & 255]
        ^ zeros[2][register >> 16 & 255]
        ^ zeros[3][register >> 24]
    )


@cache
def _zeros(level: int) -> _Words:
    """The table of 2^level words of zeros."""
    if level:
        half = _zeros(level - 1)
        return _behind(half, half)
    byte, place = np.arange(256, dtype=np.uint32), np.arange(0, 32, 8, dtype=np.uint32)
    register: _Words = byte << place[:, np.newaxis]
    for _ in range(32):
        register = register >> np.uint32(1) ^ register % 2 * _POLYNOMIAL
    return register
