import json
import textwrap

import numpy as np
import pandas as pd
import pytest

import ensembler.blends.apply as apply
from ensembler import Recipe, Run
from ensembler.blending.spec import BlendSpec
from ensembler.blends.composed import blend_label
from ensembler.bundle.images import find_asked
from ensembler.bundle.networks import Networks
from ensembler.bundle.open import open_bundle
from ensembler.bundle.pack import pack_run
from ensembler.bundle.predict import Form, predict_images
from ensembler.demo.masks import write_masks
from ensembler.errors import MissingFileError, RecipeError, RequestError
from ensembler.evaluation.evaluate import evaluate
from ensembler.metrics import score_all
from ensembler.pipeline.predict_new import predict_new
from ensembler.pipeline.run import run_recipe
from ensembler.pipeline.train import train_recipe
from ensembler.predictions.store import RunStore
from ensembler.progress import RecordedProgress
from ensembler.workspace.workspace import workspace_of_run

from ..conftest import TINY_NETWORKS

pytestmark = pytest.mark.slow

RECIPE = """
    name: masks
    data:
      source: masks/train.csv
      id: id
      group: person
      targets:
        mask: {classes: [worn, wrong, none]}
        gender: {classes: [male, female]}
        age: {bins: [30], train_bins: [28], labels: [young, old]}
      compose: {of: [mask, gender, age], prior: observed}
      test: masks/test.csv
    folds: {count: 2, holdout: 0.2}
    input: {size: 16}
    views: [identity]
    defaults: {backbone: "tinynets:tiny", epochs: 1, lr: 0.01, batch_size: 16}
    members:
      mask: {target: mask, sampler: balanced}
      both: {target: [gender, age], loss_weights: {age: 2}, sampler: sqrt, sampler_target: age}
      direct: {loss: balanced_softmax}
    blend: {method: soft}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("masks")
    write_masks(folder / "masks", persons=24, seed=1)
    (folder / "tinynets.py").write_text(TINY_NETWORKS)
    (folder / "recipe.yaml").write_text(textwrap.dedent(RECIPE))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        run_recipe(Recipe.load(folder / "recipe.yaml"), folder / "artifacts")
    return folder


@pytest.fixture
def store(made):
    return RunStore(made / "artifacts" / "masks")


def test_a_member_of_several_tasks_keeps_the_logits_of_each(store):
    folder = store.member_folder("both")
    assert {p.name for p in folder.glob("*.npy")} == {
        "oof.gender.npy",
        "oof.age.npy",
        "test.gender.npy",
        "test.age.npy",
    }
    record = json.loads((folder / "member.json").read_text())
    assert record["tasks"] == {"gender": ["male", "female"], "age": ["young", "old"]}
    member = store.member("both")
    assert member.targets == ("gender", "age")
    assert member.for_target("age").oof_logits.shape == (1, len(store.samples.train), 2)
    assert set(record["scores"]["oof"]) == {"gender", "age"}


def test_every_task_has_a_blend_and_the_label_one_of_their_product_and_the_direct_members(
    store,
):
    assert store.blends == ["soft", "soft.age", "soft.composed", "soft.gender", "soft.mask"]
    assert store.blend("soft").record.members == ("direct", "blend:soft.composed")
    rows = {
        (row.kind, row.name, row.target): row
        for row in evaluate(store).rows
        if row.split == "oof"
    }
    assert ("member", "both", "gender") in rows
    assert ("blend", "soft.composed", "label") in rows
    assert rows["blend", "soft", "label"].submitted


def test_the_composed_probabilities_are_the_weighed_product_of_the_tasks(store):
    composition = store.composition
    classes = {task: store.classes(task) for task in composition.tasks}
    labels = {
        task: store.labels(task, "train", classes[task]) for task in composition.tasks
    }
    parts = {
        task: np.asarray(store.blend(f"soft.{task}").test) for task in composition.tasks
    }
    expected = composition.compose(
        parts, classes, composition.co_occurrence(labels, classes)
    )
    np.testing.assert_allclose(store.blend("soft.composed").test, expected, atol=1e-5)
    np.testing.assert_allclose(
        np.asarray(store.blend("soft.composed").oof).sum(axis=1), 1, atol=1e-5
    )


def test_the_scores_of_the_composed_blend_are_those_of_its_kept_predictions(store):
    blend = store.blend("soft.composed")
    labels = store.labels("label", "train", blend.record.classes)
    found = score_all(np.asarray(blend.oof, np.float64), labels)
    assert blend.record.scores["cross_fitted"]["log_loss"] == pytest.approx(
        found["log_loss"], abs=1e-5
    )


def test_the_submission_is_spelt_like_the_answers(made, store):
    submission, answers = (
        pd.read_csv(store.submission_path),
        pd.read_csv(made / "masks" / "answers.csv"),
    )
    assert submission["id"].tolist() == answers["id"].tolist()
    assert set(submission["label"]) <= set(store.classes("label"))
    assert all(label.count("-") == 2 for label in submission["label"])


def test_a_second_run_does_nothing(made, store, monkeypatch):
    monkeypatch.syspath_prepend(made)
    result = run_recipe(Recipe.load(made / "recipe.yaml"), made / "artifacts")
    assert result.trained == 0
    assert result.new_blend is None


def test_training_bins_do_not_reach_the_scores(store):
    ages = pd.read_csv(store.folder.parent.parent / "masks" / "train.csv").set_index("id")[
        "age"
    ]
    labelled = store.samples.table[store.samples.table["source"] == "train"]
    expected = np.where(ages[labelled["id"]] < 30, "young", "old")
    assert labelled["age"].tolist() == expected.tolist()


def test_weights_by_hand_reach_tasks_and_product(store):
    spec = BlendSpec(
        method="weights",
        weights={"mask": 1, "both": 1, "direct": 1, "composed": 3},
        name="hand",
    )
    outcome = blend_label(store, spec)
    assert outcome.result.weights == {"direct": 0.25, "blend:hand.composed": 0.75}
    assert [stage.result.name for stage in outcome.stages] == [
        "hand.mask",
        "hand.gender",
        "hand.age",
        "hand.composed",
    ]


def test_a_direct_member_of_weight_zero_is_one_in_the_answer_too(store):
    weights = {"mask": 1, "both": 1, "direct": 0, "composed": 1}
    spec = BlendSpec(method="weights", weights=weights, name="without")
    answer = blend_label(store, spec).to_json()
    assert answer["weights"] == {"direct": 0, "blend:without.composed": 1}


def test_direct_members_or_one_task_can_be_blended_alone(store):
    assert blend_label(
        store, BlendSpec(method="soft", name="d"), members=["direct"]
    ).result.members == ("direct",)
    mine = Run(store)
    assert mine.blend("soft", name="g", target="gender").result.members == ("both",)
    assert len(mine.stack(target="age")) == 1  # noqa: PD013 not of pandas


def test_without_direct_members_the_product_is_the_blend(store):
    outcome = blend_label(
        store, BlendSpec(method="soft", name="t"), members=["mask", "both"]
    )
    assert outcome.result.method == "composed"
    assert store.blend("t").record.target == "label"


def test_a_task_without_a_member_is_named(store):
    with pytest.raises(MissingFileError, match="of its tasks mask has none either"):
        blend_label(store, BlendSpec(method="soft", name="x"), members=["both"])


def test_new_images_are_predicted_through_tasks_and_product(made, store, monkeypatch):
    monkeypatch.syspath_prepend(made)
    out = made / "new.csv"
    predict_new(workspace_of_run(store), made / "masks" / "test.csv", out)
    new, submission = pd.read_csv(out), pd.read_csv(store.submission_path)
    assert new["label"].tolist() == submission["label"].tolist()


@pytest.mark.parametrize(
    ("name", "members"), [("kept", None), ("product", ["mask", "both"])]
)
def test_a_kept_composed_blend_predicts_the_same_bits_without_a_fit(
    store, monkeypatch, name, members
):
    """Its stages keep their states; the product of them is counted, not fitted."""
    spec = BlendSpec(method="greedy", name=name, calibrate="temperature")
    made = blend_label(store, spec, members=members)

    def fail(*_, **__):
        raise AssertionError("a blend was fitted again")

    monkeypatch.setattr(apply, "make_blend", fail)
    monkeypatch.setattr(apply, "read_pool", fail)
    probs = {
        (member, target): store.member(member)
        .for_target(target)
        .test(store.classes(target))
        for member, target in (
            ("mask", "mask"),
            ("both", "gender"),
            ("both", "age"),
            ("direct", store.composition.name),
        )
    }
    progress = RecordedProgress()
    found = apply.apply_blend(store, name, probs, progress=progress)
    assert np.array_equal(found, made.result.test)
    assert np.array_equal(found, store.blend(name).test)
    assert progress.warnings == []


def test_there_is_a_submission_before_direct_members_are_there(made, monkeypatch):
    monkeypatch.syspath_prepend(made)
    recipe = Recipe.load(made / "recipe.yaml", ["name=early"])
    train_recipe(recipe, made / "artifacts", members=["mask", "both"], folds=[0])
    store = RunStore(made / "artifacts" / "early")
    assert store.submission_path.is_file()
    made_of = json.loads((store.folder / "submission.json").read_text())["versions"][-1][
        "made_of"
    ]
    assert made_of["folds"] == {"mask x both": [0]}


def test_labels_unknown_in_one_task_are_trained_and_blended_around(made, monkeypatch):
    monkeypatch.syspath_prepend(made)
    monkeypatch.chdir(made)
    table = pd.read_csv(made / "masks" / "train.csv", dtype=str)
    table.loc[::5, "age"] = ""
    table.to_csv(made / "masks" / "holes.csv", index=False)
    recipe = Recipe.load(
        made / "recipe.yaml",
        [
            "name=holes",
            "data.source=masks/holes.csv",
            "data.unlabelled=allow",
            "folds.holdout=0",
        ],
    )
    result = run_recipe(recipe, made / "artifacts")
    assert result.failures == ()
    rows = {(r.name, r.target): r.n for r in result.evaluation.rows if r.split == "oof"}
    assert rows["both", "gender"] == len(table)
    assert rows["both", "age"] == (table["age"] != "").sum()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("members.mask.target=msk", "names target 'msk'; did you mean 'mask'"),
        ("members.both.mixup=0.2", "several targets cannot take"),
        ("members.both.loss_weights={mask: 2}", "loss_weights names 'mask'"),
        ("members.mask.sampler=weights", "needs data.weight"),
    ],
)
def test_tasks_that_do_not_fit_are_refused(made, override, message):
    with pytest.raises(RecipeError, match=message):
        Recipe.load(made / "recipe.yaml", [override])


def test_a_weighed_class_that_is_not_there_is_named_before_anything_is_trained(
    made, tmp_path, monkeypatch
):
    monkeypatch.syspath_prepend(made)
    recipe = Recipe.load(
        made / "recipe.yaml", ["members.direct={class_weights: {worn-male-yong: 2}}"]
    )
    with pytest.raises(
        RequestError,
        match=r"of members\.direct\.class_weights; did you mean 'worn-male-young'",
    ):
        run_recipe(recipe, tmp_path)
    assert not list((tmp_path / "masks" / "members").glob("*/fold*"))


def test_targets_that_compose_nothing_have_a_blend_each_and_the_first_is_submitted(
    made, tmp_path, monkeypatch
):
    monkeypatch.syspath_prepend(made)
    overrides = ["data.compose=null", "views=[identity]"]
    members = {
        "mask": "{target: mask}",
        "both": "{target: [gender, age], loss: bce}",
        "direct": "{target: gender}",
    }
    recipe = Recipe.load(
        made / "recipe.yaml",
        [*overrides, *(f"members.{n}={m}" for n, m in members.items())],
    )
    assert run_recipe(recipe, tmp_path).blend == "soft"
    store = RunStore(tmp_path / "masks")
    assert {name: store.blend(name).record.members for name in store.blends} == {
        "soft": ("mask",),
        "soft.gender": ("both", "direct"),
        "soft.age": ("both",),
    }
    stamps = {
        name: (store.blend_folder(name) / "blend.json").stat().st_mtime_ns
        for name in store.blends
    }
    run_recipe(recipe, tmp_path)
    assert stamps == {
        name: (store.blend_folder(name) / "blend.json").stat().st_mtime_ns
        for name in store.blends
    }
    assert set(pd.read_csv(store.submission_path)["label"]) <= {"worn", "wrong", "none"}


def test_a_bundle_of_several_tasks_predicts_what_the_run_does(store, made, tmp_path):
    for blend in ("soft", "soft.composed"):
        packed = pack_run(
            store,
            tmp_path / f"{blend}.ens",
            blend=blend,
            with_code=[made / "tinynets.py"],
            device="cpu",
        )
        assert packed.compared > 20
        assert packed.max_difference < 1e-6
    ensemble = open_bundle(packed.bundle, trust_code=True)
    assert [member.name for member in ensemble.networks] == ["mask", "both"]
    networks = Networks(ensemble, "cpu")
    asked = find_asked([str(made / "masks" / "test.csv")])
    predict_images(networks, asked, tmp_path / "p.csv", Form())
    table = pd.read_csv(tmp_path / "p.csv")
    assert set(table["label"]) <= set(store.classes("label"))
    # each of three tasks is answered by two networks
    sixths = table["disagreement"].to_numpy() * 6
    assert np.abs(sixths - np.round(sixths)).max() < 1e-5
    assert sixths.max() > 0
    assert (table[list(store.classes("label"))].sum(axis=1) - 1).abs().max() < 1e-5
