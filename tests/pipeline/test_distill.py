"""A student of a run's blend: trained like any member, taught by what is honest."""

import numpy as np
import pytest

from ensembler.errors import RequestError
from ensembler.evaluation.evaluate import evaluate
from ensembler.members.plan import MemberPlan
from ensembler.members.tta_predict import ViewPredictor
from ensembler.pipeline.distill import Lesson, distill
from ensembler.predictions.store import RunStore
from ensembler.workspace.workspace import workspace_of_run

pytestmark = pytest.mark.slow


@pytest.fixture
def workspace(finished):
    return workspace_of_run(RunStore(finished.parent / "artifacts" / "shapes"))


LESSON = Lesson("tinynets:tiny", options={"epochs": 2}, teacher_views=True, with_test=True)


def test_a_student_is_a_complete_member_with_a_blend_of_its_own(
    workspace, finished, monkeypatch
):
    predict, groups = ViewPredictor.predict, []

    def counted(self, group, *args):
        groups.append([task.name for task in group])
        return predict(self, group, *args)

    monkeypatch.setattr(ViewPredictor, "predict", counted)
    store = workspace.store
    before = {name: store.member(name).record for name in store.complete_members}
    images = sorted((finished.parent / "shapes" / "images").iterdir())[:5]
    new = finished.parent / "new"
    new.mkdir()
    for image in images:
        (new / image.name).write_bytes(image.read_bytes())
    found = distill(workspace, Lesson(**{**LESSON.__dict__, "data": new}))
    store = RunStore(store.folder)
    student = store.member("student")
    assert np.isfinite(student.oof_logits).all()
    assert student.record.views == ("identity", "hflip")
    assert student.record.options["teacher"]["blend"] == found.teacher == "soft"
    assert found.rows["unlabelled"] == 5
    # new images are predicted once for all views
    assert groups == [["narrow", "wide"]]
    assert found.rows["views"] == 2
    assert found.gain.over == "soft"
    assert store.blend("student").record.members == ("student",)
    # its scores are flattered, and that is said
    assert student.record.flattered
    assert "student" in {warning.code for warning in store.blend("student").record.warnings}
    assert "student" in evaluate(store).to_json()["flattered"]
    # no blend takes it unasked, and the others are as they were
    assert "student" not in store.pool_members
    assert {name: store.member(name).record for name in before} == before
    # what is there is not trained again
    weights = (student.folder / "fold0.safetensors").stat().st_mtime_ns
    distill(workspace_of_run(store), Lesson(**{**LESSON.__dict__, "data": new}))
    assert (student.folder / "fold0.safetensors").stat().st_mtime_ns == weights


def test_every_fold_learns_from_all_rows_but_its_own(workspace):
    from ensembler.members.student import StudentPlan
    from ensembler.pipeline import distill as steps

    store = workspace.store
    spec = steps._student_spec(workspace, LESSON, "label")
    from ensembler.recipe.members import PlannedMember

    planned = PlannedMember("student", spec, "fold", "student", "student", "last", spec)
    plan = MemberPlan(workspace, planned)
    lessons = steps._lessons(workspace, plan, LESSON, "soft", steps.DEFAULT_EXECUTION)
    data = StudentPlan(workspace, planned, lessons).rows.fold_data(1, plan.pixels)
    n_images = len(workspace.samples.images)
    assert data.pixels.shape[0] == 3 * n_images
    images = data.train_rows % n_images
    assert not set(images) & set(data.valid_rows)
    # each train image under both views
    assert len(data.train_rows) == 2 * len(set(images))
    assert (data.train_rows >= n_images).all()
    assert np.allclose(data.teacher.probs[data.train_rows].sum(axis=1), 1, atol=1e-5)
    holdout = workspace.image_rows[1]
    labels = store.labels("label", "test")
    assert not set(images) & set(holdout[labels >= 0])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "wide"}, "has a member 'wide'"),
        ({"options": {"mixup": 0.2}}, "takes no mixup"),
        ({"options": {"epochs": 0}}, "student epochs"),
    ],
)
def test_what_a_student_cannot_be_is_refused(workspace, change, words):
    with pytest.raises(RequestError, match=words):
        distill(workspace, Lesson(**{**LESSON.__dict__, **change}))


def test_a_fold_taught_by_its_own_networks_keeps_scores_honest(workspace, finished):
    new = finished.parent / "beside"
    new.mkdir(exist_ok=True)
    for image in sorted((finished.parent / "shapes" / "images").iterdir())[:6]:
        (new / image.name).write_bytes(image.read_bytes())
    lesson = Lesson("tinynets:tiny", "own", options={"epochs": 1}, data=new, own_fold=True)
    found = distill(workspace, lesson)
    store = RunStore(workspace.store.folder)
    record = store.member("own").record
    assert not found.flattered
    assert "flattered" not in found.words
    assert not record.flattered
    assert record.options["teacher"]["own_fold"]
    assert store.flattered_students == set()
    assert "own" not in evaluate(store).to_json()["flattered"]
    assert "student" not in {w.code for w in store.blend("own").record.warnings}
    assert "own" not in store.pool_members  # no blend takes it unasked


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, "images without labels alone"),
        ({"with_test": True}, "no test row without a label"),
        ({"with_test": True, "teacher_views": True}, "leave out --teacher-views"),
    ],
)
def test_own_fold_needs_images_without_labels(workspace, change, words, monkeypatch):
    from ensembler.pipeline import distill as steps

    none = np.empty(0, np.int64)
    monkeypatch.setattr(steps, "_unlabelled_test", lambda *_: none)
    with pytest.raises(RequestError, match=words):
        distill(workspace, Lesson("tinynets:tiny", own_fold=True, **change))
