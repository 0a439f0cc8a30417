"""Fold by fold, cheapest first, what has a priority before it: with trainings that are none."""

from types import SimpleNamespace

import pytest

from ensembler.members import order
from ensembler.members.order import in_order
from ensembler.members.prices import Seconds
from ensembler.progress import FoldCost, FoldTask
from ensembler.training.spec import MemberSpec, SoupSpec


class FakePrices:
    def __init__(self, seconds):
        self.seconds = seconds

    def fold(self, training, _fold):
        return Seconds(self.seconds[training.name])


def training(name, *, priority=0, of=()):
    base = MemberSpec(backbone="resnet18", priority=priority)
    spec = SoupSpec(method="soup", of=of) if of else base
    member = SimpleNamespace(name=name, base=base, spec=spec)
    plan = SimpleNamespace(
        member=member, ingredients=tuple(SimpleNamespace(name=n) for n in of)
    )
    return SimpleNamespace(name=name, plans=(plan,), all_plans=(plan,))


def placed(trainings, seconds, folds=(0, 1)):
    tasks = [FoldTask(t.name, fold, FoldCost(1)) for t in trainings for fold in folds]
    found = in_order(tasks, trainings, FakePrices(seconds))
    return [f"{task.training}{task.fold}" for task in found]


def test_fold_by_fold_the_cheapest_member_first():
    trainings = [training("slow"), training("quick"), training("medium")]
    seconds = {"slow": 300.0, "quick": 3.0, "medium": 30.0}
    assert placed(trainings, seconds) == [
        *("quick0", "medium0", "slow0"),
        *("quick1", "medium1", "slow1"),
    ]


def test_a_priority_comes_before_both():
    trainings = [
        training("quick"),
        training("slow", priority=1),
        training("later", priority=-1),
    ]
    seconds = {"slow": 300.0, "quick": 3.0, "later": 1.0}
    assert placed(trainings, seconds) == [
        *("slow0", "slow1"),
        *("quick0", "quick1"),
        *("later0", "later1"),
    ]


def test_about_equal_prices_leave_the_order_of_the_recipe():
    seconds = {"b": 10.4, "a": 10.0, "c": 9.7}
    assert placed([training("b"), training("a"), training("c")], seconds, [0]) == [
        *("b0", "a0", "c0")
    ]


def test_a_soup_comes_after_the_members_whose_weights_it_averages(monkeypatch):
    trainings = [
        training("stew", of=("slow", "quick")),
        training("slow"),
        training("quick"),
    ]
    by_name = {t.name: t for t in trainings}
    monkeypatch.setattr(
        order, "group_trainings", lambda plans: [by_name[plan.name] for plan in plans]
    )
    assert placed(trainings, {"slow": 300.0, "quick": 3.0}, [0]) == [
        "quick0",
        "slow0",
        "stew0",
    ]


def test_a_single_training_is_not_priced():
    class NoPrices:
        def fold(self, *_):
            pytest.fail("nothing to compare with")

    tasks = [FoldTask("cnn", fold, FoldCost(1)) for fold in (2, 0, 1)]
    found = in_order(tasks, [training("cnn")], NoPrices())
    assert [task.fold for task in found] == [0, 1, 2]
