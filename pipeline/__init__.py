"""The networks, and the mathematics of every explanation of them."""

from firstlight.pipeline.activations import activation_maps, share_of_zeros
from firstlight.pipeline.attribution import (
    LRP,
    Bounded,
    Epsilon,
    InputXGradient,
    LRPRule,
    PatternAttribution,
    WSquared,
    Z,
    ZPlus,
)
from firstlight.pipeline.class_images import Fooling, GradientAscent
from firstlight.pipeline.classifier import ImageClassifier
from firstlight.pipeline.degradation import ImageDegradation, degradation_area
from firstlight.pipeline.first_layer_gradient import (
    ClassMaps,
    FirstLayerGradient,
    without_class_mean,
)
from firstlight.pipeline.function import Gradient, IntegratedGradients
from firstlight.pipeline.map_quality import gini, mass_on, total_variation
from firstlight.pipeline.method import Method
from firstlight.pipeline.networks import ConvNetwork, DenseNetwork
from firstlight.pipeline.occlusion import Occlusion
from firstlight.pipeline.patterns import Pattern, PatternStatistics
from firstlight.pipeline.quality import signal_quality
from firstlight.pipeline.randomisation import cascading_randomisation
from firstlight.pipeline.receptive_field import receptive_field
from firstlight.pipeline.scores import ClassScore, Difference, Neuron, Score
from firstlight.pipeline.segmentation import GrabCut
from firstlight.pipeline.signal import DeconvNet, GuidedBackprop, PatternNet
from firstlight.pipeline.smoothgrad import Estimate, SmoothGrad
from firstlight.pipeline.stability import map_changes
from firstlight.pipeline.undisturbed import undisturbed

__all__ = [
    "LRP",
    "Bounded",
    "ClassMaps",
    "ClassScore",
    "ConvNetwork",
    "DeconvNet",
    "DenseNetwork",
    "Difference",
    "Epsilon",
    "Estimate",
    "FirstLayerGradient",
    "Fooling",
    "GrabCut",
    "Gradient",
    "GradientAscent",
    "GuidedBackprop",
    "ImageClassifier",
    "ImageDegradation",
    "InputXGradient",
    "IntegratedGradients",
    "LRPRule",
    "Method",
    "Neuron",
    "Occlusion",
    "Pattern",
    "PatternAttribution",
    "PatternNet",
    "PatternStatistics",
    "Score",
    "SmoothGrad",
    "WSquared",
    "Z",
    "ZPlus",
    "activation_maps",
    "cascading_randomisation",
    "degradation_area",
    "gini",
    "map_changes",
    "mass_on",
    "receptive_field",
    "share_of_zeros",
    "signal_quality",
    "total_variation",
    "undisturbed",
    "without_class_mean",
]
