import numpy as np

from ensembler.targets.kinds import MULTI_LABEL, SINGLE_LABEL
from ensembler.training.fold_data import FoldData


def data(targets, **options):
    return FoldData(
        None, targets, np.array([0, 2]), np.array([1]), options.pop("classes", 3), **options
    )


def test_one_task_has_one_column_and_its_classes():
    found = data(np.array([0, 1, 2]))
    assert (found.sizes, found.columns) == ((3,), (1,))
    assert found.train_labels.tolist() == [0, 2]


def test_several_labels_at_once_have_a_column_for_each():
    kinds = (SINGLE_LABEL, MULTI_LABEL)
    found = data(np.zeros((3, 5), int), classes=6, tasks=(2, 4), kinds=kinds)
    assert found.sizes == (2, 4)
    assert found.columns == (1, 4)


def test_a_sampler_balances_the_first_task_unless_it_is_told_another_label():
    targets = np.array([[0, 7], [1, 8], [2, 9]])
    assert data(targets, tasks=(3, 10)).train_labels.tolist() == [0, 2]
    assert data(
        targets, tasks=(3, 10), balance=np.array([5, 6, 7])
    ).train_labels.tolist() == [5, 7]
