"""Which rows a member is trained on, and what it predicts: of a workspace of a few labels."""

from types import SimpleNamespace

import numpy as np
import pytest

from ensembler.data.spec import TrainBins
from ensembler.errors import RequestError
from ensembler.members.output import MemberOutput
from ensembler.members.rows import MemberRows
from ensembler.targets.kinds import SINGLE_LABEL
from ensembler.training.spec import MemberSpec

FOLDS = np.array([0, 0, 1, 1, -1])
LABELS = {"size": np.array([0, 1, -1, 1, 0, 1]), "colour": np.array([2, 0, 1, -1, 1, 0])}
CLASSES = {"size": ("small", "large"), "colour": ("red", "green", "blue")}


def output(**options):
    spec = MemberSpec(backbone="resnet18", **options)
    samples = SimpleNamespace(
        targets=("size", "colour"),
        classes=CLASSES,
        target=lambda name: SimpleNamespace(name=name, kind=SINGLE_LABEL),
    )
    store = SimpleNamespace(samples=SimpleNamespace(folds=lambda _: FOLDS))
    workspace = SimpleNamespace(
        samples=samples,
        store=store,
        image_rows=(np.array([0, 1, 2, 3, 4]), np.array([5])),
        image_labels=lambda target: LABELS[target],
        labels_to_train_on=lambda target, _: LABELS[target],
        image_strata=lambda target, _: LABELS[target],
        image_weights=np.ones(6),
    )
    job = SimpleNamespace(name="cnn", spec=spec, base=spec, fold_column="fold")
    return MemberOutput(workspace, job)


def test_a_member_predicts_the_label_unless_it_names_targets():
    assert output().targets == ("size",)
    assert output().classes == ("small", "large")
    several = output(target=("colour", "size"))
    assert several.classes[0] == "colour=red"
    assert several.classes[-1] == "size=large"
    assert several.task_slices == {"colour": slice(0, 3), "size": slice(3, 5)}


def test_a_fold_trains_on_the_labelled_rows_of_the_others_and_on_those_never_validated():
    rows = MemberRows(output())
    assert rows.n_folds == 2
    assert rows.validated_in(1).tolist() == [2, 3]
    assert rows.rows_of_fold(1, validation=False).tolist() == [0, 1, 4]
    assert rows.rows_of_fold(1, validation=True).tolist() == [3]  # row 2 has no label


def test_a_row_of_several_targets_counts_when_one_of_them_is_known():
    rows = MemberRows(output(target=("size", "colour")))
    assert rows.rows_of_fold(1, validation=True).tolist() == [2, 3]
    assert rows.image_targets.shape == (6, 2)


@pytest.mark.parametrize(
    ("options", "balanced"),
    [
        ({"target": ("colour",)}, "colour"),
        ({"target": ("colour", "size")}, "size"),
        ({"target": ("colour", "size"), "sampler_target": "colour"}, "colour"),
    ],
)
def test_a_sampler_balances_the_target_it_names_else_its_own_else_the_label(
    options, balanced
):
    rows = MemberRows(output(sampler="balanced", **options))
    data = rows.fold_data(0, np.zeros((6, 8, 8, 3), np.uint8))
    assert data.balance is LABELS[balanced]
    assert data.weights is None


def test_a_fold_that_is_not_there_is_named():
    with pytest.raises(RequestError, match="--folds 2: member 'cnn' has folds 0 to 1"):
        MemberRows(output()).check_folds([0, 2])


def test_rows_that_are_not_trained_on_are_still_validated():
    part = output(train_bins={"size": {"drop": [5, 6]}})
    rows = MemberRows(part)
    part.__dict__["train_bins"] = {"size": TrainBins(drop=[5, 6])}
    part.workspace.labels_to_train_on = lambda *_: np.array([-1, 1, -1, 1, 0, 1])
    assert rows.rows_of_fold(1, validation=False).tolist() == [1, 4]
    assert rows.rows_of_fold(0, validation=True).tolist() == [0, 1]
    rows.check_classes_are_learned()
    part.workspace.labels_to_train_on = lambda *_: np.array([0, 1, -1, 1, -1, 1])
    message = "train_bins leave no row of 'small' .size. to train on in fold 0"
    with pytest.raises(RequestError, match=message):
        rows.check_classes_are_learned()
