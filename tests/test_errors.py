import pytest

from pruneinit.errors import InputError, check_sparsity


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
