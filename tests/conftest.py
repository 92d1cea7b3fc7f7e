"""Programs that run in a process, or two, of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Program = Callable[..., "subprocess.CompletedProcess[str]"]


def run_program(
    folder: Path, source: str, *arguments: str, timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """Run ``source`` in ``folder``; what has not ended by ``timeout`` seconds fails the test."""
    with start_program(folder, source, *arguments) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            # The whole group, for a process that hangs has usually started others.
            os.killpg(process.pid, signal.SIGKILL)
            pytest.fail(f"hangs: {timeout} s were not enough\n{process.communicate()[1][-2000:]}")
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def start_program(folder: Path, source: str, *arguments: str) -> subprocess.Popen[str]:
    """The same, without waiting for its end."""
    (folder / "program.py").write_text(source)
    return subprocess.Popen(
        [sys.executable, "program.py", *arguments],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.fixture(scope="session")
def program() -> Program:
    return run_program
