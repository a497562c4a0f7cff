"""Mean-field theory of wide random networks, on plain numbers: activations, variance and correlation maps, the edge."""

from pruneinit.meanfield.activations import NAMED, Activation, elu, leaky_relu, softplus
from pruneinit.meanfield.bounds import magnitude_bound, magnitude_limit, snip_bound
from pruneinit.meanfield.curves import Critical, Curve
from pruneinit.meanfield.diagram import EdgePoint, PhaseDiagram, edge_curve, edge_point, phase_diagram
from pruneinit.meanfield.edge import Edge, NoEdgeOfChaos, default_sigma_b, edge_of_chaos
from pruneinit.meanfield.ensembles import LayerSignal, signals
from pruneinit.meanfield.gaussian import Moments, moments
from pruneinit.meanfield.kernels import StackLayer, stack_signals
from pruneinit.meanfield.laws import Law
from pruneinit.meanfield.maps import (
    chi,
    correlation_map,
    correlation_slope,
    fixed_point,
    variance_map,
    variance_slope,
)
from pruneinit.meanfield.phases import DepthScales, Phase, correlation_fixed_point, depth_scales, phase
from pruneinit.meanfield.predictions import PredictedLayer, Prediction, predict
from pruneinit.meanfield.scores import conditioning, forward_variances, magnitude_moments, snip_moments
from pruneinit.meanfield.shapes import Shape
from pruneinit.meanfield.spec import ActivationSpec, activation

__all__ = [
    "NAMED",
    "Activation",
    "ActivationSpec",
    "Critical",
    "Curve",
    "DepthScales",
    "Edge",
    "EdgePoint",
    "Law",
    "LayerSignal",
    "Moments",
    "NoEdgeOfChaos",
    "Phase",
    "PhaseDiagram",
    "PredictedLayer",
    "Prediction",
    "Shape",
    "StackLayer",
    "activation",
    "chi",
    "conditioning",
    "correlation_fixed_point",
    "correlation_map",
    "correlation_slope",
    "default_sigma_b",
    "depth_scales",
    "edge_curve",
    "edge_of_chaos",
    "edge_point",
    "elu",
    "fixed_point",
    "forward_variances",
    "leaky_relu",
    "magnitude_bound",
    "magnitude_limit",
    "magnitude_moments",
    "moments",
    "phase",
    "phase_diagram",
    "predict",
    "signals",
    "snip_bound",
    "snip_moments",
    "softplus",
    "stack_signals",
    "variance_map",
    "variance_slope",
]
