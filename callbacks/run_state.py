"""What a callback keeps during one run of a trainer, and no longer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import nn

from firstlight.callbacks.examples import Examples
from firstlight.callbacks.explanation import Explanation
from firstlight.callbacks.moment import Moment
from firstlight.callbacks.outputs import Outputs


@dataclass
class RunState:
    """The images, the module as explanations take it, and what is not drawn yet.

    Attributes:
        picked: What the callback picked, by the trainer's stage.
        seen: Some of these images, which tell the form of batches and labels.
        explained: The module as explanations take it.
        outputs: How its outputs are read.
        stream: The first batches, where the data are a stream.
        control_awaits_data: Whether the control is explained as soon as there is a batch.
        undrawn: The last explanation, if it is not to be drawn unless the run ends.
        steps: The trainer's steps at the last batch.
        earlier: The maps that later ones are compared with.
        passes: Through the network in the latest explanation, if they were counted.
    """

    picked: dict[str, Any] = field(default_factory=dict)
    seen: Examples | None = None
    explained: nn.Module | None = None
    outputs: Outputs = field(default_factory=Outputs)
    stream: list[Examples] = field(default_factory=list)
    control_awaits_data: bool = False
    undrawn: tuple[Explanation, Moment] | None = None
    steps: int = 0
    earlier: dict[str, Any] = field(default_factory=dict)
    passes: int | None = None

    def keep(self, batch: Examples, most_bytes: int) -> None:
        """Keep a batch of a stream, as long as memory allows."""
        kept = sum(len(part.images) * part.bytes_each for part in self.stream)
        if (fitting := (most_bytes - kept) // batch.bytes_each) > 0:
            self.stream.append(batch[:fitting])
