"""Importing torchvision, also beside a build of PyTorch that it was not made for."""

from __future__ import annotations

import sys
from functools import cache
from types import ModuleType

import torch


@cache
def torchvision_models() -> ModuleType:
    """`torchvision.models`.

    The torchvision of PyPI is made for PyTorch with CUDA: beside a build for CPUs its compiled part does not load, and
    then the import itself fails, for want of two operators that no model here uses. Empty schemas of their names do.
    """
    try:
        import torchvision.models
    except RuntimeError as error:
        if "operator torchvision::nms does not exist" not in str(error):
            raise
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        for operator in ("nms", "qnms"):
            _SCHEMAS.define(f"{operator}() -> ()")
        import torchvision.models
    return torchvision.models


_SCHEMAS = torch.library.Library("torchvision", "FRAGMENT")  # the schemas last as long as this object
