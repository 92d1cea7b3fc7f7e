"""The networks, and the mathematics of every explanation of them."""

from firstlight.pipeline.attribution import LRP, InputXGradient, PatternAttribution
from firstlight.pipeline.classifier import ImageClassifier
from firstlight.pipeline.first_layer_gradient import (
    ClassMaps,
    FirstLayerGradient,
    without_class_mean,
)
from firstlight.pipeline.function import Gradient, IntegratedGradients
from firstlight.pipeline.method import Method
from firstlight.pipeline.networks import ConvNetwork, DenseNetwork
from firstlight.pipeline.occlusion import Occlusion
from firstlight.pipeline.patterns import Pattern, PatternStatistics
from firstlight.pipeline.quality import signal_quality
from firstlight.pipeline.scores import ClassScore, Difference, Neuron, Score
from firstlight.pipeline.signal import DeconvNet, GuidedBackprop, PatternNet
from firstlight.pipeline.smoothgrad import Estimate, SmoothGrad
from firstlight.pipeline.undisturbed import undisturbed

__all__ = [
    "LRP",
    "ClassMaps",
    "ClassScore",
    "ConvNetwork",
    "DeconvNet",
    "DenseNetwork",
    "Difference",
    "Estimate",
    "FirstLayerGradient",
    "Gradient",
    "GuidedBackprop",
    "ImageClassifier",
    "InputXGradient",
    "IntegratedGradients",
    "Method",
    "Neuron",
    "Occlusion",
    "Pattern",
    "PatternAttribution",
    "PatternNet",
    "PatternStatistics",
    "Score",
    "SmoothGrad",
    "signal_quality",
    "undisturbed",
    "without_class_mean",
]
