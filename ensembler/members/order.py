"""In which order folds are trained: fold by fold, the cheapest member first.

One fold of many different members is worth more to a blend than all folds of few, and what is
cheap gives the first submission soonest (docs/deadline.md has the figures). A `priority` given by
hand comes before both.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from ensembler.members.prices import PriceList
from ensembler.members.training import Training, group_trainings
from ensembler.progress import FoldTask
from ensembler.training.spec import SoupSpec

# Prices closer than this ratio count as equal, so that a little noise does not change the order.
_ALIKE = 1.5


def in_order(
    tasks: Sequence[FoldTask], trainings: Iterable[Training], prices: PriceList
) -> list[FoldTask]:
    """The tasks in the order in which they are done.

    By priority, then by fold, then by what a fold costs; equally cheap ones stay as they are.
    """
    asked = {task.training for task in tasks}
    by_name = {t.name: t for t in trainings if t.name in asked}
    ranks = dict.fromkeys(by_name, 0)
    if len(ranks) > 1:
        ranks = {name: rank(training, prices) for name, training in by_name.items()}
    priorities = {name: priority_of(training) for name, training in by_name.items()}

    def place(task: FoldTask) -> tuple[int, int, int]:
        return -priorities[task.training], task.fold, ranks[task.training]

    return sorted(tasks, key=place)


def priority_of(training: Training) -> int:
    """What the recipe says of a training by hand; 0 = nothing."""
    return training.all_plans[0].member.base.priority


def rank(training: Training, prices: PriceList) -> int:
    """How expensive a fold of a training is, in steps of a ratio; a soup is after its parts."""
    plan = training.plans[0]
    if isinstance(plan.member.spec, SoupSpec):
        parts = group_trainings(list(plan.ingredients))
        return 1 + max(rank(part, prices) for part in parts)
    seconds = prices.fold(training, 0).expected
    return round(math.log(max(seconds, 1e-3)) / math.log(_ALIKE))
