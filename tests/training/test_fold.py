import dataclasses
import warnings

import numpy as np
import odd_augments
import pytest
import torch

from ensembler.data.augment import build_augment
from ensembler.data.augmenting import seeds_of
from ensembler.data.images import ArrayImages
from ensembler.data.pixels import FilePixels, prepare_pixels
from ensembler.data.spec import InputSpec
from ensembler.errors import OutOfMemoryError, RequestError, TrainingError
from ensembler.machine.execution import Execution
from ensembler.progress import Progress, RecordedProgress
from ensembler.targets.kinds import MULTI_LABEL
from ensembler.training import fold, learner
from ensembler.training.batches import BatchSource
from ensembler.training.fold_data import FoldData
from ensembler.training.loading import Loader
from ensembler.training.parts import build_mixup, mix
from ensembler.training.randomness import only_deterministic
from ensembler.training.setup import FoldSetup
from ensembler.training.spec import MemberSpec
from ensembler.training.trained import EpochRecord
from ensembler.training.validation import validate

TINY = {
    "backbone": f"{__name__}:tiny",
    "epochs": 3,
    "batch_size": 8,
    "lr": 0.01,
    "amp": "off",
}


def tiny(num_classes, in_chans, width=4):
    return torch.nn.Sequential(
        torch.nn.Conv2d(in_chans, width, 3, stride=2),
        torch.nn.BatchNorm2d(width),
        torch.nn.ReLU(),
        torch.nn.Dropout(0.2),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(width, num_classes),
    )


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    targets = np.arange(40) % 2
    pixels = (
        rng.integers(0, 100, (40, 12, 12, 3), dtype=np.uint8)
        + (targets * 100).astype(np.uint8)[:, None, None, None]
    )
    return FoldData(pixels, targets, np.arange(30), np.arange(30, 40), 2)


SETUP = ("weights", "identity", "augment", "seed", "fold")


def train_fold(spec, data, *, workers=None, **options):
    """Train on the processor; options of the setup are told from the others."""
    setup = {name: options.pop(name) for name in SETUP if name in options}
    execution = Execution("cpu", workers)
    return fold.train_fold(FoldSetup(spec, data, **setup), execution=execution, **options)


class StopAfter(Progress):
    """Ends the training, as it were, after an epoch."""

    def __init__(self, epoch):
        self.last = epoch

    def epoch(self, epoch):
        if epoch.epoch == self.last:
            raise Stop


def weights(trained):
    return {k: v.clone() for k, v in trained.network.state_dict().items()}


def same(a, b):
    return all(torch.equal(a[k], b[k]) for k in a)


def test_a_fold_learns_what_is_there_to_learn(data):
    trained = train_fold(MemberSpec(**{**TINY, "epochs": 12}), data)
    assert trained.history[-1].score == 1.0
    assert trained.history[-1].loss < trained.history[0].loss
    assert trained.chosen_epoch == 12


def test_pixels_read_from_files_train_the_same_bits_as_kept_ones(data, tmp_path):
    spec, size = MemberSpec(**{**TINY, "epochs": 1}), InputSpec(size=12)
    images = ArrayImages(data.pixels, "drawn")
    kept = prepare_pixels(images, size, tmp_path)
    trained = [
        train_fold(
            spec,
            dataclasses.replace(data, pixels=pixels),
            augment=build_augment("light", 12, 3),
        )
        for pixels in (kept, FilePixels(images, size))
    ]
    assert same(*map(weights, trained))


class Stop(Exception):
    pass


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"ema": 0.9},
        {"mixup": 0.4, "cutmix": 0.5, "sched": "step", "clip_grad": 1.0},
        {
            "choose": "best",
            "accumulate": 2,
            "opt": "sgd",
            "momentum": 0.9,
            "warmup_epochs": 1,
        },
        {"freeze_epochs": 1, "smoothing": 0.1, "sched": "none"},
    ],
    ids=lambda o: "-".join(o) or "plain",
)
@pytest.mark.parametrize("after", [1, 2])
def test_an_interrupted_fold_ends_with_the_same_bits(data, tmp_path, options, after):
    spec = MemberSpec(**TINY, **options)
    augment = build_augment("light", 12, 3)
    whole = train_fold(spec, data, augment=augment, seed=3, fold=1)
    state = tmp_path / "state"

    with pytest.raises(Stop):
        train_fold(
            spec,
            data,
            augment=augment,
            seed=3,
            fold=1,
            state_path=state,
            progress=StopAfter(after),
        )
    progress = RecordedProgress()
    resumed = train_fold(
        spec, data, augment=augment, seed=3, fold=1, state_path=state, progress=progress
    )
    assert progress.notes == [f"resumes after epoch {after}"]
    assert same(weights(whole), weights(resumed))
    assert [r.loss for r in whole.history] == [r.loss for r in resumed.history]


@pytest.mark.parametrize("sched", ["cosine", "tanh", "poly", "step"])
def test_every_schedule_lowers_the_rate_within_the_epochs_there_are(data, sched):
    spec = MemberSpec(**{**TINY, "epochs": 6}, sched=sched)
    rates = [record.lr for record in train_fold(spec, data).history]
    assert rates[0] == pytest.approx(0.01)
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 0.005


def test_a_figure_that_is_not_finite_is_none_in_a_record():
    record = EpochRecord(1, 2, 0.5, 0.1, 1.0, score=0.5, valid_loss=float("nan"))
    assert record.to_json()["valid_loss"] is None
    assert record.to_json()["loss"] == 0.5


def seeds_by_batch(source):
    drawn = zip(source.batches, source.drawn_before, strict=True)
    return [seeds_of(source.key, rows, again) for rows, again in drawn]


def test_a_row_drawn_again_in_an_epoch_is_augmented_anew_with_any_number_of_loaders(data):
    rows = [np.array([3, 3, 5]), np.array([3, 5, 7])]
    source = BatchSource(
        data.pixels, data.targets, rows, build_augment("heavy", 12, 3), (0, 0, 1)
    )
    seeds = seeds_by_batch(source)
    assert len({*seeds[0], *seeds[1]}) == 6
    plain = BatchSource(data.pixels, data.targets, [np.array([3, 5])], None, (0, 0, 1))
    assert seeds_by_batch(plain) == [[seeds[0][0], seeds[0][2]]]
    alone, together = Loader(0, torch.device("cpu")), Loader(1, torch.device("cpu"))
    with alone.batches(source) as here, together.batches(source) as there:
        for (one, _), (other, _) in zip(here, there, strict=True):
            assert torch.equal(one, other)
            assert one.stride() == other.stride()


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_of_the_augmentation_arrives_as_it_is(data, workers):
    wrong = odd_augments.refuses
    with pytest.raises(RequestError, match=r"^leave Normalize out$"):
        train_fold(MemberSpec(**TINY), data, augment=wrong, workers=workers)


def test_a_state_of_another_identity_is_not_taken_up(data, tmp_path):
    progress = RecordedProgress()
    for identity in ("a", "b"):
        train_fold(
            MemberSpec(**TINY),
            data,
            identity=identity,
            state_path=tmp_path / "state",
            progress=progress,
        )
    assert progress.notes == [
        "the state on disk is damaged or of another training; the fold starts again"
    ]


def test_a_damaged_or_foreign_state_starts_the_fold_again_and_says_so(data, tmp_path):
    state, progress = tmp_path / "state", RecordedProgress()
    spec = MemberSpec(**TINY)
    whole = train_fold(spec, data, state_path=state)
    content = bytearray(state.read_bytes())
    content[len(content) // 2] ^= 1
    state.write_bytes(content)
    again = train_fold(spec, data, state_path=state, progress=progress)
    other = train_fold(
        MemberSpec(**{**TINY, "lr": 0.02}), data, state_path=state, progress=progress
    )
    assert same(weights(whole), weights(again))
    assert len(other.history) == 3
    assert (
        progress.notes
        == ["the state on disk is damaged or of another training; the fold starts again"]
        * 2
    )


def test_workers_change_nothing(data):
    spec, augment = MemberSpec(**{**TINY, "epochs": 1}), build_augment("medium", 12, 3)
    assert same(
        weights(train_fold(spec, data, augment=augment, workers=0)),
        weights(train_fold(spec, data, augment=augment, workers=2)),
    )


def test_seed_and_fold_decide_and_the_callers_generators_are_left_alone(data):
    spec = MemberSpec(**{**TINY, "epochs": 1})
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    before = (torch.get_rng_state(), np.random.get_state()[1].copy())  # noqa: NPY002
    first, again = train_fold(spec, data, seed=1), train_fold(spec, data, seed=1)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    assert same(weights(first), weights(again))
    assert not same(weights(first), weights(train_fold(spec, data, seed=2)))
    assert not same(weights(first), weights(train_fold(spec, data, seed=1, fold=1)))


@pytest.mark.parametrize(("rows", "batch"), [(9, 8), (17, 8), (5, 512), (3, 1)])
def test_a_last_batch_of_one_and_a_batch_over_the_data_work(data, rows, batch):
    smaller = dataclasses.replace(data, train_rows=np.arange(rows))
    spec = MemberSpec(**{**TINY, "batch_size": batch, "epochs": 1})
    assert len(train_fold(spec, smaller).history) == 1


def test_a_fold_without_validation_rows_trains(data):
    trained = train_fold(
        MemberSpec(**{**TINY, "epochs": 1}),
        dataclasses.replace(data, valid_rows=np.array([], int)),
    )
    assert trained.history[0].score is None


def test_a_loss_that_is_not_finite_stops_with_epoch_and_learning_rate(data):
    spec = MemberSpec(**{**TINY, "lr": 1e30, "opt": "sgd", "sched": "none"})
    with pytest.raises(
        TrainingError, match=r"not finite in epoch \d \(learning rate 1e\+30\)"
    ):
        train_fold(spec, data)


def test_one_row_is_too_few(data):
    with pytest.raises(RequestError, match="fold 0 has 1 train rows"):
        train_fold(MemberSpec(**TINY), dataclasses.replace(data, train_rows=np.array([0])))


def test_patience_stops_early(data):
    spec = MemberSpec(
        **{**TINY, "epochs": 50, "patience": 2, "lr": 1e-9, "weight_decay": 0.0}
    )
    assert len(train_fold(spec, data).history) < 50


@pytest.mark.parametrize("backbone", ["test_resnet", "test_vit"])
def test_timm_backbones_take_grey_at_their_size(data, backbone):
    grey = dataclasses.replace(
        data, pixels=np.pad(data.pixels[..., :1], ((0, 0), (10, 10), (10, 10), (0, 0)))
    )
    spec = MemberSpec(backbone=backbone, epochs=1, batch_size=16)
    assert train_fold(spec, grey).network.mean.shape[1] == 1


@pytest.fixture
def tagged(data):
    """Two labels at once: bright in the first channel, bright in the last."""
    targets = np.stack([np.arange(40) % 2, np.arange(40) // 2 % 2], axis=1)
    pixels = np.random.default_rng(0).integers(0, 100, (40, 12, 12, 3), dtype=np.uint8)
    pixels[..., 0] += (100 * targets[:, :1, None]).astype(np.uint8)
    pixels[..., 2] += (100 * targets[:, 1:, None]).astype(np.uint8)
    return dataclasses.replace(data, pixels=pixels, targets=targets, kinds=(MULTI_LABEL,))


@pytest.mark.parametrize(
    "options", [{}, {"loss": "asymmetric"}, {"mixup": 0.2, "smoothing": 0.1}], ids=str
)
def test_a_fold_learns_several_labels_at_once(tagged, options):
    spec = MemberSpec(
        **{**TINY, "epochs": 25, **options}, model_args={"width": 8}, val_interval=1
    )
    trained = train_fold(spec, tagged)
    assert trained.history[-1].score >= 0.6  # of whole sets; by chance 0.25
    assert trained.history[-1].valid_loss < trained.history[0].valid_loss


def test_mixing_mixes_sets_of_labels_as_it_mixes_images(tagged):
    spec = MemberSpec(**TINY, mixup=0.5)
    images = torch.arange(7.0).view(7, 1, 1, 1).expand(7, 3, 4, 4).clone()
    y = torch.from_numpy(tagged.targets[:7])
    mixed, soft = mix(build_mixup(spec, tagged), images, y)
    assert torch.equal(soft[6], y[6].float())  # of an odd batch the last stays as it is
    share = (mixed[0, 0, 0, 0] - 5) / (0 - 5)  # the first is mixed with the sixth
    assert torch.allclose(soft[0], share * y[0] + (1 - share) * y[5], atol=1e-5)


def validating(monkeypatch, values):
    """Let the validation after the n-th epoch find the n-th of these values."""
    from ensembler.training.validation import Validation

    found = iter(values)

    def validate(*_):
        value = next(found)
        return Validation(0.5, value, value)

    monkeypatch.setattr(fold, "validate", validate)


@pytest.mark.parametrize(
    ("options", "values", "epochs", "chosen"),
    [
        ({"patience": 2}, [1.0, 0.5, 0.6, 0.7], 4, 2),
        ({"patience": 2, "ema": 0.9}, [1.0, 0.5, 0.6, 0.7], 4, 2),
        ({"patience": 2, "choose_by": "accuracy"}, [0.1, 0.5, 0.5, 0.4], 4, 2),
        ({"choose": "best", "choose_by": "f1_macro"}, [0.1, 0.2, 0.3, 0.2, 0.3, 0.2], 6, 3),
        ({"choose": "best", "val_interval": 2}, [0.5, 0.4, 0.6], 6, 4),
        (
            {"patience": 1, "val_interval": 2},
            [0.5, 0.4, 0.6],
            6,
            4,
        ),  # it does not stop where nobody looked
        ({"patience": 1, "val_interval": 2}, [0.5, 0.6], 4, 2),
        ({"choose": "best"}, [float("nan")] * 6, 6, 6),
        ({}, [0.5], 6, 6),
    ],
    ids=str,
)
def test_the_best_epoch_predicts_where_one_is_chosen(
    data, monkeypatch, options, values, epochs, chosen
):
    validating(monkeypatch, values)
    trained = train_fold(
        MemberSpec(**{**TINY, "epochs": 6, "sched": "none", **options}), data
    )
    assert (len(trained.history), trained.chosen_epoch) == (epochs, chosen)
    monkeypatch.undo()
    until = {**TINY, "epochs": chosen, "sched": "none"} | (
        {"ema": 0.9} if "ema" in options else {}
    )
    assert same(weights(trained), weights(train_fold(MemberSpec(**until), data)))


def test_an_epoch_is_judged_by_the_metric_that_the_member_names(data):
    spec = MemberSpec(**{**TINY, "epochs": 4}, choose="best", choose_by="accuracy")
    history = train_fold(spec, data).history
    assert [record.judged for record in history] == [record.score for record in history]
    history = train_fold(MemberSpec(**{**TINY, "epochs": 4}, patience=9), data).history
    assert [record.judged for record in history] == [
        record.valid_loss for record in history
    ]


def test_several_labels_and_several_targets_are_judged_by_the_mean_of_the_metric(
    tagged, data
):
    spec = MemberSpec(**TINY, choose="best", choose_by="hamming_loss")
    assert all(0 <= record.judged <= 1 for record in train_fold(spec, tagged).history)
    targets = np.stack([data.targets, 1 - data.targets], axis=1)
    targets[30:, 1] = -1  # no validation row of the second is known
    both = dataclasses.replace(data, targets=targets, classes=4, tasks=(2, 2))
    spec = MemberSpec(**TINY, target=("a", "b"), choose="best", choose_by="roc_auc_ovr")
    assert all(0 <= record.judged <= 1 for record in train_fold(spec, both).history)


def test_only_epochs_that_something_asks_about_are_validated(data):
    def validated(**options):
        history = train_fold(MemberSpec(**{**TINY, "epochs": 5}, **options), data).history
        return [record.epoch for record in history if record.valid_loss is not None]

    assert validated() == [5]
    assert validated(val_interval=2) == [2, 4, 5]
    assert validated(choose="best") == [1, 2, 3, 4, 5]
    assert validated(patience=5, val_interval=2) == [2, 4, 5]


def test_how_often_is_looked_leaves_the_weights_as_they_are(data):
    first, second = (train_fold(MemberSpec(**TINY, val_interval=n), data) for n in (1, 3))
    assert same(weights(first), weights(second))


@pytest.mark.parametrize(
    "options", [{"choose": "best"}, {"patience": 1, "choose_by": "accuracy"}], ids=str
)
def test_an_interrupted_choice_goes_on_with_the_best_epoch_so_far(
    data, tmp_path, monkeypatch, options
):
    spec, state = MemberSpec(**{**TINY, "epochs": 4}, **options), tmp_path / "state"
    values = [0.9, 0.5, 0.6, 0.7] if spec.choose_by == "log_loss" else [0.5, 0.9, 0.9]
    # the second epoch is kept before it is looked at
    validating(monkeypatch, [*values[:2], *values[1:]])

    with pytest.raises(Stop):
        train_fold(spec, data, state_path=state, progress=StopAfter(2))
    resumed = train_fold(spec, data, state_path=state)
    assert resumed.chosen_epoch == 2
    validating(monkeypatch, values)
    assert same(weights(train_fold(spec, data)), weights(resumed))


def out_of_memory(*_, **__):
    raise torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 2.00 GiB.\nMore of it"
    )


ADVICE = (
    r"^out of memory with batch_size 8 at 12 px; batch_size: 4 with accumulate: 2 \(steps as large "
    r"as now\) or a size "
    r"below 12 or amp: auto needs less \(CUDA out of memory\. Tried to allocate 2\.00 GiB\.\)$"
)


def test_a_step_without_enough_memory_says_what_needs_less(data, monkeypatch):
    monkeypatch.setattr(learner.Learner, "loss", out_of_memory)
    with pytest.raises(OutOfMemoryError, match=ADVICE):
        train_fold(MemberSpec(**TINY), data)


def test_a_network_that_does_not_fit_says_what_needs_less(data, monkeypatch):
    monkeypatch.setattr(learner, "place_for_training", out_of_memory)
    with pytest.raises(OutOfMemoryError, match=ADVICE):
        train_fold(MemberSpec(**TINY), data)


def test_a_processor_without_enough_memory_is_told_by_its_words(data, monkeypatch):
    def full(*_):
        raise RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you "
            "tried"
        )

    monkeypatch.setattr(learner.Learner, "loss", full)
    with pytest.raises(OutOfMemoryError, match="batch_size: 4 with accumulate: 2"):
        train_fold(MemberSpec(**TINY), data)


def test_a_validation_without_enough_memory_does_not_lose_the_epoch(
    data, tmp_path, monkeypatch
):
    spec, state = MemberSpec(**{**TINY, "epochs": 2}), tmp_path / "state"
    whole = train_fold(spec, data)
    with monkeypatch.context() as patch, pytest.raises(OutOfMemoryError, match=ADVICE):
        patch.setattr(fold, "validate", out_of_memory)
        train_fold(spec, data, state_path=state)
    progress = RecordedProgress()
    resumed = train_fold(spec, data, state_path=state, progress=progress)
    assert progress.notes == ["resumes after epoch 2"]
    assert resumed.history[-1].valid_loss == whole.history[-1].valid_loss
    assert same(weights(whole), weights(resumed))


class OfSmallBatches(torch.nn.Module):
    """A network that has memory for so many images in evaluation."""

    def __init__(self, most):
        super().__init__()
        self.body, self.most, self.seen = tiny(2, 3), most, []

    def forward(self, x):
        self.seen.append(len(x))
        return out_of_memory() if len(x) > self.most else self.body(x.float())


def test_validation_takes_no_larger_batches_than_the_training_and_halves_them_when_it_must(
    data,
):
    spec, wide = MemberSpec(**TINY), dataclasses.replace(data, valid_rows=np.arange(10, 40))
    network = OfSmallBatches(8)
    whole = validate(network, spec, wide, torch.device("cpu"))
    assert network.seen == [8, 8, 8, 6]
    network.seen, network.most = [], 2
    found = validate(network, spec, wide, torch.device("cpu"))
    assert network.seen[:7] == [8, 4, 2, 2, 4, 2, 2]
    assert (found.score, found.loss) == (whole.score, pytest.approx(whole.loss))
    network.most = 0
    with pytest.raises(torch.OutOfMemoryError):
        validate(network, spec, wide, torch.device("cpu"))


def test_frozen_epochs_leave_the_backbone_as_it_is(data):
    def backbone(**options):
        state = train_fold(MemberSpec(**TINY | options), data).network.state_dict()
        return {
            name: value
            for name, value in state.items()
            if not name.startswith("network.6.")
        }

    once, twice = (backbone(epochs=n, freeze_epochs=n) for n in (1, 2))
    assert all(torch.equal(once[name], twice[name]) for name in once)
    assert int(twice["network.1.num_batches_tracked"]) == 0
    assert torch.equal(twice["network.1.running_mean"], torch.zeros(4))
    thawed = backbone(epochs=3, freeze_epochs=2)
    assert int(thawed["network.1.num_batches_tracked"]) == 4
    assert not torch.equal(thawed["network.0.weight"], twice["network.0.weight"])


def test_the_last_row_of_an_odd_batch_is_smoothed_as_the_mixed_ones_are(data):
    spec = MemberSpec(**TINY, mixup=0.5, smoothing=0.1)
    images = torch.rand(7, 3, 4, 4)
    _, soft = mix(build_mixup(spec, data), images, torch.zeros(7, dtype=torch.int64))
    assert torch.allclose(soft, torch.tensor([0.95, 0.05]).expand(7, 2))


def flat(num_classes, in_chans):
    return torch.nn.Sequential(
        torch.nn.Flatten(),
        torch.nn.Linear(12 * 12 * in_chans, 8),
        torch.nn.BatchNorm1d(8),
        torch.nn.Linear(8, num_classes),
    )


def test_one_image_is_too_few_for_batch_norms_without_places(data):
    spec = MemberSpec(**{**TINY, "backbone": f"{__name__}:flat", "batch_size": 1})
    with pytest.raises(
        TrainingError,
        match=r"a batch of one image is too few .* batch_size: 2 or more is needed",
    ):
        train_fold(spec, data)


def test_an_operation_without_a_deterministic_form_is_a_note_and_not_an_error():
    progress = RecordedProgress()
    before = torch.are_deterministic_algorithms_enabled()
    with only_deterministic(True, progress):
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
        for _ in range(2):
            torch.histc(torch.rand(4), 2)
            warnings.warn(
                "adaptive_avg_pool2d_backward_cuda does not have a deterministic implementation, "
                "...",
                stacklevel=1,
            )
    assert progress.notes == [
        "deterministic: adaptive_avg_pool2d_backward_cuda has no deterministic form here; equal "
        "seeds may differ a little"
    ]
    assert torch.are_deterministic_algorithms_enabled() == before
    assert not torch.is_deterministic_algorithms_warn_only_enabled()
