"""What can be explained in networks of others: ``python -m benchmarks.architectures [NAME …]``.

Writes docs/architectures.md: every architecture by every method, with the share of the score that
LRP's map does not sum up to. Of the names that are given only their rows are made anew.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.other_networks import ALL, CLASS, network
from firstlight.errors import ArgumentError
from firstlight.pipeline import (
    LRP,
    DeconvNet,
    FirstLayerGradient,
    GradCAM,
    Gradient,
    GuidedBackprop,
    IntegratedGradients,
    Method,
    Occlusion,
    PatternNet,
    PatternStatistics,
    SmoothGrad,
)

_HEAD = """# Architectures

Made by `python -m benchmarks.architectures`. Small members of many families, with random weights,
constant parameters made random, BatchNorm statistics of data, two images. **✓** is a map; otherwise
the cell names the operation that the method has no rule for, or has the letter of a reason below.
Gradient, SmoothGrad, integrated gradients and occlusion need no rules.

LRP's column has its loss: the share of the score, |Σ map − S| / |S|, that biases, ε and the
expansions of softmax and norms keep. Here the biases are random and as large as the weights'
contributions, so that most of a score may come from biases; the loss is no error of the method.
Each operation is tested to conserve relevance on its own, and each map of LRP-ε to be that of a
reference of another kind, in float64, to 1e-9 of its norm (`tests/pipeline/lrp_reference.py`).
"""
_COLUMNS = (
    *("architecture", "pixels", "Gradient", "SmoothGrad", "IG", "Occlusion", "LRP-ε", "LRP-γ"),
    *("GuidedBackprop", "DeconvNet", "PatternNet", "GradCAM", "first layer"),
)


class Page:
    """The page as it is on disk: a row for each architecture, and the reasons that rows refer to.

    Attributes:
        rows: The line of each architecture.
        reasons: Without the names and numbers of a network; each goes by a letter.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        text = path.read_text() if path.exists() else ""
        found = re.findall(r"^\| (\w+/\S+) \|.*$", text, re.MULTILINE)
        lines = [line for line in text.splitlines() if line.startswith("| ")][2:]
        self.rows = dict(zip(found, lines, strict=True))
        self.reasons: list[str] = re.findall(r"^- \*\*\w\*\*: (.*)$", text, re.MULTILINE)

    def cell(self, explain: Callable[[], str]) -> str:
        """What there is, or what there is no rule for, or the letter of another reason."""
        try:
            return explain()
        except ArgumentError as refusal:
            words = str(refusal)
        if "has no rule for " in words:
            return words.split("has no rule for ")[1].split(" in ")[0].split(".")[-1]
        words = words.split(": ", 1)[1]
        reason = re.sub(r"(?<= )'[\w.]+'|\([\d, ]+\)|\b\d+(\.\d+)?(e-?\d+)?\b", "…", words)
        if reason not in self.reasons:
            self.reasons.append(reason)
        return f"**{chr(ord('a') + self.reasons.index(reason))}**"

    def write(self) -> None:
        """The rows in their order, and the reasons that are in use, below them."""
        table = [_line(_COLUMNS), _line(["---"] * len(_COLUMNS))]
        table += [self.rows[name] for name in ALL if name in self.rows]
        reasons = [f"- **{chr(ord('a') + i)}**: {r}" for i, r in enumerate(self.reasons)]
        parts = (_HEAD.rstrip(), _counts(table[2:]), "\n".join(table), "\n".join(reasons))
        self._path.write_text("\n\n".join(filter(None, parts)) + "\n")


def _counts(rows: list[str]) -> str:
    """How many networks each method has a map of."""
    cells = [row.strip("| ").split(" | ") for row in rows]
    maps = (
        f"{name} {sum(row[column].startswith('✓') for row in cells)}"
        for column, name in enumerate(_COLUMNS[2:], 2)
    )
    return f"Of these {len(rows)} networks there is a map by: {', '.join(maps)}."


def _line(cells: object) -> str:
    assert isinstance(cells, (list, tuple))
    return f"| {' | '.join(cells)} |"


def _map(method: Method, model: nn.Module, images: Tensor) -> str:
    return "✓" if method(model, images, CLASS).isfinite().all() else "not finite"


def _loss(method: Method, model: nn.Module, images: Tensor) -> str:
    total = method(model, images, CLASS).sum((1, 2, 3))
    with torch.no_grad():
        output = model(images)
    score = getattr(output, "logits", output)[:, CLASS]
    if not score.any():
        return "✓ S = 0"
    return f"✓ {float(((total - score) / score).abs().median()):.2g}"


def _pattern_net(model: nn.Module, images: Tensor) -> str:
    statistics = PatternStatistics(model)
    statistics.update(images)
    return _map(PatternNet(statistics.compute()), model, images)


def _first_layer(model: nn.Module, images: Tensor) -> str:
    maps = FirstLayerGradient()(model, images, CLASS)
    return "✓" if maps.isfinite().all() else "not finite"


def _cells(name: str) -> Iterator[Callable[[], str]]:
    model, images = network(name)
    yield lambda: name
    yield lambda: str(images.shape[-1])
    half = images.shape[-1] // 2
    for method in (
        Gradient(),
        SmoothGrad(samples=2),
        IntegratedGradients(2),
        Occlusion(half, half),
    ):
        yield lambda method=method: _map(method, model, images)  # type: ignore[misc]
    yield lambda: _loss(LRP(), model, images)
    yield lambda: _loss(LRP({"convolution": "gamma"}), model, images)
    yield lambda: _map(GuidedBackprop(), model, images)
    yield lambda: _map(DeconvNet(), model, images)
    yield lambda: _pattern_net(model, images)
    yield lambda: _map(GradCAM(), model, images)
    yield lambda: _first_layer(model, images)


def main(names: list[str], path: Path = Path("docs/architectures.md")) -> None:
    """Write the table, row by row."""
    page = Page(path)
    if not names:
        page.rows, page.reasons = {}, []
    for name in names or ALL:
        start = time.perf_counter()
        page.rows[name] = _line([page.cell(explain) for explain in _cells(name)])
        page.write()
        print(f"{name}: {time.perf_counter() - start:.1f} s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
