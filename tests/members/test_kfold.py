"""Every kind of member in a whole run: what lies in the store, what the blend sees, what a crash costs."""

import json
import textwrap

import numpy as np
import pytest
from scipy.special import log_softmax, logsumexp

from ensembler import Recipe, Run
from ensembler.machine.execution import Execution
from ensembler.members.fold import FoldTrainer
from ensembler.members.soup import SoupBuilder
from ensembler.networks.checkpoint import load_checkpoint
from ensembler.networks.spec import NetworkSpec
from ensembler.pipeline.run import run_recipe
from ensembler.pipeline.train import train_recipe
from ensembler.predictions.store import RunStore
from ensembler.progress import Progress

pytestmark = pytest.mark.slow

RECIPE = """
    name: kinds
    data: {source: shapes/train.csv, test: shapes/test.csv}
    folds: {count: 2, holdout: 0.2}
    input: {size: 16}
    views: [identity, hflip]
    defaults: {backbone: "tinynets:tiny", epochs: 2, lr: 0.01, batch_size: 16}
    members:
      cnn: {also: [ema, last_2]}
      snap: {snapshots: cyclic, cycles: 2, as: ensemble}
      bag: {method: bagging, estimators: 2}
      fused: {method: fusion, estimators: 2}
      boost: {method: soft_gradient_boosting, estimators: 2}
      stew: {method: soup, of: [cnn, cnn-ema, cnn-last_2], take: greedy}
    blend: {method: soft}
"""
NAMES = [
    "cnn",
    "cnn-ema",
    "cnn-last_2",
    "snap-c1",
    "snap-c2",
    "snap",
    "bag-e1",
    "bag-e2",
    "bag",
]
NAMES += ["fused-e1", "fused-e2", "fused", "boost", "stew"]
POOL = ["cnn", "cnn-ema", "cnn-last_2", "snap", "bag", "fused", "boost", "stew"]


@pytest.fixture
def recipe(shapes):
    path = shapes / "recipe.yaml"
    path.write_text(textwrap.dedent(RECIPE))
    return Recipe.load(path)


def arrays(folder):
    return {p.relative_to(folder): p.read_bytes() for p in sorted(folder.rglob("*.npy"))}


def test_a_run_of_all_kinds(recipe, shapes):
    artifacts = shapes / "artifacts"
    result = run_recipe(recipe, artifacts, execution=Execution("cpu"))
    assert not result.failures
    run = Run.open(artifacts / "kinds")
    store = RunStore(artifacts / "kinds")
    assert store.complete_members == NAMES
    assert store.pool_members == POOL
    assert list(store.blend("soft").record.members) == POOL
    _means_are_means(run)
    _logits_belong_to_their_checkpoints(store)
    assert (
        json.loads((store.folder / "members/boost/member.json").read_text())["values"]
        == "log_probabilities"
    )
    again = run_recipe(recipe, artifacts, execution=Execution("cpu"))
    assert again.trained == 0
    assert again.new_blend is None


def _means_are_means(run):
    for whole, parts in (("snap", ("snap-c1", "snap-c2")), ("bag", ("bag-e1", "bag-e2"))):
        for part in ("oof_logits", "test_logits"):
            logs = np.stack(
                [log_softmax(getattr(run.members[p], part), axis=-1) for p in parts]
            )
            expected = logsumexp(logs, axis=0) - np.log(len(parts))
            assert np.allclose(getattr(run.members[whole], part), expected, atol=1e-5)
    parts = np.stack([run.members[f"fused-e{i}"].oof_logits for i in (1, 2)])
    assert np.allclose(run.members["fused"].oof_logits, parts.mean(axis=0), atol=1e-5)


def _logits_belong_to_their_checkpoints(store):
    """Row by row, view by view: what a member keeps is what its checkpoint says of that very image."""
    import torch

    from ensembler.data.decoding import decode
    from ensembler.data.images import fit_to_input

    for name in ("cnn-ema", "bag-e2", "boost", "stew"):
        member = store.member(name)
        network = load_checkpoint(
            member.folder / "fold1.safetensors",
            "cpu",
            NetworkSpec(backbone="tinynets:tiny"),
        )
        row = int(np.flatnonzero(member.folds == 1)[3])
        image = fit_to_input(
            decode(store.folder.parents[1] / "shapes" / store.samples.train["id"][row]),
            16,
            3,
            "stretch",
        )
        for v, seen in enumerate((image, image[:, ::-1])):
            with torch.inference_mode():
                logits = network(
                    torch.from_numpy(seen.copy()).permute(2, 0, 1)[None]
                ).numpy()[0]
            assert np.allclose(
                member.oof_logits[v, row], logits, atol=0.05
            )  # bfloat16, where the processor has it


def test_interrupted_equals_uninterrupted(recipe, shapes, monkeypatch):
    whole = shapes / "whole"
    run_recipe(recipe, whole, execution=Execution("cpu"))

    class Stop(BaseException):
        pass

    finish, count = FoldTrainer._finish, []

    def stop_after_a_while(self, training, task):
        count.append(training.name)
        if len(count) % 4 == 0:
            raise Stop
        return finish(self, training, task)

    monkeypatch.setattr(FoldTrainer, "_finish", stop_after_a_while)
    for _ in range(10):
        try:
            run_recipe(recipe, shapes / "parts", execution=Execution("cpu"))
            break
        except Stop:
            continue
    assert len(count) > 12
    assert arrays(whole / "kinds" / "members") == arrays(
        shapes / "parts" / "kinds" / "members"
    )


def test_cycles_of_few_steps_are_told_once(recipe, shapes):
    notes = []

    class Noting(Progress):
        def note(self, text):
            notes.append(text)

    with_theirs = Recipe.load(
        recipe.path, ["members.theirs={method: snapshot, estimators: 2}"]
    )
    asked = {"members": ["cnn", "snap", "theirs"], "execution": Execution("cpu")}
    train_recipe(with_theirs, shapes / "artifacts", progress=Noting(), **asked)
    told = [note for note in notes if "networks after so few may be poor" in note]
    assert [note.partition(":")[0] for note in told] == ["snap", "theirs"]


def test_a_member_that_fails_leaves_the_others_alone(recipe, shapes):
    broken = Recipe.load(
        recipe.path,
        [
            "members.bag.lr=1e30",
            "members.bag.opt=sgd",
            "members.bag.sched=none",
            "members.cnn.lr=0.02",
        ],
    )
    result = run_recipe(
        broken,
        shapes / "artifacts",
        execution=Execution("cpu"),
        members=["bag", "boost", "cnn"],
    )
    assert [failure.member for failure in result.failures] == ["bag"]
    assert {"boost", "cnn", "cnn-ema"} <= set(
        RunStore(shapes / "artifacts" / "kinds").complete_members
    )
    assert result.submission is not None


def test_how_an_ensemble_joins_the_pool_is_changed_without_training(recipe, shapes):
    train_recipe(
        recipe, shapes / "artifacts", execution=Execution("cpu"), members=["bag", "boost"]
    )
    other = Recipe.load(recipe.path, ["members.bag.as=estimators"])
    result = train_recipe(
        other, shapes / "artifacts", execution=Execution("cpu"), members=["bag", "boost"]
    )
    assert result.trained == ()
    assert {"bag-e1", "bag-e2"} <= set(
        RunStore(shapes / "artifacts" / "kinds").pool_members
    )


def test_weights_asked_for_later_leave_those_that_are_there(recipe, shapes):
    first = Recipe.load(
        recipe.path, ["members.cnn.also=[]", "members.stew={method: soup, of: [bag]}"]
    )
    train_recipe(first, shapes / "artifacts", execution=Execution("cpu"), members=["cnn"])
    before = arrays(shapes / "artifacts" / "kinds" / "members" / "cnn")
    result = train_recipe(
        recipe, shapes / "artifacts", execution=Execution("cpu"), members=["cnn"]
    )
    assert len(result.trained) == 2
    assert set(result.complete) == {"cnn", "cnn-ema", "cnn-last_2"}
    assert arrays(shapes / "artifacts" / "kinds" / "members" / "cnn") == before


def test_a_greedy_soup_is_chosen_without_the_rows_it_is_scored_on(
    recipe, shapes, monkeypatch
):
    asked = {}
    loss, build = SoupBuilder._loss, SoupBuilder.build

    def heard(self, names, fold):
        asked.setdefault(self.losses.setdefault("now", None), set()).add(fold)
        return loss(self, names, fold)

    def noted(self, fold):
        self.losses["now"] = fold
        return build(self, fold)

    monkeypatch.setattr(SoupBuilder, "_loss", heard)
    monkeypatch.setattr(SoupBuilder, "build", noted)
    train_recipe(
        recipe, shapes / "artifacts", execution=Execution("cpu"), members=["cnn", "stew"]
    )
    assert asked == {0: {1}, 1: {0}}
    record = json.loads((shapes / "artifacts/kinds/members/stew/member.json").read_text())
    assert all(
        set(names) <= {"cnn", "cnn-ema", "cnn-last_2"} for names in record["weights_of"]
    )


def test_bag_trains_what_torchensemble_makes_and_kfold_the_rest(recipe, ens_here):
    done = json.loads(
        ens_here("bag", recipe.path, "--members", "bag", "--json", "--quiet").stdout
    )
    assert done["complete"] == ["bag-e1", "bag-e2", "bag"]
    assert done["trained_folds"] == 2
    done = json.loads(
        ens_here("kfold", recipe.path, "--members", "bag,snap", "--json", "--quiet").stdout
    )
    assert done["complete"] == ["snap-c1", "snap-c2", "snap"]
