from __future__ import annotations

from dataclasses import dataclass, field, fields

import jsonargparse
import pytest

from pruneinit.errors import InputError
from pruneinit.train import Training

WRONG = {
    "epochs": (0, -1, 2.5, True, "3"),
    "batch_size": (0, 1.0),
    "optimizer": ("adam", ""),
    "lr": (0.0, -0.1, float("nan"), float("inf"), "0.1", 10**400),
    "momentum": (-0.1, 1.0),
    "nesterov": (1, "yes"),
    "weight_decay": (-1e-4, float("nan")),
    "schedule": ("cosin",),
    "milestones": ((0.0, 0.5), (0.5, 1.0), (0.75, 0.5), (0.5, 0.5), [0.5], 0.5),
    "gamma": (0.0, 1.5),
    "warmup_epochs": (-1, 160),
    "label_smoothing": (-0.1, 1.0),
    "augment": (None,),
    "amp": ("fp16",),
    "channels_last": (0,),
    "sparse": (1,),
    "cuda_graph": (1,),
    "compile": ("true",),
    "clip_norm": (0.0, -1.0, float("inf")),
}


@pytest.mark.parametrize(
    "name, value",
    [pytest.param(name, value, id=f"{name}={str(value)[:20]}") for name, values in WRONG.items() for value in values],
)
def test_a_wrong_value_is_named_in_one_line(name, value):
    with pytest.raises(InputError, match=f"{name.rstrip('s')}.*got|unknown {name}") as caught:
        Training(**{name: value})
    assert "\n" not in str(caught.value)


def test_every_setting_is_checked_above():
    assert set(WRONG) == {f.name for f in fields(Training)}


@pytest.mark.parametrize("settings", [{"momentum": 0.0}, {"optimizer": "adamw"}], ids=["no momentum", "adamw"])
def test_nesterov_where_it_would_be_ignored(settings):
    with pytest.raises(InputError, match="nesterov needs SGD with a momentum"):
        Training(nesterov=True, **settings)


@pytest.mark.parametrize("other", [{"compile": True}, {"channels_last": True}, {"amp": "bf16"}], ids=str)
def test_sparse_products_with_what_they_would_not_follow(other):
    with pytest.raises(InputError, match="leave out amp, channels_last and compile"):
        Training(sparse=True, **other)


def test_a_graph_of_a_step_needs_sgd():
    with pytest.raises(InputError, match="cuda_graph=True needs optimizer='sgd', got 'adamw'"):
        Training(optimizer="adamw", cuda_graph=True)


def test_every_setting_is_documented():
    missing = [
        f.name
        for f in fields(Training)
        if f"        {f.name}: " not in (Training.__doc__ or "").replace("    ", " " * 8)
    ]
    assert missing == []


@dataclass(frozen=True)
class Recipe:
    """A recipe as the command line will have it.

    Attributes:
        training: How to train.
    """

    training: Training = field(default_factory=Training)


def test_a_nested_command_line_gives_it():
    given = ["--training.epochs=3", "--training.milestones=[0.3,0.6]", "--training.clip_norm=1.5"]
    recipe = jsonargparse.auto_cli(Recipe, args=given)
    assert recipe == Recipe(Training(epochs=3, milestones=(0.3, 0.6), clip_norm=1.5))


def test_the_command_line_shows_what_each_setting_means(capsys):
    with pytest.raises(SystemExit):
        jsonargparse.auto_cli(Recipe, args=["--help"])
    assert "Images a step, over all processes together" in " ".join(capsys.readouterr().out.split())
