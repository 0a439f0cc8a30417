"""What holds for any pool: shapes, ties, zeros, missing classes, more members than rows."""

import numpy as np
import pytest
from fuzz import examples
from hypothesis import given
from hypothesis import strategies as st

from ensembler.blending import Pool, make_blend
from ensembler.blending.judging.cross_fitting import fitting_parts
from ensembler.blending.registry import BLEND_METHODS, create_blend
from ensembler.blending.spec import BlendSpec
from ensembler.metrics import score

METHODS = [name for name in BLEND_METHODS.names if name not in ("weights", "auto")]


@st.composite
def pools(draw):
    members, rows, classes = (
        draw(st.integers(1, 7)),
        draw(st.integers(2, 25)),
        draw(st.integers(2, 5)),
    )
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    stack = rng.random((members, rows, classes))
    if draw(st.booleans()):
        stack = np.round(stack * 2) + 1e-12  # ties, and rows of almost nothing
    if draw(st.booleans()):
        stack = np.eye(classes)[stack.argmax(axis=2)]  # exact zeros and ones
    y = rng.integers(0, draw(st.integers(1, classes)), rows)  # some classes may have no row
    return (stack / stack.sum(axis=2, keepdims=True)).astype(np.float32), y


@pytest.mark.parametrize("method", METHODS)
@examples(6)
@given(pool=pools())
def test_any_pool_gives_probabilities(method, pool):
    stack, y = pool
    probs = create_blend(method).fit(stack, y).predict_proba(stack)
    assert probs.shape == stack.shape[1:]
    assert np.isfinite(probs).all()
    assert (probs >= 0).all()
    assert (probs <= 1 + 1e-6).all()
    if method == "rank":
        assert probs.sum(axis=1).mean() == pytest.approx(
            1, abs=1e-5
        )  # ranks: the sum of a row tells nothing
    else:
        assert np.allclose(probs.sum(axis=1), 1, atol=1e-5)


@examples(15)
@given(pool=pools())
def test_the_optimum_is_below_every_member_and_within_its_gap_of_greedy(pool):
    stack, y = pool
    simplex = create_blend("simplex").fit(stack, y)
    q = np.clip(stack[:, np.arange(len(y)), y], 1e-7, None).astype(np.float64)
    ours = -np.log(simplex.weights_ @ q).mean()
    assert ours <= -np.log(q).mean(axis=1).min() + 1e-6
    greedy = create_blend("greedy").fit(stack, y)
    assert ours <= -np.log(greedy.weights_ @ q).mean() + simplex.gap_ + 1e-6


@examples(5)
@given(pool=pools(), folds=st.integers(1, 4))
def test_auto_makes_something_of_any_pool(pool, folds):
    stack, y = pool
    names = tuple(f"m{i}" for i in range(len(stack)))
    classes = tuple(f"c{i}" for i in range(stack.shape[2]))
    result = make_blend(
        Pool(names, stack, y, classes, np.arange(len(y)) % folds), BlendSpec()
    )
    assert np.isfinite(result.oof).all()
    assert np.isfinite(result.scores["cross_fitted"]["accuracy"])
    assert score("accuracy", result.oof, y) == pytest.approx(
        result.scores["cross_fitted"]["accuracy"], abs=1
    )


@examples(30)
@given(
    rows=st.integers(2, 60),
    classes=st.integers(1, 5),
    seed=st.integers(0, 999),
    grouped=st.booleans(),
)
def test_fitting_parts_hold_every_row_once_and_never_split_a_group(
    rows, classes, seed, grouped
):
    rng = np.random.default_rng(seed)
    y, folds = rng.integers(0, classes, rows), rng.integers(0, 3, rows)
    groups = rng.integers(0, max(2, rows // 3), rows) if grouped else None
    part = fitting_parts(y, folds, groups, seed=seed)
    assert part.shape == (rows,)
    if groups is not None and len(np.unique(groups)) >= 2:
        assert all(len(np.unique(part[groups == g])) == 1 for g in np.unique(groups))
    else:
        assert np.bincount(part).max() - np.bincount(part)[np.unique(part)].min() <= 1
