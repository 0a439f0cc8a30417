import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, log_loss

from ensembler.logits import softmax
from ensembler.training.fold_data import FoldData
from ensembler.training.spec import MemberSpec
from ensembler.training.validation import validate

CPU = torch.device("cpu")


class Reading(torch.nn.Module):
    """A network whose logits are the first pixels of an image, as they are."""

    def __init__(self, classes):
        super().__init__()
        self.classes = classes

    def forward(self, pixels):
        return pixels.flatten(1)[:, : self.classes].float() / 16


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 64, (40, 2, 2, 3), dtype=np.uint8)
    logits = torch.from_numpy(pixels).permute(0, 3, 1, 2).flatten(1).numpy() / 16
    return pixels, logits, rng.integers(0, 3, 40)


def looked(rows, targets, classes, choose_by="log_loss", **options):
    spec = MemberSpec(
        backbone="tiny", batch_size=16, amp="off", choose_by=choose_by, choose="best"
    )
    data = FoldData(rows[0], targets, np.arange(10), np.arange(10, 40), classes, **options)
    return validate(Reading(classes), spec, data, CPU)


def test_accuracy_and_loss_are_those_of_the_validation_rows(rows):
    _, logits, targets = rows
    found = looked(rows, targets, 3)
    probs, y = softmax(logits[10:, :3]), targets[10:]
    assert found.score == pytest.approx((probs.argmax(axis=1) == y).mean())
    assert found.loss == found.judged == pytest.approx(log_loss(y, probs, labels=range(3)))


def test_the_metric_that_chooses_is_computed_over_all_rows_at_once(rows):
    _, logits, targets = rows
    found = looked(rows, targets, 3, "f1_macro")
    expected = f1_score(targets[10:], logits[10:, :3].argmax(axis=1), average="macro")
    assert found.judged == pytest.approx(expected)


def test_rows_without_a_label_do_not_count(rows):
    _, _, targets = rows
    known = looked(rows, targets, 3)
    hidden = targets.copy()
    hidden[[12, 30]] = -1
    some = looked(rows, hidden, 3)
    assert some.loss != known.loss
    assert (
        looked(rows, np.full(40, -1), 3, "accuracy").judged != 0
    )  # nothing to judge: no number


def test_the_losses_of_tasks_are_summed_and_their_scores_averaged(rows):
    _, _, targets = rows
    both = looked(rows, np.stack([targets, targets], axis=1), 6, tasks=(3, 3))
    first = looked(rows, targets, 3)
    assert both.loss > first.loss
    assert 0 <= both.score <= 1
