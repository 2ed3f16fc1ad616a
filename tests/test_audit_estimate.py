"""Values, errors by level, and t distributions of contrasts; depths that are chosen, and depths that are all asked."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from cl_vs_mim.audit.contrasts import Contrast
from cl_vs_mim.audit.estimate import Estimate, Part, estimate, least
from cl_vs_mim.audit.identities import by_identity, choosing, identities
from cl_vs_mim.audit.simulate import allowed
from cl_vs_mim.audit.terms import chosen, judging
from cl_vs_mim.core.errors import UserError

IMAGES = tuple(f"val/{number}" for number in range(40))


def part(sign: int, encoder: str, values: np.ndarray, images: tuple[str, ...] = IMAGES, **options) -> Part:
    """From values (S, M) or (S, M, K)."""
    return Part(sign, encoder, images, values if values.ndim > 2 else values[..., None], **options)


def half(found: Estimate, level: float = 0.95) -> float:
    return float(found.half_width(level)[0])


def test_seeds_alone_give_the_t_interval_of_the_textbook() -> None:
    values = np.array([0.3, 0.5, 1.0])
    found = estimate([part(1, "a", values[:, None], ())])
    low, high = stats.t.interval(0.95, 2, values.mean(), values.std(ddof=1) / np.sqrt(3))
    assert found.value[0] - half(found) == pytest.approx(low, rel=1e-4)
    assert found.value[0] + half(found) == pytest.approx(high, rel=1e-4)
    p = stats.ttest_1samp(values, 0.1)
    assert found.away(0.1)[0] == pytest.approx(p.pvalue, rel=1e-3)


def test_two_encoders_with_as_many_seeds_have_their_t() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(2, 4, 1))
    found = estimate([part(1, "a", one, ()), part(-1, "b", other, ())])
    assert found.df[0] == pytest.approx(3, rel=0.01)
    assert found.error[0] ** 2 == pytest.approx(one.var(ddof=1) / 4 + other.var(ddof=1) / 4)


def test_images_are_paired() -> None:
    """What all encoders share of an image does not widen the interval; other images do."""
    rng = np.random.default_rng(0)
    one, other = rng.normal(0, 0.1, (2, 1, 40))
    shared = rng.normal(0, 50, (1, 40))
    alone = estimate([part(1, "a", one), part(-1, "b", other)])
    together = estimate([part(1, "a", one + shared), part(-1, "b", other + shared)])
    assert half(together) == pytest.approx(half(alone), rel=1e-6)
    elsewhere = tuple(f"other/{n}" for n in range(40))
    apart = estimate([part(1, "a", one + shared), part(-1, "b", other + shared, elsewhere)])
    assert half(apart) > 100 * half(together)


def test_a_seed_is_the_same_training_in_all_tables() -> None:
    """What is particular to a seed cancels where its encoder stands on both sides."""
    rng = np.random.default_rng(0)
    training = 100 * rng.normal(size=(3, 1))
    early, late = rng.normal(0, 0.1, (2, 3, 40)) + training
    assert estimate([part(1, "a", late), part(-1, "a", early)]).error[0] < 0.1
    with pytest.raises(ValueError, match="3 and 2 seeds"):
        estimate([part(1, "a", late, ()), part(-1, "a", early[:2], IMAGES)])


def test_what_a_seed_and_an_image_make_together_is_counted_once() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(5, 40, 1, 2000))
    found = estimate([Part(1, "a", IMAGES, noise)])
    assert (found.error**2).mean() == pytest.approx(1 / 200, rel=0.15)


def test_images_that_do_not_count_are_left_out() -> None:
    answers = np.array([[1.0, 0.0, np.nan, np.nan, 1.0, 1.0]])
    found = estimate([part(1, "a", answers, IMAGES[:6])])
    assert found.value[0] == 0.75
    alone = estimate([part(1, "a", np.array([[1.0, 0.0, 1.0, 1.0]]), IMAGES[:4])])
    for key in ("value", "error", "df"):
        assert getattr(found, key) == pytest.approx(getattr(alone, key)), "what is undecided is no knowledge"


def test_identities_none_of_whose_images_counts_are_no_degree_of_freedom() -> None:
    numbers, values = np.arange(12) // 2, np.array([[0.1, 0.3, 0.5, 0.2, 0.9, 0.4, *[np.nan] * 6]])
    found = estimate([part(1, "a", values, IMAGES[:12], identities=numbers)])
    alone = estimate([part(1, "a", values[:, :6], IMAGES[:6], identities=numbers[:6])])
    for key in ("value", "error", "df"):
        assert getattr(found, key) == pytest.approx(getattr(alone, key)), key


def test_images_of_one_identity_are_one_observation() -> None:
    """Intervals cover with a correlation of 0.3 within an identity; taken for independent, they would not."""
    rng, count, each, replicates = np.random.default_rng(3), 30, 4, 3000
    names = tuple(f"val/{place:02}/{number}.jpg" for place in range(count) for number in range(each))
    numbers = identities(names)
    for seeds in (1, 5):
        covered = {}
        alike = rng.normal(0, 0.3**0.5, (1, count, 1, replicates))[:, numbers]
        values = alike + rng.normal(0, 0.7**0.5, (1, count * each, 1, replicates))
        values = values + rng.normal(0, 0.02, (seeds, 1, 1, replicates))
        for key in (numbers, None):
            found = estimate([Part(1, "a", names, values, identities=key)])
            covered[key is None] = float((np.abs(found.value) <= found.half_width(0.95)).mean())
        assert covered[False] >= 1 - allowed(0.05, replicates) and covered[True] < 0.9, covered


def test_identities_are_folders_or_what_stands_before_the_number() -> None:
    names = ["val/owl/owl_00001.jpg", "val/owl/x.jpg", "val/bear/owl_00001.jpg", "cat/a_00001.jpg", "cat/a_00012.jpg"]
    assert identities([*names, "val/3", "val/4"]).tolist() == [0, 0, 1, 2, 2, 3, 4]
    assert choosing(["val/a/1", "val/a/2", "val/b/1", "val/b/2"]).tolist() == [True, True, False, False]
    values = np.random.default_rng(0).normal(size=(2, 5, 1))
    merged = by_identity(values, np.array([0, 0, 0, 1, 2]))
    assert merged.shape == (2, 3, 1) and merged.mean(axis=1) == pytest.approx(values.mean(axis=1))


def test_errors_that_a_table_states_are_carried_along() -> None:
    found = estimate([part(1, "a", np.full((1, 1), 5.0), (), errors=np.full((1, 1), 2.0))])
    assert (found.value[0], found.error[0]) == (5.0, 2.0)
    assert half(found) == pytest.approx(2 * 1.959964, rel=1e-4)


def test_what_does_not_vary_has_no_interval_and_proves_nothing() -> None:
    found = estimate([part(1, "a", np.full((1, 1), 2.0), ()), part(-1, "b", np.full((1, 1), 1.0), ())])
    effect = least(found, 0.95)
    assert (effect.value, effect.low, effect.high) == (1.0, None, None)
    assert found.above(0)[0] == found.below(2)[0] == 1.0
    answers = np.tile([0.0, 1.0], 20)[None]
    same = estimate([part(1, "a", answers + 1e-16), part(-1, "b", answers)])
    assert same.error[0] == 0.0, "the last digits of a sum are no spread"


def test_two_images_are_the_least() -> None:
    with pytest.raises(ValueError, match="two images or more"):
        estimate([part(1, "a", np.zeros((1, 1)), IMAGES[:1])])


def test_a_single_study_spreads_more_than_our_mean() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(0, 1, (4, 1))
    found = estimate([part(1, "a", values, ())])
    assert found.single[0] == pytest.approx(values.var(ddof=1))
    assert np.isnan(estimate([part(1, "a", values[:1], ())]).single[0]), "one seed: how trainings differ is not known"


def test_the_least_of_many_depths_has_an_interval_of_its_own() -> None:
    value, error = np.array([1.0, 3.0]), np.array([0.1, 2.0])
    found = Estimate(value, error, np.full(2, 1e6), np.full(2, np.nan))
    effect = least(found, 0.95)
    assert effect.low == pytest.approx(3 - 1.96 * 2, abs=0.01), "the lowest of the lower ends"
    assert effect.high == pytest.approx(1 + 2.2414 * 0.1, abs=0.001), "the lowest upper end, corrected for two looks"


# ------------------------------------------------------------------------------------------------
# Chosen depths
# ------------------------------------------------------------------------------------------------


def test_a_depth_is_chosen_by_others() -> None:
    values, half, names = np.zeros((2, 4, 3)), np.arange(4) % 2 == 0, IMAGES[:4]
    values[0, :, 0], values[1, :, 2] = 5.0, 7.0
    assert (chosen(values, "max", half)[0] == 0).all(), "seed 1 says the last depth, at which seed 0 has nothing"
    by_image = np.zeros((1, 4, 3))
    by_image[0, ::2, 1] = 1.0  # the first half of the images points to the second depth
    by_image[0, 1::2, 0] = 9.0
    asked = Contrast.model_validate({"name": "x", "table": "t", "more": {"model": "cl", "over": "max"}})
    assert (chosen(by_image, "max", half)[:, judging(asked, names)] == 0).all(), (
        "and it is measured on the second half alone"
    )
    plain = Contrast.model_validate({"name": "x", "table": "t", "more": {"model": "cl"}})
    assert judging(plain, names).all()
    with pytest.raises(UserError, match="a second seed or a second image"):
        chosen(np.zeros((1, 1, 3)), "min", np.ones(1, dtype=bool))


def test_seeds_that_choose_for_each_other_count_as_fewer() -> None:
    values = np.array([[1.0], [2.0], [4.0]])
    plain, crossed = (estimate([part(1, "a", values, (), chosen=one)]) for one in (False, True))
    assert crossed.error[0] ** 2 == pytest.approx(2.5 * plain.error[0] ** 2), "1 / S + 1 / (S - 1) for 1 / S"
