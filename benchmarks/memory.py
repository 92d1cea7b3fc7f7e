"""How much memory a side needs: the rise of the peak of a fresh process over what it held before,
when it does the work for the second time, with everything loaded.

``python -m benchmarks.memory NAME SETTING [--quick] [--mnist ROOT]`` prints bytes; SETTING is
``ours`` or that of a rival. Only Linux lets a process reset its peak.
"""

from __future__ import annotations

import ctypes
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.rows import ROWS
from benchmarks.scale import Scale, arguments

_PROCESS = Path("/proc/self")


def peak(name: str, setting: str, scale: Scale) -> int | None:
    """The extra bytes that one side of a row needs; None where they cannot be measured."""
    if not (_PROCESS / "clear_refs").exists():
        return None
    command = [sys.executable, "-m", "benchmarks.memory", name, setting, *scale.as_arguments()]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(ended.stdout.splitlines()[-1])


def rise(work: Callable[[], object]) -> int:
    """By how many bytes the resident memory rises during the work."""
    # What was freed before is given back, or the work would find it and need nothing more.
    ctypes.CDLL(None).malloc_trim(0)
    (_PROCESS / "clear_refs").write_text("5")
    before = _kilobytes("VmRSS")
    work()
    return 1024 * (_kilobytes("VmHWM") - before)


def _kilobytes(entry: str) -> int:
    (found,) = re.findall(rf"{entry}:\s+(\d+) kB", (_PROCESS / "status").read_text())
    return int(found)


def main() -> None:
    parser = arguments("python -m benchmarks.memory")
    parser.add_argument("name", choices=sorted(ROWS))
    parser.add_argument("setting")
    options = parser.parse_args()
    comparison = ROWS[options.name](Scale.of(options))
    side = {"ours": comparison.ours, **comparison.theirs}[options.setting]
    side()
    print(rise(side))


if __name__ == "__main__":
    main()
