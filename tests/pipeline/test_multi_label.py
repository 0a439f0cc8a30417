"""A recipe whose images have several labels at once, from the table to the submission."""

import textwrap

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ensembler import Recipe, Run
from ensembler.audit.audit import audit_recipe
from ensembler.blends.submit import submit_run
from ensembler.bundle.images import find_asked
from ensembler.bundle.networks import Networks
from ensembler.bundle.open import open_bundle
from ensembler.bundle.pack import pack_run
from ensembler.bundle.predict import Form, predict_images
from ensembler.errors import DataError, RequestError
from ensembler.evaluation.evaluate import evaluate
from ensembler.evaluation.gains import gains_over
from ensembler.experiments.ablate import Axis, ablate_recipe
from ensembler.metrics import score
from ensembler.pipeline.predict_new import predict_new
from ensembler.pipeline.run import run_recipe
from ensembler.workspace.workspace import workspace_of_run

pytestmark = pytest.mark.slow

RECIPE = """
    name: tags
    data:
      source: train.csv
      test: test.csv
      id: path
      targets: {tags: {multi_label: ";", no_label: nothing}, size: null}
    folds: {count: 3, holdout: 0.2}
    input: {size: 16}
    views: [identity, hflip]
    defaults: {backbone: "tinynets:tiny", epochs: 6, lr: 0.02, batch_size: 16}
    members:
      tags: {also: [ema], ema: 0.9}
      seeds: {seeds: 2, as: ensemble, class_weights: balanced}
      both: {target: [tags, size], loss_weights: {size: 0.5}}
      sizes: {target: size}
    blend: {metric: f1_macro, calibrate: biases}
    submission: {columns: [path, tags]}
"""
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


def draw(folder, split, n, seed):
    rng = np.random.default_rng(seed)
    (folder / split).mkdir()
    rows = []
    for i in range(n):
        canvas = rng.integers(0, 60, (16, 16, 3)).astype(np.uint8)
        names = [
            name
            for name, share in zip(COLOURS, (0.5, 0.4, 0.3), strict=True)
            if rng.random() < share
        ]
        large = bool(rng.integers(2))
        for row, name in enumerate(COLOURS):
            if name in names:
                canvas[row * 5 : row * 5 + 5, 4 : 16 if large else 9] = COLOURS[name]
        Image.fromarray(canvas).save(folder / split / f"{i:03d}.png")
        tags = ";".join(names) or "nothing"
        rows.append(
            {
                "path": f"{split}/{i:03d}.png",
                "tags": tags,
                "size": "large" if large else "small",
            }
        )
    pd.DataFrame(rows).to_csv(folder / f"{split}.csv", index=False)


@pytest.fixture(scope="module")
def finished(workshop):
    """The folder of a run that went through.

    Tests read it, or add to it under names of their own.
    """
    draw(workshop, "train", 90, 0)
    draw(workshop, "test", 20, 1)
    (workshop / "recipe.yaml").write_text(textwrap.dedent(RECIPE))
    result = run_recipe(Recipe.load(workshop / "recipe.yaml"), workshop / "artifacts")
    assert not result.failures
    return workshop


@pytest.fixture
def run(finished):
    return Run.open("tags", finished / "artifacts")


def test_members_keep_a_logit_for_each_label(run):
    assert run.classes("tags") == ("blue", "green", "red")
    assert run.samples["tags"].isin(["|", "blue|red", "red"]).any()
    y = run.labels("oof", "tags")
    assert set(np.unique(y)) == {0, 1}
    for name in ("tags", "tags-ema", "seeds", "both"):
        member = run.members[name].for_target("tags")
        assert member.record.multi_label == ("tags",)
        assert member.oof_logits.shape == (2, len(y), 3)
        probs = member.oof(run.classes("tags"))
        assert not np.allclose(probs.sum(axis=1), 1)
        by_hand = (1 / (1 + np.exp(-member.oof_logits.astype(np.float64)))).mean(axis=0)
        assert probs == pytest.approx(by_hand, abs=1e-6)
        assert member.record.scores["oof"]["log_loss"] == pytest.approx(
            score("log_loss", probs, y), abs=1e-5
        )


def test_the_mean_of_seeds_is_the_mean_of_their_probabilities(run):
    parts = [
        run.members[f"seeds-s{i}"].test(run.classes("tags"), views=["identity"])
        for i in (1, 2)
    ]
    whole = run.members["seeds"].test(run.classes("tags"), views=["identity"])
    assert whole == pytest.approx(np.mean(parts, axis=0), abs=1e-5)


def test_out_of_fold_scores_beat_the_shares_of_labels(run):
    y = run.labels("oof", "tags")
    by_share = score("log_loss", np.broadcast_to(y.mean(axis=0), y.shape), y)
    scores = {
        row.name: row.metrics
        for row in evaluate(run.store, target="tags").rows
        if row.split == "oof"
    }
    assert scores["auto"]["f1_macro"] > 0.8
    assert scores["tags"]["log_loss"] < by_share
    assert {row.target for row in evaluate(run.store).rows} == {"tags", "size"}


def test_targets_side_by_side_are_blended_by_the_metric_if_it_fits_and_get_thresholds(
    finished,
):
    tags = 'tags: {multi_label: ";", no_label: nothing}'
    text = textwrap.dedent(RECIPE).replace(f"{tags}, size: null", f"size: null, {tags}")
    (finished / "beside.yaml").write_text(text.replace("name: tags", "name: beside"))
    for metric, searched in (("f1_macro", "f1_macro"), ("balanced_accuracy", "log_loss")):
        overrides = [
            f"blend.metric={metric}",
            "blend.method=soft",
            "submission.columns=[path, size]",
        ]
        run_recipe(Recipe.load(finished / "beside.yaml", overrides), finished / "artifacts")
        blends = Run.open("beside", finished / "artifacts").blends
        assert blends["soft"].record.target == "size"
        record = blends["soft.tags"].record
        assert record.spec["metric"] == searched
        assert bool(record.details.thresholds) == (searched == "f1_macro")


def test_the_submission_writes_sets_as_the_table_does(run, finished):
    table = pd.read_csv(run.store.submission_path, dtype=str)
    assert table.columns.tolist() == ["path", "tags"]
    decided = run.blends["auto"].test[run.store.samples.to_submit] >= 0.5
    names = np.array(run.classes("tags"))
    assert table["tags"].tolist() == [";".join(names[row]) or "nothing" for row in decided]
    truth = pd.read_csv(finished / "test.csv")
    assert (
        table["tags"] == truth["tags"].map(lambda t: ";".join(sorted(t.split(";"))))
    ).mean() > 0.5


def test_the_submission_of_a_target_beside_the_label_is_named_after_it(run, finished):
    made = submit_run(run.store, "auto.size", out=finished / "size.csv")
    assert made.columns == ("path", "size")


def test_a_wrong_separator_or_word_for_none_is_an_error_that_shows_a_value(finished):
    recipe = finished / "recipe.yaml"
    with pytest.raises(
        DataError, match="no row of tags has two labels with ' ' between them, such as"
    ):
        run_recipe(
            Recipe.load(recipe, ["name=odd", "data.targets.tags.multi_label=' '"]),
            finished / "artifacts",
        )
    with pytest.raises(
        DataError,
        match="no row of tags is 'nothin', as no_label has it; did you mean 'nothing'",
    ):
        run_recipe(
            Recipe.load(recipe, ["name=odd", "data.targets.tags.no_label=nothin"]),
            finished / "artifacts",
        )
    assert not (finished / "artifacts" / "odd").exists()


def test_a_template_with_a_column_for_each_label_gets_probabilities_or_zeros_and_ones(
    run, finished
):
    ids = pd.read_csv(finished / "test.csv")["path"]
    pd.DataFrame({"path": ids, "red": 0, "blue": 0, "green": 0}).to_csv(
        finished / "wide.csv", index=False
    )
    for form in ("labels", "probs"):
        submit_run(
            run.store,
            "auto",
            format=form,
            template=finished / "wide.csv",
            out=finished / f"{form}.csv",
        )
    decided, probs = (pd.read_csv(finished / f"{form}.csv") for form in ("labels", "probs"))
    assert (
        decided.columns.tolist()
        == probs.columns.tolist()
        == ["path", "red", "blue", "green"]
    )
    assert (decided.drop(columns="path") == (probs.drop(columns="path") >= 0.5)).all(
        axis=None
    )
    expected = run.blends["auto"].test[run.store.samples.to_submit][:, 2]
    assert probs["red"].tolist() == pytest.approx(
        expected, abs=1e-6
    )  # which are moved off zero


def test_a_second_run_does_nothing(finished):
    result = run_recipe(Recipe.load(finished / "recipe.yaml"), finished / "artifacts")
    assert result.trained == 0
    assert result.new_blend is None


def test_new_images_are_answered_as_the_test_part_was(run, finished):
    made = predict_new(
        workspace_of_run(run.store), finished / "test.csv", finished / "again.csv"
    )
    again, first = pd.read_csv(made.out), pd.read_csv(run.store.submission_path)
    assert again["tags"].tolist() == first["tags"].tolist()


def test_members_are_compared_by_samples(run):
    gains = gains_over(
        run.store, "seeds", target="tags", metrics=["f1_samples", "log_loss"]
    )
    assert {name for name, _ in gains.rows} >= {"tags", "both", "blend auto"}
    assert gains.n == len(run.labels("oof", "tags"))
    with pytest.raises(RequestError, match="metric of several labels at once"):
        evaluate(run.store, target="tags", metrics=["quadratic_kappa"])


def test_the_audit_counts_labels(finished):
    found = audit_recipe(Recipe.load(finished / "recipe.yaml").spec, finished / "artifacts")
    table = pd.read_csv(finished / "train.csv")
    assert (
        found.counts["classes"]["tags"]["red"]["train"]
        == table["tags"].str.contains("red").sum()
    )


def test_options_are_compared(finished):
    found = ablate_recipe(
        Recipe.load(finished / "recipe.yaml"),
        [Axis.parse("loss=cross_entropy,asymmetric,focal")],
        finished / "artifacts",
        member="tags",
        folds=2,
        epochs=1,
        metrics=["f1_macro", "log_loss"],
    )
    assert [variant.name for variant in found.variants] == [
        "loss-cross_entropy",
        "loss-asymmetric",
        "loss-focal",
    ]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "members.sizes={target: tags, method: voting}",
            "torchensemble trains for one label of each image",
        ),
        (
            "members.tags={loss: balanced_softmax}",
            "balanced_softmax is for one label of each image",
        ),
        (
            "members.sizes={target: size, loss: asymmetric}",
            "asymmetric is for targets with multi_label",
        ),
        ("members.tags={class_weights: {purple: 2}}", "purple"),
    ],
)
def test_options_for_one_label_are_refused_before_anything_is_trained(
    finished, override, message
):
    with pytest.raises(RequestError, match=message):
        run_recipe(
            Recipe.load(finished / "recipe.yaml", ["name=refused", override]),
            finished / "artifacts",
        )
    assert not list(
        (finished / "artifacts" / "refused" / "members").glob("*/*.safetensors")
    )


def test_an_interrupted_run_ends_as_one_that_was_not(run, finished, monkeypatch):
    recipe = Recipe.load(finished / "recipe.yaml", ["name=interrupted"])
    from ensembler.members import fold

    write, left = fold.write_finished_fold, [4]

    def stop(*args):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return write(*args)

    monkeypatch.setattr(fold, "write_finished_fold", stop)
    with pytest.raises(KeyboardInterrupt):
        run_recipe(recipe, finished / "artifacts")
    monkeypatch.undo()
    monkeypatch.chdir(finished)
    monkeypatch.syspath_prepend(finished)
    run_recipe(recipe, finished / "artifacts")
    again = Run.open("interrupted", finished / "artifacts")
    assert np.array_equal(again.blends["auto"].test, run.blends["auto"].test)


def test_predictions_of_other_tools_are_imported(run, finished, ens_here):
    train = run.samples[run.samples["split"] == "train"].reset_index(drop=True)
    names = list(run.classes("tags"))
    form = {
        "id": train["id"],
        "label": train["tags"].str.strip("|").str.replace("|", " "),
        "fold": train["fold"],
    }
    pd.DataFrame(form).replace({"label": {"": "nothing"}}).to_csv("labels.csv", index=False)
    for name in ("tags", "both"):
        oof = pd.DataFrame(run.members[name].for_target("tags").oof(names), columns=names)
        oof.insert(0, "id", train["id"])
        oof.to_csv(f"{name}.csv", index=False)
    sets = ("--multi-label", " ", "--no-label", "nothing")
    ens_here(
        "import", "other", "--labels", "labels.csv", "--member", "tags=tags.csv", *sets
    )
    ens_here("import", "other", "--member", "both=both.csv")
    ens_here("blend", "other", "--method", "soft")
    other = Run.open("other")
    expected = run.blend("soft", members=["tags", "both"], name="two").result.scores[
        "cross_fitted"
    ]["log_loss"]
    assert other.blends["soft"].record.scores["cross_fitted"]["log_loss"] == pytest.approx(
        expected, abs=1e-5
    )
    out = ens_here(
        "import",
        "third",
        "--labels",
        "labels.csv",
        "--member",
        "tags=tags.csv",
        "--no-label",
        "x",
        expect=2,
    )
    assert "--no-label goes with --multi-label" in out.stderr


def test_a_bundle_answers_as_the_run_does(run, finished, monkeypatch):
    made = pack_run(
        run.store, finished / "tags.ens", with_code=[finished / "tinynets.py"], device="cpu"
    )
    assert made.max_difference < 1e-6
    ensemble = open_bundle(made.bundle, trust_code=True)
    assert ensemble.record.answers == ("auto", "auto.size")
    networks = Networks(ensemble, "cpu")
    asked = find_asked([str(finished / "test.csv")], id_column="path")
    predict_images(networks, asked, finished / "p.csv", Form())
    table = pd.read_csv(finished / "p.csv", dtype={"id": str, "label": str})
    submitted = pd.read_csv(run.store.submission_path, dtype=str)
    assert table["label"].tolist() == submitted["tags"].tolist()
    rows = run.store.samples.to_submit
    names = list(run.classes("tags"))
    assert np.array_equal(
        table[names].to_numpy(np.float32), np.asarray(run.blends["auto"].test)[rows]
    )
    assert ((table["confidence"] >= 0.5) & (table["confidence"] <= 1)).all()
    sizes = table[[f"size.{name}" for name in run.classes("size")]].to_numpy(np.float32)
    assert np.array_equal(sizes, np.asarray(run.blends["auto.size"].test)[rows])
    pd.DataFrame({"path": asked.ids, "tags": ""}).to_csv(finished / "t.csv", index=False)
    predict_images(networks, asked, finished / "s.csv", Form(finished / "t.csv"))
    again = pd.read_csv(finished / "s.csv", dtype=str)
    assert again["tags"].tolist() == submitted["tags"].tolist()
