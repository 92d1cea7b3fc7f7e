"""The arguments that all explanation callbacks share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lightning.pytorch import Trainer
from torch import nn

from firstlight.callbacks.examples import Unpack, unpack
from firstlight.callbacks.outputs import Head
from firstlight.callbacks.schedule import Schedule

Logits = Callable[[nn.Module, Any], Any]
"""From the module and its images to logits (N, K).

A command line refuses functions without annotations where a Tensor is asked for.
"""


@dataclass(eq=False, kw_only=True)
class ReadingArguments:
    """How batches and the network's outputs are read.

    Args:
        unpack: from a batch to ``(images, labels)``; the default understands tensors, tuples, lists
            and dicts.
        logits: from the module and images to logits (N, K); None calls the module and takes the
            tensor that it returns, its ``logits``, or the entry of that name.
        head: the meaning of the outputs: "classes", one of K; "binary", one logit for two classes;
            "several" labels per image; "values", regression. None goes by labels and shapes.
    """

    unpack: Unpack = unpack
    logits: Logits | None = None
    head: Head | None = None


@dataclass(eq=False, kw_only=True)
class CommonArguments(Schedule, ReadingArguments):
    """When to explain, which images, and how the network's outputs are read.

    Args:
        before_training: explain the untrained model too, as the control, in a run that starts from
            the beginning.
        images: from the trainer to the ``(images, labels)`` to explain; None picks them from the
            trainer's data.
        class_names: the names of the classes; None takes those of the data, if they have any.
    """

    before_training: bool = True
    images: Callable[[Trainer], Any] | None = None
    class_names: Sequence[str] | None = None
