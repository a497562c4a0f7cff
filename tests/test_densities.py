"""How many weights each layer keeps, against plain loops in fractions and in decimals of sixty digits."""

import decimal
import itertools
import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import pruneinit as pi
from pruneinit import Masks, select
from pruneinit.densities import RULES, counts

SHAPES = {
    "stem": (16, 3, 3, 3),
    "grouped": (32, 4, 3, 3),
    "depthwise": (32, 1, 3, 3),
    "pointwise": (64, 32, 1, 1),
    "wide": (128, 256),
    "fc": (10, 64),
}


def sizes_of(shapes):
    return {name: math.prod(shape) for name, shape in shapes.items()}


def bounds(rule, shapes, room, keep):
    """The least and the most that a rule lets each layer keep."""
    least, names = dict.fromkeys(shapes, 0), list(shapes)
    if rule == "uniform+":
        convs = [name for name in names if len(shapes[name]) >= 3]
        linear = [name for name in names if len(shapes[name]) < 3]
        if linear:
            size = math.prod(shapes[linear[-1]])
            least[linear[-1]] = min((size + 4) // 5, room[linear[-1]])
        if convs:
            least[convs[0]] = room[convs[0]]
    if rule == "erk+":
        total = sum(math.prod(shape) for shape in shapes.values())
        least[names[0]] = min(Fraction(room[names[0]]), Fraction(math.prod(shapes[names[0]]) * keep, total))
    most = dict(room)
    if rule == "ends":
        total = sum(math.prod(shape) for shape in shapes.values())
        first = Fraction(math.prod(shapes[names[0]]), total)
        least[names[0]] = min(Fraction(room[names[0]]), max(first, Fraction(3, 10)) * keep)
        # a weight each for the outputs between, five for those of the last layer
        asked = sum(shapes[name][0] for name in names[1:-1]) + 5 * shapes[names[-1]][0]
        cap = max(Fraction(keep, 4), (keep - least[names[0]]) * 5 * shapes[names[-1]][0] / asked)
        most[names[-1]] = min(room[names[-1]], max(cap, Fraction(keep - sum(room[n] for n in names[:-1]))))
    return least, most


def linear_twin(rule, shapes, keep, room):
    """Walk over every t at which a layer reaches a bound, to the piece of the sum on which it is `keep`."""
    parts = {n: sum(s) if rule in ("erk", "erk+", "ends") else math.prod(s) for n, s in shapes.items()}
    least, most = bounds(rule, shapes, room, keep)

    def filled(t):
        return {n: min(max(t * parts[n], Fraction(least[n])), Fraction(most[n])) for n in shapes}

    corners = sorted({Fraction(b[n], parts[n]) for b in (least, most) for n in shapes if parts[n]} | {Fraction(0)})
    for low, high in itertools.pairwise(corners):
        at_low, at_high = sum(filled(low).values()), sum(filled(high).values())
        if at_low <= keep <= at_high and at_low < at_high:
            return filled(low + (high - low) * (keep - at_low) / (at_high - at_low))
    return filled(corners[-1] if keep else corners[0])


def ideal_gas_twin(shapes, keep, room):
    """Halve the interval of F three hundred times, in sixty digits."""
    sizes = sizes_of(shapes)
    with decimal.localcontext(prec=60):
        low, high = decimal.Decimal(0), decimal.Decimal(10) ** 6

        def filled(force):
            return {n: min(decimal.Decimal(room[n]), sizes[n] / (1 + force * sizes[n])) for n in shapes}

        for _ in range(300):
            middle = (low + high) / 2
            if sum(filled(middle).values()) > keep:
                low = middle
            else:
                high = middle
        return {n: Fraction(share) for n, share in filled(high).items()} if keep else dict.fromkeys(shapes, Fraction(0))


def twin(rule, shapes, keep, room):
    return ideal_gas_twin(shapes, keep, room) if rule == "igq" else linear_twin(rule, shapes, keep, room)


@st.composite
def problems(draw):
    """Shapes of up to six layers, room in each, and how many to keep; of a rule that allows it."""
    dimensions = st.integers(1, 9)
    shape = st.tuples(dimensions, dimensions) | st.tuples(dimensions, dimensions, dimensions, dimensions)
    shapes = {f"layer{i}": s for i, s in enumerate(draw(st.lists(shape, min_size=1, max_size=6)))}
    full = draw(st.booleans())
    room = {n: size if full else draw(st.integers(0, size)) for n, size in sizes_of(shapes).items()}
    rule = draw(st.sampled_from(RULES))
    keep = draw(st.integers(sum(bounds(rule, shapes, room, 0)[0].values()), sum(room.values())))
    return rule, shapes, keep, room


@given(problems())
def test_counts_are_exact_within_bounds_and_within_one_weight_of_the_twins_shares(problem):
    rule, shapes, keep, room = problem
    found, expected = counts(rule, shapes, keep, room), twin(*problem)
    least, most = bounds(rule, shapes, room, keep)
    assert list(found) == list(shapes)
    assert sum(found.values()) == keep
    for name, share in expected.items():
        assert math.floor(least[name]) <= found[name] <= math.ceil(most[name])
        assert abs(found[name] - share) < 1 + Fraction(1, 10**9)


@given(problems())
def test_the_largest_remainders_are_rounded_up(problem):
    rule, shapes, keep, room = problem
    expected = twin(*problem)
    rounded = {n: math.floor(share) for n, share in expected.items()}
    left = keep - sum(rounded.values())
    ordered = sorted(shapes, key=lambda n: (rounded[n] - expected[n], list(shapes).index(n)))
    if rule == "igq":  # the library has sixteen digits: no layers may be as good as equal
        remainders = sorted([expected[n] - rounded[n] for n in shapes] + [Fraction(0), Fraction(1)])
        gaps = [b - a for a, b in itertools.pairwise(remainders) if a != b]
        if min(gaps) < Fraction(1, 10**9):
            return
    for name in ordered[:left]:
        rounded[name] += 1
    assert counts(rule, shapes, keep, room) == rounded


@given(problems(), st.integers(0, 300))
def test_no_layer_loses_more_than_one_weight_when_more_are_kept(problem, more):
    rule, shapes, keep, room = problem
    fewer = counts(rule, shapes, keep, room)
    found = counts(rule, shapes, min(keep + more, sum(room.values())), room)
    assert all(found[name] >= fewer[name] - 1 for name in shapes)


@given(st.lists(st.integers(1, 500), min_size=2, max_size=6), st.floats(0, 1))
def test_ideal_gas_makes_larger_layers_sparser(sizes, share):
    shapes = {str(i): (size, 1) for i, size in enumerate(sorted(sizes))}
    room = sizes_of(shapes)
    found = counts("igq", shapes, round(share * sum(sizes)), room)
    names = list(shapes)
    for smaller, larger in itertools.pairwise(names):
        assert found[smaller] <= found[larger] + 1
        assert (found[smaller] + 1) / room[smaller] >= (found[larger] - 1) / room[larger]


@pytest.mark.parametrize("rule", ["layer", "uniform"])
def test_uniform_layers_have_the_same_density_up_to_one_weight(rule):
    sizes = sizes_of(SHAPES)
    keep = round(0.17 * sum(sizes.values()))
    for name, kept in counts(rule, SHAPES, keep, sizes).items():
        assert abs(kept - keep * sizes[name] / sum(sizes.values())) < 1


def test_erk_is_the_definition_of_rigl_with_the_layers_that_would_be_above_one_kept_whole():
    """One minus sparsity, s = 1 - eps (n_in + n_out + w + h) / (n_in n_out w h), eps solved for as RigL does."""
    sizes, dense = sizes_of(SHAPES), set()
    keep = round(0.2 * sum(sizes.values()))
    raw = {name: sum(shape) / math.prod(shape) for name, shape in SHAPES.items()}
    while True:
        free = [name for name in SHAPES if name not in dense]
        epsilon = (keep - sum(sizes[n] for n in dense)) / sum(raw[n] * sizes[n] for n in free)
        highest = max(raw[name] for name in free)
        if epsilon * highest <= 1:
            break
        dense |= {name for name in free if raw[name] == highest}
    found = counts("erk", SHAPES, keep, sizes)
    assert dense == {"depthwise", "fc"}  # that the example has some
    for name, size in sizes.items():
        assert abs(found[name] - (size if name in dense else epsilon * raw[name] * size)) < 1


@pytest.mark.parametrize("wide, same", [(784, False), (16, True)])
def test_the_first_layer_is_never_sparser_than_the_whole_by_erk_plus(wide, same):
    shapes = {"first": (200, wide), "narrow": (50, 200), "wide": (200, 50), "last": (10, 200)}
    sizes = sizes_of(shapes)
    keep = round(0.05 * sum(sizes.values()))
    plain, found = counts("erk", shapes, keep, sizes), counts("erk+", shapes, keep, sizes)
    assert (found == plain) == same
    assert found["first"] == max(plain["first"], round(0.05 * sizes["first"]))
    left = [name for name in shapes if name != "first"]
    for name in left:  # the others are by ERK
        share = (keep - found["first"]) * sum(shapes[name]) / sum(sum(shapes[n]) for n in left)
        assert abs(found[name] - share) < 1


@pytest.mark.parametrize(
    "shapes, first, last_of_left",
    [
        ({"first": (100, 64), "a": (100, 100), "b": (100, 100), "last": (10, 100)}, 0.3, None),
        ({"first": (300, 784), "a": (100, 300), "last": (10, 100)}, 235_200 / 266_200, None),
        ({"first": (2, 1, 3, 3), "a": (16, 2, 3, 3), "b": (16, 16, 3, 3), "last": (10, 784)}, None, 50 / 82),
        ({"first": (64, 9), "a": (64, 64, 3, 3), "b": (64, 64, 3, 3), "last": (10, 784)}, 0.3, 0.25 / 0.7),
        ({"first": (64, 9), "a": (64, 64, 3, 3), "b": (64, 64, 3, 3), "last": (100, 1568)}, None, 500 / 628),
    ],
    ids=["few-inputs", "many-inputs", "narrow-between", "both-ends", "many-classes"],
)
def test_ends_bounds_what_the_first_and_the_last_layer_keep(shapes, first, last_of_left):
    sizes = sizes_of(shapes)
    keep = round(0.02 * sum(sizes.values()))
    plain, found = counts("erk", shapes, keep, sizes), counts("ends", shapes, keep, sizes)
    assert sum(found.values()) == keep
    assert abs(found["first"] - (sizes["first"] if first is None else first * keep)) <= 1
    assert plain["first"] < found["first"]
    if last_of_left is not None:
        assert abs(found["last"] - last_of_left * (keep - found["first"])) <= 1
        assert plain["last"] > found["last"]
    inner = [name for name in shapes if name not in ("first", "last")]
    each = {name: found[name] / sum(shapes[name]) for name in inner}
    assert max(each.values()) - min(each.values()) <= 1.01 / min(sum(shapes[name]) for name in inner)


@pytest.mark.parametrize("within", [0, 10])
def test_where_the_others_have_no_room_the_last_layer_keeps_more_by_ends(within):
    shapes = {"first": (10, 10), "a": (20, 20), "last": (10, 400)}
    found = counts("ends", shapes, 1000, {"first": within, "a": within, "last": 4000})
    assert found == {"first": within, "a": within, "last": 1000 - 2 * within}


@pytest.mark.parametrize("rule", RULES)
def test_a_tensor_without_values_takes_nothing(rule):
    shapes = {"a": (3, 4), "b": (0, 5)}
    assert counts(rule, shapes, 6, sizes_of(shapes)) == {"a": 6, "b": 0}


def test_a_grouped_convolution_has_the_erk_share_of_its_own_tensor():
    model = torch.nn.Sequential(torch.nn.Conv2d(8, 16, 3, groups=4), torch.nn.Conv2d(16, 64, 3))
    shapes = {found.name: found.shape for found in pi.prunable(model).values()}
    assert shapes["0.weight"] == (16, 2, 3, 3)
    found = counts("erk", shapes, 110, sizes_of(shapes))
    assert found == {"0.weight": 24, "1.weight": 86}  # 16 + 2 + 3 + 3 to 64 + 16 + 3 + 3


def test_uniform_plus_keeps_the_first_convolution_and_a_fifth_of_the_last_linear_layer():
    sizes = sizes_of(SHAPES)
    keep = round(0.05 * sum(sizes.values()))
    found = counts("uniform+", SHAPES, keep, sizes)
    assert found["stem"] == sizes["stem"]
    assert found["fc"] == 128
    others = ["grouped", "depthwise", "pointwise", "wide"]
    density = (keep - found["stem"] - 128) / sum(sizes[name] for name in others)
    assert all(abs(found[name] - density * sizes[name]) < 1 for name in others)


def test_uniform_plus_gives_the_last_linear_layer_the_common_density_where_that_is_more():
    sizes = sizes_of(SHAPES)
    found = counts("uniform+", SHAPES, round(0.5 * sum(sizes.values())), sizes)
    assert found["fc"] / sizes["fc"] == pytest.approx(found["wide"] / sizes["wide"], abs=2e-3)


def test_uniform_plus_without_convolutions_has_a_least_for_the_last_layer_alone():
    shapes = {"a": (5, 4), "b": (10, 10), "c": (3, 10)}
    assert counts("uniform+", shapes, 40, sizes_of(shapes)) == {"a": 5, "b": 27, "c": 8}
    assert counts("uniform+", shapes, 12, sizes_of(shapes)) == {"a": 1, "b": 5, "c": 6}


def test_uniform_plus_without_linear_layers_keeps_the_first_convolution():
    shapes = {"a": (5, 2, 2), "b": (10, 5, 2), "c": (3, 10, 2)}
    assert counts("uniform+", shapes, 52, sizes_of(shapes)) == {"a": 20, "b": 20, "c": 12}


def test_uniform_plus_finds_its_layers_behind_others():
    shapes = {"embed": (10, 10), "conv": (5, 2, 2), "fc": (10, 5), "upsample": (10, 10, 1)}
    found = counts("uniform+", shapes, 70, sizes_of(shapes))
    assert found == {"embed": 20, "conv": 20, "fc": 10, "upsample": 20}


def test_a_sparsity_that_the_rule_does_not_allow_is_refused_with_the_highest_one():
    scores = {name: torch.rand(shape) for name, shape in SHAPES.items()}
    with pytest.raises(pi.InputError, match=r"'uniform\+' keeps stem whole and 20 % of fc, 560 of 37,328 .*") as caught:
        select(scores, 0.99, "uniform+")
    highest = float(str(caught.value).rpartition(" ")[2])
    assert select(scores, highest, "uniform+").counts["stem"] == (432, 432)
    with pytest.raises(pi.InputError, match="the highest possible sparsity is"):
        select(scores, highest + 2e-4, "uniform+")


def test_a_layer_that_is_alone_has_its_least():
    assert select({"a": torch.rand(3, 3)}, 0.5, "uniform+").kept == 4
    with pytest.raises(pi.InputError, match=r"keeps 20 % of a, 2 of 9 weights, but only 1 are.*sparsity is 0.7777$"):
        select({"a": torch.rand(3, 3)}, 0.9, "uniform+")
    with pytest.raises(pi.InputError, match=r"keeps a whole, 9 of 9 weights, but only 4 are.*sparsity is 0$"):
        select({"a": torch.rand(3, 3, 1)}, 0.5, "uniform+")


@pytest.mark.parametrize("rule", RULES)
def test_no_layer_gets_more_than_other_masks_leave_of_it(rule):
    generator = torch.Generator().manual_seed(0)
    scores = {name: torch.rand(shape, generator=generator) for name, shape in SHAPES.items()}
    within = Masks({name: torch.rand(s.shape, generator=generator) < 0.3 for name, s in scores.items()})
    masks = select(scores, 0.8, rule, within=within)
    assert masks.kept == round(0.2 * masks.total)
    assert (masks & within) == masks


@pytest.mark.parametrize("rule", RULES)
def test_nothing_and_everything_can_be_kept(rule):
    sizes = sizes_of(SHAPES)
    assert counts(rule, SHAPES, sum(sizes.values()), sizes) == sizes
    if rule != "uniform+":
        assert counts(rule, SHAPES, 0, sizes) == dict.fromkeys(SHAPES, 0)


@pytest.mark.parametrize("rule", RULES)
def test_billions_of_weights_in_thousands_of_layers_are_counted_exactly(rule):
    shapes = {f"layer{i}": (1024 + i, 1024, 3, 3) for i in range(2000)} | {"fc": (50_001, 8192)}
    sizes = sizes_of(shapes)
    keep = sum(sizes.values()) // 50 + 1
    found = counts(rule, shapes, keep, sizes)
    assert sum(found.values()) == keep > 3 * 10**8
    assert all(0 < found[name] <= sizes[name] for name in shapes)


@pytest.mark.parametrize("rule", RULES)
def test_empty_and_scalar_tensors_have_their_places(rule):
    shapes = {"conv": (2, 2, 2), "empty": (0, 5), "scalar": (), "fc": (4, 5)}
    found = counts(rule, shapes, 15, sizes_of(shapes))
    assert sum(found.values()) == 15
    assert found["empty"] == 0
