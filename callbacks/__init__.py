"""When to explain, which images, and where the pictures go."""

from firstlight.callbacks.examples import Examples
from firstlight.callbacks.explanation import Explanation, ExplanationCallback
from firstlight.callbacks.first_layer_maps import FirstLayerMaps
from firstlight.callbacks.pattern_monitor import PatternMonitor
from firstlight.callbacks.sensitivity_maps import SensitivityMaps

__all__ = [
    "Examples",
    "Explanation",
    "ExplanationCallback",
    "FirstLayerMaps",
    "PatternMonitor",
    "SensitivityMaps",
]
