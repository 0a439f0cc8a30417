"""Folds with fewer epochs than the recipe says: their options, and which of them is trained."""

import numpy as np
import pandas as pd
import pytest

from ensembler import Recipe
from ensembler.members.prices import Price
from ensembler.members.schedule import trainings_of
from ensembler.members.short_folds import (
    discard_short_members,
    epochs_there,
    has_finished_folds,
    one_epoch,
    short_members,
    shortened,
    shortened_spec,
    shortest_fold,
)
from ensembler.predictions.finished_folds import FinishedFold, write_finished_fold
from ensembler.training.spec import EnsembleSpec, MemberSpec, SoupSpec
from ensembler.workspace.workspace import open_workspace


def spec(**options):
    return MemberSpec.model_validate({"backbone": "resnet18", "epochs": 20, **options})


@pytest.mark.parametrize(
    "options",
    [
        {"warmup_epochs": 4},
        {"freeze_epochs": 10},
        {"sched": "step", "decay_epochs": 8},
        {"also": ["swa", "last_12"], "swa_lr": 0.1},
        {"snapshots": "cyclic", "cycles": 5},
        {"choose": "best", "val_interval": 10},
        {"ema": 0.99},
        {"seeds": 3},
    ],
)
def test_options_in_epochs_shrink_with_them_and_what_needs_many_is_dropped(options):
    for epochs in (1, 2, 13):
        short = shortened_spec(spec(**options), epochs)
        assert short.epochs == epochs
        assert short.backbone == "resnet18"
        assert not short.also
        assert short.snapshots == "none"
    assert shortened_spec(spec(warmup_epochs=4), 5).warmup_epochs == 1
    assert shortened_spec(spec(freeze_epochs=10), 4).freeze_epochs == 2


def test_what_cannot_have_so_many_epochs_is_not_shortened():
    snapshot = EnsembleSpec(backbone="resnet18", method="snapshot", estimators=5, epochs=10)
    assert shortened_spec(snapshot, 3) is None
    assert shortened_spec(SoupSpec(method="soup", of=("a", "b")), 3) is None


def write_fold(folder, fold, target):
    """A finished fold of a member that predicts `target`."""
    folder.mkdir(parents=True, exist_ok=True)
    rows, logits = np.arange(2), np.zeros((1, 2, 3), np.float32)
    record = {"tasks": {target: [0, 3]}}
    write_finished_fold(folder, FinishedFold(fold, rows, logits, logits, record))


def test_folds_count_that_can_be_submitted_by_themselves(there):
    store = there[0].store
    (label,) = store.samples.targets
    write_fold(store.member_folder("wide"), 0, "another")
    assert not has_finished_folds(store)
    write_fold(store.member_folder("narrow"), 1, label)
    assert has_finished_folds(store)


class FakePrices:
    """A row takes a second for wide, a tenth for narrow; what is around a fold takes ten."""

    def price(self, training):
        row = {"narrow": 0.1, "wide": 1.0}[training.name]
        return Price(row, 0.0, 10.0, "earlier folds", (1.0, 1.0))

    def fold(self, training, fold):
        from ensembler.members.prices import workload_of

        return self.price(training).fold(workload_of(training, fold))


@pytest.fixture
def there(recipe, tmp_path):
    loaded = Recipe.load(recipe, ["defaults.epochs=10"])
    workspace = open_workspace(loaded, tmp_path / "artifacts")
    trainings = trainings_of(workspace, workspace.members)
    tasks = [task for training in trainings for task in training.missing_tasks(None)]
    return workspace, trainings, tasks


@pytest.fixture
def shortest(recipe, tmp_path):
    def find(*overrides):
        loaded = Recipe.load(recipe, ["defaults.epochs=30", *overrides])
        workspace = open_workspace(loaded, tmp_path / "artifacts")
        trainings = trainings_of(workspace, workspace.members)
        tasks = [task for training in trainings for task in training.missing_tasks(None)]
        return shortest_fold(trainings, tasks, FakePrices(), 0.1)

    return find


def test_a_member_that_cannot_be_shortened_is_left_to_others(shortest):
    _, task = shortest("members.narrow.method=snapshot", "members.narrow.estimators=5")
    assert task.training == "wide@short"


def test_a_fold_that_says_nothing_of_the_label_is_no_submission(shortest, recipe):
    for name in ("train.csv", "test.csv"):
        path = recipe.parent / "shapes" / name
        table = pd.read_csv(path)
        table["shade"] = ["dark", "bright"] * (len(table) // 2) + ["dark"] * (
            len(table) % 2
        )
        table.to_csv(path, index=False)
    _, task = shortest("data.targets=[label, shade]", "members.narrow.target=shade")
    assert task.training == "wide@short"


def test_the_smallest_member_gets_as_many_epochs_as_end_in_time(there):
    _, trainings, tasks = there
    narrow = next(t for t in trainings if t.name == "narrow")
    one, each = one_epoch(narrow, 0, FakePrices())
    assert one == pytest.approx(10.0 + each)
    short, task = shortest_fold(trainings, tasks, FakePrices(), one + 3.9 * each)
    assert task.training == short.name == "narrow@short"
    assert task.fold == 0
    assert task.cost.epochs == 4  # an epoch may take 1.25 times as long as is expected
    assert short.fingerprint != narrow.fingerprint


def test_at_least_one_epoch_is_trained_and_no_fold_that_ends_in_time_is_shortened(there):
    _, trainings, tasks = there
    _, task = shortest_fold(trainings, tasks, FakePrices(), 0.1)
    assert task.cost.epochs == 1
    assert shortest_fold(trainings, tasks, FakePrices(), 1e6) is None
    assert shortest_fold(trainings, [], FakePrices(), 0.1) is None


def test_a_shortened_fold_is_kept_apart_until_there_are_others(there):
    workspace, trainings, _ = there
    short = shortened(trainings[0], 3)
    folder = short.plans[0].on_disk.folder
    assert folder.name == f"{trainings[0].name}@short"
    assert epochs_there(short, 0) == 0
    write_fold(folder, 0, "label")
    assert short_members(workspace.store) == [folder.name]
    assert not has_finished_folds(workspace.store)
    other = workspace.store.member_folder("wide")
    write_fold(other, 2, "label")
    assert has_finished_folds(workspace.store)
    discard_short_members(workspace.store)
    assert short_members(workspace.store) == []
