"""Sensitivity maps of single images, epoch by epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from firstlight.callbacks import Explanation, Moment, SensitivityMaps
from firstlight.callbacks.examples import Examples
from firstlight.pipeline import EdgeDetector, Gradient, InputXGradient, SmoothGrad


def explained(callback: SensitivityMaps, model: Any, data: Any, when: Moment) -> Explanation:
    images, labels = data.tensors
    return callback.explain(model, Examples(images[:4], labels[:4], answers=labels[:4]), when)


@pytest.mark.parametrize("target", ["predicted", "label"])
def test_maps_are_those_of_the_methods_for_the_class_asked_for(
    stranger: Any, data: Any, target: Any
) -> None:
    callback = SensitivityMaps([Gradient(), InputXGradient()], target)
    found = explained(callback, stranger.eval(), data, Moment("fit"))
    images, labels = data.tensors
    classes = labels[:4] if target == "label" else stranger(images[:4]).argmax(1)
    for column, method in zip(
        found.sheets["maps"].columns[1:], (Gradient(), InputXGradient()), strict=True
    ):
        torch.testing.assert_close(column.maps, method(stranger, images[:4], classes))


def test_two_methods_of_one_name_are_numbered(stranger: Any, data: Any) -> None:
    methods = [SmoothGrad(samples=2), SmoothGrad(samples=4), Gradient()]
    callback = SensitivityMaps(methods, numbers=["tv"])
    found = explained(callback, stranger.eval(), data, Moment("fit"))
    assert set(found.scalars) == {"tv/SmoothGrad 1", "tv/SmoothGrad 2", "tv/Gradient"}


def test_similarity_is_one_for_the_same_maps_and_minus_one_for_their_negatives(
    stranger: Any, data: Any
) -> None:
    numbers = ["similarity_to_last", "similarity_to_control"]
    callback = SensitivityMaps([Gradient()], "label", numbers=numbers)
    stranger.eval()
    assert explained(callback, stranger, data, Moment("fit")).scalars == {}
    same = explained(callback, stranger, data, Moment("fit", 1, 6)).scalars
    with torch.no_grad():
        stranger.head.weight.mul_(-1)
    turned = explained(callback, stranger, data, Moment("fit", 2, 12)).scalars
    again = explained(callback, stranger, data, Moment("fit", 3, 18)).scalars
    last, control = (f"{number}/Gradient" for number in numbers)
    assert same == pytest.approx({last: 1, control: 1})
    assert turned == pytest.approx({last: -1, control: -1})
    assert again == pytest.approx({last: 1, control: -1})
    # A test explains other images, which no earlier map belongs to.
    assert explained(callback, stranger, data, Moment("test", 3, 18)).scalars == {}
    assert explained(callback, stranger, data, Moment("test", 3, 19)).scalars == {}


def test_what_goes_on_from_its_state_compares_with_the_same_maps(stranger: Any, data: Any) -> None:
    stranger.eval()
    whole, resumed = SensitivityMaps([Gradient()]), SensitivityMaps([Gradient()])
    for when in (Moment("fit"), Moment("fit", 1, 6)):
        explained(whole, stranger, data, when)
        with torch.no_grad():
            stranger.head.weight.add_(torch.eye(*stranger.head.weight.shape))
    resumed.load_state_dict(whole.state_dict())
    later = explained(whole, stranger, data, Moment("fit", 2, 12)).scalars
    assert explained(resumed, stranger, data, Moment("fit", 2, 12)).scalars == later
    assert later["similarity_to_control/Gradient"] < later["similarity_to_last/Gradient"] < 0.999
    # The maps of the same step are no earlier ones.
    resumed.load_state_dict(whole.state_dict())
    again = explained(resumed, stranger, data, Moment("fit", 2, 12)).scalars
    assert set(later) - set(again) == {"similarity_to_last/Gradient"}


def test_a_resumed_run_compares_with_the_control(
    stranger: Any, data: Any, fit: Any, board: Any, tmp_path: Path
) -> None:
    def run(checkpoint: Path | None, epochs: int) -> Any:
        callback = SensitivityMaps([Gradient()])
        return fit(stranger, data, checkpoint, callbacks=[callback], max_epochs=epochs)

    run(None, 1).save_checkpoint(tmp_path / "first.ckpt")
    events = board(run(tmp_path / "first.ckpt", 2))
    for earlier in ("last", "control"):
        assert len(events.Scalars(f"2_sensitivity/similarity_to_{earlier}/Gradient")) == 1


def test_several_of_them_are_told_apart_in_a_checkpoint() -> None:
    assert SensitivityMaps([Gradient()]).state_key != SensitivityMaps().state_key
    assert SensitivityMaps().state_key == SensitivityMaps().state_key


def test_sweeps_of_smoothgrad_have_sheets_of_their_own(stranger: Any, data: Any) -> None:
    callback = SensitivityMaps([SmoothGrad(samples=2)], noise_levels=[0.1, 0.3], sample_sizes=[2])
    sheets = explained(callback, stranger.eval(), data, Moment("fit")).sheets
    assert [column.name for column in sheets["noise_levels"].columns] == ["image", "10%", "30%"]
    assert [column.name for column in sheets["sample_sizes"].columns] == ["image", "n = 2"]


def test_change_is_asked_for() -> None:
    assert "change" not in SensitivityMaps().numbers


def test_spread_size_and_the_efficient_randomisation_are_asked_for(
    stranger: Any, data: Any
) -> None:
    numbers = ["entropy", "magnitude", "efficient_randomisation"]
    assert not set(numbers) & set(SensitivityMaps().numbers)
    callback = SensitivityMaps([Gradient(), EdgeDetector()], numbers=numbers)
    found = explained(callback, stranger.eval(), data, Moment("fit"))
    for column in found.sheets["maps"].columns[1:]:
        sizes = column.maps.double().abs().flatten(1)
        p = sizes / sizes.sum(1, keepdim=True)
        entropy = -(p * p.clamp(min=1e-300).log()).sum(1)
        assert found.scalars[f"entropy/{column.name}"] == pytest.approx(entropy.mean().item())
        size = sizes.sum(1).mean().item()
        assert found.scalars[f"magnitude/{column.name}"] == pytest.approx(size)
    edges, gradient = (
        f"efficient_randomisation/{c.name}" for c in found.sheets["maps"].columns[:0:-1]
    )
    # The edges of an image do not depend on the network.
    assert found.scalars[edges] == 0
    assert abs(found.scalars[gradient]) > 1e-3


class Overflowing(Gradient):
    """The map of the second image is no numbers."""

    def __call__(self, model: Any, images: torch.Tensor, target: Any = None) -> torch.Tensor:
        maps = super().__call__(model, images, target)
        maps[1, 0, 0, 0] = float("nan")
        return maps


def test_a_map_with_pixels_that_are_no_numbers_has_the_reason_beside_it(
    stranger: Any, data: Any
) -> None:
    callback = SensitivityMaps([Overflowing(), Gradient()], numbers=["tv"])
    whole = explained(callback, stranger.eval(), data, Moment("fit")).sheets["maps"]
    _, overflowing, gradient = whole.columns
    assert overflowing.notes == [None, "left the range of numbers", None, None]
    assert gradient.notes is None
