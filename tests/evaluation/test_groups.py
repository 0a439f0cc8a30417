import io

import numpy as np
import pandas as pd
import pytest

from ensembler.blending.spec import BlendSpec
from ensembler.blends.composed import blend_label
from ensembler.blends.submit import submit_blend, submit_run
from ensembler.errors import RequestError
from ensembler.evaluation.evaluate import evaluate
from ensembler.predictions.merging import merge_groups, merge_views
from ensembler.predictions.store import RunStore
from ensembler.reporting.spec import SubmissionSpec
from ensembler.reporting.submitted import make_submission

PROBS = np.array([[0.6, 0.4, 0.0], [0.1, 0.9, 0.0], [0.5, 0.2, 0.3], [0.6, 0.4, 0.0]])


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("mean", [[13 / 30, 17 / 30, 0], [0.5, 0.2, 0.3]]),
        ("vote", [[2 / 3, 1 / 3, 0], [1, 0, 0]]),
        ("max", [[0.1, 0.9, 0], [0.5, 0.2, 0.3]]),
    ],
)
def test_rows_of_a_group_become_one(how, expected):
    np.testing.assert_allclose(merge_groups(PROBS, np.array([0, 0, 1, 0]), how), expected)


def test_a_submission_has_a_row_for_each_group_or_the_groups_answer_in_each_row(fake_run):
    store = RunStore(fake_run.folder)
    store.samples.table["group"] = "g" + (np.arange(len(store.samples.table)) // 3).astype(
        str
    )
    for part in ("train", "test"):
        store.samples.__dict__.pop(part, None)
    blend_label(store, BlendSpec(method="soft"))
    test = np.asarray(store.blend("soft").test)[store.samples.to_submit]
    groups = store.samples.test["group"][store.samples.to_submit].to_numpy()
    classes = store.classes("label")
    spec = SubmissionSpec(per="group", columns=("who", "label"))
    blend = store.blend("soft")

    def table_of(spec):
        made = make_submission(store, spec, np.asarray(blend.test), "label", classes)
        return pd.read_csv(io.BytesIO(made.content))

    table = table_of(spec)
    assert table["who"].tolist() == list(dict.fromkeys(groups))
    expected = {g: classes[int(test[groups == g].mean(axis=0).argmax())] for g in groups}
    assert table["label"].tolist() == [expected[g] for g in table["who"]]
    each = table_of(spec.model_copy(update={"each": True}))
    assert each["label"].tolist() == [expected[g] for g in groups]
    assert submit_blend(store, "soft", spec)
    asked = {"per": "group", "columns": ("who", "label")}
    assert submit_run(
        store, "soft", out=store.folder / "by_group.csv", **asked
    ).rows == len(expected)
    assert pd.read_csv(store.folder / "by_group.csv").equals(table)
    with pytest.raises(RequestError, match="--reduce some"):
        submit_run(store, "soft", reduce="some", **asked)


def test_without_groups_a_submission_by_group_is_refused(fake_run):
    from ensembler.reporting.submitted import check_submission

    with pytest.raises(RequestError, match="needs the group of every submitted row"):
        check_submission(
            fake_run, SubmissionSpec(per="group"), "label", fake_run.classes("label")
        )
    with pytest.raises(RequestError, match="has no groups to score by"):
        evaluate(fake_run, per="group")


def test_groups_are_scored_as_one_and_never_mixed(fake_run):
    store = RunStore(fake_run.folder)
    labels = store.labels("label", "train")
    # Two rows of one label make a group; what is left over is a group of its own.
    names = pd.Series(labels).groupby(labels).cumcount() // 2
    train = (store.samples.table["split"] == "train").to_numpy()
    store.samples.table["group"] = "test-" + store.samples.table["id"]
    store.samples.table.loc[train, "group"] = [
        f"{y}-{n}" for y, n in zip(labels, names, strict=True)
    ]
    for part in ("train", "test"):
        store.samples.__dict__.pop(part, None)
    row = next(
        r for r in evaluate(store, per="group", members=["a"]).rows if r.split == "oof"
    )
    probs = merge_views(np.asarray(store.member("a").oof_logits))
    groups = store.samples.groups("train")
    expected = np.mean(
        [
            probs[groups == g].mean(axis=0).argmax() == labels[groups == g][0]
            for g in set(groups)
        ]
    )
    assert row.n == len(set(groups))
    assert row.metrics["accuracy"] == pytest.approx(expected)


def test_groups_with_several_labels_cannot_be_scored_as_one(fake_run):
    store = RunStore(fake_run.folder)
    store.samples.table["group"] = "all"
    for part in ("train", "test"):
        store.samples.__dict__.pop(part, None)
    with pytest.raises(RequestError, match="group 'all' have several labels of 'label'"):
        evaluate(store, per="group")
