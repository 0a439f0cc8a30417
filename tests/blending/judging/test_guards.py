import dataclasses

import numpy as np
import pytest

from ensembler.blending.judging.guards import look_at, suspected
from ensembler.blending.pool import Pool
from ensembler.logits import softmax

ROWS, CLASSES = 400, 3


def predictions(y, strength, seed):
    noise = np.random.default_rng(seed).normal(size=(len(y), CLASSES))
    return softmax(noise + strength * np.eye(CLASSES)[y]).astype(np.float32)


@pytest.fixture
def pool():
    """Three honest members, two checkpoints each, that do on test rows what they do out of fold."""
    rng = np.random.default_rng(0)
    y, test_y = rng.integers(0, CLASSES, ROWS), rng.integers(0, CLASSES, ROWS)
    oof = np.stack([predictions(y, 1.5, seed) for seed in range(3)])
    folds = [[predictions(test_y, 1.5, 10 * m + k) for k in range(2)] for m in range(1, 4)]
    test = tuple(np.stack(of_member) for of_member in folds)
    names, classes = ("a", "b", "c"), ("x", "y", "z")
    return Pool(names, oof, y, classes, np.arange(ROWS) % 5, test=test)


def with_member(pool, oof, test=None):
    """The pool with its last member replaced."""
    tests = pool.test if test is None else (*pool.test[:-1], test)
    return dataclasses.replace(pool, oof=np.stack([*pool.oof[:-1], oof]), test=tests)


def codes(pool, member="c"):
    return [finding.code for finding in look_at(pool) if finding.member == member]


def test_honest_members_are_not_warned_of(pool):
    assert look_at(pool) == []


def test_a_member_that_knew_the_rows_is_suspected(pool):
    leaked = with_member(pool, predictions(pool.y, 9.0, 5))
    findings = look_at(leaked)
    assert suspected(findings) == ["c"]
    assert "far less confident on test rows than out of fold" in findings[0].message


def test_a_strong_member_that_is_as_strong_on_test_rows_is_not_suspected(pool):
    test_y = np.random.default_rng(7).integers(0, CLASSES, ROWS)
    test = np.stack([predictions(test_y, 9.0, seed) for seed in (20, 21)])
    strong = with_member(pool, predictions(pool.y, 9.0, 5), test)
    assert suspected(look_at(strong)) == []
    assert codes(strong) == ["possible_leak"]


def test_without_test_predictions_leaks_cannot_be_looked_for(pool):
    found = look_at(dataclasses.replace(pool, test=None))
    assert [finding.code for finding in found] == ["leaks_unchecked"]


@pytest.mark.parametrize(
    ("oof", "code"),
    [
        (lambda _: np.full((ROWS, CLASSES), 1 / CLASSES, np.float32), "constant_member"),
        (lambda pool: predictions(pool.y, -4.0, 5), "inverted_member"),
        (lambda pool: predictions(np.roll(pool.y, 1), 3.0, 5), "worse_than_prior"),
        (lambda pool: pool.oof[0] + np.float32(1e-5), "duplicate_member"),
    ],
)
def test_a_member_that_helps_nobody_is_named(pool, oof, code):
    assert code in codes(with_member(pool, oof(pool)))


def test_a_fold_without_a_class_is_named(pool):
    folds = np.where(pool.y == 2, 0, pool.folds)
    found = look_at(dataclasses.replace(pool, folds=folds))
    lacking = [finding.message for finding in found if finding.code == "fold_lacks_class"]
    assert lacking == [f"fold {fold} has no row of z" for fold in range(1, 5)]
