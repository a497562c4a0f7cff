"""The recipe: the frozen description of one run. Its hash names the run."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_type_hints

import yaml

from pruneinit.errors import InputError, check_sparsity, unknown
from pruneinit.experiments.offered import OFFERED, rounds
from pruneinit.train.config import Training, check_number, check_truth, check_whole

RESULTS_VERSION = 1
"""Part of every recipe's hash. Raise it whenever a change of the code gives some recipe other numbers (an
initialisation, a score, the order of random draws, the training), so that results of before are not taken for those of
now: their folders keep their names, and the same recipe gets a new one."""

Init = Literal["default", "edge", "gaussian", "orthogonal", "delta_orthogonal", "sparse_orthogonal"]
Residuals = Literal["plain", "stable"]
MYPY = False  # true to mypy, which knows no types made at run time; jsonargparse takes TYPE_CHECKING for true too
if MYPY:  # noqa: SIM108  # in one line it would be no type
    Criterion = str
else:
    Criterion = Literal["none", *OFFERED]
ScopeName = Literal["global", "layer", "uniform+", "erk", "erk+", "ends", "igq"]
Sanity = Literal["none", "shuffle", "reinitialize", "invert"]
Rescale = Literal["none", "formula", "tap", "layer", "neuron"]
Between = Literal["none", "layer", "neuron"]
Statistics = Literal["batch", "running"]


@dataclass(frozen=True)
class Recipe:
    """One run: data, network, initialisation, pruning, rescaling and training.

    Attributes:
        data: Data set: `digits` (needs no files), `mnist`, `fashion-mnist`, `cifar10`, `cifar100`, `tiny-imagenet`,
            `imagenet` or `folder:PATH`.
        validation: Share of the training images to hold out for validation, in [0, 1).
        train_images: How many of the training images that are left to learn from, drawn by the seed; unset are all.
        model: Network: `mlp`, `mlp-300-100` (hidden widths, which recur), `vcnn` (`vcnn-2`: two strides first),
            `resnet32` (any 6n+2), `preact_resnet32`, `vgg16`, `vgg16_bn`, `3xvgg16`, `wrn-28-10`.
        depth: Weight layers of an `mlp` or `vcnn`.
        width: Neurons, or channels of the first stage.
        activation: Activation, by name.
        init: Initialisation: `default` (PyTorch's), `edge` (Gaussian on the Edge of Chaos), `gaussian` (with
            `sigma_w`, `sigma_b`), `orthogonal`, `delta_orthogonal` (on the Edge of Chaos) or `sparse_orthogonal`
            (`magnitude` removes its zeros, others share them out).
        sigma_w: Weight scale σ_w of `gaussian`.
        sigma_b: Bias scale σ_b of `edge` and the orthogonal ones (unset is the activation's own) and of `gaussian`
            (unset is 0).
        mirrored: Begin with halves of neurons that are each other's negatives, by an orthogonal `init` (unset is as it
            suits a sparse one).
        residuals: `stable` divides each residual branch by the square root of their number (Stable ResNet).
        criterion: What to prune by, `snip` being SBP and `magnitude` MBP; with `none` the run is dense.
        sparsity: Fraction of the prunable weights to remove, in [0, 1).
        scope: How it is shared out: `global` (`sparse_orthogonal`: `ends`), `layer`, `uniform+`, `erk`, `erk+`,
            `ends` or `igq`.
        rounds: Rounds of scoring and selecting; unset are the criterion's own, for most 1.
        sanity: Spoil the masks to check the criterion: `shuffle` or `reinitialize` each layer, `invert` the scores.
        norm: Which statistics batch normalisation uses in scoring: `batch` or `running`.
        score_images: How many training images to score and calibrate on.
        rescale: `none`, the paper's `formula`, the same per kernel `tap`, or calibrated by `layer` or by `neuron`.
        rescale_between: Calibrate between the rounds of pruning too: by `layer`, by `neuron`, or `none`.
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
    train_images: int | None = None
    model: str = "mlp"
    depth: int | None = None
    width: int | None = None
    activation: str | None = None
    init: Init = "edge"
    sigma_w: float | None = None
    sigma_b: float | None = None
    mirrored: bool | None = None
    residuals: Residuals = "plain"
    criterion: Criterion = "snip"
    sparsity: float = 0.9
    scope: ScopeName = "global"
    rounds: int | None = None
    sanity: Sanity = "none"
    norm: Statistics = "batch"
    score_images: int = 100
    rescale: Rescale = "none"
    rescale_between: Between = "none"
    fold: bool = False
    seed: int = 0
    training: Training = field(default_factory=Training)

    def __post_init__(self) -> None:
        check_sparsity(self.sparsity)
        for name, kind in (("init", Init), ("residuals", Residuals), ("criterion", Criterion), ("scope", ScopeName),
                           ("sanity", Sanity), ("rescale", Rescale), ("rescale_between", Between),
                           ("norm", Statistics)):  # fmt: skip
            if getattr(self, name) not in get_args(kind):
                raise unknown(name, str(getattr(self, name)), get_args(kind))
        for name in ("data", "model", "activation"):
            if not isinstance(getattr(self, name), (str, NoneType) if name == "activation" else str):
                raise InputError(f"{name} must be a name, got {getattr(self, name)!r}")
        check_whole("score_images", self.score_images)
        for name in ("train_images", "depth", "width", "rounds"):
            if getattr(self, name) is not None:
                check_whole(name, getattr(self, name))
        check_number("validation", self.validation, least=0.0, below=1.0)
        if not isinstance(self.seed, int) or isinstance(self.seed, bool) or not 0 <= self.seed < 2**63:
            raise InputError(f"seed must be a whole number in [0, 2^63), got {self.seed!r}")
        if self.sigma_w is not None:
            check_number("sigma_w", self.sigma_w, above=0.0)
        if self.sigma_b is not None:
            check_number("sigma_b", self.sigma_b, least=0.0)
        check_truth("fold", self.fold)
        if self.mirrored is not None:
            check_truth("mirrored", self.mirrored)
            if self.init not in ("orthogonal", "sparse_orthogonal"):
                raise InputError(f"mirrored goes with orthogonal initialisations alone, got init={self.init!r}")
            if self.init == "orthogonal" and not self.mirrored:
                object.__setattr__(self, "mirrored", None)  # it is not mirrored unless asked: one recipe, one hash
        if not isinstance(self.training, Training):
            raise InputError(f"training must be a mapping of settings such as 'epochs: 10', got {self.training!r}")
        if (self.sigma_w is not None) != (self.init == "gaussian"):
            raise InputError(
                f"sigma_w goes with init='gaussian' and only there, got init={self.init!r}, sigma_w={self.sigma_w}"
            )
        if self.sigma_b is not None and self.init == "default":
            raise InputError(f"sigma_b={self.sigma_b} would be ignored by init='default'; leave it out")
        if self.init == "sparse_orthogonal" and self.criterion == "none":
            raise InputError("init='sparse_orthogonal' needs something pruned: set criterion='magnitude', say")
        if self.init == "sparse_orthogonal" and self.criterion == "magnitude" and self.scope == "global":
            object.__setattr__(self, "scope", "ends")  # its zeros are shared out by layers: one recipe, one hash
        for name in ("rescale", "rescale_between", "sanity"):
            if self.criterion == "none" and getattr(self, name) != "none":
                raise InputError(f"{name}={getattr(self, name)!r} needs something pruned, got criterion='none'")
        if self.redraws:
            self._refuse_ignored_by_redrawing()
        if self.rescale_between != "none" and rounds(self) == 1:
            raise InputError(
                f"rescale_between={self.rescale_between!r} rescales between rounds, and there is one: set rounds "
                "to 20, say"
            )
        if self.fold and self.rescale == "none":
            raise InputError("fold=True would be ignored by rescale='none'; leave it out")

    def _refuse_ignored_by_redrawing(self) -> None:
        """What has no say where a criterion only says how many weights each layer keeps."""
        usual = {"scope": "global", "residuals": "plain", "sanity": "none"}
        given = {name: getattr(self, name) for name in usual}
        if given["sanity"] == "invert":
            del given["sanity"]
        odd = [f"{name}={value!r}" for name, value in given.items() if value != usual[name]]
        if odd:
            raise InputError(
                f"init='sparse_orthogonal' with criterion={self.criterion!r} draws as many weights in each layer as "
                f"the criterion keeps of a plain network, wherever they are, and does not go with {', '.join(odd)}: "
                "leave that out, or set criterion='magnitude'"
            )

    @property
    def redraws(self) -> bool:
        """Whether the criterion only says how many weights each layer keeps, which are then drawn sparse orthogonal."""
        return self.init == "sparse_orthogonal" and self.criterion != "magnitude"

    @property
    def hash(self) -> str:
        """Ten hexadecimal digits that any change of a setting changes, and any change of what it computes."""
        values = _plain(self) | {"rounds": rounds(self)}
        # Settings that came later are left out where they change nothing: older runs keep their names.
        values = _without_later(values | {"training": _without_later(values["training"])})
        if self.redraws:
            values |= {"redraws": True}  # it was no such thing before
        text = json.dumps([RESULTS_VERSION, values], sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=5).hexdigest()

    @property
    def name(self) -> str:
        """The name of the run's folder."""
        data = Path(self.data.replace(":", "-")).name
        return f"{data}-{self.model}-{self.criterion}-{self.hash}"

    def to_yaml(self) -> str:
        """The recipe as YAML, which `from_yaml` and `pruneinit run --config` read."""
        return yaml.safe_dump(self.to_mapping(), sort_keys=False)

    @staticmethod
    def from_yaml(path: str | Path) -> Recipe:
        """Read a recipe.

        Raises:
            InputError: The file is missing, is not YAML, has a key that no recipe has, or an impossible value.
        """
        try:
            values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"cannot read the recipe {path}: {error.strerror}") from error
        except (
            ValueError,
            RecursionError,
            yaml.YAMLError,
        ) as error:  # not UTF-8, an impossible date, a bottomless list
            raise InputError(
                f"cannot read the recipe {path}: {_why(error)}; expected YAML like 'model: mlp'"
            ) from error
        if not isinstance(values, dict):
            raise InputError(f"{path} is no recipe: expected settings like 'model: mlp', got {type(values).__name__}")
        try:
            return Recipe.from_mapping(values)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error

    def to_mapping(self) -> dict[str, Any]:
        """All settings as what JSON and YAML hold; `from_mapping` reads them.

        Example:
            >>> Recipe.from_mapping(Recipe(depth=5).to_mapping()) == Recipe(depth=5)
            True
        """
        values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))  # tuples as lists
        return values

    @staticmethod
    def from_mapping(values: Mapping[str, Any]) -> Recipe:
        """The recipe of these settings, `training` a mapping of its own.

        Raises:
            InputError: A key that no recipe has, or an impossible value.

        Example:
            >>> Recipe.from_mapping({"depth": 5, "training": {"lr": 0.5}}).training.lr
            0.5
        """
        recipe: Recipe = _build(Recipe, values)
        return recipe


# What settings that came later are where they change nothing.
_LATER = (
    *(("sanity", "none"), ("train_images", None), ("rescale_between", "none"), ("mirrored", None)),
    ("sparse", False),  # of the training
    ("cuda_graph", False),
)


def _without_later(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if (name, value) not in _LATER}


_TYPES: dict[type[Any], dict[str, Any]] = {}


def _hints(kind: type[Any]) -> dict[str, Any]:
    """The types of the settings; reading them off takes a millisecond, and a grid has thousands of recipes."""
    if kind not in _TYPES:
        _TYPES[kind] = get_type_hints(kind)
    return _TYPES[kind]


def _plain(settings: Recipe | Training) -> dict[str, Any]:
    """The settings in JSON, whole numbers as floats where numbers are meant: 1 and 1.0 are one recipe."""
    hints = _hints(type(settings))
    values: dict[str, Any] = {}
    for name, hint in hints.items():
        value = getattr(settings, name)
        if isinstance(value, Training):
            value = _plain(value)
        elif isinstance(value, int) and float in (hint, *get_args(hint)):
            value = float(value)
        elif isinstance(value, tuple):
            value = [float(item) for item in value]
        values[name] = value
    return values


def _why(error: Exception) -> str:
    """What is wrong with a file, and where."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if mark is not None:
        return f"line {mark.line + 1}: {problem}"
    return (str(error).splitlines() or [type(error).__name__])[0]


def _build(kind: type[Any], values: Mapping[str, Any]) -> Any:
    known = _hints(kind)
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
