"""Which learning rate stands for all."""

from outcomes import outcome
from pruneinit.report.rates import chosen_rate


def rates(**found):
    """Validation accuracies of seeds 0, 1, ... by rate; None is a failed one, and ... one without a result."""
    return {
        float(f"0.{name[1:]}"): {
            seed: outcome(seed, why="E: e") if value is None else outcome(seed, validation=value, test=1 - value)
            for seed, value in enumerate(values)
            if value is not ...
        }
        for name, values in found.items()
    }


def test_validation_decides_and_test_data_has_no_say():
    assert chosen_rate(rates(r1=[0.5, 0.7], r2=[0.6, 0.8])) == 0.2


def test_of_equals_the_smallest():
    assert chosen_rate(rates(r3=[0.5], r1=[0.5], r2=[0.5])) == 0.1


def test_a_rate_at_which_a_seed_failed_is_not_chosen():
    assert chosen_rate(rates(r1=[0.9, None], r2=[0.3, 0.4])) == 0.2


def test_where_all_rates_failed_somewhere_the_one_that_failed_least():
    assert chosen_rate(rates(r1=[0.9, None, None], r2=[None, 0.3, 0.4])) == 0.2


def test_only_the_seeds_that_all_rates_have_are_compared():
    assert chosen_rate(rates(r1=[0.5, 0.99], r2=[0.6])) == 0.2


def test_without_such_a_seed_nothing_is_chosen():
    assert chosen_rate(rates(r1=[0.5, ...], r2=[..., 0.6])) is None


def test_a_single_rate_needs_no_validation():
    assert chosen_rate({0.1: {0: outcome(validation=None)}}) == 0.1
