"""The second submission errs elsewhere, and is not clearly worse."""

import json

import numpy as np
import pytest

from ensembler.blends.second import second_choice
from ensembler.blends.submit import submission_spec, submit_blend
from ensembler.errors import RequestError
from ensembler.files import write_json
from ensembler.predictions.store import RunStore
from ensembler.predictions.testing import write_fake_member, write_fake_run
from ensembler.run import Run


@pytest.fixture
def store(tmp_path):
    """A run with two good members, of which b is better, and one clearly worse than both."""
    strengths = {"a": 0.7, "b": 0.9, "poor": -0.5}
    return write_fake_run(tmp_path / "run", strengths, n_train=300, n_test=200)


def answers(store, blend):
    return np.asarray(store.blend(blend).test).argmax(axis=1)


def test_it_is_the_most_different_that_is_not_clearly_worse(store):
    run = Run(store)
    run.blend("single", name="first", members=["a"], submit=True)
    found = second_choice(store)
    assert found.over == "first"
    assert found.blend == "second"
    # `poor` differs most, and is clearly worse
    assert store.blend("second").record.members == ("b",)
    assert found.gain.high >= 0
    differs = answers(store, "first") != answers(store, "second")
    assert found.different == pytest.approx(differs.mean())


def test_a_kept_blend_is_taken_as_it_is(store):
    run = Run(store)
    run.blend("soft", name="first", members=["a"], submit=True)
    run.blend("weights", name="mine", members=["b", "poor"], weights=[3.0, 1.0])
    found = second_choice(store)
    assert found.blend in ("mine", "second")
    assert second_choice(store, "mine").over == "mine"


def test_the_same_question_has_the_same_answer_twice(store):
    Run(store).blend("soft", name="first", members=["a"], submit=True)
    first, again = second_choice(store), second_choice(store)
    assert (first.blend, first.different) == (again.blend, again.different)
    assert store.blends == ["first", "second"]


def test_a_member_that_only_votes_is_no_candidate(store):
    folder, classes = store.member_folder("b"), ("cat", "dog", "eel")
    logits = [np.load(folder / name) for name in ("oof.npy", "test.npy")]
    oof, test = (np.eye(3, dtype=np.float32)[each.argmax(axis=-1)] for each in logits)
    write_fake_member(store.folder, "b", oof, test, classes, ("identity", "hflip"))
    path = folder / "member.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "kind": "labels"}))
    store = RunStore(store.folder)
    Run(store).blend("single", name="first", members=["a"], metric="accuracy")
    with pytest.raises(RequestError, match="clearly worse"):
        second_choice(store, "first")


def test_a_blend_of_a_blend_of_a_student_is_no_candidate(store):
    Run(store).blend("soft", name="first", members=["a"])
    Run(store).blend("soft", name="inner", members=["b"])
    Run(store).blend("soft", name="outer", members=["blend:inner"])
    assert second_choice(store, "first").candidates == 7
    write_json(store.recipe_lock_path, {"students": ["b"]})
    record = store.member_folder("b") / "member.json"
    write_json(record, {**json.loads(record.read_text()), "flattered": True})
    with pytest.raises(RequestError, match=r"none of 3 .* clearly worse"):
        second_choice(RunStore(store.folder), "first")


def test_nothing_but_worse_candidates_is_an_error(tmp_path):
    store = write_fake_run(tmp_path / "run", {"a": 3.0, "poor": 0.0}, n_train=300)
    Run(store).blend("single", name="first", members=["a"])
    submit_blend(store, "first", submission_spec(store), by_hand=True)
    with pytest.raises(RequestError, match="clearly worse"):
        second_choice(store)


def test_the_command_writes_beside_the_first(ens_here, tmp_path):
    write_fake_run(tmp_path / "artifacts" / "fake", n_train=200, n_test=100)
    ens_here("blend", "fake", "--method", "weights", "--weights", "a=1,b=2", "--submit")
    first = (tmp_path / "artifacts/fake/submission.csv").read_bytes()
    said = ens_here("submit", "fake", "--second").stdout
    assert "different from 'weights'" in said
    second = (tmp_path / "artifacts/fake/submission-second.csv").read_bytes()
    assert second != first == (tmp_path / "artifacts/fake/submission.csv").read_bytes()
