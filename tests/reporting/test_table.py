"""The file that is submitted."""

import numpy as np
import pytest
import sklearn.metrics

from ensembler.errors import RequestError
from ensembler.metrics import score
from ensembler.reporting.spec import SubmissionSpec
from ensembler.reporting.table import submission_table
from ensembler.targets.label_sets import SetFormat
from ensembler.targets.target import Target

IDS = ["a", "b", "c"]
CLASSES = ("cat", "dog")
PROBS = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])


def table(tmp_path=None, template=None, **options):
    if template is not None:
        (tmp_path / "sample.csv").write_text(template)
        options["template"] = str(tmp_path / "sample.csv")
    return submission_table(IDS, PROBS, Target("label", CLASSES), SubmissionSpec(**options))


def test_labels_are_the_classes_names():
    made = table(format="labels", columns=["id", "answer"])
    assert made.columns.tolist() == ["id", "answer"]
    assert made["answer"].tolist() == ["cat", "dog", "cat"]


def test_probs_have_a_column_for_each_class():
    made = table(format="probs", columns=["id", "label"])
    assert made.columns.tolist() == ["id", "cat", "dog"]
    assert made["dog"].tolist() == [0.1, 0.8, 0.4]


def test_no_submitted_probability_is_zero_and_its_log_loss_is_the_one_reported():
    probs = np.array([[1, 0, 0], [0.25, 0.75, 0], [3e-9, 1e-12, 1], [0.2, 0.3, 0.5]])
    y = np.array([1, 1, 0, 2])
    made = submission_table(
        list("abcd"),
        probs,
        Target("label", ("x", "y", "z")),
        SubmissionSpec(format="probs"),
    )
    submitted = made[["x", "y", "z"]].to_numpy()
    assert submitted.min() >= 1e-7
    assert np.allclose(submitted.sum(axis=1), 1, atol=1e-12)
    assert np.array_equal(submitted.argsort(axis=0), probs.argsort(axis=0))
    assert sklearn.metrics.log_loss(y, submitted) == pytest.approx(
        score("log_loss", probs, y), abs=0.01
    )


def test_no_submitted_label_is_certain():
    probs = np.array([[1.0, 0.0], [0.2, 0.9]])
    form = SetFormat(separator=" ")
    made = submission_table(
        ["a", "b"], probs, Target("tags", ("x", "y"), form), SubmissionSpec(format="probs")
    )
    assert made["x"].tolist() == pytest.approx([1 - 1e-7, 0.2], abs=1e-7)
    assert 0 < made["y"][0] < made["x"][0] < 1


def test_probs_columns_may_be_renamed():
    assert table(format="probs", columns=["id", "p0", "p1"]).columns.tolist() == [
        "id",
        "p0",
        "p1",
    ]


def test_a_template_gives_rows_order_and_columns(tmp_path):
    made = table(tmp_path, "id,label\nc,x\na,x\nb,x\n")
    assert made.to_csv(index=False) == "id,label\nc,cat\na,cat\nb,dog\n"
    made = table(tmp_path, "dog,id,cat\n0,b,0\n0,a,0\n0,c,0\n", format="probs")
    assert made.to_csv(index=False) == "dog,id,cat\n0.8,b,0.2\n0.1,a,0.9\n0.4,c,0.6\n"


@pytest.mark.parametrize(
    ("template", "options", "message"),
    [
        ("id,label\na,x\nb,x\n", {}, "1 predicted ids are not in it, such as 'c'"),
        (
            "id,label\na,x\nb,x\nc,x\nd,x\n",
            {},
            "1 of its 4 ids are not predicted, such as 'd'",
        ),
        ("id,label\na,x\na,x\nb,x\nc,x\n", {}, "names id 'a' twice"),
        ("id,cat,dog\na,0,0\nb,0,0\nc,0,0\n", {}, "did you mean --format probs"),
        (
            "id,cat,cow\na,0,0\nb,0,0\nc,0,0\n",
            {"format": "probs"},
            "it lacks dog; it has besides cow",
        ),
    ],
)
def test_a_template_that_does_not_fit_says_what_differs(
    tmp_path, template, options, message
):
    with pytest.raises(RequestError, match=message):
        table(tmp_path, template, **options)


def test_a_template_that_is_not_there_is_named(tmp_path):
    spec = SubmissionSpec(template=str(tmp_path / "no.csv"))
    with pytest.raises(RequestError, match="does not exist"):
        submission_table(IDS, PROBS, Target("label", CLASSES), spec)
