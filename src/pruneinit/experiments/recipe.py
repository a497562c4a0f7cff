"""The recipe: the frozen description of one run. Its hash names the run."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

import yaml

from pruneinit.errors import InputError, check_sparsity, unknown
from pruneinit.train.config import Training

Init = Literal["default", "edge", "gaussian", "orthogonal", "delta_orthogonal"]
Residuals = Literal["plain", "stable"]
Criterion = Literal["none", "random", "magnitude", "snip"]
ScopeName = Literal["global", "layer", "erk"]
Rescale = Literal["none", "formula", "tap", "layer"]
Statistics = Literal["batch", "running"]


@dataclass(frozen=True)
class Recipe:
    """One run: data, network, initialisation, pruning, rescaling and training.

    Attributes:
        data: Data set: `digits` (needs no files), `mnist`, `fashion-mnist`, `cifar10`, `cifar100`, `tiny-imagenet`,
            `imagenet` or `folder:PATH`.
        validation: Share of the training images to hold out for validation, in [0, 1).
        model: Network: `mlp`, `vcnn`, `resnet32` (any 6n+2), `preact_resnet32`, `vgg16`, `vgg16_bn`, `3xvgg16`,
            `wrn-28-10`.
        depth: Weight layers of an `mlp` or `vcnn`.
        width: Neurons, or channels of the first stage.
        activation: Activation, by name.
        init: Initialisation: `default` (PyTorch's), `edge` (Gaussian on the Edge of Chaos), `gaussian` (with
            `sigma_w`, `sigma_b`), `orthogonal` or `delta_orthogonal` (on the Edge of Chaos).
        sigma_w: Weight scale σ_w of `gaussian`.
        sigma_b: Bias scale σ_b of `edge` and the orthogonal ones (unset is the activation's own) and of `gaussian`
            (unset is 0).
        residuals: `stable` divides each residual branch by the square root of their number (Stable ResNet).
        criterion: What to prune by: `none` (a dense run), `random`, `magnitude` (MBP) or `snip` (SBP).
        sparsity: Fraction of the prunable weights to remove, in [0, 1).
        scope: How it is shared out: `global`, `layer` or `erk`.
        rounds: Rounds of scoring and selecting.
        norm: Which statistics batch normalisation uses in scoring: `batch` or `running`.
        score_images: How many training images to score and calibrate on.
        rescale: `none`, the paper's `formula`, the same per kernel `tap`, or calibrated by `layer`.
        fold: Multiply the rescaling into the weights instead of keeping it as a fixed factor.
        seed: Of everything random.
        training: How to train.

    Raises:
        InputError: A value is impossible; the message names it.

    Example:
        >>> recipe = Recipe(model="mlp", depth=20, criterion="snip", sparsity=0.9)
        >>> recipe.name
        'digits-mlp-snip-...'
        >>> Recipe(sparsity=98)
        Traceback (most recent call last):
        ...
        pruneinit.errors.InputError: sparsity must be in [0, 1), got 98; did you mean 0.98?
    """

    data: str = "digits"
    validation: float = 0.0
    model: str = "mlp"
    depth: int | None = None
    width: int | None = None
    activation: str | None = None
    init: Init = "edge"
    sigma_w: float | None = None
    sigma_b: float | None = None
    residuals: Residuals = "plain"
    criterion: Criterion = "snip"
    sparsity: float = 0.9
    scope: ScopeName = "global"
    rounds: int = 1
    norm: Statistics = "batch"
    score_images: int = 100
    rescale: Rescale = "none"
    fold: bool = False
    seed: int = 0
    training: Training = field(default_factory=Training)

    def __post_init__(self) -> None:
        check_sparsity(self.sparsity)
        for name, kind in (("init", Init), ("residuals", Residuals), ("criterion", Criterion), ("scope", ScopeName),
                           ("rescale", Rescale), ("norm", Statistics)):  # fmt: skip
            if getattr(self, name) not in get_args(kind):
                raise unknown(name, str(getattr(self, name)), get_args(kind))
        for name in ("rounds", "score_images"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.validation < 1:
            raise InputError(f"validation must be in [0, 1), got {self.validation:g}")
        if not 0 <= self.seed < 2**63:
            raise InputError(f"seed must be in [0, 2^63), got {self.seed}")
        if (self.sigma_w is not None) != (self.init == "gaussian"):
            raise InputError(
                f"sigma_w goes with init='gaussian' and only there, got init={self.init!r}, sigma_w={self.sigma_w}"
            )
        if self.sigma_b is not None and self.init == "default":
            raise InputError(f"sigma_b={self.sigma_b} would be ignored by init='default'; leave it out")
        if self.criterion == "none" and self.rescale != "none":
            raise InputError(f"rescale={self.rescale!r} needs something pruned, got criterion='none'")
        if self.fold and self.rescale == "none":
            raise InputError("fold=True would be ignored by rescale='none'; leave it out")

    @property
    def hash(self) -> str:
        """Ten hexadecimal digits that any change of a setting changes."""
        text = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=5).hexdigest()

    @property
    def name(self) -> str:
        """The name of the run's folder."""
        data = Path(self.data.replace(":", "-")).name
        return f"{data}-{self.model}-{self.criterion}-{self.hash}"

    def to_yaml(self) -> str:
        """The recipe as YAML, which `from_yaml` and `pruneinit run --config` read."""
        values = json.loads(json.dumps(dataclasses.asdict(self)))  # tuples as lists
        return yaml.safe_dump(values, sort_keys=False)

    @staticmethod
    def from_yaml(path: str | Path) -> Recipe:
        """Read a recipe.

        Raises:
            InputError: The file is missing, is not YAML, has a key that no recipe has, or an impossible value.
        """
        try:
            values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise InputError(f"cannot read the recipe {path}: {str(error).splitlines()[0]}") from error
        if not isinstance(values, dict):
            raise InputError(f"{path} is no recipe: expected settings like 'model: mlp', got {type(values).__name__}")
        recipe: Recipe = _build(Recipe, values)
        return recipe


def _build(kind: type[Any], values: Mapping[str, Any]) -> Any:
    known = get_type_hints(kind)
    for key in values:
        if key not in known:
            raise unknown("setting", str(key), known)
    given = dict(values)
    if "training" in given:
        if not isinstance(given["training"], Mapping):
            raise InputError(f"training must be a mapping of settings, got {given['training']!r}")
        given["training"] = _build(Training, given["training"])
    if isinstance(given.get("milestones"), list):
        given["milestones"] = tuple(given["milestones"])
    try:
        return kind(**given)
    except TypeError as error:
        raise InputError(f"the recipe has a value of the wrong type: {error}") from error
