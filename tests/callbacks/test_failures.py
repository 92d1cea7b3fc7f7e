"""What cannot be explained is said, once in a run, and for all callbacks together."""

from __future__ import annotations

import warnings
from typing import Any

from firstlight.callbacks import (
    ActivationMaps,
    Explanation,
    ExplanationCallback,
    FirstLayerMaps,
    Moment,
    PatternMonitor,
    SensitivityMaps,
)
from firstlight.callbacks.failures import Failures


def test_a_network_without_convolutions_is_a_warning(
    fit: Any, data: Any, theirs: Any, told: Any, recwarn: Any
) -> None:
    trainer = fit(theirs(), data, callbacks=[ActivationMaps()], max_epochs=2)
    (said,) = told(recwarn)
    assert said.startswith("ActivationMaps could not explain")
    assert "no Conv2d; name a layer" in said
    assert trainer.current_epoch == 2


class Fails(ExplanationCallback):
    """Fails in part at first, and then as a whole."""

    family = "9_fails"

    def pick(self, trainer: Any) -> Any:
        return None

    def explain(self, model: Any, picked: Any, when: Moment) -> Explanation:
        if when.is_control:
            return Explanation(failures=["no moon"])
        raise ArithmeticError("no light")


def test_each_reason_is_told_once_in_every_run(fit: Any, data: Any, theirs: Any, told: Any) -> None:
    fails = Fails()
    for _ in range(2):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            fit(theirs(), data, callbacks=[fails], max_epochs=3)
        said = told(caught)
        assert len(said) == 2
        assert said[0].startswith("Fails (in part) could not explain the model (before training)")
        assert "no moon" in said[0]
        assert "ArithmeticError: no light" in said[1]


def test_without_logits_one_warning_for_all_says_what_to_do(
    fit: Any, data: Any, theirs: Any, told: Any, recwarn: Any
) -> None:
    module = theirs(answer=lambda logits: (None, logits))
    fit(
        module,
        data,
        callbacks=[FirstLayerMaps(), SensitivityMaps(), PatternMonitor(24)],
        max_epochs=2,
    )
    (said,) = told(recwarn)
    assert said.startswith(
        "FirstLayerMaps, SensitivityMaps and PatternMonitor (in part) could not explain"
    )
    assert "for 1 images, got tuple; pass the callback logits=, a function" in said


def test_one_cause_with_other_numbers_is_one_cause(recwarn: Any) -> None:
    failures = Failures()
    failures.note("FirstLayerMaps", "no images in a batch of (11, 12)")
    failures.note("SensitivityMaps", "no images in a batch of (1, 12)")
    failures.note("SensitivityMaps", "no images in a batch of (2, 12)")
    failures.tell(Moment("fit"))
    failures.note("SensitivityMaps", "no images in a batch of (3, 12)")
    failures.tell(Moment("fit", 1, 3))
    (said,) = [str(warning.message) for warning in recwarn]
    assert said == (
        "FirstLayerMaps and SensitivityMaps could not explain the model (before training): no "
        "images in a batch of (11, 12). The run goes on; it will not say this again."
    )
