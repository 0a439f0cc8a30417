"""Classes have one order in every process that trains, resumes or predicts, whatever its hash seed."""

import json
import textwrap

import numpy as np
import pandas as pd
import pytest
from fuzz import FUZZ
from PIL import Image

from ensembler import Recipe, Run
from ensembler.errors import ChangedRecipeError
from ensembler.machine.execution import Execution
from ensembler.pipeline.train import train_recipe

NETWORK = """
import torch

def colours(num_classes, in_chans):
    return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(in_chans, num_classes))

def turned(image):
    return image[::-1].copy()
"""
COLOURS = {
    "1.1": (230, 20, 20),
    "1.10": (20, 230, 20),
    "1.2": (20, 20, 230),
    "1.20": (230, 230, 20),
}
RECIPE = """
    name: numbers
    data: {source: train.csv, test: test.csv}
    folds: {count: 3}
    input: {size: 8}
    views: [identity]
    augment: none
    defaults: {backbone: "colournets:colours", epochs: 12, lr: 0.05, batch_size: 8}
    members: {one: {}}
    blend: {method: soft}
"""


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """A recipe over plain-coloured images whose classes are equal as numbers, two and two."""
    rng = np.random.default_rng(0)
    for part, n in (("train", 9), ("test", 3)):
        rows = []
        for label, colour in COLOURS.items():
            for i in range(n):
                path = f"{part}-{label}-{i}.png"
                pixels = np.clip(rng.normal(colour, 8, (8, 8, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(tmp_path / path)
                rows.append({"path": path, "label": label})
        pd.DataFrame(rows).to_csv(tmp_path / f"{part}.csv", index=False)
    table = pd.read_csv(tmp_path / "test.csv", dtype=str)
    table[["path"]].to_csv(tmp_path / "test.csv", index=False)
    (tmp_path / "colournets.py").write_text(NETWORK)
    (tmp_path / "recipe.yaml").write_text(textwrap.dedent(RECIPE))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "recipe.yaml"


def check_all_right(folder):
    run = Run.open("numbers", folder / "artifacts")
    assert run.classes() == ("1.1", "1.10", "1.2", "1.20")
    assert (run.members["one"].oof(run.classes()).argmax(axis=1) == run.labels()).all()
    submitted = pd.read_csv(run.store.submission_path, dtype=str)
    assert submitted["label"].tolist() == [name.split("-")[1] for name in submitted["id"]]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(not FUZZ, reason="the next test has processes of other hash seeds, too")
def test_folds_trained_by_processes_of_other_hash_seeds_make_one_member(
    ens, recipe, monkeypatch
):
    for fold in range(2):
        monkeypatch.setenv("PYTHONHASHSEED", str(fold))
        ens.anew("kfold", recipe, "--folds", fold, "--quiet")
    ens("run", recipe, "--quiet")  # with the seed that the tests were started with
    check_all_right(ens.folder)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_processes_that_train_at_once_have_one_order_of_classes_and_find_ones_own_code(
    ens, recipe, monkeypatch
):
    monkeypatch.setenv("PYTHONHASHSEED", "random")
    own_step = "input={size: 8, prepare: ['colournets:turned']}"
    done = ens("run", recipe, "--jobs", 2, "--set", own_step)
    assert done.stderr.count("uses code of yours: colournets:colours") == 1
    assert "colournets:turned" in done.stderr
    check_all_right(ens.folder)


def kfold(recipe, *overrides, **options):
    return train_recipe(
        Recipe.load(recipe, ["members.one.epochs=1", *overrides]),
        recipe.parent,
        execution=Execution("cpu"),
        **options,
    )


def test_other_classes_than_the_run_was_made_with_are_refused_and_never_written_over(
    recipe,
):
    kfold(recipe, folds=[0])
    path = recipe.parent / "numbers" / "recipe.lock.json"
    lock = json.loads(path.read_text())
    lock["classes"]["label"] = ["1.10", "1.1", "1.2", "1.20"]
    path.write_text(json.dumps(lock))
    before = path.read_bytes()
    with pytest.raises(
        ChangedRecipeError, match=r"label has 1.10, 1.1, 1.2, 1.20 there, 1.1, 1.10, .* now"
    ):
        kfold(recipe)
    assert path.read_bytes() == before


def of_an_earlier_version(plan, folder):
    """Give what is finished of a member the fingerprint that earlier versions wrote, which had no classes in it."""
    from ensembler.predictions.finished_folds import (
        FinishedFold,
        read_finished_fold,
        write_finished_fold,
    )

    old = plan._fingerprint(classes=False, contents=True, place=False)
    assert old != plan.fingerprint
    for path in folder.glob("fold?.logits.safetensors"):
        found = read_finished_fold(folder, int(path.name[4]))
        record = {**found.record, "fingerprint": old}
        arrays = [np.array(a) for a in (found.rows, found.oof, found.test)]
        write_finished_fold(folder, FinishedFold(found.fold, *arrays, record))
    if (folder / "member.json").exists():
        record = json.loads((folder / "member.json").read_text())
        (folder / "member.json").write_text(json.dumps({**record, "fingerprint": old}))


def plan_of(recipe):
    from ensembler.members.plan import MemberPlan
    from ensembler.workspace.workspace import open_workspace

    workspace = open_workspace(Recipe.load(recipe, ["members.one.epochs=1"]), recipe.parent)
    return MemberPlan(workspace, workspace.members[0])


@pytest.mark.slow
def test_folds_and_members_of_earlier_versions_stay_when_their_classes_are_the_same(recipe):
    kfold(recipe, folds=[0])
    folder = recipe.parent / "numbers" / "members" / "one"
    of_an_earlier_version(plan_of(recipe), folder)
    assert [job.fold for job in kfold(recipe).trained] == [1, 2]
    of_an_earlier_version(plan_of(recipe), folder)
    assert not kfold(recipe).trained


@pytest.mark.slow
def test_a_fold_or_member_of_an_earlier_version_with_classes_in_another_order_is_trained_again(
    recipe,
):
    kfold(recipe, folds=[0])
    folder = recipe.parent / "numbers" / "members" / "one"
    of_an_earlier_version(plan_of(recipe), folder)
    swap_classes(folder / "fold0.logits.safetensors", folder)
    assert [
        job.fold for job in kfold(recipe, folds=[0]).trained
    ] == []  # its weights are right: predicted again
    assert plan_of(recipe).on_disk.is_finished(0)
    kfold(recipe)
    of_an_earlier_version(plan_of(recipe), folder)
    content = (folder / "fold1.safetensors").read_bytes()
    swapped = content.replace(b'\\"1.1\\", \\"1.10\\"', b'\\"1.10\\", \\"1.1\\"')
    assert swapped != content
    (folder / "fold1.safetensors").write_bytes(swapped)
    assert plan_of(recipe).changed == "the order of classes of some fold"
    assert len(kfold(recipe).trained) == 3


def swap_classes(path, folder):
    from ensembler.predictions.finished_folds import (
        FinishedFold,
        read_finished_fold,
        write_finished_fold,
    )

    found = read_finished_fold(folder, 0)
    classes = list(found.record["classes"])
    record = {**found.record, "classes": [classes[1], classes[0], *classes[2:]]}
    arrays = [np.array(a) for a in (found.rows, found.oof, found.test)]
    path.unlink()
    write_finished_fold(folder, FinishedFold(0, *arrays, record))
