"""Leaving members out: for what they repeat, cost, or cannot say."""

import dataclasses
from itertools import combinations

import numpy as np
import pytest

from ensembler.blending import Pool, create_blend, make_blend
from ensembler.blending.calibration.calibrated import Calibrated
from ensembler.blending.cost import frontier
from ensembler.blending.methods.simplex import log_loss_optimum
from ensembler.blending.methods.true_class import true_class_column
from ensembler.blending.narrowing import Narrowing
from ensembler.blending.pool import StackPart
from ensembler.blending.spec import BlendSpec
from ensembler.blending.testing import invented_pool
from ensembler.errors import RequestError

NAMES = ("a", "b", "c", "d")


def pool(seed=0, rows=500, **more):
    stack, y = invented_pool(4, rows, 3, seed)
    return Pool(NAMES, stack, y, ("x", "y", "z"), np.arange(rows) % 5, **more)


def test_a_near_duplicate_of_a_better_member_is_left_out():
    p = pool()
    near = 0.98 * p.oof[0] + 0.02 / 3
    p = dataclasses.replace(
        p, oof=np.concatenate([p.oof, near[None].astype(np.float32)]), names=(*NAMES, "a2")
    )
    kept, findings = Narrowing.of(p, BlendSpec(prune=0.05)).applied(p)
    assert len(kept.names) == 4
    assert [f.code for f in findings] == ["pruned"]
    assert {"a", "a2"} - set(kept.names) == {findings[0].member}
    assert Narrowing.of(p, BlendSpec(prune=1e-6)).applied(p)[0].names == p.names
    assert [
        w["code"] for w in make_blend(p, BlendSpec(method="soft", prune=0.05)).warnings
    ].count("pruned") == 1


def test_the_frontier_gets_better_as_it_gets_dearer_and_reaches_the_optimum():
    p = pool()
    points = frontier(p, {"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0})
    assert [o.seconds for o in points] == sorted(o.seconds for o in points)
    assert [o.log_loss for o in points] == sorted(
        (o.log_loss for o in points), reverse=True
    )
    column = true_class_column(p.oof, p.y)
    weights, _ = log_loss_optimum(column)
    assert points[-1].log_loss == pytest.approx(-np.log(weights @ column).mean(), abs=1e-4)


def test_a_budget_buys_nearly_the_best_members_it_can():
    p, costs = pool(seed=3), {"a": 1.0, "b": 2.0, "c": 2.0, "d": 3.0}
    column = true_class_column(p.oof, p.y)
    best = np.inf
    for n in (1, 2, 3):
        for group in combinations(range(4), n):
            if sum(costs[NAMES[i]] for i in group) <= 4.0:
                q = np.ascontiguousarray(column[list(group)])
                best = min(best, float(-np.log(log_loss_optimum(q)[0] @ q).mean()))
    bought = frontier(p, costs, 4.0)[-1]
    assert bought.seconds <= 4.0
    assert bought.log_loss <= best + 0.02
    result = make_blend(
        dataclasses.replace(p, costs=costs), BlendSpec(method="soft", max_cost=4.0)
    )
    assert result.members == bought.members


def test_costs_that_are_missing_or_too_high_are_said():
    with pytest.raises(RequestError, match="--costs b="):
        frontier(pool(), {"a": 1.0})
    with pytest.raises(RequestError, match="the cheapest, 'a', costs 1"):
        frontier(pool(), dict.fromkeys(NAMES, 1.0), 0.5)


def voting_pool():
    p = pool()
    votes = np.eye(3, dtype=np.float32)[p.oof[3].argmax(axis=1)]
    return dataclasses.replace(
        p, oof=np.concatenate([p.oof[:3], votes[None]]), votes_only=("d",)
    )


def test_a_member_that_only_votes_joins_hard_votes_and_stacks_and_nothing_else():
    p = voting_pool()
    assert make_blend(p, BlendSpec(method="hard")).members == NAMES
    assert make_blend(p, BlendSpec(method="stack")).members == NAMES
    soft = make_blend(p, BlendSpec(method="soft"))
    assert soft.members == ("a", "b", "c")
    assert [w["member"] for w in soft.warnings if w["code"] == "votes_only"] == ["d"]
    with pytest.raises(RequestError, match="'d' only votes"):
        make_blend(p, BlendSpec(method="soft", members=("a", "d")))
    with pytest.raises(RequestError, match="'d' only votes"):
        make_blend(p, BlendSpec(weights={"a": 1, "d": 1}))


def test_members_of_other_folds_are_named():
    result = make_blend(pool(other_folds=("c",)), BlendSpec(method="soft"))
    assert [w["member"] for w in result.warnings if w["code"] == "other_folds"] == ["c"]


@pytest.mark.parametrize(
    "method", ["soft", "greedy", "simplex", "loglinear", "stack", "auto"]
)
def test_every_member_has_a_score_alone_and_a_worth_beside_the_others(method):
    p = pool()
    result = make_blend(p, BlendSpec(method=method), explain=True)
    worths = {w.member: w for w in result.details.members}
    assert set(worths) == set(NAMES)
    assert all(w.marginal is not None for w in worths.values())
    fitted = result.scores["fitted"]["log_loss"]
    if method == "simplex":
        rest = make_blend(p.choose(["b", "c", "d"]), BlendSpec(method="simplex"))
        assert worths["a"].marginal == pytest.approx(
            rest.scores["fitted"]["log_loss"] - fitted, abs=1e-6
        )
        assert all(w.marginal >= -1e-6 for w in worths.values())
    tables = result.details.reliability
    assert sum(b.n for b in tables["blend, cross-fitted"]) == len(p.y)


def test_weights_by_hand_have_worths_too():
    result = make_blend(pool(), BlendSpec(weights={"a": 1, "b": 2}))
    worths = {w.member: w.marginal for w in result.details.members}
    assert worths["c"] == worths["d"] == 0
    assert worths["a"] != 0


@pytest.mark.parametrize("name", ["soft", "single", "simplex", "greedy", "loglinear"])
def test_a_method_that_takes_parts_walks_over_the_members_and_finds_the_same(
    name, monkeypatch
):
    stack, y = invented_pool(4, 300, 3)
    members, rows = [2, 0, 3], np.arange(0, 300, 2)
    plain = create_blend(name).fit(stack[members][:, rows], y[rows])
    expected = plain.predict_proba(stack[members])

    def refuse(*_):
        raise AssertionError("the whole part was copied")

    monkeypatch.setattr(StackPart, "__array__", refuse)
    method = create_blend(name)
    method.fit(StackPart(stack, members, rows).for_method(method), y[rows])
    np.testing.assert_array_equal(method.weights_, plain.weights_)
    np.testing.assert_array_equal(method.predict_proba(StackPart(stack, members)), expected)


def test_a_part_becomes_the_array_it_stands_for():
    stack, _ = invented_pool(4, 50, 3)
    part = StackPart(stack, [3, 1], np.array([4, 0, 9]))
    np.testing.assert_array_equal(np.asarray(part), stack[[3, 1]][:, [4, 0, 9]])
    assert part.shape == np.asarray(part).shape


def noise(members=100, rows=400, seed=0):
    """Members that know nothing; some seem to, by luck."""
    rng = np.random.default_rng(seed)
    stack = rng.dirichlet(np.ones(3), (members, rows)).astype(np.float32)
    names = tuple(f"m{i}" for i in range(members))
    y = rng.integers(0, 3, rows)
    return Pool(
        names,
        stack,
        y,
        ("x", "y", "z"),
        np.arange(rows) % 5,
        costs=dict.fromkeys(names, 1.0),
    )


@pytest.mark.parametrize(
    ("asked", "left"),
    [
        ({"prune": 0.9, "metric": "accuracy"}, 1),
        ({"max_cost": 5.0}, 5),
        ({"max_cost": 3.0, "method": "auto"}, 3),
    ],
)
def test_members_chosen_by_luck_are_no_better_than_chance_where_they_are_scored(
    asked, left, few_families
):
    """The members are chosen inside each part: by the rows that are scored, the best is right in 0.4 of them."""
    spec = BlendSpec(**{"method": "soft", **asked})
    results = [make_blend(noise(seed=seed), spec) for seed in range(2)]
    assert all(len(result.members) <= left for result in results)
    honest = np.mean([result.scores["cross_fitted"]["accuracy"] for result in results])
    assert np.mean([result.scores["fitted"]["accuracy"] for result in results]) > 0.375
    assert abs(honest - 1 / 3) < 0.04  # 800 rows: a standard error of 0.017


def test_weights_by_hand_follow_the_members_that_are_kept():
    p = pool(costs={"a": 1.0, "b": 1.0, "c": 9.0, "d": 1.0})
    result = make_blend(p, BlendSpec(weights=(1.0, 2.0, 4.0, 1.0), max_cost=3.0))
    assert result.members == ("b", "d")
    assert list(result.weights.values()) == pytest.approx([2 / 3, 1 / 3])


def test_pruning_never_leaves_only_members_that_cost_too_much():
    p = pool()
    near = 0.98 * p.oof + 0.02 * np.eye(3, dtype=np.float32)[p.y]
    names = (*NAMES, *(f"{name}2" for name in NAMES))
    costs = dict.fromkeys(NAMES, 1.0) | {f"{name}2": 5.0 for name in NAMES}
    p = dataclasses.replace(
        p, oof=np.concatenate([p.oof, near.astype(np.float32)]), names=names, costs=costs
    )
    result = make_blend(p, BlendSpec(method="soft", prune=0.05, max_cost=4.0))
    assert set(result.members) <= set(NAMES)


def test_groups_stay_together_inside_the_parts_of_a_narrowed_pool(monkeypatch):
    told = []
    real = Calibrated.fit
    monkeypatch.setattr(
        Calibrated,
        "fit",
        lambda self, *a, part=None: told.append(part) or real(self, *a, part=part),
    )
    p = pool(groups=np.arange(500) // 5)
    make_blend(
        p,
        BlendSpec(
            method="loglinear", calibrate="temperature", prune=1e-6, options={"ridge": 1e-3}
        ),
    )
    assert len(told) >= 6
    assert all(part is not None for part in told[:6])
