"""The loss of a student: its teacher's probabilities, and the labels where there are any."""

import numpy as np
import pytest
import torch
from torch import nn

from ensembler.training.distillation import DistillationLoss, SoftTargets


def loss_of(probs, labels, logits, rows, *, of_sets=False, **options):
    teacher = SoftTargets(np.asarray(probs, np.float32), **options)
    hard = nn.BCEWithLogitsLoss() if of_sets else nn.CrossEntropyLoss()

    def label_loss(given, wanted):
        return hard(given, wanted.float() if of_sets else wanted)

    class Hard(nn.Module):
        forward = staticmethod(label_loss)

    made = DistillationLoss(teacher, np.asarray(labels), Hard(), of_sets=of_sets)
    return float(made(torch.tensor(logits, dtype=torch.float32), torch.tensor(rows)))


PROBS = [[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]]


def test_a_student_that_says_the_same_loses_nothing_at_any_temperature():
    logits = np.log(PROBS) + 5
    for temperature in (1.0, 3.0):
        found = loss_of(PROBS, [0, 2], logits, [0, 1], temperature=temperature, hard=0.0)
        assert found == pytest.approx(0, abs=1e-6)


def test_it_is_the_divergence_from_the_teacher_of_these_images():
    p, q = np.array(PROBS[1]), np.full(3, 1 / 3)
    found = loss_of(PROBS, [0, 2], [[0.0, 0.0, 0.0]], [1], hard=0.0)
    assert found == pytest.approx(float((p * np.log(p / q)).sum()))


def test_labels_count_their_share_and_images_without_one_the_teacher_alone():
    logits = [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    soft = [loss_of(PROBS, [0, -1], [logits[i]], [i], hard=0.0) for i in range(2)]
    of_label = float(
        nn.functional.cross_entropy(torch.tensor([logits[0]]), torch.tensor([0]))
    )
    found = loss_of(PROBS, [0, -1], logits, [0, 1], hard=0.25)
    assert found == pytest.approx((0.75 * soft[0] + 0.25 * of_label + soft[1]) / 2)
    assert loss_of(PROBS, [-1, -1], logits, [0, 1], hard=0.9) == pytest.approx(
        np.mean(soft)
    )


def test_of_several_labels_each_is_learned_by_itself():
    probs = [[0.9, 0.4]]
    logits = np.log(np.array(probs) / (1 - np.array(probs)))
    same = loss_of(probs, [[1, 0]], logits, [0], of_sets=True, hard=0.0, temperature=2.0)
    assert same == pytest.approx(0, abs=1e-5)
    assert loss_of(probs, [[1, 0]], -logits, [0], of_sets=True, hard=0.0) > 0.3


def test_a_row_without_a_teacher_learns_from_its_label_alone():
    logits = [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    probs = [[np.nan] * 3, PROBS[1]]
    of_label = float(
        nn.functional.cross_entropy(torch.tensor([logits[0]]), torch.tensor([0]))
    )
    alone = loss_of(probs, [0, -1], [logits[0]], [0], hard=0.1)
    assert alone == pytest.approx(of_label)
    taught = loss_of(probs, [0, -1], [logits[1]], [1], hard=0.1)
    both = loss_of(probs, [0, -1], logits, [0, 1], hard=0.1)
    assert both == pytest.approx((of_label + taught) / 2)


def test_gradients_of_rows_without_a_teacher_are_finite():
    teacher = SoftTargets(np.array([[np.nan] * 3, PROBS[1]], np.float32))
    loss = DistillationLoss(teacher, np.array([0, 1]), nn.CrossEntropyLoss(), of_sets=False)
    logits = torch.zeros(2, 3, requires_grad=True)
    loss(logits, torch.tensor([0, 1])).backward()
    assert torch.isfinite(logits.grad).all()
