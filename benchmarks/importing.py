"""How long an import takes, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

from benchmarks.compare import Aim, Comparison, timed
from benchmarks.scale import Scale


def callbacks(scale: Scale) -> Comparison:
    return Comparison(
        "import firstlight.callbacks",
        "import lightning.pytorch",
        Aim(1.1),
        timed(partial(_import, "firstlight.callbacks")),
        {"": timed(partial(_import, "lightning.pytorch"))},
        lambda ours, theirs: "-",
        scale.pick(5, 1),
        in_process=False,
    )


def _import(name: str) -> None:
    subprocess.run([sys.executable, "-c", f"import {name}"], check=True, capture_output=True)
