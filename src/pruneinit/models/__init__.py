"""The reference networks of the papers, plain modules built by name.

Layers start with PyTorch's default weights; initialise them explicitly, for example on the Edge of Chaos.
"""

from pruneinit.models.mlp import mlp
from pruneinit.models.preact import PreActResNet, preact_resnet, wide_resnet
from pruneinit.models.registry import MODELS, build
from pruneinit.models.resnet import ResNet, resnet
from pruneinit.models.vcnn import vcnn
from pruneinit.models.vgg import vgg

__all__ = [
    "MODELS",
    "PreActResNet",
    "ResNet",
    "build",
    "mlp",
    "preact_resnet",
    "resnet",
    "vcnn",
    "vgg",
    "wide_resnet",
]
