import numpy as np
import pytest
import torch
from pydantic import ValidationError

from ensembler.errors import RequestError, UnknownNameError
from ensembler.training.losses import (
    TaskLosses,
    build_label_set_loss,
    build_loss,
    class_weights,
    label_weights,
)
from ensembler.training.sampling import draw_rows, epoch_size
from ensembler.training.spec import MemberSpec

COUNTS = np.array([80, 15, 5])


def spec(**options):
    return MemberSpec(backbone="resnet18", **options)


@pytest.fixture
def batch():
    torch.manual_seed(0)
    return torch.randn(32, 3, requires_grad=True), torch.arange(32) % 3


def test_focal_loss_without_gamma_is_cross_entropy(batch):
    logits, y = batch
    plain = torch.nn.functional.cross_entropy(logits, y)
    assert torch.isclose(
        build_loss(spec(loss="focal", focal_gamma=0), COUNTS)(logits, y), plain
    )
    assert build_loss(spec(loss="focal"), COUNTS)(logits, y) < plain


def test_focal_loss_agrees_with_torchvision_on_two_classes(batch):
    from torchvision.ops import sigmoid_focal_loss

    logits, y = batch[0][:, :2], batch[1] % 2
    ours = build_loss(spec(loss="focal", focal_gamma=2), COUNTS[:2])(logits, y)
    theirs = sigmoid_focal_loss(
        logits[:, 1] - logits[:, 0], y.float(), alpha=-1, gamma=2, reduction="mean"
    )
    assert torch.isclose(ours, theirs, atol=1e-6)


def test_balanced_softmax_is_cross_entropy_of_logits_plus_log_frequency(batch):
    logits, y = batch
    expected = torch.nn.functional.cross_entropy(
        logits + torch.tensor(COUNTS / 100).float().log(), y
    )
    assert torch.isclose(
        build_loss(spec(loss="balanced_softmax"), COUNTS)(logits, y), expected
    )
    none = build_loss(spec(loss="balanced_softmax", tau=0), COUNTS)(logits, y)
    assert torch.isclose(none, torch.nn.functional.cross_entropy(logits, y))


def test_soft_f1_of_certain_decisions_is_one_minus_macro_f1():
    from sklearn.metrics import f1_score

    y = torch.tensor([0, 0, 1, 1, 2, 2])
    decided = torch.tensor([0, 1, 1, 1, 2, 0])
    logits = 100.0 * torch.nn.functional.one_hot(decided, 3)
    expected = 1 - f1_score(y, decided, average="macro")
    assert float(build_loss(spec(loss="soft_f1"), COUNTS)(logits, y)) == pytest.approx(
        expected, abs=1e-6
    )


@pytest.mark.parametrize(
    "loss", ["cross_entropy", "bce", "focal", "balanced_softmax", "soft_f1"]
)
def test_every_loss_gives_gradients(batch, loss):
    logits, y = batch
    build_loss(spec(loss=loss), COUNTS)(logits, y).backward()
    assert logits.grad.isfinite().all()
    assert (logits.grad != 0).any()


def test_class_weights_average_to_one_over_the_rows_and_favour_rare_classes():
    for kind in ("balanced", "effective"):
        weights = class_weights(spec(class_weights=kind), COUNTS, None).numpy()
        assert (weights * COUNTS).sum() / COUNTS.sum() == pytest.approx(1, abs=1e-5)
        assert weights[0] < weights[1] < weights[2]
    named = class_weights(spec(class_weights={"b": 3}), COUNTS, ("a", "b", "c"))
    assert named.tolist() == [1, 3, 1]
    with pytest.raises(UnknownNameError, match="did you mean 'b'"):
        class_weights(spec(class_weights={"bb": 3}), COUNTS, ("a", "b", "c"))


def test_an_unknown_label_of_one_task_does_not_count(batch):
    logits, y = batch
    both = torch.cat([logits, logits], dim=1)
    entropy = torch.nn.CrossEntropyLoss()
    losses = TaskLosses([entropy, entropy], [3, 3], [1.0, 2.0])
    holes = torch.where(torch.arange(32) < 10, y, -1)
    expected = entropy(logits, y) + 2 * entropy(logits[:10], y[:10])
    assert torch.isclose(losses(both, torch.stack([y, holes], dim=1)), expected)
    assert float(losses(both, torch.full((32, 2), -1)).detach()) == 0


LABELS = np.repeat([0, 1, 2], COUNTS)


@pytest.mark.parametrize(
    ("sampler", "expected"),
    [
        ("none", [80, 15, 5]),
        ("balanced", [33.3, 33.3, 33.3]),
        ("up", [80, 80, 80]),
        ("down", [5, 5, 5]),
        ("sqrt", list(100 * np.sqrt(COUNTS) / np.sqrt(COUNTS).sum())),
    ],
)
def test_a_sampler_gives_every_class_its_share(sampler, expected):
    rows = np.arange(1000, 1100)
    drawn = draw_rows(rows, LABELS, sampler, np.random.default_rng(0))
    assert len(drawn) == epoch_size(sampler, LABELS)
    np.testing.assert_allclose(
        np.bincount(LABELS[drawn - 1000], minlength=3), expected, atol=1
    )


def test_up_sampling_shows_every_row_and_repeats_evenly():
    drawn = draw_rows(np.arange(100), LABELS, "up", np.random.default_rng(1))
    for label in range(3):
        times = np.bincount(drawn[LABELS[drawn] == label], minlength=100)[label == LABELS]
        assert times.min() >= 1
        assert times.max() - times.min() <= 1


def test_sample_weights_of_zero_are_never_drawn_and_seeds_repeat():
    weights = np.where(np.arange(100) % 2, 1.0, 0.0)
    one, two = (
        draw_rows(np.arange(100), LABELS, "weights", np.random.default_rng(3), weights)
        for _ in range(2)
    )
    assert (one == two).all()
    assert (one % 2 == 1).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "focal", "mixup": 0.2}, "loss: focal cannot take"),
        ({"loss": "focal", "smoothing": 0.1}, "smoothing has no meaning with loss: focal"),
        ({"loss": "soft_f1", "class_weights": "balanced"}, "class_weights has no meaning"),
        ({"target": ["a", "b"], "class_weights": {"x": 2}}, "are for one target"),
        ({"target": ["a", "a"]}, "names one twice"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options, message):
    with pytest.raises(ValidationError, match=message):
        spec(**options)


@pytest.mark.parametrize("sampler", ["balanced", "sqrt", "effective", "up", "down"])
def test_rows_without_a_label_are_no_class(sampler):
    labels = np.array([-1] * 4 + [0] * 40 + [1] * 10)
    drawn = labels[draw_rows(np.arange(54), labels, sampler, np.random.default_rng(0))]
    assert len(drawn) == epoch_size(sampler, labels)
    assert 3 <= (drawn == -1).sum() <= 5
    assert (drawn == 1).sum() >= 9


def test_weights_that_are_all_zero_are_refused():
    with pytest.raises(RequestError, match="sum to 0"):
        draw_rows(
            np.arange(3), np.zeros(3, int), "weights", np.random.default_rng(0), np.zeros(3)
        )


def test_class_weights_of_bce_weigh_the_rows_of_a_class_and_not_its_column():
    spec = MemberSpec(backbone="resnet18", loss="bce", class_weights="balanced")
    loss = build_loss(spec, np.array([90, 10]))
    logits = torch.zeros(1, 2)
    common, rare = (float(loss(logits, torch.tensor([y]))) for y in (0, 1))
    assert rare > 2 * common


def test_mixed_labels_are_not_smoothed_again():
    spec = MemberSpec(
        backbone="resnet18", loss="balanced_softmax", smoothing=0.2, mixup=0.4
    )
    plain = MemberSpec(backbone="resnet18", loss="balanced_softmax", mixup=0.4)
    logits, soft = torch.randn(4, 2), torch.softmax(torch.randn(4, 2), dim=1)
    counts = np.array([5, 3])
    assert torch.equal(
        build_loss(spec, counts)(logits, soft), build_loss(plain, counts)(logits, soft)
    )


SETS = np.array([[1, 0, 0]] * 60 + [[1, 1, 0]] * 30 + [[0, 0, 1]] * 10)


@pytest.fixture
def label_batch():
    torch.manual_seed(0)
    return torch.randn(32, 3, requires_grad=True), torch.from_numpy(SETS[::3][:32])


@pytest.mark.parametrize("loss", ["cross_entropy", "bce"])
def test_the_loss_of_sets_of_labels_is_the_binary_cross_entropy_of_each(label_batch, loss):
    logits, y = label_batch
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, y.float())
    assert torch.isclose(
        build_label_set_loss(spec(loss=loss), SETS, None)(logits, y), expected
    )


def test_focal_loss_of_sets_without_gamma_and_asymmetric_loss_give_less_to_what_is_right(
    label_batch,
):
    logits, y = label_batch
    plain = build_label_set_loss(spec(), SETS, None)(logits, y)
    assert torch.isclose(
        build_label_set_loss(spec(loss="focal", focal_gamma=0), SETS, None)(logits, y),
        plain,
    )
    assert build_label_set_loss(spec(loss="focal"), SETS, None)(logits, y) < plain
    sure = 10.0 * (2 * y.float() - 1)
    assert float(build_label_set_loss(spec(loss="asymmetric"), SETS, None)(sure, y)) < 1e-4
    assert float(build_label_set_loss(spec(loss="soft_f1"), SETS, None)(sure, y)) < 1e-3


def test_weights_of_labels_are_how_many_rows_lack_them_for_each_that_has():
    assert label_weights(spec(), SETS, None) is None
    assert label_weights(
        spec(class_weights="balanced"), SETS, None
    ).tolist() == pytest.approx([10 / 90, 70 / 30, 9.0])
    effective = label_weights(spec(class_weights="effective"), SETS, None)
    assert 1 < effective[1] < effective[2] < 9
    named = label_weights(spec(class_weights={"c": 4}), SETS, ("a", "b", "c"))
    assert named.tolist() == [1, 1, 4]
    with pytest.raises(UnknownNameError, match="class in class_weights"):
        label_weights(spec(class_weights={"d": 4}), SETS, ("a", "b", "c"))


@pytest.mark.parametrize(
    ("loss", "weights"),
    [
        ("soft_f1", "none"),
        *(
            (n, w)
            for n in ("cross_entropy", "focal", "asymmetric")
            for w in ("none", "balanced")
        ),
    ],
)
def test_every_loss_of_sets_gives_gradients(label_batch, loss, weights):
    logits, y = label_batch
    build_label_set_loss(spec(loss=loss, class_weights=weights), SETS, None)(
        logits, y
    ).backward()
    assert torch.isfinite(logits.grad).all()
    assert logits.grad.abs().sum() > 0


def test_one_network_learns_sets_of_labels_beside_a_task_of_one_label(label_batch):
    logits, y = label_batch
    both = torch.cat([logits, torch.randn(32, 2)], dim=1)
    y = y.clone()
    y[:8] = -1  # unknown in the first task
    one = torch.arange(32) % 2
    losses = TaskLosses(
        [build_label_set_loss(spec(), SETS, None), build_loss(spec(), np.array([16, 16]))],
        [3, 2],
        [1.0, 0.5],
        [3, 1],
    )
    first = torch.nn.functional.binary_cross_entropy_with_logits(
        both[8:, :3], y[8:].float()
    )
    second = torch.nn.functional.cross_entropy(both[:, 3:], one)
    assert torch.isclose(
        losses(both, torch.cat([y, one[:, None]], dim=1)), first + 0.5 * second
    )
