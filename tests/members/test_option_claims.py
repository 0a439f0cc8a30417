"""Two sets of options in one run at once: the second is told, and what the first has finished stays."""

import dataclasses
import json
import os
import signal
import threading
from pathlib import Path

import pytest

from ensembler import Recipe
from ensembler.errors import RequestError
from ensembler.machine.execution import Execution
from ensembler.members import option_claims
from ensembler.members.option_claims import check_options, claim_options
from ensembler.members.plan import MemberPlan
from ensembler.members.training import group_trainings
from ensembler.pipeline.train import train_recipe
from ensembler.progress import Progress
from ensembler.workspace.workspace import open_workspace


def kfold(recipe, *overrides, **options):
    given = Recipe.load(recipe, ["defaults.epochs=1", *overrides])
    return train_recipe(
        given, recipe.parent / "artifacts", execution=Execution("cpu"), **options
    )


def files(folder):
    return {
        path.name: path.stat().st_mtime_ns for path in folder.iterdir() if path.is_file()
    }


class Meanwhile(Progress):
    """Calls something when the first fold is finished."""

    def __init__(self, what):
        self.what, self.said = what, []

    def fold_done(self, task, text):
        what, self.what = self.what, None
        if what is not None:
            what()


@pytest.mark.slow
@pytest.mark.parametrize(
    "change", ["members.narrow.lr=0.02", "members.narrow.model_args={width: 4}"]
)
def test_other_options_are_refused_while_a_training_goes_on_and_its_folds_stay(
    recipe, change
):
    folder = recipe.parent / "artifacts" / "shapes"
    lock = folder / "recipe.lock.json"
    seen = []

    def other():
        before = files(folder / "members" / "narrow"), lock.read_bytes()
        assert "fold0.logits.safetensors" in before[0]
        with pytest.raises(
            RequestError,
            match="another process is training 'narrow' of this run with other options: ",
        ):
            kfold(recipe, change)
        assert (files(folder / "members" / "narrow"), lock.read_bytes()) == before
        seen.append(True)

    result = kfold(recipe, members=["narrow"], progress=Meanwhile(other))
    assert seen
    assert result.complete == ("narrow",)
    assert len(result.trained) == 3
    assert not (folder / ".training").exists()
    assert len(kfold(recipe, change, members=["narrow"]).trained) == 3  # its turn has come


@pytest.mark.slow
def test_old_options_are_refused_while_a_member_is_trained_again_with_new_ones(recipe):
    kfold(recipe, members=["narrow"])
    folder = recipe.parent / "artifacts" / "shapes" / "members" / "narrow"

    def other():
        before = files(folder / ".retrain")
        with pytest.raises(RequestError, match=r"lr \(0.02 there, 0.01 here\)"):
            kfold(recipe)
        assert files(folder / ".retrain") == before

    assert (
        len(
            kfold(
                recipe,
                "members.narrow.lr=0.02",
                members=["narrow"],
                progress=Meanwhile(other),
            ).trained
        )
        == 3
    )


@pytest.mark.slow
def test_the_same_options_share_the_folds(recipe):
    trained = []
    first = kfold(
        recipe,
        members=["narrow"],
        progress=Meanwhile(lambda: trained.append(kfold(recipe))),
    )
    assert len(first.trained) + len(trained[0].trained) == 6
    assert trained[0].complete == ("narrow", "wide")


@pytest.fixture
def trainings(recipe):
    workspace = open_workspace(Recipe.load(recipe), recipe.parent / "artifacts")
    return group_trainings([MemberPlan(workspace, workspace.members[0])])


def claims_of(trainings):
    return list(trainings[0].folder.parent.glob(".options-*"))


def of_other_options(trainings, monkeypatch):
    content = {**option_claims.claimed_options(trainings[0]), "fingerprint": "other"}
    monkeypatch.setattr(option_claims, "claimed_options", lambda _: content)


def test_a_claim_is_free_when_its_process_has_died(trainings, monkeypatch):
    child = os.fork()
    if not child:
        with claim_options(trainings):
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    (path,) = claims_of(trainings)
    assert json.loads(path.read_text())["narrow"]["fingerprint"] == trainings[0].fingerprint
    of_other_options(trainings, monkeypatch)
    check_options(trainings)
    with claim_options(trainings):
        (own,) = claims_of(trainings)
        assert own != path
        assert json.loads(own.read_text())["narrow"]["fingerprint"] == "other"
    assert not claims_of(trainings)


@pytest.mark.slow
def test_many_processes_that_come_and_go_share_one_claim_and_leave_nothing(trainings):
    errors = []

    def come_and_go():
        try:
            for _ in range(30):
                with claim_options(trainings):
                    check_options(trainings)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=come_and_go) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert not claims_of(trainings)


def test_a_thousand_trainings_need_one_open_file(trainings):
    """One file each, as it was, is more than a process may have open."""
    many = [dataclasses.replace(trainings[0], name=f"narrow-{i}") for i in range(1000)]
    n_open = len(list(Path("/dev/fd").iterdir()))
    with claim_options(many):
        assert len(list(Path("/dev/fd").iterdir())) <= n_open + 1
        check_options(many)
