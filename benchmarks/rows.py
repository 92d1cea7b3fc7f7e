"""The rows of the table, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from benchmarks import (
    board,
    first_layer,
    importing,
    lrp,
    methods,
    patterns,
    residual_epoch,
    smoothgrad,
    training,
)
from benchmarks.compare import Comparison
from benchmarks.scale import Scale
from firstlight.pipeline.patterns.pattern import PATTERNS

ROWS: Mapping[str, Callable[[Scale], Comparison]] = {
    "epoch": training.hand_written,
    "epoch-usual": training.usual,
    "smoothgrad": smoothgrad.default_equal_samples,
    "smoothgrad-error": smoothgrad.default_equal_error,
    "smoothgrad-pair": smoothgrad.default_pair,
    "smoothgrad-resnet18": smoothgrad.residual_equal_samples,
    "smoothgrad-resnet18-error": smoothgrad.residual_equal_error,
    "smoothgrad-trained-resnet18-error": smoothgrad.trained_residual_equal_error,
    "integrated-gradients": methods.default_integrated_gradients,
    "integrated-gradients-resnet18": methods.residual_integrated_gradients,
    "guided-backprop": methods.default_guided_backprop,
    "guided-backprop-resnet18": methods.residual_guided_backprop,
    "occlusion": methods.default_occlusion,
    "occlusion-resnet18": methods.residual_occlusion,
    **{
        f"lrp-{name.split('_')[0]}": partial(lrp.beside_autolrp, name=name) for name in lrp.NETWORKS
    },
    "first-layer-pairs": first_layer.pairs,
    "pattern-statistics": patterns.statistics,
    **{
        f"pattern-statistics-{name.split('_')[0]}{suffix}": partial(
            patterns.forward_passes, name=name, estimators=estimators
        )
        for name in ("resnet18", "mobileone_s0", "swin_tiny_patch4_window7_224")
        for suffix, estimators in (("", PATTERNS), ("-one", PATTERNS[1:2]))
    },
    "signal-quality": patterns.quality,
    "callbacks": training.callbacks,
    "callbacks-undrawn": partial(training.callbacks, epochs=3),
    "callbacks-resnet18": residual_epoch.callbacks,
    "board-index": board.index,
    "board-sheet": board.sheet,
    "import": importing.callbacks,
}
