import numpy as np
import pytest

from ensembler.blending import create_blend
from ensembler.blending.judging.cross_fitting import (
    cross_fit,
    fit_with_parts,
    fitting_parts,
    splits,
)
from ensembler.blending.testing import invented_pool


@pytest.fixture
def rows():
    stack, y = invented_pool(3, 300)
    return stack, y, np.arange(300) % 5


def test_every_part_has_its_share_of_each_class_and_fold(rows):
    _, y, folds = rows
    part = fitting_parts(y, folds)
    for c in range(3):
        for fold in range(5):
            inside = np.bincount(part[(y == c) & (folds == fold)], minlength=5)
            assert inside.max() - inside.min() <= 1


def test_groups_stay_together_and_another_seed_deals_them_out_anew(rows):
    _, y, folds = rows
    groups = np.arange(300) // 4
    part = fitting_parts(y, folds, groups)
    assert all(len(set(part[groups == g])) == 1 for g in range(75))
    assert not np.array_equal(part, fitting_parts(y, folds, groups, seed=1))
    assert np.array_equal(part, fitting_parts(y, folds, groups))


def test_each_row_is_scored_once_and_by_others():
    part = np.array([0, 1, 2, 0, 1])
    scored = np.concatenate([score for _, score in splits(part)])
    assert sorted(scored) == [0, 1, 2, 3, 4]
    assert all(not set(fit) & set(score) for fit, score in splits(part))


def test_a_row_is_predicted_by_a_blend_fitted_on_the_other_parts(rows):
    stack, y, folds = rows
    part = fitting_parts(y, folds)
    probs = cross_fit(lambda: create_blend("simplex"), stack, y, part)
    fit, score = part != 2, part == 2
    alone = create_blend("simplex").fit(stack[:, fit], y[fit])
    assert np.allclose(probs[score], alone.predict_proba(stack[:, score]))


def test_a_method_that_leaves_rows_out_itself_is_told_the_parts(rows):
    stack, y, folds = rows
    told = []

    class Leaving:
        def fit(self, stack, y, part=None):
            told.append(part)
            return self

    part = fitting_parts(y, folds)
    fit_with_parts(Leaving(), stack, y, part)
    assert told[0] is part
