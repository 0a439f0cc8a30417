import json

import pytest

from ensembler import Recipe, Run
from ensembler.errors import ChangedRecipeError, RequestError, UnknownNameError
from ensembler.experiments.ablate import Axis, ablate_recipe
from ensembler.progress import QUIET, Progress


class Counting(Progress):
    def __init__(self):
        self.folds = []

    def fold_done(self, task, text):
        self.folds.append((task.training, task.fold))


def ablate(recipe, *axes, progress=QUIET, **options):
    return ablate_recipe(
        Recipe.load(recipe),
        [Axis.parse(axis) for axis in axes],
        recipe.parent / "artifacts",
        progress=progress,
        **{"folds": 2, "epochs": 1, **options},
    )


@pytest.mark.slow
def test_variants_are_members_of_a_run_of_their_own_compared_on_the_same_rows(recipe):
    progress = Counting()
    found = ablate(recipe, "augment=none,light", "model_args.width=4,8", progress=progress)
    names = [v.name for v in found.variants]
    assert names == [
        f"augment-{a}+model_args.width-{w}" for a in ("none", "light") for w in (4, 8)
    ]
    assert found.run == "shapes-ablate-augment+model_args.width"
    assert len(progress.folds) == 4 * 2
    assert (found.member, found.folds, found.n_comparisons) == ("narrow", 2, 3)
    run = Run.open(found.run, recipe.parent / "artifacts")
    assert list(run.members) == names
    for variant, member in zip(found.variants, run.members.values(), strict=True):
        assert variant.scores["accuracy"] == pytest.approx(
            member.record.scores["oof"]["accuracy"], abs=1e-6
        )
    expected = found.variants[0].scores["log_loss"] - found.variants[2].scores["log_loss"]
    assert found.variants[2].gains["log_loss"].value == pytest.approx(expected)
    assert run.blend(method="soft").result.members == tuple(names)
    assert json.loads((run.store.folder / "ablation.json").read_text())["comparisons"] == 3


@pytest.mark.slow
def test_a_second_call_trains_nothing_and_more_values_only_themselves(recipe):
    ablate(recipe, "lr=0.01,0.02")
    again, more = Counting(), Counting()
    ablate(recipe, "lr=0.01,0.02", progress=again)
    found = ablate(recipe, "lr=0.01,0.02,0.03", progress=more)
    assert again.folds == []
    assert more.folds == [("lr-0.03", 0), ("lr-0.03", 1)]
    assert found.n_comparisons == 2


@pytest.mark.slow
def test_seeds_are_paired_and_averaged(recipe):
    found = ablate(recipe, "lr=0.01,0.02", seeds=2)
    assert found.variants[1].members == ("lr-0.02-s1", "lr-0.02-s2")
    run = Run.open(found.run, recipe.parent / "artifacts")
    scores = [
        run.members[name].record.scores["oof"]["accuracy"]
        for name in found.variants[1].members
    ]
    assert found.variants[1].scores["accuracy"] == pytest.approx(sum(scores) / 2, abs=1e-6)


@pytest.mark.slow
def test_an_option_without_effect_is_called_that(recipe):
    found = ablate(recipe, "clip_grad=1e6,1e7")
    assert "no effect" in found.warnings[0]
    assert found.variants[1].gains["log_loss"].verdict == "noise"


def test_other_folds_under_one_name_are_refused(recipe):
    ablate(recipe, "lr=0.01,0.02")
    with pytest.raises(ChangedRecipeError, match=r"folds\.count"):
        ablate(recipe, "lr=0.01,0.02", folds=3)


@pytest.mark.parametrize(
    ("axis", "message"),
    [
        ("agument=none,light", "not a member option; did you mean 'augment'"),
        ("augment=none", "two values or more"),
        ("augment", "expected option=value"),
        ("lr=0.1,0.1", "none twice"),
        ("augment=none,lihgt", "unknown augmentation preset 'lihgt'; did you mean 'light'"),
        ("epochs=1,two", "--axis epochs=two: .* is 'two'"),
        ("sampler=none,some", "--axis sampler=some"),
        ("target=a,b", "compare other things"),
        ("seeds=1,2", "--seeds N"),
        ("lr.x=1,2", "which has no parts"),
        ("snapshots=none,cyclic", "epochs 1 should be a multiple"),
        (f"lr={','.join(str(i) for i in range(1, 70))}", "at most 64"),
    ],
)
def test_a_wrong_axis_or_value_is_one_clear_error_and_makes_no_run(recipe, axis, message):
    with pytest.raises(RequestError, match=message):
        ablate(recipe, axis)
    assert not (recipe.parent / "artifacts").exists()


def test_a_variant_of_several_members_is_refused_before_anything_is_trained(recipe):
    progress = Counting()
    with pytest.raises(RequestError, match="as: ensemble"):
        ablate(recipe, "snapshots=none,cyclic", epochs=3, progress=progress)
    assert progress.folds == []


def test_a_comma_inside_brackets_divides_nothing():
    axis = Axis.parse("augment=[HorizontalFlip, VerticalFlip],none")
    assert axis.values == (["HorizontalFlip", "VerticalFlip"], "none")


@pytest.mark.slow
def test_the_command_prints_a_table_or_one_object(recipe, ens_here):
    ablate(recipe, "lr=0.01,0.02")
    asked = ("ablate", recipe, "--axis", "lr=0.01,0.02", "--folds", 2, "--epochs", 1)
    found = json.loads(ens_here(*asked, "--json").stdout)
    assert [v["name"] for v in found["variants"]] == ["lr-0.01", "lr-0.02"]
    assert found["variants"][0]["gains"] is None
    assert {"value", "joint_low", "joint_high", "verdict"} <= set(
        found["variants"][1]["gains"]["log_loss"]
    )
    printed = ens_here(*asked, "--quiet").stdout
    assert "gain over lr-0.01" in printed
    assert "one comparison for each metric" in printed
    assert (
        "did you mean 'augment'"
        in ens_here("ablate", recipe, "--axis", "agument=a,b", expect=2).stderr
    )


@pytest.mark.slow
def test_options_that_do_not_count_for_a_variant_are_left_out(recipe):
    recipe.write_text(
        recipe.read_text().replace(
            "narrow: {}", "narrow: {loss: focal, focal_gamma: 1.5, freeze_epochs: 2}"
        )
    )
    found = ablate(recipe, "loss=focal,cross_entropy", epochs=1)
    assert [variant.name for variant in found.variants] == [
        "loss-focal",
        "loss-cross_entropy",
    ]
    with pytest.raises(UnknownNameError, match="metric of one label"):
        ablate(recipe, "lr=0.01,0.02", metrics=["f1_samples"])
