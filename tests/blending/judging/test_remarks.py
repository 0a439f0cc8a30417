"""What is said about a request: few groups, absent classes, ordered classes, ranks."""

import dataclasses

import numpy as np
import pytest

from ensembler.blending import Pool, make_blend
from ensembler.blending.spec import BlendSpec
from ensembler.blending.testing import invented_pool


def pool(classes=("a", "b", "c"), groups=None, rows=200):
    stack, y = invented_pool(3, rows, len(classes))
    return Pool(("x", "y", "z"), stack, y, tuple(classes), np.arange(rows) % 5, groups)


def codes(p, **spec):
    return {
        w["code"]: w["message"]
        for w in make_blend(p, BlendSpec(**{"method": "soft", **spec})).warnings
    }


@pytest.mark.parametrize(
    ("n_groups", "warned"), [(5, True), (19, True), (20, False), (None, False)]
)
def test_fewer_than_twenty_groups_are_few(n_groups, warned):
    groups = None if n_groups is None else np.arange(200) % n_groups
    assert ("few_groups" in codes(pool(groups=groups))) == warned


def test_a_class_without_a_row_is_named():
    p = pool()
    p = dataclasses.replace(p, y=np.where(p.y == 1, 0, p.y))
    assert "the class b:" in codes(p)["absent_class"]
    assert "absent_class" not in codes(pool())


def test_a_label_that_no_row_has_is_named():
    rng = np.random.default_rng(0)
    y = np.stack([rng.integers(0, 2, 100), np.zeros(100, int)], axis=1)
    p = Pool(
        ("x",),
        rng.uniform(0.1, 0.9, (1, 100, 2)).astype(np.float32),
        y,
        ("fog", "sun"),
        np.arange(100) % 5,
    )
    assert "the label sun:" in codes(p)["absent_class"]
    assert "few_groups" not in codes(p)


@pytest.mark.parametrize(
    ("classes", "metric", "noted"),
    [
        (("high", "low", "medium"), "quadratic_kappa", True),
        (("0", "1", "2"), "quadratic_kappa", False),
        (("no", "yes"), "quadratic_kappa", False),
        (("high", "low", "medium"), "accuracy", False),
    ],
)
def test_kappa_of_classes_whose_names_tell_no_order_is_noted(classes, metric, noted):
    found = codes(pool(classes), metric=metric)
    assert ("ordered_classes" in found) == noted
    if noted:
        assert "high, low, medium" in found["ordered_classes"]


def test_ranks_are_said_to_be_no_probabilities():
    assert "not_probabilities" in codes(pool(), method="rank", metric="roc_auc_ovr")
    assert "not_probabilities" not in codes(pool(), method="median", metric="roc_auc_ovr")
