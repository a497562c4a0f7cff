"""From a name on the command line to a network."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from pruneinit.errors import InputError, unknown
from pruneinit.models.checks import Shape
from pruneinit.models.mlp import mlp
from pruneinit.models.preact import preact_resnet, wide_resnet
from pruneinit.models.resnet import resnet
from pruneinit.models.vcnn import vcnn
from pruneinit.models.vgg import vgg

_FAMILIES: dict[str, Callable[..., nn.Module]] = {
    "mlp": mlp,
    "vcnn": vcnn,
    "resnet": resnet,
    "preact_resnet": preact_resnet,
    "wrn": wide_resnet,
    "vgg": vgg,
}

MODELS: tuple[str, ...] = (
    "mlp",
    "mlp-300-100",
    "vcnn",
    "vcnn-2",
    *(f"{kind}{depth}" for kind in ("resnet", "preact_resnet") for depth in (20, 32, 44, 50, 56, 104, 110)),
    *(f"{kind}{norm}" for kind in ("vgg11", "vgg16", "vgg19", "3xvgg16") for norm in ("", "_bn")),
    "wrn-16-8",
    "wrn-28-10",
)
"""The names people use; `build` also takes any other depth of a family (`resnet62`, `wrn-40-4`)."""

_PATTERNS = (
    r"(?P<family>mlp|vcnn)",
    r"(?P<family>mlp)-(?P<widths>[1-9]\d*(?:-[1-9]\d*)*)",
    r"(?P<family>vcnn)-(?P<reductions>[1-9]\d*)",
    r"(?P<family>resnet|preact_resnet)(?P<depth>\d+)?",
    r"(?:(?P<repeat>[1-9]\d*)x)?(?P<family>vgg)(?P<depth>\d+)(?P<batch_norm>_bn)?",
    r"(?P<family>wrn)-(?P<depth>\d+)-(?P<width>\d+)",
)


def build(
    name: str,
    *,
    input_shape: Shape,
    classes: int,
    depth: int | None = None,
    width: int | None = None,
    activation: str | None = None,
    **options: Any,
) -> nn.Module:
    """Build a network by its name.

    Args:
        name: `mlp`, `mlp-300-100` (`widths`, which recur), `vcnn`, `vcnn-2` (two `reductions`), `resnet32` and
            `preact_resnet32` (any 6n+2), `vgg16`, `vgg16_bn`, `3xvgg16`, `wrn-28-10`; see `MODELS`.
        input_shape: (C, H, W) of an image.
        classes: Outputs.
        depth: Weight layers, where the name does not say; None is the family's default.
        width: Neurons, channels of the first stage, or the widening factor; None is the family's default.
        activation: By name; None is the family's default, ReLU.
        options: What else the family's function takes: `shortcut` (resnet), `padding` and `reductions` (vcnn),
            `dropout` (wrn), `batch_norm` and `repeat` (vgg).

    Raises:
        InputError: An unknown name or option, a value the family refuses, or one that the name fixes already.

    Example:
        >>> model = build("resnet32", input_shape=(3, 32, 32), classes=10, width=32)
        >>> sum(p.numel() for p in model.parameters())
        1860522
    """
    family, fixed = _parse(name)
    given = {"depth": depth, "width": width, "activation": activation, **options}
    values = {key: value for key, value in given.items() if value is not None}
    for key, value in fixed.items():
        if values.setdefault(key, value) != value:
            raise InputError(f"{name!r} means {key} {value}, got {key}={values[key]!r}; leave {key} out")
    function = _FAMILIES[family]
    known = [p for p in inspect.signature(function).parameters if p not in ("input_shape", "classes")]
    for key in values:
        if key not in known:
            raise unknown(f"option of {name}", key, known)
    return function(input_shape, classes, **values)


def _parse(name: str) -> tuple[str, Mapping[str, Any]]:
    for pattern in _PATTERNS:
        match = re.fullmatch(pattern, name)
        if match:
            found = {key: value for key, value in match.groupdict().items() if value is not None}
            family = found.pop("family")
            return family, {key: _value(key, text) for key, text in found.items()}
    raise unknown("model", name, MODELS)


def _value(option: str, text: str) -> Any:
    if option == "widths":
        return tuple(map(int, text.split("-")))
    return True if option == "batch_norm" else int(text)
