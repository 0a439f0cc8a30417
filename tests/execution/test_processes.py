import multiprocessing
import os

import numpy as np
import pandas as pd
import pytest
import torch

from ensembler import Recipe, Run
from ensembler.execution.shares import share_of_loaders
from ensembler.machine.execution import Execution
from ensembler.pipeline.train import train_recipe
from ensembler.progress import Progress


class Heard(Progress):
    def __init__(self):
        self.epochs, self.folds, self.warnings, self.notes = [], [], [], []

    def epoch(self, epoch):
        self.epochs.append((epoch.training, epoch.fold, epoch.epoch))

    def fold_done(self, task, text):
        self.folds.append((task.training, task.fold))

    def warn(self, text):
        self.warnings.append(text)

    def note(self, text):
        self.notes.append(text)


def kfold(recipe, folder, *overrides, processes=1, **options):
    return train_recipe(
        Recipe.load(recipe, overrides),
        recipe.parent / folder,
        execution=Execution("cpu", processes=processes),
        **options,
    )


@pytest.mark.slow
def test_folds_trained_at_once_are_those_trained_one_by_one(recipe, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(recipe.parent), prepend=os.pathsep)
    manifest = recipe.parent / "shapes/train.csv"
    table = pd.read_csv(manifest)
    table.loc[0, "label"] += " "
    table.to_csv(manifest, index=False)
    heard = Heard()
    together = kfold(
        recipe, "together", "members.odd={lr: 1.0e+30}", processes=2, progress=heard
    )
    assert sorted(heard.folds) == [(m, k) for m in ("narrow", "wide") for k in range(3)]
    assert len(set(heard.epochs)) == len(heard.epochs) == 12
    assert together.complete == ("narrow", "wide")
    assert {failure.member for failure in together.failures} == {"odd"}
    assert len(together.trained) == 6
    assert (
        len([warning for warning in heard.warnings if "'odd'" in warning]) == 1
    )  # it fails in one process, once
    assert len([note for note in heard.notes if "the spaces around 1 label" in note]) == 1

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        kfold(recipe, "alone")
    finally:
        torch.set_num_threads(threads)
    for name in ("narrow", "wide"):
        both = [
            Run.open("shapes", recipe.parent / f).members[name].oof_logits
            for f in ("together", "alone")
        ]
        np.testing.assert_allclose(both[0], both[1], atol=1e-5)


@pytest.mark.slow
def test_a_process_that_is_killed_leaves_its_folds_to_the_others(recipe, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(recipe.parent), prepend=os.pathsep)

    class Killing(Heard):
        def epoch(self, epoch):
            super().epoch(epoch)
            if len(self.epochs) == 1:
                multiprocessing.active_children()[0].kill()

    heard = Killing()
    result = kfold(recipe, "artifacts", processes=2, progress=heard)
    assert result.complete == ("narrow", "wide")
    assert any("died" in warning for warning in heard.warnings)


@pytest.mark.parametrize(
    ("device", "alone", "n", "each"),
    [("cuda", 8, 3, 2), ("cuda", 2, 4, 1), ("cpu", 0, 4, 0)],
)
def test_processes_share_the_loader_processes_that_one_would_take(
    monkeypatch, device, alone, n, each
):
    from ensembler.networks import devices

    monkeypatch.setattr(devices, "pick_device", lambda name: name)
    monkeypatch.setattr(
        devices, "loader_processes", lambda name: alone if name == device else None
    )
    assert share_of_loaders(n, device) == each
