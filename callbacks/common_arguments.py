"""The arguments that all explanation callbacks share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lightning.pytorch import Trainer

from firstlight.arguments import Count
from firstlight.callbacks.examples import Unpack, unpack
from firstlight.callbacks.explained_module import Logits
from firstlight.callbacks.outputs import Head
from firstlight.callbacks.schedule import Schedule


@dataclass(eq=False, kw_only=True)
class CommonArguments:
    """When to explain, which images, and how the network's outputs are read.

    Args:
        every_n_epochs: explain at the end of every n-th epoch.
        every_n_train_steps: explain after every n-th step as well; None for epochs alone.
        early: explain after steps 1, 2, 4, 8, … of the first epoch as well, where maps change most.
        pictures_every_n_epochs: draw pictures for loggers at every n-th epoch, and at the first and
            the last; None draws epochs 1, 2, 4, 8, … (of those that are explained). Raw sheets are
            kept whenever there is an explanation.
        before_training: explain the untrained model too, as the control, in a run that starts from
            the beginning.
        unpack: from a batch to ``(images, labels)``; the default understands tensors, tuples, lists
            and dicts.
        images: from the trainer to the ``(images, labels)`` to explain; None picks them from the
            trainer's data.
        logits: from the module and images to logits (N, K); None calls the module and takes the
            tensor that it returns, its ``logits``, or the entry of that name.
        head: the meaning of the outputs: "classes", one of K; "binary", one logit for two classes;
            "several" labels per image; "values", regression. None goes by labels and shapes.
        class_names: the names of the classes; None takes those of the data, if they have any.
    """

    every_n_epochs: Count = 1
    every_n_train_steps: Count | None = None
    early: bool = False
    pictures_every_n_epochs: Count | None = None
    before_training: bool = True
    unpack: Unpack = unpack
    images: Callable[[Trainer], Any] | None = None
    logits: Logits | None = None
    head: Head | None = None
    class_names: Sequence[str] | None = None

    @property
    def schedule(self) -> Schedule:
        """When there is an explanation, and when it is drawn."""
        return Schedule(
            self.every_n_epochs,
            self.every_n_train_steps,
            self.early,
            self.pictures_every_n_epochs,
        )
