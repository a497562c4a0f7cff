import numpy as np
import pytest

import pruneinit as pi
from pruneinit.errors import InputError, check_sparsity, check_whole
from pruneinit.seeds import derived


@pytest.mark.parametrize(
    "given, message",
    [
        (98, r"got 98; did you mean 0\.98\?"),
        (10**400, "got inf$"),
        (-(10**400), "got -inf$"),
        (float("inf"), "got inf$"),
        (float("nan"), "got nan$"),
        (1, "got 1$"),
        (True, "must be a number"),
        ("half", "must be a number"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_an_impossible_sparsity_is_named_in_one_line(given, message):
    with pytest.raises(InputError, match=message) as refused:
        check_sparsity(given)
    assert "\n" not in str(refused.value)


def test_a_possible_sparsity_is_given_back():
    assert [check_sparsity(value) for value in (0, 0.5, 0.999)] == [0.0, 0.5, 0.999]


def test_numpy_numbers_are_numbers():
    assert check_sparsity(np.float32(0.5)) == 0.5
    assert check_sparsity(np.int64(0)) == 0.0
    assert check_whole("rounds", np.int64(2)) == 2
    assert type(check_whole("rounds", np.int64(2))) is int


@pytest.mark.parametrize("seed", [None, "a", 1.0, True])
def test_seeds_are_whole_numbers(seed):
    for criterion in (pi.Random, pi.SmartRatio, pi.Phew, pi.NtkSap, pi.Obd):
        with pytest.raises(InputError, match="seed must be a whole number, got"):
            criterion(seed=seed)


def test_a_seed_of_numpy_gives_the_numbers_of_the_same_seed():
    assert derived("scores", np.int64(3)) == derived("scores", 3)
