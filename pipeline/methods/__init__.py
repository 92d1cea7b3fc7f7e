"""Explanation methods: from a model and images to maps."""

from firstlight.pipeline.methods.base import Method
from firstlight.pipeline.methods.edge_detector import EdgeDetector
from firstlight.pipeline.methods.first_layer_deltas import NoFirstLayerMapError
from firstlight.pipeline.methods.first_layer_gradient import (
    ClassMaps,
    FirstLayerGradient,
    without_class_mean,
)
from firstlight.pipeline.methods.grad_cam import GradCAM, LayerCAM
from firstlight.pipeline.methods.gradient import Gradient, InputXGradient
from firstlight.pipeline.methods.guided_backprop import DeconvNet, GuidedBackprop
from firstlight.pipeline.methods.integrated_gradients import IntegratedGradients
from firstlight.pipeline.methods.lrp import LRP
from firstlight.pipeline.methods.lrp_rules import (
    Bounded,
    Epsilon,
    Gamma,
    LRPRule,
    WSquared,
    Z,
    ZPlus,
)
from firstlight.pipeline.methods.occlusion import Occlusion
from firstlight.pipeline.methods.pattern_methods import PatternAttribution, PatternNet
from firstlight.pipeline.methods.scores import (
    ClassScore,
    Difference,
    LogitScore,
    Neuron,
    Probability,
    Score,
)
from firstlight.pipeline.methods.smoothgrad import Estimate, SmoothGrad

__all__ = [
    "LRP",
    "Bounded",
    "ClassMaps",
    "ClassScore",
    "DeconvNet",
    "Difference",
    "EdgeDetector",
    "Epsilon",
    "Estimate",
    "FirstLayerGradient",
    "Gamma",
    "GradCAM",
    "Gradient",
    "GuidedBackprop",
    "InputXGradient",
    "IntegratedGradients",
    "LRPRule",
    "LayerCAM",
    "LogitScore",
    "Method",
    "Neuron",
    "NoFirstLayerMapError",
    "Occlusion",
    "PatternAttribution",
    "PatternNet",
    "Probability",
    "Score",
    "SmoothGrad",
    "WSquared",
    "Z",
    "ZPlus",
    "without_class_mean",
]
