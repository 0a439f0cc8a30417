import dataclasses

import numpy as np
import pytest

from ensembler.blending import Pool, make_blend
from ensembler.blending.calibration.calibrated import apply_temperature, fit_temperature
from ensembler.blending.judging.comparison import paired_gain
from ensembler.blending.judging.cross_fitting import fitting_parts
from ensembler.blending.judging.guards import look_at, suspected
from ensembler.blending.methods.stopping import search
from ensembler.blending.spec import BlendSpec
from ensembler.blending.testing import invented_pool
from ensembler.errors import RequestError, UnknownNameError
from ensembler.logits import softmax
from ensembler.metrics import score
from ensembler.progress import RecordedProgress
from ensembler.stop import Stop


def pool(members=4, rows=600, classes=3, seed=0, n_test=200, groups=None):
    stack, y = invented_pool(members, rows + n_test, classes, seed)
    test = tuple(np.stack([m[rows:], m[rows:]]) for m in stack)
    names = tuple(f"m{i}" for i in range(members))
    folds = np.arange(rows) % 5
    labels = tuple(f"c{i}" for i in range(classes))
    return Pool(names, stack[:, :rows], y[:rows], labels, folds, groups, test, y[rows:])


@pytest.mark.parametrize(
    "method", ["auto", "soft", "greedy", "simplex", "loglinear", "weights"]
)
def test_a_blend_is_scored_three_ways_and_compared_with_its_best_member(method):
    weights = (1.0, 2.0, 0.0, 1.0) if method == "weights" else None
    result = make_blend(pool(), BlendSpec(method=method, weights=weights))
    assert set(result.scores) == {"fitted", "cross_fitted", "holdout"}
    assert result.oof.shape == (600, 3)
    assert result.test.shape == (200, 3)
    assert result.gain["low"] <= result.gain["value"] <= result.gain["high"]
    assert result.gain["over"] in ("m0", "m1", "m2", "m3")


def test_cross_fitted_predictions_of_a_row_do_not_know_its_label():
    """With labels that are pure noise nothing can be learned: a cross-fitted score shows it, a fitted one does not."""
    p = pool(members=20, rows=300)
    p = dataclasses.replace(
        p, y=np.random.default_rng(1).permutation(p.y), test=None, test_y=None
    )
    result = make_blend(p, BlendSpec(method="loglinear", options={"ridge": 1e-6}))
    assert result.scores["fitted"]["log_loss"] < np.log(3)
    assert result.scores["cross_fitted"]["log_loss"] > np.log(3)


def test_auto_is_honest_and_better_than_the_best_member():
    p = pool(rows=2000, n_test=2000)
    result = make_blend(p, BlendSpec())
    singles = [score("log_loss", t.mean(axis=0), p.test_y) for t in p.test]
    assert result.scores["holdout"]["log_loss"] < min(singles)
    assert (
        abs(
            result.scores["cross_fitted"]["log_loss"] - result.scores["holdout"]["log_loss"]
        )
        < 0.05
    )
    assert result.details.chosen in result.details.candidates


@pytest.mark.parametrize(
    "shape",
    [
        {"members": 1, "rows": 90},
        {"rows": 30},
        {"classes": 2, "rows": 90},
        {"members": 1, "rows": 30, "classes": 2},
        {"members": 30, "rows": 31},
    ],
)
def test_auto_works_on_the_smallest_pools(shape):
    result = make_blend(pool(**shape), BlendSpec())
    assert np.isfinite(result.test).all()


def test_a_fold_without_a_class_is_a_warning_never_an_error():
    p = pool(rows=60)
    p = dataclasses.replace(p, folds=p.y.copy())
    result = make_blend(p, BlendSpec())
    assert "fold_lacks_class" in {w["code"] for w in result.warnings}


def test_members_with_different_numbers_of_folds_are_averaged_first():
    p = pool()
    p = dataclasses.replace(p, test=(p.test[0][:1], *p.test[1:]))
    assert make_blend(p, BlendSpec(method="soft")).test == pytest.approx(
        make_blend(pool(), BlendSpec(method="soft")).test
    )


def test_parts_hold_every_class_and_fold_in_equal_shares_and_keep_groups_whole():
    rng = np.random.default_rng(0)
    y, folds = rng.integers(0, 3, 900), rng.integers(0, 5, 900)
    part = fitting_parts(y, folds)
    for c in range(3):
        shares = np.bincount(part[y == c], minlength=5) / (y == c).sum()
        assert np.abs(shares - 0.2).max() < 0.03
    groups = rng.integers(0, 40, 900)
    part = fitting_parts(y, folds, groups)
    assert all(len(np.unique(part[groups == g])) == 1 for g in range(40))
    assert len(np.unique(part)) == 5


def test_a_leaked_member_is_named_and_left_out_of_auto_unless_trusted(few_families):
    p = pool(rows=1000, n_test=1000)
    leaked = p.oof.copy()
    leaked[1] = 0.05 * leaked[1] + 0.95 * np.eye(3, dtype=np.float32)[p.y]
    p = dataclasses.replace(p, oof=leaked)
    assert suspected(look_at(p)) == ["m1"]
    assert "m1" not in make_blend(p, BlendSpec()).members
    assert "m1" in make_blend(p, BlendSpec(), trust=["m1"]).members
    with pytest.raises(UnknownNameError, match="unknown member to trust 'm9'"):
        make_blend(p, BlendSpec(), trust=["m9"])


def hard_leak(rows=1000, folds=2, seed=0):
    """Member m1 is a classifier without doubt whose out-of-fold predictions are the labels.

    Its test ones are honest.
    """
    stack, y = invented_pool(4, rows + 800, 3, seed)
    hot = np.eye(3, dtype=np.float32)
    rng = np.random.default_rng(seed)
    test = [np.stack([m[rows:]] * folds) for m in stack]
    guesses = np.stack(
        [
            softmax(np.log(test[1][k]) + rng.normal(size=test[1][k].shape))
            for k in range(folds)
        ]
    )
    test[1] = hot[guesses.argmax(axis=2)]
    oof = stack[:, :rows].copy()
    oof[1] = hot[y[:rows]]
    return Pool(
        ("m0", "m1", "m2", "m3"),
        oof,
        y[:rows],
        ("x", "y", "z"),
        np.arange(rows) % 5,
        None,
        tuple(test),
    )


def test_a_complete_leak_without_any_doubt_is_named_and_left_out(few_families):
    """A tree or a nearest neighbour doubts nothing, so its doubt betrays nothing.

    Its checkpoints contradict each other.
    """
    assert [w.member for w in look_at(hard_leak()) if w.code == "suspected_leak"] == ["m1"]
    assert "m1" not in make_blend(hard_leak(), BlendSpec()).members


@pytest.mark.parametrize("test", ["none", "averaged"])
def test_where_test_rows_tell_nothing_a_score_out_of_all_proportion_is_still_named(test):
    p = hard_leak(folds=1)
    if test == "none":
        p = dataclasses.replace(p, test=None)
    codes = {(w.member, w.code) for w in look_at(p)}
    assert ("m1", "possible_leak") in codes
    assert ((None, "leaks_unchecked") in codes) == (test == "none")


@pytest.mark.parametrize("spread", [1.0, 2.0])
def test_honest_members_are_not_accused_when_test_rows_are_harder(spread):
    """Every member doubts and errs more on the test rows.

    One of them, a weak one, is far too sure of itself.
    """
    stack, y = invented_pool(5, 2000, 3, strength=2.0)
    logits = np.log(stack.astype(np.float64))
    logits[4] *= 3
    logits[:, 1000:] += spread * np.random.default_rng(1).normal(size=(5, 1000, 3))
    stack = softmax(logits).astype(np.float32)
    test = tuple(np.stack([m[1000:], m[1000:]]) for m in stack)
    p = Pool(
        tuple("abcde"),
        stack[:, :1000],
        y[:1000],
        tuple("xyz"),
        np.arange(1000) % 5,
        None,
        test,
        y[1000:],
    )
    assert {w.code for w in look_at(p)} & {"suspected_leak", "possible_leak"} == set()


def test_a_strong_honest_member_among_weak_ones_is_not_accused():
    weak, y = invented_pool(4, 2000, 3, strength=0.4)
    strong, _ = invented_pool(1, 2000, 3, strength=4.0)
    stack = np.concatenate([weak, strong])
    half = tuple(m[1000:][None] for m in stack)
    p = Pool(
        tuple("abcde"),
        stack[:, :1000],
        y[:1000],
        tuple("xyz"),
        np.arange(1000) % 5,
        None,
        half,
        y[1000:],
    )
    assert suspected(look_at(p)) == []


def test_copies_constants_inversions_and_the_worse_than_useless_are_named():
    p = pool()
    constant = np.full_like(p.oof[0], 1 / 3)
    inverted = (1 - p.oof[0]) / 2
    sure = np.eye(3, dtype=np.float32)[
        (p.oof[1].argmax(axis=1) + (np.arange(600) % 3 == 0)) % 3
    ]
    stack = np.stack([p.oof[0], p.oof[0], constant, inverted, sure])
    p = Pool(("a", "copy", "constant", "inverted", "sure"), stack, p.y, p.classes, p.folds)
    codes = {w.member: w.code for w in look_at(p) if w.member is not None}
    assert codes == {
        "copy": "duplicate_member",
        "constant": "constant_member",
        "inverted": "inverted_member",
        "sure": "worse_than_prior",
    }


def test_a_gain_that_is_noise_is_called_noise():
    stack, y = invented_pool(2, 300, 3)
    same = paired_gain("log_loss", stack[0], "a", stack[0], y)
    assert (same.value, same.beyond_noise) == (0, False)
    better = 0.5 * stack[0] + 0.5 * np.eye(3)[y]
    assert paired_gain("accuracy", better, "a", stack[0], y).beyond_noise
    assert (
        paired_gain("f1_macro", better, "a", stack[0], y, groups=np.arange(300) // 3).low
        > 0
    )


def test_temperature_never_makes_the_fitted_rows_worse_and_finds_the_truth():
    stack, y = invented_pool(1, 3000, 3)
    for t in (0.5, 1.0, 3.0):
        bent = apply_temperature(stack[0], t)
        found = fit_temperature(bent, y)
        assert score("log_loss", apply_temperature(bent, found), y) <= score(
            "log_loss", bent, y
        )
    honest = apply_temperature(stack[0], fit_temperature(stack[0], y))
    assert fit_temperature(apply_temperature(honest, 2.0), y) == pytest.approx(
        0.5, rel=0.02
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"method": "weights", "weights": {"m9": 1}}, "unknown member in weights 'm9'"),
        ({"method": "weights", "weights": (1.0, 2.0)}, "2 weights for 4 members"),
        (
            {"method": "simplex", "options": {"metric": "accuracy"}},
            "greedy takes any metric",
        ),
        ({"method": "auto", "metric": "acc"}, "unknown metric"),
    ],
)
def test_requests_that_make_no_sense_are_refused(given, message):
    with pytest.raises(RequestError, match=message):
        make_blend(pool(), BlendSpec(**given))


def test_a_temperature_may_follow_any_method():
    result = make_blend(pool(), BlendSpec(method="soft", calibrate="temperature"))
    assert result.temperature is not None
    assert (
        result.scores["fitted"]["log_loss"]
        < make_blend(pool(), BlendSpec(method="soft")).scores["fitted"]["log_loss"]
    )


def test_auto_takes_the_richer_family_where_many_rows_say_so():
    """The members are sure of themselves in different classes: no single weight for each can say that."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 3000)
    logits = rng.normal(size=(3, 3000, 3))
    for m in range(3):
        logits[m, :, m] += 3.0 * (y == m)
    p = Pool(
        ("a", "b", "c"),
        softmax(logits).astype(np.float32),
        y,
        ("x", "y", "z"),
        np.arange(3000) % 5,
    )
    result = make_blend(p, BlendSpec())
    assert result.details.chosen.startswith("stack")
    assert "stack with probabilities" in result.details.candidates


def test_auto_says_what_it_gains_over_soft_voting_with_temperature_and_over_greedy(
    few_families,
):
    gains = make_blend(pool(rows=300), BlendSpec()).details.gains
    assert [g.over for g in gains] == ["soft + temperature", "greedy"]
    assert all(g.low <= g.value <= g.high for g in gains)


def test_out_of_time_or_interrupted_auto_ends_with_the_best_so_far(monkeypatch):
    result = make_blend(pool(), BlendSpec(), budget=0.0)
    assert list(result.details.candidates) == ["simplex"]
    assert [w["code"] for w in result.warnings if w["code"] == "stopped_early"] == [
        "stopped_early"
    ]

    import ensembler.blending.judging.automatic as automatic

    real, calls = automatic.cross_fit, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(automatic, "cross_fit", interrupted)
    assert list(make_blend(pool(), BlendSpec()).details.candidates) == [
        "simplex",
        "simplex + temperature",
    ]


@pytest.mark.parametrize("method", ["greedy", "hill_climb"])
def test_a_search_without_time_keeps_its_first_round_and_says_so(method):
    result = make_blend(pool(), BlendSpec(method=method, metric="accuracy"), budget=0.0)
    assert sum(weight > 0 for weight in result.weights.values()) <= 2
    assert [w["code"] for w in result.warnings if w["code"] == "stopped_early"] == [
        "stopped_early"
    ]
    usual = make_blend(pool(), BlendSpec(method=method, metric="accuracy"))
    assert "stopped_early" not in [w["code"] for w in usual.warnings]


def test_ctrl_c_inside_a_candidates_search_ends_the_comparison(monkeypatch):
    import ensembler.blending.methods.greedy as greedy

    real, pressed = greedy.search, []

    def pressed_once(step, rounds, stop):
        def with_ctrl_c(i):
            if i == 2 and not pressed:
                pressed.append(i)
                raise KeyboardInterrupt
            return step(i)

        return real(with_ctrl_c, rounds, stop)

    monkeypatch.setattr(greedy, "search", pressed_once)
    result = make_blend(pool(), BlendSpec(metric="accuracy"))
    assert pressed
    assert list(result.details.candidates) == ["simplex", "simplex + temperature"]
    assert "stopped_early" in [w["code"] for w in result.warnings]


def test_ctrl_c_ends_a_search_after_its_first_round_only():
    def interrupted_at(round_):
        done = []

        def step(i):
            if i == round_:
                raise KeyboardInterrupt
            done.append(i)
            return True

        return done, step

    done, step = interrupted_at(3)
    stop = Stop()
    assert search(step, 10, stop)
    assert done == [0, 1, 2]
    assert stop.reason == "interrupted"
    with pytest.raises(KeyboardInterrupt):
        search(interrupted_at(0)[1], 10, Stop())


def test_progress_counts_the_fit_and_the_parts_of_cross_fitting():
    progress = RecordedProgress()
    make_blend(pool(), BlendSpec(method="greedy"), progress=progress)
    told = progress.steps
    assert told[0] == ("fitting greedy", 0, 6)
    assert [done for what, done, _ in told if what == "cross-fitting greedy"] == [
        1,
        2,
        3,
        4,
        5,
    ]
    assert told[-1][1:] == (6, 6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": np.full(600, 3)}, "class indices from 0 to 2, given int64 from 3 to 3"),
        ({"y": np.full(600, -1)}, "class indices from 0 to 2"),
        ({"y": np.zeros(600)}, "given float64"),
        ({"y": np.full((600, 3), 2)}, "0 or 1 for each label"),
        ({"folds": None}, "a pool needs folds"),
        ({"folds": np.zeros(5, int)}, r"folds of shape \[5\] for 600 rows"),
    ],
)
def test_a_pool_says_what_does_not_fit(change, message):
    with pytest.raises(RequestError, match=message):
        dataclasses.replace(pool(), **change)


def test_labels_and_folds_of_a_pool_may_be_lists_or_small_integers():
    p = pool(rows=100, n_test=20)
    expected = make_blend(p, BlendSpec(method="greedy", metric="f1_macro")).scores
    for y in (p.y.tolist(), p.y.astype(np.uint8)):
        listed = dataclasses.replace(p, y=y, folds=p.folds.tolist())
        assert (
            make_blend(listed, BlendSpec(method="greedy", metric="f1_macro")).scores
            == expected
        )


def test_logits_as_input_are_not_taken_from_a_pool_of_probabilities():
    with pytest.raises(RequestError, match="blended by their probabilities"):
        make_blend(pool(), BlendSpec(method="loglinear", options={"inputs": "logits"}))


def test_a_search_that_did_not_converge_is_a_warning(monkeypatch):
    from ensembler.blending.methods.loglinear import LogLinearProblem

    monkeypatch.setattr(LogLinearProblem, "is_solved_by", lambda *_: False)
    for method in ("loglinear", "stack"):
        given, spec = pool(rows=100), BlendSpec(method=method)
        codes = {warning["code"] for warning in make_blend(given, spec).warnings}
        assert "not_converged" in codes
    assert "not_converged" not in {
        w["code"] for w in make_blend(pool(), BlendSpec(method="simplex")).warnings
    }
