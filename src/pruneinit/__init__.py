"""Prune before you train, train only what is left, ship only what is left."""

from pruneinit import meanfield, models
from pruneinit.criteria import Magnitude, Random, Snip
from pruneinit.diagnose import Diagnosis, diagnose
from pruneinit.errors import InputError
from pruneinit.initialize import delta_orthogonal_, edge_of_chaos_, mean_field_, orthogonal_
from pruneinit.masks import Masks
from pruneinit.moments import second_moments
from pruneinit.prune import prune, score
from pruneinit.rescale import rescale_
from pruneinit.residual import Residuals, find_residuals, stabilize_residuals_
from pruneinit.select import select
from pruneinit.storage import load, save
from pruneinit.survivors import current_masks, densify_, sparsify_
from pruneinit.weights import Weight, prunable

__version__ = "0.1.0"

__all__ = [
    "Diagnosis",
    "InputError",
    "Magnitude",
    "Masks",
    "Random",
    "Residuals",
    "Snip",
    "Weight",
    "current_masks",
    "delta_orthogonal_",
    "densify_",
    "diagnose",
    "edge_of_chaos_",
    "find_residuals",
    "load",
    "mean_field_",
    "meanfield",
    "models",
    "orthogonal_",
    "prunable",
    "prune",
    "rescale_",
    "save",
    "score",
    "second_moments",
    "select",
    "sparsify_",
    "stabilize_residuals_",
]
