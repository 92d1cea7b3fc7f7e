"""The networks, and the mathematics of every explanation of them."""

from firstlight.pipeline.first_layer_gradient import (
    ClassMaps,
    FirstLayerGradient,
    without_class_mean,
)
from firstlight.pipeline.function import Gradient, IntegratedGradients
from firstlight.pipeline.method import Method
from firstlight.pipeline.networks import ConvNetwork, DenseNetwork
from firstlight.pipeline.scores import ClassScore, Difference, Neuron, Score
from firstlight.pipeline.smoothgrad import Estimate, SmoothGrad
from firstlight.pipeline.undisturbed import undisturbed

__all__ = [
    "ClassMaps",
    "ClassScore",
    "ConvNetwork",
    "DenseNetwork",
    "Difference",
    "Estimate",
    "FirstLayerGradient",
    "Gradient",
    "IntegratedGradients",
    "Method",
    "Neuron",
    "Score",
    "SmoothGrad",
    "undisturbed",
    "without_class_mean",
]
