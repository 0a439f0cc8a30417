"""Networks on all rows predict the test rows of a member whose folds were scored."""

import textwrap

import numpy as np
import pytest

from ensembler import Recipe
from ensembler.evaluation.ls import list_run
from ensembler.members.recorded import select_recorded
from ensembler.pipeline.run import run_recipe
from ensembler.predictions.store import RunStore
from ensembler.reporting.history import run_history
from ensembler.workspace.workspace import workspace_of_run

pytestmark = pytest.mark.slow

REFITS = """
members:
  narrow: {refit: {seeds: 2}}
  wide: {model_args: {width: 16}, refit: {predict: both}}
"""


@pytest.fixture
def refitted(finished):
    """The finished run, run again with a recipe that asks for refits."""
    text = finished.read_text()
    old = text[text.index("members:") : text.index("blend:")]
    finished.write_text(text.replace(old, textwrap.dedent(REFITS).lstrip()))
    artifacts = finished.parent / "artifacts"
    before = RunStore(artifacts / "shapes").member("narrow").record
    result = run_recipe(Recipe.load(finished), artifacts)
    assert not result.failures
    assert result.trained == 0, "no fold is trained again"
    store = RunStore(artifacts / "shapes")
    assert store.member("narrow").record == before
    return finished, store


def test_a_refit_has_the_folds_scores_and_its_own_test_predictions(refitted):
    recipe, store = refitted
    narrow, refit = store.member("narrow"), store.member("narrow-refit")
    assert refit.record.refit_of == "narrow"
    assert np.array_equal(refit.oof_logits, narrow.oof_logits, equal_nan=True)
    assert refit.record.scores["oof"] == narrow.record.scores["oof"]
    assert refit.test_logits.shape[0] == refit.record.folds == 2
    assert not np.array_equal(refit.test_logits[0], refit.test_logits[1])
    # with predict: both the folds' networks come first
    wide, both = store.member("wide"), store.member("wide-refit")
    assert both.record.folds == wide.record.folds + 1
    assert np.array_equal(both.test_logits[:-1], wide.test_logits)
    assert both.record.scores["holdout"] != wide.record.scores["holdout"]

    # it stands for its member in blends, and everything says that nothing scored it
    assert store.pool_members == ["narrow-refit", "wide-refit"]
    assert store.blend("soft").record.members == ("narrow-refit", "wide-refit")
    assert "other_folds" not in {w.code for w in store.blend("soft").record.warnings}
    states = {member.name: member.state for member in list_run(store).members}
    assert "unscored" in states["narrow-refit"]
    version = run_history(store).to_json()["versions"][-1]
    assert version["unscored"] == ["narrow-refit", "wide-refit"]

    # a second run makes nothing
    before = {p: p.stat().st_mtime_ns for p in store.folder.rglob("*.npy")}
    assert run_recipe(Recipe.load(recipe), store.folder.parent).new_blend is None
    assert before == {p: p.stat().st_mtime_ns for p in store.folder.rglob("*.npy")}


def test_its_networks_are_those_that_a_bundle_and_new_images_take(refitted):
    from ensembler.bundle.of_run import ensemble_of_run
    from ensembler.pipeline.predict_new import predict_new

    recipe, store = refitted
    members = ensemble_of_run(store, "soft").networks
    assert {m.name: len(m.checkpoints) for m in members} == {
        "narrow-refit": 2,
        "wide-refit": 4,
    }
    workspace = workspace_of_run(store)
    planned = select_recorded(workspace, ["narrow-refit", "wide"])
    assert {member.name for member in planned} == {"narrow-refit", "wide"}
    new = predict_new(
        workspace, recipe.parent / "shapes" / "images", store.folder / "n.csv"
    )
    assert new.members == ("narrow-refit", "wide-refit")
    assert new.rows > 0
