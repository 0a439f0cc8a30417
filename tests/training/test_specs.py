import pytest
from pydantic import TypeAdapter, ValidationError

from ensembler.data.spec import InputSpec
from ensembler.errors import RecipeError, RequestError
from ensembler.recipe import Recipe
from ensembler.training.spec import AnyMemberSpec, EnsembleSpec, MemberSpec

ANY = TypeAdapter(AnyMemberSpec)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "baging"}, "unknown method 'baging'; did you mean 'bagging'"),
        (
            {"method": "bagging", "epsilon": 0.1},
            "epsilon is an option of adversarial_training, not of bagging",
        ),
        ({"method": "gradient_boosting", "as": "estimators"}, "terms of a sum"),
        (
            {"method": "gradient_boosting", "loss": "focal"},
            "fits residuals by least squares",
        ),
        (
            {"method": "snapshot", "epochs": 10, "estimators": 3},
            "a multiple of estimators 3",
        ),
        ({"method": "fast_geometric", "cycle": 1}, "greater than or equal to 2"),
        (
            {"method": "fast_geometric", "lr_2": 0.01},
            "lr_2 0.01, in the middle of a cycle, should be below lr_1 0.001",
        ),
        (
            {"method": "voting", "lr_1": 0.01},
            "lr_1 is an option of fast_geometric, not of voting",
        ),
        ({"mixup": 0.2, "batch_size": 1}, "mix pairs of a batch; batch_size: 1 has none"),
        ({"method": "voting", "target": ["a", "b"]}, "trains for one target"),
        ({"method": "voting", "sched": "step"}, "cosine or none"),
        ({"also": ["emma"]}, "expected ema, swa, or last_3"),
        ({"also": ["last_30"]}, "averages 2 to 10 epochs"),
        ({"also": ["swa"], "patience": 3}, "patience ends the training"),
        ({"swa_lr": 0.1}, "swa_lr is for also"),
        ({"snapshots": "cyclic", "epochs": 10}, "a multiple of cycles 3"),
        ({"snapshots": "cyclic", "epochs": 9, "ema": 0.9}, "goes without"),
        ({"cycles": 4}, "cycles counts only with snapshots: cyclic; here it is none"),
        (
            {"tau": 0.5},
            "tau counts only with loss: balanced_softmax; here it is cross_entropy",
        ),
        (
            {"focal_gamma": 1, "loss": "bce"},
            "focal_gamma counts only with loss: focal; here it is bce",
        ),
        ({"decay_rate": 0.5}, "decay_rate counts only with sched: step; here it is cosine"),
        ({"method": "voting", "tau": 0.5}, "tau counts only with loss"),
        ({"class_weights": {"a": -1}}, "should be finite, not negative and not all zero"),
        ({"class_weights": {"a": float("nan")}}, "should be finite"),
        ({"class_weights": {"a": 0, "b": 0}}, "not all zero"),
        ({"freeze_epochs": 11}, "freeze_epochs 11 should be at most epochs 10"),
        (
            {"choose_by": "accuracy"},
            "choose_by: accuracy counts only with choose: best or patience",
        ),
        (
            {"choose": "best", "choose_by": "acuracy"},
            "unknown metric 'acuracy'; did you mean 'accuracy'",
        ),
        ({"val_interval": 11}, "val_interval 11 should be at most epochs 10"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options, message):
    with pytest.raises(ValidationError, match=message):
        ANY.validate_python({"backbone": "resnet18", **options})


def test_the_passes_of_a_method_are_counted():
    passes = {
        method: EnsembleSpec(method=method, backbone="x", epochs=6, estimators=3).passes
        for method in ("fusion", "voting", "soft_gradient_boosting", "fast_geometric")
    }
    assert passes == {
        "fusion": 6,
        "voting": 18,
        "soft_gradient_boosting": 6,
        "fast_geometric": 6 + 2 * 4 + 2,
    }


def test_the_rates_of_fast_geometric_follow_the_learning_rate():
    usual = EnsembleSpec(method="fast_geometric", backbone="x", lr=2e-3)
    assert usual.cycle_rates == (2e-3, 2e-5)
    own = EnsembleSpec(method="fast_geometric", backbone="x", lr_1=5e-2, lr_2=1e-4)
    assert own.cycle_rates == (5e-2, 1e-4)
    # Members of earlier versions stay as they are: these were the options they were trained with.
    assert {"lr_1": 5e-2, "lr_2": 1e-4}.items() <= own.decisive_options.items()
    # as their runs' recipes say it
    kept = EnsembleSpec(method="voting", backbone="x", lr_1=5e-2, lr_2=1e-4)
    assert (
        kept.decisive_options
        == EnsembleSpec(method="voting", backbone="x").decisive_options
    )
    assert {"lr_1": 5e-2, "lr_2": 1e-4}.items() <= kept.decisive_options.items()


@pytest.fixture
def load(tmp_path):
    def load(text):
        path = tmp_path / "r.yaml"
        path.write_text("data: {source: digits}\n" + text)
        return Recipe.load(path).spec

    return load


def test_a_member_takes_of_the_defaults_what_its_method_knows(load):
    spec = load(
        "defaults: {backbone: resnet18, mixup: 0.2, lr: 0.01, estimators: 3}\n"
        "members: {a: {}, b: {method: bagging}, s: {method: soup, of: [a, b]}}\n"
    )
    assert isinstance(spec.members["a"], MemberSpec)
    assert spec.members["a"].mixup == 0.2
    assert spec.members["b"].lr == 0.01
    assert spec.members["b"].estimators == 3


def test_a_misspelt_default_is_still_an_error(load):
    with pytest.raises(RecipeError, match=r"mixupp is not an option; did you mean 'mixup'"):
        load("defaults: {backbone: resnet18, mixupp: 0.2}\nmembers: {a: {}}\n")


def test_an_option_of_another_method_names_those_of_this_one(load):
    with pytest.raises(
        RecipeError,
        match=r"line 2: members\.b\.estimatorz is not an option; did you mean 'estimators'",
    ):
        load("members: {b: {backbone: resnet18, method: bagging, estimatorz: 3}}\n")


def test_a_resolved_recipe_is_read_again(load, tmp_path):
    from ensembler.workspace.lock import resolved_yaml

    spec = load(
        "members: {b: {backbone: resnet18, method: voting, as: estimators}, c: {backbone: "
        "resnet18, seeds: 2}}\n"
    )
    (tmp_path / "recipe.yaml").write_bytes(resolved_yaml(spec))
    again = Recipe.load(tmp_path / "recipe.yaml").spec
    assert again.members == spec.members


def test_a_momentum_for_an_optimizer_without_one_is_refused():
    from ensembler.training.check import check_member

    seen = InputSpec(size=32)
    check_member(MemberSpec(backbone="resnet18", opt="sgd", momentum=0.9), seen)
    with pytest.raises(
        RequestError, match="momentum counts only for optimizers that have one"
    ):
        check_member(MemberSpec(backbone="resnet18", opt="adamw", momentum=0.9), seen)


def test_a_member_takes_of_the_defaults_what_counts_beside_its_own_options(load):
    spec = load(
        "defaults: {backbone: resnet18, focal_gamma: 1, decay_rate: 0.3}\n"
        "members: {a: {loss: focal}, b: {sched: step}, c: {}}\n"
    )
    assert [m.focal_gamma for m in spec.members.values()] == [1, 2, 2]
    assert [m.decay_rate for m in spec.members.values()] == [0.1, 0.3, 0.1]


def test_a_default_that_says_how_to_choose_is_for_members_that_choose(load):
    spec = load(
        "defaults: {backbone: resnet18, choose_by: accuracy}\nmembers: {a: {choose: best}, b: "
        "{patience: 2}, c: {}}\n"
    )
    assert [m.choose_by for m in spec.members.values()] == [
        "accuracy",
        "accuracy",
        "log_loss",
    ]


def test_options_that_do_not_decide_what_is_trained_make_no_other_member():
    plain, often = MemberSpec(backbone="x"), MemberSpec(backbone="x", val_interval=1)
    assert (
        "choose_by" not in plain.decisive_options
    )  # members of earlier versions stay as they are
    assert plain.decisive_options == often.decisive_options
    best, patient = (
        MemberSpec(backbone="x", choose="best"),
        MemberSpec(backbone="x", patience=3),
    )
    assert best.decisive_options == {**plain.decisive_options, "choose": "best"}
    assert patient.decisive_options == {**best.decisive_options, "patience": 3}
    by_accuracy = MemberSpec(
        backbone="x", choose="best", choose_by="accuracy", val_interval=2
    )
    assert by_accuracy.decisive_options == {
        **best.decisive_options,
        "choose_by": "accuracy",
        "val_interval": 2,
    }


def test_a_metric_that_chooses_epochs_fits_the_target(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(
        "data: {source: x.csv, targets: {label: {multi_label: ' '}}}\n"
        "members: {a: {backbone: resnet18, choose: best, choose_by: quadratic_kappa}}\n"
    )
    with pytest.raises(
        RecipeError,
        match=r"members\.a: choose_by: quadratic_kappa is not a metric of .label.",
    ):
        Recipe.load(path)


@pytest.mark.parametrize(
    ("target", "metric"),
    [("{label: {multi_label: ' '}}", "quadratic_kappa"), ("label", "f1_samples")],
)
def test_a_metric_of_another_kind_of_target_is_refused_in_the_recipe(
    tmp_path, target, metric
):
    path = tmp_path / "r.yaml"
    path.write_text(
        f"data: {{source: x.csv, targets: {target}}}\nmembers: {{a: {{backbone: "
        f"resnet18}}}}\nblend: {{metric: {metric}}}\n"
    )
    with pytest.raises(RecipeError, match=f"blend.metric '{metric}' is not a metric of"):
        Recipe.load(path)
