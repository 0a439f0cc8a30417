"""Blends of members that have not all their folds: levels, and when one is submitted."""

import shutil

import numpy as np
import pytest

from ensembler.blending.spec import BlendSpec
from ensembler.blends.partial import best_partial_blend, quick_spec, submit_partial_blend
from ensembler.predictions.finished_folds import FinishedFold, write_finished_fold
from ensembler.predictions.lock import RunLock
from ensembler.predictions.records import write_record
from ensembler.predictions.store import RunStore
from ensembler.predictions.testing import write_fake_run
from ensembler.reporting.provisional import finished_members, renew_submission
from ensembler.reporting.spec import SubmissionSpec
from ensembler.reporting.versions import submission_versions

SUBMISSION = SubmissionSpec(format="probs", columns=("id",))


@pytest.fixture
def begun(tmp_path):
    """A run whose members have some of their folds: strong and good all three, late only one."""
    store = write_fake_run(
        tmp_path / "fake",
        {"strong": 3.0, "good": 2.0, "late": 3.0},
        n_train=240,
        labelled_test=False,
    )
    for name, n_done in (("strong", 3), ("good", 3), ("late", 1)):
        member = store.member(name)
        oof, test = np.array(member.oof_logits), np.array(member.test_logits)
        classes = list(member.record.classes)
        folder = store.member_folder(name)
        shutil.rmtree(folder)
        folder.mkdir()
        for fold in range(n_done):
            rows = np.flatnonzero(member.folds == fold)
            record = {"views": list(member.record.views), "classes": classes}
            record["tasks"] = {"label": [0, len(classes)]}
            write_finished_fold(
                folder,
                FinishedFold(
                    fold,
                    rows,
                    oof[:, rows].astype(np.float32),
                    test[fold].astype(np.float32),
                    record,
                ),
            )
    write_record(store.recipe_lock_path, RunLock(classes={"label": ("cat", "dog", "eel")}))
    return RunStore(store.folder)


NAMES = ("strong", "good", "late")


def submit(store, **options):
    spec = BlendSpec(**options)
    members = {"target": "label", "members": NAMES}
    return submit_partial_blend(store, spec, SUBMISSION, **members)


def newest(store):
    return submission_versions(store)[-1].made_of


def test_members_are_blended_on_the_rows_of_the_folds_that_they_share(begun):
    finished = finished_members(begun, NAMES, "label", begun.classes("label"))
    found = best_partial_blend(begun, BlendSpec(method="simplex"), finished, "label")
    n_first = len(finished["late"][0].rows)
    assert found.level in (1, 3)
    assert len(found.rows) == (n_first if found.level == 1 else 240)
    assert ("late" in found.members) == (found.level == 1)
    assert found.result.test.shape == (20, 3)
    assert np.isfinite(found.result.oof).all()


def test_a_better_blend_takes_the_place_of_the_soft_vote_and_no_soft_vote_that_of_it(begun):
    options = {"target": "label", "metric": "log_loss", "members": NAMES}
    renew_submission(begun, SUBMISSION, **options)
    assert newest(begun).method == "soft vote of what is finished"
    found = submit(begun, method="auto")
    assert found is not None
    assert newest(begun).method == "simplex fitted to what is finished"
    assert newest(begun).folds.keys() == set(found.members)
    content = begun.submission_path.read_bytes()
    renew_submission(begun, SUBMISSION, **options)
    assert begun.submission_path.read_bytes() == content


def test_a_blend_that_is_not_better_is_not_submitted(begun):
    options = {"target": "label", "metric": "log_loss", "members": NAMES}
    renew_submission(begun, SUBMISSION, **options)
    content = begun.submission_path.read_bytes()
    # of the first fold, which all share, it is the same as what is there
    assert submit(begun, method="soft") is None
    assert begun.submission_path.read_bytes() == content


def test_a_blend_of_the_store_stays(tmp_path):
    from ensembler.blends.blend import blend_run
    from ensembler.blends.submit import submit_blend

    store = write_fake_run(tmp_path / "fake", labelled_test=False)
    blend_run(store, BlendSpec(method="soft"))
    submit_blend(store, "soft", SUBMISSION)
    found = submit_partial_blend(
        store, BlendSpec(), SUBMISSION, target="label", members=("a", "b")
    )
    assert found is None


def test_methods_that_compare_many_or_name_members_give_way_to_a_quick_one():
    asked = BlendSpec(method="weights", weights={"a": 2, "b": 1}, prune=0.1)
    quick = quick_spec(asked, ["a"])
    assert (quick.method, quick.weights, quick.prune, quick.members) == (
        "simplex",
        None,
        None,
        ("a",),
    )
    kept = quick_spec(BlendSpec(method="greedy", options={"rounds": 7}), ["a", "b"])
    assert (kept.method, kept.options) == ("greedy", {"rounds": 7})
