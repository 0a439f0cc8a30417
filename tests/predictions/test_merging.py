"""Views and groups are merged without a model, for one label a row and for several at once."""

import numpy as np
import pytest

from ensembler.errors import UnknownNameError
from ensembler.logits import log_odds, sigmoid, softmax
from ensembler.predictions.merging import (
    check_merge,
    check_reduce,
    merge_groups,
    merge_views,
)
from ensembler.targets.kinds import MULTI_LABEL, SINGLE_LABEL

KINDS = [SINGLE_LABEL, MULTI_LABEL]
LOGITS = np.random.default_rng(0).normal(0, 3, (3, 40, 4)).astype(np.float32)


def plain(how, logits, multi):
    """The merged probabilities, written out as the documentation says them."""
    views = np.asarray(logits, np.float64)
    activate = sigmoid if multi else softmax
    if how in ("logits", "geometric"):
        return activate(views.mean(axis=0))
    probs = np.stack([activate(view) for view in views])
    merged = probs.max(axis=0) if how == "max" else probs.mean(axis=0)
    return merged if multi else merged / merged.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["mean", "logits", "geometric", "max"])
def test_views_are_merged_as_documented(kind, how):
    merged = merge_views(LOGITS, how, of=kind)
    assert merged.dtype == np.float32
    assert np.allclose(merged, plain(how, LOGITS, kind is MULTI_LABEL), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_one_view_is_its_own_merge_bit_by_bit(kind):
    expected = kind.probs(LOGITS[0].astype(np.float64)).astype(np.float32)
    for how in ("mean", "logits", "geometric"):
        assert np.array_equal(merge_views(LOGITS[:1], how, of=kind), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_probabilities_are_merged_without_being_taken_for_logits(kind):
    probs = np.stack([kind.probs(view) for view in LOGITS])
    for how in ("mean", "max"):
        from_probs = merge_views(probs, how, kind="probs", of=kind)
        assert np.allclose(from_probs, merge_views(LOGITS, how, of=kind), atol=1e-6)
    odds = sigmoid(log_odds(probs).mean(axis=0))
    if kind is MULTI_LABEL:
        assert np.allclose(merge_views(probs, "geometric", kind="probs", of=kind), odds)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_are_not_predicted_stay_so(kind):
    logits = LOGITS.copy()
    logits[:, 3] = np.nan
    for how in ("mean", "logits", "max"):
        merged = merge_views(logits, how, of=kind)
        assert np.isnan(merged[3]).all()
        assert np.isfinite(np.delete(merged, 3, axis=0)).all()


def test_groups_are_means_votes_or_their_most_confident_row():
    probs = np.array([[0.6, 0.4], [0.7, 0.3], [0.0, 1.0], [0.5, 0.5]])
    groups = np.array([0, 0, 0, 1])
    assert np.allclose(merge_groups(probs, groups, "mean")[0], [1.3 / 3, 1.7 / 3])
    assert np.allclose(merge_groups(probs, groups, "vote")[0], [2 / 3, 1 / 3])
    assert merge_groups(probs, groups, "max")[0].tolist() == [0.0, 1.0]
    assert merge_groups(probs, groups, "max", of=MULTI_LABEL)[0].tolist() == [0.7, 1.0]
    assert merge_groups(probs, groups, "vote", of=MULTI_LABEL)[1].tolist() == [1.0, 1.0]


def test_unknown_ways_are_named():
    with pytest.raises(UnknownNameError, match="'mean'"):
        check_merge("meen")
    with pytest.raises(UnknownNameError, match="'vote'"):
        check_reduce("votes")
