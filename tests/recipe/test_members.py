import pytest

from ensembler.errors import RequestError, UnknownNameError
from ensembler.recipe.members import planned_members
from ensembler.training.spec import EnsembleSpec, MemberSpec, SoupSpec


def member(**options):
    return MemberSpec(backbone="resnet18", **options)


def bag(**options):
    return EnsembleSpec(method="bagging", backbone="resnet18", estimators=2, **options)


def named(made):
    return [one.name for one in made]


def pool(made):
    return [one.name for one in made if one.in_pool]


def test_a_plain_entry_is_one_member_of_one_training():
    (one,) = planned_members({"cnn": member()})
    assert (one.name, one.training, one.variant, one.in_pool) == (
        "cnn",
        "cnn",
        "last",
        True,
    )


def test_seeds_are_trainings_of_their_own_and_the_first_is_the_plain_one():
    made = planned_members({"cnn": member(seeds=3)})
    assert named(made) == ["cnn-s1", "cnn-s2", "cnn-s3"]
    assert [one.training for one in made] == named(made)
    assert [one.nth_seed for one in made] == [0, 1, 2]


def test_further_weights_share_a_training():
    made = planned_members({"cnn": member(also=["ema", "swa", "last_3"])})
    assert {one.name: one.variant for one in made} == {
        "cnn": "last",
        "cnn-ema": "ema",
        "cnn-swa": "swa",
        "cnn-last_3": "last_3",
    }
    assert {one.training for one in made} == {"cnn"}
    assert pool(made) == named(made)


def test_ema_predicts_as_the_member_itself_unless_it_is_one_of_its_own():
    assert planned_members({"cnn": member(ema=0.9)})[0].variant == "ema"
    assert [
        one.variant for one in planned_members({"cnn": member(ema=0.9, also=["ema"])})
    ] == [
        "last",
        "ema",
    ]


def test_an_ensemble_is_one_member_of_the_pool_and_its_estimators_are_kept():
    made = planned_members({"bag": bag()})
    assert named(made) == ["bag-e1", "bag-e2", "bag"]
    assert pool(made) == ["bag"]
    assert made[-1].parts == ("bag-e1", "bag-e2")
    assert pool(planned_members({"bag": bag(**{"as": "estimators"})})) == [
        "bag-e1",
        "bag-e2",
    ]


def test_seeds_and_snapshots_can_be_averaged_into_one_member():
    snapshots = member(
        epochs=6, snapshots="cyclic", cycles=2, seeds=2, **{"as": "ensemble"}
    )
    made = planned_members({"cnn": snapshots})
    assert pool(made) == ["cnn"]
    assert made[-1].parts == ("cnn-s1-c1", "cnn-s1-c2", "cnn-s2-c1", "cnn-s2-c2")
    assert made[0].spec.cycle_ends == {"c1": 3, "c2": 6}


def test_a_repeated_split_makes_everything_once_for_each_repeat():
    made = planned_members(
        {"bag": bag(), "stew": SoupSpec(method="soup", of=["bag"])}, ["fold_r2"]
    )
    assert named(made) == [
        "bag-r1-e1",
        "bag-r1-e2",
        "bag-r1",
        "stew-r1",
        "bag-r2-e1",
        "bag-r2-e2",
        "bag-r2",
        "stew-r2",
    ]
    assert made[3].ingredients == ("bag-r1-e1", "bag-r1-e2")
    assert {one.fold_column for one in made[4:]} == {"fold_r2"}


def test_a_member_is_called_by_its_own_its_trainings_and_its_entrys_name():
    made = planned_members({"cnn": member(seeds=2, also=["ema"])})
    assert named(j for j in made if j.is_called(["cnn-s2"])) == ["cnn-s2", "cnn-s2-ema"]
    assert named(j for j in made if j.is_called(["cnn-s1-ema"])) == ["cnn-s1-ema"]
    assert len([j for j in made if j.is_called(["cnn"])]) == 4


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"a": member(seeds=2), "a-s1": member()}, "both make 'a-s1'"),
        ({"a": member(), "s": SoupSpec(method="soup", of=["a"])}, "takes two or more"),
        (
            {
                "a": member(),
                "b": member(size=96),
                "s": SoupSpec(method="soup", of=["a", "b"]),
            },
            "has another size",
        ),
        (
            {
                "g": EnsembleSpec(method="gradient_boosting", backbone="resnet18"),
                "h": member(),
                "s": SoupSpec(method="soup", of=["g", "h"]),
            },
            "made of several networks",
        ),
    ],
)
def test_what_cannot_be_made_is_refused(members, message):
    with pytest.raises(RequestError, match=message):
        planned_members(members)


def test_a_soup_of_an_unknown_member_names_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'cnn-ema'"):
        planned_members(
            {
                "cnn": member(also=["ema"]),
                "s": SoupSpec(method="soup", of=["cnn", "cnn-emma"]),
            }
        )
