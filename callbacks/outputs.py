"""The outputs of a network, as its program means them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from firstlight.callbacks.examples import Examples
from firstlight.errors import ArgumentError, FirstlightError
from firstlight.pipeline.methods.logits import logits_in

Head = Literal["classes", "binary", "several", "values"]
"""One class of K; one logit for two classes; several labels per image; values (regression)."""


@dataclass(frozen=True)
class Outputs:
    """How outputs (N, K) are read, and what people call them.

    Attributes:
        head: What they are. One logit for two classes is read as two logits, see
            :class:`~firstlight.callbacks.explained_module.ExplainedModule`.
        names: The names of the classes, if they are known.
    """

    head: Head = "classes"
    names: Sequence[str] | None = None

    def name(self, number: int) -> str:
        """The name of a class, else its number."""
        known = self.names is not None and number < len(self.names)
        return self.names[number] if self.names is not None and known else str(number)

    def explained(self, logits: Tensor, labels: Tensor | None = None) -> Tensor:
        """The output (N,) that is explained: the label's, else the largest."""
        if self.head == "values":
            return logits.new_zeros(len(logits)).long()
        logits = _two(logits)
        return logits.argmax(1) if labels is None else labels.long()

    def notes(self, logits: Tensor) -> list[str]:
        """What the network says of each image."""
        if self.head == "values":
            return [f"{row[0]:.3g}" for row in logits.tolist()]
        shares = logits.sigmoid() if self.head == "several" else _two(logits).softmax(1)
        best = shares.topk(min(2, shares.shape[1]), 1)
        return [
            # Another label only where it is also seen; another class never.
            ", ".join(
                f"{self.name(c)}: {share:.0%}"
                for rank, (c, share) in enumerate(zip(*pair, strict=True))
                if rank == 0 or (self.head == "several" and share > 0.5)
            )
            for pair in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]

    def rows(self, examples: Examples, logits: Tensor) -> list[str]:
        """The name of each image: its label, else what the network sees."""
        answers = examples.answers
        if self.head == "values":
            if answers is None:
                return [f"image {i}" for i in range(len(logits))]
            return [f"{value:.3g}" for value in answers.flatten().tolist()]
        if self.head == "several" and answers is not None and answers.ndim == 2:
            return [
                ", ".join(self.name(c) for c, has in enumerate(row) if has)
                for row in answers.tolist()
            ]
        classes = self.explained(logits, examples.labels)
        return [self.name(c) for c in classes.tolist()]

    def caption(self, examples: Examples) -> str:
        """What rows and notes are."""
        known = examples.answers is not None or examples.labels is not None
        match self.head:
            case "values":
                rows = "the right value" if known else "images"
                return f"Rows: {rows}; below each image the network's value."
            case "several":
                rows = "the image's labels" if known else "the strongest label"
                return f"Rows: {rows}; below each image the labels that the network sees."
            case _:
                rows = "label" if known else "the predicted class, since the data have no labels"
                return f"Rows: {rows}; below each image what the network sees."

    @property
    def score(self) -> str:
        """What a map explains: "score of the predicted class", or the value."""
        return "value" if self.head == "values" else "score"


def _two(logits: Tensor) -> Tensor:
    """One logit for two classes as two: 0 and z have its sigmoid as their softmax."""
    return torch.cat((torch.zeros_like(logits), logits), 1) if logits.shape[1] == 1 else logits


def head_of(outputs: int, examples: Examples) -> Head:
    """The head that K outputs and the labels suggest."""
    answers, labels = examples.answers, examples.labels
    if labels is None and answers is not None and answers.is_floating_point() and outputs == 1:
        return "values"
    if outputs == 1:
        return "binary"
    if answers is not None and answers.ndim == 2 and answers.shape[1] == outputs > 1:
        return "several" if (answers.sum(1) != 1).any() else "classes"
    return "classes"


def found_logits(output: Any, images: int) -> Tensor:
    """Logits (images, K) in what a module returned.

    Raises:
        FirstlightError: there are none.
    """
    try:
        return logits_in(output, images)
    except ArgumentError as error:
        advice = "pass the callback logits=, a function from the module and images to logits (N, K)"
        raise FirstlightError(f"{error}; {advice}") from None


def gaps(maps: Tensor) -> list[str | None] | None:
    """The reason beside each map (N, C, H, W) that has magenta pixels; None where none has."""
    finite = maps.isfinite().flatten(1).all(1).tolist()
    return None if all(finite) else [None if f else "left the range of numbers" for f in finite]
