"""The outputs of a network, as its program means them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from firstlight.callbacks.examples import Examples, are_several_labels
from firstlight.errors import ArgumentError, FirstlightError
from firstlight.pipeline.methods.logits import logits_in

ADVICE = "pass the callback logits=, a function from the module and images to logits (N, K)"

Head = Literal["classes", "binary", "several", "values"]
"""One class of K; one logit for two classes; several labels per image; values (regression)."""

_MOST_VALUES = 4


class NoLogits(FirstlightError):
    """The program has no logits (N, K) where they were looked for, or not those of its labels."""


@dataclass(frozen=True)
class Outputs:
    """How outputs (N, K) are read, and what people call them.

    Attributes:
        head: What they are. One logit for two classes is read as two logits, see
            :class:`~firstlight.callbacks.explained_module.ExplainedModule`.
        names: The names of the classes, if they are known.
        missing: The reason, if there are no such outputs.
    """

    head: Head = "classes"
    names: Sequence[str] | None = None
    missing: NoLogits | None = None

    def must_be_classes(self, what: str) -> None:
        """Raise a FirstlightError if there are no classes to explain."""
        if self.head == "values":
            raise FirstlightError(f"{what} are of classes, and the network's outputs are values")

    def name(self, number: int) -> str:
        """The name of a class, else its number."""
        known = self.names is not None and number < len(self.names)
        return self.names[number] if self.names is not None and known else str(number)

    def names_of(self, classes: Tensor) -> list[str]:
        """The names of classes (N,)."""
        return [self.name(c) for c in classes.tolist()]

    def explained(self, logits: Tensor, labels: Tensor | None = None) -> Tensor:
        """The output (N,) that is explained: the label's, else the largest."""
        if self.head == "values":
            return logits.new_zeros(len(logits)).long()
        logits = _two(logits)
        return logits.argmax(1) if labels is None else labels.long()

    def notes(self, logits: Tensor) -> list[str]:
        """What the network says of each image."""
        if self.head == "values":
            return [_listed(row) for row in logits.tolist()]
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
            return [_listed(row) for row in answers.reshape(len(answers), -1).tolist()]
        if self.head == "several" and answers is not None and answers.ndim == 2:
            return [
                ", ".join(self.name(c) for c, has in enumerate(row) if has)
                for row in answers.tolist()
            ]
        return self.names_of(self.explained(logits, examples.labels))

    def labelled(self, examples: Examples) -> tuple[list[str], str]:
        """The name of each image, and what the names are, where nothing is asked of the network."""
        if examples.labels is None:
            return [f"image {i}" for i in range(len(examples.images))], "Rows: images."
        return self.names_of(examples.labels), "Rows: label."

    def caption(self, examples: Examples, logits: Tensor) -> str:
        """What rows and notes are."""
        answered = examples.answers is not None
        match self.head:
            case "values":
                rows = "right values" if answered else "images"
                which = " Maps explain the first value." if logits.shape[1] > 1 else ""
                return f"Rows: {rows}; below each image the network's.{which}"
            case "several":
                rows = "the image's labels" if answered else "the strongest label"
                return f"Rows: {rows}; below each image the labels that the network sees."
            case _:
                known = examples.labels is not None
                rows = "label" if known else "the predicted class, since the data have no labels"
                return f"Rows: {rows}; below each image what the network sees."

    def subject(self, of_label: bool = False) -> str:
        """What is explained: the value, or the class that is predicted or labelled."""
        if self.head == "values":
            return "value"
        if of_label:
            return "labelled class"
        return "strongest label" if self.head == "several" else "predicted class"


def _two(logits: Tensor) -> Tensor:
    """One logit for two classes as two: 0 and z have its sigmoid as their softmax."""
    return torch.cat((torch.zeros_like(logits), logits), 1) if logits.shape[1] == 1 else logits


def head_of(outputs: int, examples: Examples) -> Head:
    """The head that K outputs and the labels suggest."""
    answers = examples.answers
    if answers is not None and answers[0].numel() in (1, outputs):
        if are_several_labels(answers):
            return "several" if (answers.sum(1) != 1).any() else "classes"
        if examples.labels is None and not _are_shares(answers):
            return "values"
    return "binary" if outputs == 1 else "classes"


def _are_shares(answers: Tensor) -> bool:
    """True for soft labels (N, K), as mixing images makes them."""
    if answers.ndim != 2 or answers.shape[1] == 1:
        return False
    return bool((answers >= 0).all() and ((answers.double().sum(1) - 1).abs() < 1e-4).all())


def check_labels(head: Head, outputs: int, labels: Tensor | None) -> None:
    """Raise NoLogits if labels are no classes that K outputs could stand for."""
    if head not in ("classes", "binary") or labels is None or not len(labels):
        return
    classes, largest = max(2, outputs), int(labels.max())
    if largest >= classes:
        raise NoLogits(
            f"the labels reach {largest}, but the network has outputs for {classes} classes; if "
            'the labels are numbers that it predicts, pass the callback head="values"; if its '
            "classes are elsewhere, logits=; if it has nothing to do with them, unpack=, a "
            "function from a batch to (images, None)"
        )


def found_logits(output: Any, images: int) -> Tensor:
    """Logits (images, K) in what a module returned.

    Raises:
        NoLogits: there are none.
    """
    try:
        return logits_in(output, images)
    except ArgumentError as error:
        raise NoLogits(f"{error}; {ADVICE}") from None


def _listed(values: Sequence[float]) -> str:
    shown = ", ".join(f"{value:.3g}" for value in values[:_MOST_VALUES])
    return f"{shown}, …" if len(values) > _MOST_VALUES else shown


def gaps(maps: Tensor) -> list[str | None] | None:
    """The reason beside each map (N, C, H, W) that has magenta pixels; None where none has."""
    finite = maps.isfinite().flatten(1).all(1).tolist()
    return None if all(finite) else [None if f else "left the range of numbers" for f in finite]
