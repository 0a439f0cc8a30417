"""A teacher of a fold's student has not seen the fold, nor the rows that it teaches."""

import numpy as np
import pytest

from ensembler.blends.teacher import BlendTeacher, check_teacher_views
from ensembler.errors import RequestError
from ensembler.predictions.testing import write_fake_run
from ensembler.run import Run


@pytest.fixture
def run(tmp_path):
    members = {"a": 1.0, "b": 0.7}
    return Run(write_fake_run(tmp_path / "run", members, n_train=120, labelled_test=False))


def fold_of(run, fold):
    return run.store.samples.folds("fold") == fold


def test_it_says_nothing_of_the_fold_and_something_of_all_other_rows(run):
    run.blend("loglinear", name="t")
    taught = BlendTeacher(run.store, "t").without(fold_of(run, 1))
    is_taught = np.isfinite(taught.train).all(axis=1)
    assert np.array_equal(is_taught, ~fold_of(run, 1))
    assert np.allclose(taught.train[is_taught].sum(axis=1), 1, atol=1e-5)
    assert taught.test.shape == (20, 3)
    assert len(taught.new) == 0


def test_labels_of_the_fold_change_nothing_that_it_says(run):
    import pandas as pd

    run.blend("loglinear", name="t")
    fold = fold_of(run, 0)
    before = BlendTeacher(run.store, "t").without(fold)
    table = run.store.samples.table.copy()
    rows = table.index[(table["split"] == "train") & (table["fold"] == 0)]
    table.loc[rows, "label"] = pd.Series(["cat"] * len(rows), index=rows)
    table.to_csv(run.store.samples_path, index=False)
    for name in ("a", "b"):
        path = run.store.member_folder(name) / "member.json"
        text = path.read_text()
        from ensembler.predictions.store import RunStore

        again = RunStore(run.store.folder)
        path.write_text(text.replace(run.store.samples_sha256, again.samples_sha256))
    after = BlendTeacher(RunStore(run.store.folder), "t").without(fold)
    assert np.array_equal(before.train, after.train, equal_nan=True)
    assert np.array_equal(before.test, after.test)


def test_new_images_are_taught_by_the_same_blend(run):
    run.blend("weights", name="t", weights={"a": 1.0, "b": 1.0})
    classes = run.classes()
    tests = {(n, "label"): run.store.member(n).test(classes) for n in ("a", "b")}
    taught = BlendTeacher(run.store, "t").without(fold_of(run, 2), tests)
    assert np.allclose(taught.new, taught.test)


def test_one_view_has_its_own_answer(run):
    run.blend("soft", name="t")
    one = BlendTeacher(run.store, "t", ("hflip",)).without(fold_of(run, 0))
    both = BlendTeacher(run.store, "t").without(fold_of(run, 0))
    wanted = np.mean(
        [run.store.member(n).oof(run.classes(), views=["hflip"]) for n in ("a", "b")],
        axis=0,
    )
    rows = ~fold_of(run, 0)
    assert np.allclose(one.train[rows], wanted[rows], atol=1e-6)
    assert not np.allclose(one.train[rows], both.train[rows], atol=1e-3)
    with pytest.raises(RequestError, match="rot90"):
        check_teacher_views(run.store, "t", ["identity", "rot90"])


def test_a_blend_of_blends_is_refused(run):
    run.blend("soft", name="inner")
    run.blend("soft", name="outer", members=["blend:inner", "a"])
    with pytest.raises(RequestError, match="made of other blends"):
        BlendTeacher(run.store, "outer").check()


def test_networks_of_one_fold_say_nothing_of_train_rows_and_their_own_of_the_others(run):
    run.blend("weights", name="t", weights={"a": 3.0, "b": 1.0})
    classes = run.classes()
    tests = {(n, "label"): run.store.member(n).test(classes) for n in ("a", "b")}
    teacher = BlendTeacher(run.store, "t")
    teacher.check_by_fold("fold")
    taught = teacher.of_fold(2, fold_of(run, 2), tests)
    wanted = 0.75 * tests["a", "label"][2] + 0.25 * tests["b", "label"][2]
    assert np.isnan(taught.train).all()
    assert np.allclose(taught.test, wanted, atol=1e-6)
    assert np.array_equal(taught.new, taught.test)


def test_a_member_without_networks_of_these_folds_cannot_teach_by_them(run):
    run.blend("soft", name="t")
    with pytest.raises(RequestError, match="no network for each fold of column 'fold-r1'"):
        BlendTeacher(run.store, "t").check_by_fold("fold-r1")


def test_a_blend_of_a_blend_of_a_flattered_student_is_warned_of(run):
    from ensembler.files import read_json, write_json
    from ensembler.predictions.store import RunStore

    path = run.store.member_folder("b") / "member.json"
    write_json(path, {**read_json(path), "flattered": True})
    write_json(run.store.recipe_lock_path, {"format": 1, "students": ["b"]})
    taught = Run(RunStore(run.store.folder))
    taught.blend("soft", name="inner", members=["a", "b"])
    taught.blend("soft", name="outer", members=["blend:inner", "a"])
    warned = {(w.code, w.member) for w in taught.store.blend("outer").record.warnings}
    assert ("student", "b") in warned
