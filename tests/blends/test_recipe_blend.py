import json

import pytest

from ensembler.blends.recipe_blend import (
    gain_over_blend,
    keep_blend_made_by_hand,
    note_recipe_blend,
    submit_recipe_blend,
)
from ensembler.blends.submit import submission_spec, submit_blend
from ensembler.predictions.store import RunStore
from ensembler.predictions.testing import write_fake_run
from ensembler.progress import RecordedProgress
from ensembler.reporting.provisional import renew_submission
from ensembler.reporting.submitted import last_choice, submitted_blend
from ensembler.run import Run


@pytest.fixture
def run(tmp_path):
    members = {"good": 4.0, "fine": 3.9, "poor": 0.2}
    run = Run(write_fake_run(tmp_path / "fake", members, n_train=150, n_test=20))
    for name in members:
        run.blend("soft", name=name, members=[name])
    return run


@pytest.fixture
def notes():
    return RecordedProgress()


def submit_by_hand(run, name):
    submit_blend(run.store, name, submission_spec(run.store), by_hand=True)
    return run.store.submission_path.read_bytes()


def finish(run, name, notes, *, is_new=True, metric="log_loss"):
    submit_recipe_blend(
        run.store,
        name,
        submission_spec(run.store),
        metric=metric,
        is_new=is_new,
        progress=notes,
    )


def test_the_first_submission_is_the_blend_of_the_recipe(run, notes):
    finish(run, "poor", notes)
    assert submitted_blend(run.store) == "poor"
    assert notes.notes + notes.warnings == []


def test_a_better_blend_chosen_by_hand_stays_when_the_new_one_is_clearly_worse(run, notes):
    chosen = submit_by_hand(run, "good")
    finish(run, "poor", notes)
    assert run.store.submission_path.read_bytes() == chosen
    assert last_choice(run.store).by_hand
    (said,) = notes.warnings
    assert (
        "the submission stays blend 'good': the recipe's blend 'poor' is worse in log_loss"
        in said
    )
    assert "`ens submit fake --blend poor` submits it nevertheless" in said


def test_a_blend_chosen_by_hand_gives_way_to_one_that_is_not_clearly_worse(run, notes):
    submit_by_hand(run, "good")
    gain = gain_over_blend(run.store, "fine", "good", "log_loss")
    assert gain.low < 0 < gain.high
    finish(run, "fine", notes)
    assert submitted_blend(run.store) == "fine"
    assert "gives way to the new blend 'fine'" in notes.notes[0]


@pytest.mark.parametrize("name", ["good", "poor"])
def test_a_blend_chosen_by_hand_stays_while_that_of_the_recipe_is_not_new(run, notes, name):
    chosen = submit_by_hand(run, "fine")
    finish(run, name, notes, is_new=False)
    assert run.store.submission_path.read_bytes() == chosen
    assert "chosen by hand, of blend 'fine', stays" in notes.notes[0]


def test_a_better_blend_of_an_earlier_recipe_stays_too_whenever_it_is_asked(run, notes):
    finish(run, "good", notes)
    before = run.store.submission_path.read_bytes()
    finish(run, "poor", notes)
    finish(run, "poor", notes, is_new=False)
    assert run.store.submission_path.read_bytes() == before
    assert ["stays blend 'good'" in said for said in notes.warnings] == [True, True]


def test_the_blend_that_stays_is_written_again_when_its_file_was_altered(run, notes):
    chosen = submit_by_hand(run, "good")
    run.store.submission_path.write_bytes(chosen + b"one more,row\n")
    finish(run, "poor", notes)
    assert run.store.submission_path.read_bytes() == chosen


def test_blends_of_other_classes_are_not_compared_and_give_way(run, notes):
    submit_by_hand(run, "good")
    path = run.store.blend_folder("good") / "blend.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "target": "another"}))
    assert gain_over_blend(run.store, "poor", "good", "log_loss") is None


def lock_with(store, **content):
    store.recipe_lock_path.write_text(json.dumps({"format": 1, **content}))
    return RunStore(store.folder)


def test_a_blend_made_by_hand_under_the_name_of_the_recipes_is_kept_under_another(
    run, notes
):
    store = lock_with(run.store, blends={})
    Run(store).blend("auto", members=["good"])
    before = store.blend("auto").test.copy()
    chosen = submit_by_hand(Run(store), "auto")
    spec = submission_spec(store)
    assert keep_blend_made_by_hand(store, "auto", spec, notes) == "auto-by-hand"
    kept = store.blend("auto-by-hand")
    assert (kept.test == before).all()
    assert kept.record.members == ("good",)
    assert "it is kept as 'auto-by-hand'" in notes.warnings[0]
    assert last_choice(store).blend == "auto-by-hand"
    Run(store).blend("auto", members=["poor"])
    finish(Run(store), "auto", notes)
    assert store.submission_path.read_bytes() == chosen
    assert keep_blend_made_by_hand(store, "auto", spec, notes) == "auto-by-hand-2"


def test_a_blend_that_the_recipe_made_is_not_kept_when_it_is_made_again(run, notes):
    store = lock_with(run.store, blends={})
    Run(store).blend("auto", members=["good"])
    note_recipe_blend(store, "auto")
    store = RunStore(store.folder)
    assert keep_blend_made_by_hand(store, "auto", submission_spec(store), notes) is None
    assert sorted(store.blends) == ["auto", "fine", "good", "poor"]


def test_in_a_run_of_an_earlier_version_a_blend_is_by_hand_when_it_was_submitted_by_hand(
    run, notes
):
    store = lock_with(run.store)
    Run(store).blend("auto", members=["good"])
    spec = submission_spec(store)
    assert keep_blend_made_by_hand(store, "auto", spec, notes) is None
    submit_by_hand(Run(store), "auto")
    assert keep_blend_made_by_hand(store, "auto", spec, notes) == "auto-by-hand"


def submit_folds(run):
    """The soft vote of all that is finished, as a run submits it before it blends."""
    members = ["good", "fine"]
    options = {"target": "label", "metric": "log_loss", "members": members}
    renew_submission(run.store, submission_spec(run.store), **options)
    return run.store.submission_path.read_bytes()


@pytest.mark.parametrize("metric", ["log_loss", "top_2_accuracy"])
def test_what_folds_made_stays_when_the_blend_of_the_recipe_is_clearly_worse(
    run, notes, metric
):
    before = submit_folds(run)
    finish(run, "poor", notes, metric=metric)
    assert run.store.submission_path.read_bytes() == before
    (said,) = notes.warnings
    assert said.startswith(
        "the submission stays soft vote of what is finished: the recipe's"
    )
    assert f"worse in {metric} by" in said


def test_what_folds_made_gives_way_to_a_blend_that_is_not_clearly_worse(run, notes):
    submit_folds(run)
    finish(run, "good", notes)
    assert submitted_blend(run.store) == "good"
    assert notes.warnings == []
