"""How members differ."""

import numpy as np
import pytest

from ensembler.blending import Pool
from ensembler.blending.diversity import diversity
from ensembler.blending.testing import invented_pool


def pool(members=5, rows=800, n_test=0, seed=0):
    stack, y = invented_pool(members, rows + n_test, 3, seed)
    test = tuple(np.stack([m[rows:], m[rows:]]) for m in stack) if n_test else None
    names = tuple(f"m{i}" for i in range(members))
    return Pool(
        names, stack[:, :rows], y[:rows], ("x", "y", "z"), np.arange(rows) % 5, None, test
    )


def test_matrices_are_what_counting_gives():
    p = pool()
    found = diversity(p)
    at = [p.names.index(name) for name in found.names]
    chosen = p.oof.argmax(axis=2)
    for i, j in [(0, 1), (2, 4), (3, 3)]:
        a, b = chosen[at[i]], chosen[at[j]]
        assert found.disagreement[i, j] == pytest.approx((a != b).mean(), abs=1e-6)
        expected = np.corrcoef(a != p.y, b != p.y)[0, 1]
        assert found.error_correlation[i, j] == pytest.approx(expected, abs=1e-6)
    m = at[0]
    others = (p.oof.sum(axis=0) - p.oof[m]).argmax(axis=1)
    saved = (chosen[m] == p.y) & (others != p.y)
    assert found.saves[0].tolist() == [int((saved & (p.y == c)).sum()) for c in range(3)]


def test_like_stands_by_like():
    p = pool(4)
    twins = Pool(("a", "b", "c", "d"), p.oof[[0, 1, 0, 1]], p.y, p.classes, p.folds)
    order = diversity(twins).names
    assert abs(order.index("a") - order.index("c")) == 1
    assert abs(order.index("b") - order.index("d")) == 1


def test_a_member_that_agrees_otherwise_on_test_rows_is_named_and_honest_ones_are_not():
    assert diversity(pool(n_test=600)).shifted == ()
    p = pool(n_test=600)
    shuffled = p.test[2][:, np.random.default_rng(0).permutation(600)]
    p = Pool(
        p.names, p.oof, p.y, p.classes, p.folds, None, (*p.test[:2], shuffled, *p.test[3:])
    )
    assert "m2" in diversity(p).shifted
