"""Probes from a recipe to the submission, on drawn shapes."""

import shutil
import textwrap

import numpy as np
import pandas as pd
import pytest
import torch

from ensembler import Recipe
from ensembler.bundle.networks import Networks
from ensembler.bundle.open import open_bundle
from ensembler.bundle.pack import pack_run
from ensembler.errors import RecipeError, RequestError, StoreError
from ensembler.inference.views import expand_views
from ensembler.members.tta_predict import ViewPredictor
from ensembler.pipeline.predict_new import predict_new
from ensembler.pipeline.run import run_recipe
from ensembler.predictions.store import RunStore
from ensembler.progress import RecordedProgress
from ensembler.workspace.workspace import workspace_of_run

RECIPE = """
    name: probes
    data: {source: shapes/train.csv, test: shapes/test.csv}
    folds: {count: 3, holdout: 0.2}
    input: {size: 16}
    views: [identity, hflip]
    members:
      lda: {method: probe, head: lda, features: {backbone: test_resnet}}
      knn:
        method: probe
        head: knn
        class_weights: balanced
        features: {backbone: test_resnet, views: [identity, vflip]}
    blend: {method: soft}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory, drawn_shapes):
    """A folder with the recipe above and its finished run, and what the run had to say."""
    folder = tmp_path_factory.mktemp("probes")
    shutil.copytree(drawn_shapes, folder / "shapes")
    (folder / "recipe.yaml").write_text(textwrap.dedent(RECIPE))
    progress = RecordedProgress()
    recipe = Recipe.load(folder / "recipe.yaml")
    run_recipe(recipe, folder / "artifacts", progress=progress)
    return folder, progress


@pytest.fixture
def run(made, tmp_path):
    """The store of a copy of the run."""
    shutil.copytree(made[0] / "artifacts" / "probes", tmp_path / "artifacts" / "probes")
    return RunStore(tmp_path / "artifacts" / "probes")


def test_probes_are_members_like_any_other(made):
    folder, progress = made
    store = RunStore(folder / "artifacts" / "probes")
    assert store.complete_members == ["lda", "knn"]
    assert store.submission_path.is_file()
    for name in store.complete_members:
        record = store.member(name).record
        assert record.views == ("identity", "hflip")
        assert np.isfinite(record.scores["oof"]["log_loss"])
        assert record.scores["holdout"] is not None
    (warning,) = [text for text in progress.warnings if "are random" in text]
    assert "the weights of test_resnet are random" in warning


def test_features_are_computed_once_for_all_members(made):
    folder, progress = made
    passes = {what for what, _, _ in progress.steps if what.startswith("features of")}
    # knn is fitted on a view that lda does not need
    assert len(passes) == 2
    networks = list((folder / "artifacts" / ".cache" / "features").iterdir())
    assert len(networks) == 1
    assert len(list(networks[0].glob("*.npy"))) == 3


def test_a_finished_run_is_left_alone(made):
    folder, _ = made
    progress = RecordedProgress()
    again = run_recipe(
        Recipe.load(folder / "recipe.yaml"), folder / "artifacts", progress=progress
    )
    assert again.trained == 0
    assert not progress.steps


def test_new_images_are_predicted_as_the_test_rows_were(run, made):
    folder, _ = made
    store = RunStore(run.folder)
    out = predict_new(workspace_of_run(store), folder / "shapes" / "test.csv").out
    new = pd.read_csv(out, dtype=str)
    old = pd.read_csv(store.submission_path, dtype=str)
    assert new.to_numpy().tolist() == old.to_numpy().tolist()


def test_further_views_are_those_of_the_same_features(run):
    workspace = workspace_of_run(run)
    found = ViewPredictor(workspace).add_views(expand_views(("vflip", "rot180")), ["lda"])
    assert found.added == {"lda": ("vflip", "rot180")}
    member = RunStore(run.folder).member("lda")
    flipped = member.oof_logits[member.view_index("vflip")]
    plain = member.oof_logits[member.view_index("identity")]
    known = member.folds >= 0
    assert np.isfinite(flipped[known]).all()
    assert not np.allclose(flipped[known], plain[known])


def test_an_altered_network_predicts_nothing(run):
    path = run.member_folder("lda") / "features.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    workspace = workspace_of_run(run)
    with pytest.raises(StoreError, match=r"not the file that member\.json describes"):
        ViewPredictor(workspace).add_views(expand_views(("vflip",)), ["lda"])


def test_a_bundle_of_probes_predicts_as_the_run_did(run, tmp_path):
    made = pack_run(run, tmp_path / "probes.ens")
    assert made.max_difference < 1e-4
    assert made.compared > 0
    bundle = open_bundle(tmp_path / "probes.ens")
    assert len({member.frozen for member in bundle.networks}) == 1


def test_heads_that_are_layers_are_a_network_of_their_own(run, tmp_path):
    pack_run(run, tmp_path / "probes.ens")
    bundle = open_bundle(tmp_path / "probes.ens")
    images = torch.randint(0, 255, (3, 3, 16, 16), dtype=torch.uint8)
    lda, knn = bundle.members["lda"].checkpoints[0], bundle.members["knn"].checkpoints[0]
    found = bundle.network(lda)(images).detach().numpy()
    assert np.allclose(found, Networks(bundle).ready(lda)(images), atol=1e-3)
    with pytest.raises(RequestError, match="'knn' are no layers of a network"):
        bundle.network(knn)


def own_features(folder):
    """The override that replaces the members by one with features of another tool."""
    features = f"{{file: {folder / 'own.npy'}, ids: {folder / 'own.csv'}}}"
    return f"members={{own: {{method: probe, head: knn, features: {features}}}}}"


@pytest.fixture
def imported(made, tmp_path):
    """A recipe that reads features of the same images, in another order."""
    folder, _ = made
    shutil.copytree(folder / "shapes", tmp_path / "shapes")
    shutil.copy(folder / "recipe.yaml", tmp_path / "recipe.yaml")
    run = RunStore(folder / "artifacts" / "probes")
    rng = np.random.default_rng(0)
    table = pd.concat([run.samples.train, run.samples.test]).sample(frac=1, random_state=0)
    says = table["label"].factorize()[0]
    x = rng.normal(size=(len(table), 5))
    x[np.arange(len(table)), np.maximum(says, 0)] += 4
    np.save(tmp_path / "own.npy", x.astype(np.float16))
    table[["id"]].to_csv(tmp_path / "own.csv", index=False)
    return tmp_path


def test_features_of_another_tool_are_matched_by_id(imported):
    recipe = Recipe.load(imported / "recipe.yaml", [own_features(imported)])
    run_recipe(recipe, imported / "artifacts")
    store = RunStore(imported / "artifacts" / "probes")
    record = store.member("own").record
    assert record.views == ("identity",)
    assert record.scores["oof"]["accuracy"] > 0.8
    with pytest.raises(RequestError, match="'own' does not look at images"):
        predict_new(workspace_of_run(store), imported / "shapes" / "test.csv")


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (["one"], "1 ids; expected an id for each row"),
        (None, "has no row for"),
    ],
)
def test_ids_that_do_not_fit_are_named(imported, ids, message):
    table = pd.read_csv(imported / "own.csv", dtype=str)
    table = table.assign(id=table["id"].where(table.index > 0, "strange"))
    if ids is not None:
        table = pd.DataFrame({"id": ids})
    table.to_csv(imported / "own.csv", index=False)
    recipe = Recipe.load(imported / "recipe.yaml", [own_features(imported)])
    result = run_recipe(recipe, imported / "artifacts")
    (failure,) = result.failures
    assert message in failure.message


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("members.lda.head=ldaa", "did you mean 'lda'"),
        ("members.lda.features={backbone: null}", "name one of them"),
        ("members.lda.features={backbone: null, file: a.npy}", "file and ids go together"),
        ("members.lda.epochs=3", "epochs"),
        ("members.lda.sample_weights=true", "needs data.weight"),
        ("members.lda.target=nothing", "nothing"),
        ("members.soup={method: soup, of: [lda, knn]}", "trains no network"),
        ("members.lda.features.backbone=test_resnt", "test_resnet"),
        ("members.lda.features.checkpoint=none.pth", "does not exist"),
        ("members.knn.head_args={neighbours: 2}", "takes k, not neighbours"),
    ],
)
def test_what_a_probe_cannot_be_is_said_before_anything_is_computed(
    made, tmp_path, override, message
):
    folder, _ = made
    with pytest.raises(RecipeError, match=message):
        run_recipe(Recipe.load(folder / "recipe.yaml", [override]), tmp_path / "artifacts")
