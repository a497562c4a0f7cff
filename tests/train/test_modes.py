from __future__ import annotations

import pytest
from torch import nn

from pruneinit.train.modes import mode


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_a_mixture_of_modes_comes_back_after_an_exception(training):
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout())
    model[1].eval()
    before = [m.training for m in model.modules()]

    def fail():
        with mode(model, training):
            assert {m.training for m in model.modules()} == {training}
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert [m.training for m in model.modules()] == before
