"""From results to points, against a twin that looks at one number at a time."""

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outcomes import outcome
from pruneinit.report.collect import collect

SPARSITIES, DEPTHS, RATES, ROWS, SEEDS = (0.5, 0.9), (10, 30), (0.1, 0.01), ("a", "b"), (0, 1, 2, 3)
WHERE = [(row, depth) for row in ROWS for depth in DEPTHS]
PLACES = st.tuples(*(st.sampled_from(values) for values in (ROWS, DEPTHS, SPARSITIES, RATES, SEEDS)))
FRACTIONS = st.integers(0, 1000).map(lambda thousandths: thousandths / 1000)
MEASURED = st.one_of(st.none(), st.tuples(FRACTIONS, FRACTIONS, FRACTIONS))  # none: it failed


def made(place, numbers):
    row, depth, sparsity, lr, seed = place
    settings = {"depth": depth, "sparsity": sparsity}
    if numbers is None:
        return outcome(seed, row=row, lr=lr, settings=settings, why="OSError: no", densities={})
    test, validation, density = numbers
    densities = {"fc1.weight": density, "fc2.weight": 1.0}
    return outcome(seed, row=row, lr=lr, settings=settings, test=test, validation=validation, densities=densities)


def twin(found, row, depth, sparsity):
    """What a point is to hold, said as slowly as possible: (rate, accuracies, failed, densities of fc1)."""
    here = {rate: {s: found[row, depth, sparsity, rate, s] for s in SEEDS if (row, depth, sparsity, rate, s) in found}
            for rate in RATES}  # fmt: skip
    here = {rate: seeds for rate, seeds in here.items() if seeds}
    if not here:
        return None
    if len(here) == 1:
        (rate,) = here
    else:
        common = [s for s in SEEDS if all(s in seeds for seeds in here.values())]
        if not common:
            return None
        order = []
        for rate, seeds in here.items():
            values = [seeds[s][1] for s in common if seeds[s] is not None]
            order.append((len(common) - len(values), -statistics.fmean(values) if values else 0.0, rate))
        rate = min(order)[2]
    chosen = list(here[rate].values())
    done = [numbers for numbers in chosen if numbers is not None]
    return rate, [one[0] for one in done], len(chosen) - len(done), [one[2] for one in done]


@given(st.dictionaries(PLACES, MEASURED, max_size=40), st.randoms())
def test_points_hold_what_the_twin_finds(found, order):
    outcomes = [made(place, numbers) for place, numbers in found.items()]
    order.shuffle(outcomes)
    points = {
        (line.row, network.depth, point.sparsity): point
        for network in collect(outcomes)
        for line in network.lines
        for point in line.points
    }
    assert points.keys() == {(*where, s) for where in WHERE for s in SPARSITIES if twin(found, *where, s)}
    for row, depth in WHERE:
        for sparsity in SPARSITIES:
            expected, point = twin(found, row, depth, sparsity), points.get((row, depth, sparsity))
            if expected is None or point is None:
                continue
            rate, accuracies, failed, densities = expected
            assert point.rate == rate
            assert point.failed == failed
            assert (point.accuracy is None) == (not accuracies)
            if accuracies:
                assert point.accuracy.count == len(accuracies)
                assert point.accuracy.mean == pytest.approx(statistics.fmean(accuracies), abs=1e-12)
                assert point.densities["fc1.weight"] == pytest.approx(statistics.fmean(densities), abs=1e-12)
            if len(accuracies) > 1:
                assert point.accuracy.deviation == pytest.approx(statistics.stdev(accuracies), abs=1e-9)


def lines_of(*outcomes):
    (network,) = collect(outcomes)
    return network.lines


def test_networks_are_told_apart_by_data_model_depth_and_width():
    varied = [{}, {"data": "mnist"}, {"model": "vcnn"}, {"depth": 20}, {"width": 128}]
    found = collect(outcome(settings=settings) for settings in varied)
    assert [(one.data, one.name) for one in found] == [
        ("digits", "mlp, depth 10, width 64"),
        ("digits", "mlp, depth 10, width 128"),
        ("digits", "mlp, depth 20, width 64"),
        ("digits", "vcnn, depth 10, width 64"),
        ("mnist", "mlp, depth 10, width 64"),
    ]


def test_lines_of_one_name_are_told_apart_by_what_differs():
    criterion, scope = outcome(settings={"criterion": "grasp"}), outcome(settings={"scope": "erk"})
    labels = [line.label for line in lines_of(criterion, outcome(), scope, outcome(row="other"))]
    assert labels == ["edge, grasp, scope global", "edge, snip, scope erk", "edge, snip, scope global", "other"]


def test_without_a_row_a_line_is_called_what_was_done():
    settings = {"rescale": "layer"}
    assert lines_of(outcome(row=None, settings=settings))[0].label == "snip, edge init, rescaled (layer)"
    assert lines_of(outcome(row=None, settings={"criterion": "none"}))[0].label == "dense, edge init"


def test_a_dense_network_counts_once_whatever_sparsity_its_recipe_names():
    dense = [outcome(row="dense", settings={"criterion": "none", "sparsity": s}, test=0.8 + s) for s in (0.0, 0.1)]
    ((point,),) = (line.points for line in lines_of(*dense))
    assert point.sparsity == 0
    assert point.accuracy.count == 1


def test_a_computed_result_goes_before_a_failed_one_of_the_same_seed():
    failed = outcome(name="a", why="E: e")
    ((point,),) = (line.points for line in lines_of(failed, outcome(name="b")))
    assert (point.failed, point.accuracy.count) == (0, 1)


def test_rates_without_validation_are_lines_of_their_own():
    lines = lines_of(*(outcome(seed, lr=lr, validation=None) for lr in (0.1, 0.01) for seed in (0, 1)))
    assert [line.label for line in lines] == ["edge, training.lr 0.01", "edge, training.lr 0.1"]
    assert [line.points[0].accuracy.count for line in lines] == [2, 2]


def test_what_cannot_be_decided_yet_is_left_out_and_named():
    (line,) = lines_of(outcome(0, lr=0.1), outcome(1, lr=0.01))
    assert line.points == ()
    assert line.undecided == (0.9,)


def test_where_all_failed_the_smallest_rate_says_so():
    (line,) = lines_of(outcome(0, lr=0.1, why="E"), outcome(0, lr=0.01, why="E"))
    ((point,), label) = line.points, line.label
    assert (label, point.rate, point.failed, point.accuracy) == ("edge", 0.01, 1, None)


def test_diverged_ones_count_and_are_counted():
    ((point,),) = (line.points for line in lines_of(outcome(0, test=0.1, diverged=True), outcome(1, test=0.9)))
    assert (point.diverged, point.accuracy.mean) == (1, 0.5)


def test_emptied_layers_are_counted_for_each_seed():
    ((point,),) = (line.points for line in lines_of(outcome(0, empty=("fc1.weight",)), outcome(1), outcome(2, why="E")))
    assert point.emptied == [1, 0]
