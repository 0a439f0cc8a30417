import pytest
import torch

from ensembler import Recipe
from ensembler.errors import EnsemblerError
from ensembler.files import read_json, write_json
from ensembler.machine.execution import Execution
from ensembler.members.fold import FoldTrainer
from ensembler.members.plan import MemberPlan
from ensembler.pipeline.train import train_recipe
from ensembler.predictions.store import RunStore
from ensembler.progress import Progress, RecordedProgress
from ensembler.workspace.lock import keep_choice
from ensembler.workspace.workspace import open_workspace


def loaded(path, augment, *more):
    return Recipe.load(path, [f"augment={augment}", "folds.count=2", *more])


def train(recipe, artifacts, progress=None):
    return train_recipe(
        recipe, artifacts, execution=Execution("cpu"), progress=progress or Progress()
    )


def plan_of(recipe, artifacts):
    workspace = open_workspace(recipe, artifacts)
    return MemberPlan(workspace, workspace.members[0])


@pytest.mark.slow
def test_where_images_were_augmented_is_in_lock_and_record_and_makes_no_member_stale(
    recipe,
):
    artifacts = recipe.parent / "artifacts"
    on_device = loaded(recipe, "{preset: light, on: device}")
    train(on_device, artifacts)
    store = RunStore(artifacts / on_device.spec.name)
    record = store.member("narrow").record
    assert set(record.augmented_on) == {"device"}
    assert len(record.augmented_on) == record.folds
    kept = store.lock.choices["augment"]
    assert [kept[name].chosen for name in ("narrow", "wide")] == [{"on": "device"}] * 2
    progress = RecordedProgress()
    for same in ("light", "{preset: light, on: host}"):
        train(loaded(recipe, same), artifacts, progress)
    assert not [note for note in progress.notes if "trained again" in note]
    assert store.member("narrow").record == record


@pytest.mark.slow
def test_a_training_goes_on_where_it_was_begun(recipe):
    artifacts = recipe.parent / "artifacts"
    begun = loaded(recipe, "light")
    plan = plan_of(begun, artifacts)
    keep_choice(
        plan.workspace.store, "augment", "narrow", plan.fingerprint, {"on": "device"}
    )
    train(begun, artifacts)
    record = RunStore(artifacts / begun.spec.name).member("narrow").record
    assert set(record.augmented_on) == {"device"}


@pytest.mark.slow
def test_a_list_with_an_unknown_transform_says_so_once_and_is_augmented_on_the_host(recipe):
    progress = RecordedProgress()
    given = loaded(recipe, "{transforms: [{ElasticTransform: {p: 0.5}}], on: device}")
    train(given, recipe.parent / "artifacts", progress)
    told = [note for note in progress.notes if "ElasticTransform" in note]
    assert len(told) == 2  # once for each member
    assert "augmented on the host" in told[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "augment", ["{torchvision: [RandomHorizontalFlip], on: device}", "light", "none"]
)
def test_members_of_versions_before_this_are_still_complete(recipe, augment):
    artifacts = recipe.parent / "artifacts"
    given = loaded(recipe, augment, "defaults.epochs=1")
    train(given, artifacts)
    plan = plan_of(given, artifacts)
    path = plan.final_folder / "member.json"
    before = read_json(path)
    # as it was written then
    del before["augmented_on"]
    before["options"]["augment"] = plan.workspace.spec.model_dump(mode="json")["augment"]
    before["fingerprint"] = plan._fingerprint(classes=True, contents=True, place=True)
    write_json(path, before)
    assert plan_of(given, artifacts).changed is None
    assert plan_of(given, artifacts).on_disk.is_complete


def test_a_wrong_place_is_an_error_before_anything_is_done(recipe):
    with pytest.raises(EnsemblerError, match="on: 'gpu'"):
        train(loaded(recipe, "{preset: light, on: gpu}"), recipe.parent / "artifacts")


@pytest.mark.slow
def test_a_fold_that_runs_out_of_memory_is_trained_without_resident_pixels(
    recipe, monkeypatch
):
    from ensembler.data.on_device import store

    rooms, train_fold, attempts = [True, False], FoldTrainer._train, []

    def short_at_first(trainer, training, fold):
        attempts.append(training.name)
        if len(attempts) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return train_fold(trainer, training, fold)

    monkeypatch.setattr(FoldTrainer, "_train", short_at_first)
    monkeypatch.setattr(store, "give_up_pixels", lambda: rooms.pop(0))
    progress = RecordedProgress()
    given = loaded(recipe, "none", "defaults.epochs=1")
    result = train(given, recipe.parent / "artifacts", progress)
    assert not result.failures
    assert attempts[:2] == ["narrow", "narrow"]
    assert len([note for note in progress.notes if "ran out of memory" in note]) == 1
