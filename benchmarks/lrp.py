"""LRP beside autolrp, in networks of others."""

from __future__ import annotations

import warnings

import autolrp
import timm
import torch
from torch import Tensor

from benchmarks.compare import Aim, Comparison, NotTheSame, timed
from benchmarks.scale import Scale
from firstlight.pipeline import LRP

NETWORKS = ("deit_tiny_patch16_224", "convnext_atto", "efficientnet_b0", "resnet18")


def beside_autolrp(scale: Scale, name: str) -> Comparison:
    """One image, with random weights. autolrp takes several only as a sum, which it divides among
    them by the size of their scores."""
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=10).eval()
    image = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        score, target = (float(v) for v in model(image)[0].max(0))
    # AttnLRP's softmax, as ours.
    config = autolrp.LRPConfig(rule={**autolrp.BASE, **autolrp.ATTNLRP})

    def theirs() -> Tensor:
        with warnings.catch_warnings():
            # It says each time that it does not work in place.
            warnings.simplefilter("ignore")
            wrapped = autolrp.tensor(image)
            model(wrapped)[0, int(target)].lrp(config=config)
        relevance: Tensor = wrapped.relevance
        return relevance * score

    def conserved(ours: Tensor, theirs: Tensor) -> str:
        if not (ours.isfinite().all() and theirs.isfinite().all()):
            raise NotTheSame("a map is not finite")
        kept, rivals = (float(maps.sum()) / score for maps in (ours, theirs))
        return f"other rules; the map sums to {kept:.2f} of the score, rival's to {rivals:.2f}"

    return Comparison(
        f"LRP, {name}, one image 224 × 224",
        "autolrp",
        Aim(1.0),
        timed(lambda: LRP()(model, image, int(target))),
        {"": timed(theirs)},
        conserved,
        scale.pick(9, 1),
    )
