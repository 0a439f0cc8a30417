"""Rows, labels and folds must agree; their order need not."""

import numpy as np
import pandas as pd
import pytest

from ensembler.errors import RequestError
from ensembler.evaluation.evaluate import evaluate
from ensembler.predictions.samples import write_samples
from ensembler.predictions.store import RunStore
from ensembler.predictions.testing import write_fake_member, write_fake_run
from ensembler.sharing.merge import merge_run
from ensembler.sharing.pull import pull_members
from ensembler.sharing.share import share_run

SIZES = {"n_train": 30, "n_test": 6, "views": ("identity",)}


@pytest.fixture
def mine(tmp_path):
    return write_fake_run(tmp_path / "mine", {"own": 1.0}, **SIZES)


def others(tmp_path, change):
    """A run of somebody else, whose samples.csv is changed before its member is made."""
    store = write_fake_run(tmp_path / "theirs", {"a": 1.5}, **SIZES)
    oof, test = store.member("a").oof_logits, store.member("a").test_logits
    table = change(store.samples.table.copy())
    write_samples(store.folder / "samples.csv", table)
    write_fake_member(
        store.folder, "a", np.array(oof), np.array(test), store.classes("label")
    )
    return RunStore(store.folder)


def reason_of(taken):
    assert taken.members == ()
    return taken.skipped[0].reason


def with_other_folds(table):
    train = table["split"] == "train"
    table.loc[train, "fold"] = np.roll(table.loc[train, "fold"].to_numpy(), 1)
    return table


def with_another_label(table):
    table.loc[0, "label"] = "eel" if table["label"][0] != "eel" else "cat"
    return table


def with_another_id(table):
    table.loc[0, "id"] = "other"
    return table


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (with_other_folds, "of 30 train rows lie in other folds"),
        (with_another_label, "1 rows have another label of 'label', such as 's0000'"),
        (with_another_id, "1 of the run's 30 train rows, such as 's0000', are not among"),
    ],
)
def test_another_split_is_refused_with_the_reason(mine, tmp_path, change, reason):
    theirs = others(tmp_path, change)
    assert reason in reason_of(merge_run(mine, theirs))
    share_run(theirs, str(tmp_path / "pool"), author="Ann")
    assert reason in reason_of(pull_members(mine, str(tmp_path / "pool")))


def test_what_fits_is_taken_and_the_rest_is_skipped(mine, tmp_path, ens_here):
    pool = str(tmp_path / "pool")
    share_run(others(tmp_path, with_other_folds), pool, author="Ann")
    share_run(mine, pool, author="Me")
    taken = pull_members(mine, pool)
    assert (taken.members, taken.refusal) == (("own",), None)
    assert [left.member for left in taken.skipped] == ["a"]
    assert "skipped a:" in ens_here("pull", pool, mine.folder).stderr
    assert (
        "nothing of"
        in ens_here("pull", pool, mine.folder, "--member", "a", expect=2).stderr
    )


def test_rows_in_another_order_are_matched_by_id(mine, tmp_path):
    theirs = write_fake_run(tmp_path / "theirs", {"a": 1.5}, **SIZES)
    member, table = theirs.member("a"), theirs.samples.table
    train = np.random.default_rng(1).permutation(30)
    test = np.random.default_rng(2).permutation(6)
    shuffled = pd.concat([theirs.samples.train.iloc[train], theirs.samples.test.iloc[test]])
    oof, tests = np.array(member.oof_logits), np.array(member.test_logits)
    write_samples(theirs.folder / "samples.csv", shuffled)
    write_fake_member(
        theirs.folder, "a", oof[:, train], tests[:, :, test], theirs.classes("label")
    )
    assert len(table) == 36
    assert merge_run(mine, RunStore(theirs.folder)).members == ("a",)
    taken = RunStore(mine.folder).member("a")
    assert np.array_equal(taken.oof_logits, oof)
    assert np.array_equal(taken.test_logits, tests)


def test_members_of_other_folds_are_taken_for_the_test_rows_alone(mine, tmp_path):
    theirs = others(tmp_path, with_other_folds)
    assert merge_run(mine, theirs, holdout_only=True).members == ("a",)
    store = RunStore(mine.folder)
    assert store.member("a").record.holdout_only
    assert store.pool_members == ["own"]
    assert np.isnan(store.member("a").oof_logits).all()
    scored = [(row.name, row.split) for row in evaluate(store).rows]
    assert scored == [("own", "oof"), ("own", "holdout"), ("a", "holdout")] or sorted(
        scored
    ) == [("a", "holdout"), ("own", "holdout"), ("own", "oof")]
    assert merge_run(store, theirs, holdout_only=True).already == ("a",)


def test_test_rows_that_somebody_trained_on_are_not_taken(mine, tmp_path):
    def swapped(table):
        table["id"] = [f"s{i:04d}" for i in (*range(6, 36), *range(6))]
        return table

    theirs = others(tmp_path, swapped)
    reason = reason_of(merge_run(mine, theirs, holdout_only=True))
    assert "6 of the run's 6 test rows" in reason
    assert "only rows that its networks never saw" in reason


def test_another_fingerprint_of_the_data_is_refused(mine, tmp_path):
    theirs = others(tmp_path, lambda table: table)
    for store, data in ((mine, "one"), (theirs, "another")):
        store.recipe_lock_path.write_text(f'{{"data": "{data}"}}')
    reason = reason_of(merge_run(RunStore(mine.folder), RunStore(theirs.folder)))
    assert reason.startswith("it was trained on other data")


def test_a_name_that_the_recipe_will_use_is_kept_free(mine, tmp_path):
    mine.recipe_lock_path.write_text('{"members": ["own", "a"]}')
    theirs = others(tmp_path, lambda table: table)
    taken = merge_run(RunStore(mine.folder), theirs, author="Ann B.")
    assert taken.members == ("a@Ann-B",)


def test_a_run_is_not_merged_with_itself_or_a_pool(mine, tmp_path, ens_here):
    with pytest.raises(RequestError, match="with itself"):
        merge_run(mine, RunStore(mine.folder))
    share_run(mine, str(tmp_path / "pool"), author="Me")
    error = ens_here("merge", mine.folder, tmp_path / "pool", expect=2).stderr
    assert "is a pool, expected a run" in error
    assert "is a recipe, expected a run" in ens_here("ls", "x.yaml", expect=2).stderr
    assert "is a bundle, expected a run" in ens_here("ls", "x.ens", expect=2).stderr
    assert "expected a pool" in ens_here("share", mine.folder, "x.ens", expect=2).stderr
