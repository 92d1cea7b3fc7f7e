"""The networks, and the mathematics of every explanation of them."""

import sys

from firstlight.pipeline import drawing, inside, judging, methods, patterns
from firstlight.pipeline.classifier import ImageClassifier
from firstlight.pipeline.inside import *
from firstlight.pipeline.judging import *
from firstlight.pipeline.methods import *
from firstlight.pipeline.networks import ConvNetwork, DenseNetwork
from firstlight.pipeline.patterns import *
from firstlight.pipeline.tracing.undisturbed import undisturbed

# Each room's table of contents is the only list of its public names.
__all__ = ["ConvNetwork", "DenseNetwork", "ImageClassifier", "undisturbed"]
__all__ += inside.__all__
__all__ += judging.__all__
__all__ += methods.__all__
__all__ += patterns.__all__

# Renderings and regularisers are named by these modules in YAML files written for version 0.1.
sys.modules[f"{__name__}.rendering"] = drawing
sys.modules[f"{__name__}.class_images"] = inside.regularisers
