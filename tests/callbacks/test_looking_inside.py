"""The callbacks that look inside a network, on a stranger's CNN."""

from __future__ import annotations

import pytest
import torch

from firstlight.callbacks import ActivationMaps, ClassImages, MaximallyActivatingPatches, Moment
from firstlight.callbacks.examples import Examples
from firstlight.pipeline.inside import Fooling, GradientAscent, StrongestPatches


def test_each_is_usable_with_its_defaults(fit, stranger, data, board, recwarn):
    callbacks = [
        ActivationMaps(),
        MaximallyActivatingPatches(),
        ClassImages(GradientAscent(steps=5), Fooling(steps=5)),
    ]
    events = board(fit(stranger, data, callbacks=callbacks, max_epochs=1))
    assert not [str(w.message) for w in recwarn if "could not explain" in str(w.message)]
    assert set(events.Tags()["images"]) == {
        "4_inside/activation_maps/conv",
        "4_inside/patches/conv",
        "4_inside/class_images",
    }
    for tag in events.Tags()["images"]:
        assert [image.step for image in events.Images(tag)] == [0, 5]


def test_the_relu_is_what_makes_activation_maps_black(fit, stranger, data, board):
    events = board(fit(stranger, data, callbacks=[ActivationMaps("conv")], max_epochs=1))
    before, behind = (
        [s.value for s in events.Scalars(f"4_inside/{name}/conv")]
        for name in ("zeros", "zeros_behind_relu")
    )
    assert max(before) < 0.01
    assert min(behind) > 0.2


def test_the_patches_are_the_strongest_of_the_whole_data(stranger, data):
    """The callback shows what the metric finds in one pass over all images."""
    callback = MaximallyActivatingPatches(["conv"], channels=2, k=3, count=48)
    images = data.tensors[0]
    shown = (
        callback.explain(stranger, Examples(images, None), Moment("test"))
        .sheets["patches/conv"]
        .picture()
    )
    metric = StrongestPatches(stranger, "conv", 3)
    metric.update(images)
    strongest = stranger.conv(images).flatten(2).amax(2).topk(3, dim=0).values.T
    torch.testing.assert_close(metric.compute().values, strongest)
    assert shown.dtype == torch.uint8
    other = (
        callback.explain(stranger, Examples(images[:5], None), Moment("test"))
        .sheets["patches/conv"]
        .picture()
    )
    assert not torch.equal(shown, other)


def test_what_a_class_likes_scores_higher_than_what_there_is(fit, stranger, data, board):
    events = board(fit(stranger, data, callbacks=[ClassImages()], max_epochs=1))
    found, real = (events.Scalars(f"4_inside/score/{name}")[-1].value for name in ("found", "real"))
    assert found > real
    assert events.Scalars("4_inside/fooling_length")[-1].value > 0


@pytest.mark.parametrize(
    "callback", [ActivationMaps("conv9"), MaximallyActivatingPatches(["conv9"])]
)
def test_a_layer_that_is_not_there_ends_the_run_before_it_starts(fit, stranger, data, callback):
    with pytest.raises(ValueError, match=r"layer='conv9'.*conv, norm"):
        fit(stranger, data, callbacks=[callback])


@pytest.mark.parametrize(
    ("kind", "argument"),
    [
        (ActivationMaps, {"channels": 0}),
        (MaximallyActivatingPatches, {"k": 1.5}),
        (MaximallyActivatingPatches, {"method": "guided"}),
        (ClassImages, {"most_classes": -1}),
    ],
)
def test_mistakes_are_named(kind, argument):
    with pytest.raises((TypeError, ValueError), match=f"{next(iter(argument))}="):
        kind(**argument)
