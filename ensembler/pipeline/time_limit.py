"""A run under a deadline: whether there is time at all, and what is kept back for its end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ensembler.deadline import Deadline
from ensembler.errors import RequestError
from ensembler.machine.execution import Execution
from ensembler.members.prices import Seconds
from ensembler.members.short_folds import has_finished_folds, short_members
from ensembler.pipeline.plan import Plan, plan_recipe
from ensembler.predictions.store import RunStore
from ensembler.progress import Progress
from ensembler.recipe.load import Recipe
from ensembler.reporting.tables import duration
from ensembler.stop import Stop

_MARGIN = 1.1  # a start takes now more, now less


@dataclass(frozen=True)
class TimeToEnd:
    """What the end of a run takes: predicting views, blending, scoring, writing the submission."""

    deadline: Deadline | None
    seconds: Seconds

    def keep_back(self, stop: Stop) -> None:
        """Let `stop` end the training in time for what comes after it."""
        stop.kept_back = self.seconds.high
        if self.deadline is not None:
            stop.limit(self.deadline.ends - self.seconds.high, self.deadline.clock)

    @property
    def has_time(self) -> bool:
        """Whether the end, as it usually is, still comes before the deadline."""
        return self.deadline is None or self.deadline.seconds_left >= self.seconds.expected


def check_deadline(
    recipe: Recipe,
    artifacts: Path,
    deadline: Deadline,
    execution: Execution,
    *,
    members: Sequence[str] | None,
    folds: Sequence[int] | None,
    progress: Progress,
) -> Plan:
    """The plan of a run; RequestError when not even the least submission ends in time.

    That is a fold of the smallest member, trained for one epoch. Where some fold is finished there
    is a submission, and any deadline will do.
    """
    plan = plan_recipe(
        recipe,
        artifacts,
        deadline=deadline,
        execution=execution,
        members=members,
        folds=folds,
        progress=progress,
    )
    for note in plan.notes:
        progress.note(note)
    store = RunStore(artifacts / recipe.spec.name)
    has_folds = store.samples_path.is_file() and (
        has_finished_folds(store) or short_members(store)
    )
    left = deadline.seconds_left
    if has_folds or plan.shortest is None or plan.shortest <= left:
        return plan
    elapsed = deadline.seconds_given - left
    least = math.ceil(_MARGIN * (plan.shortest + elapsed))
    raise RequestError(
        f"the deadline is too short: the least submission (one fold of the smallest member, one "
        f"epoch) takes {duration(plan.shortest)}, and {duration(max(0.0, left))} are left; the "
        f"shortest that would do is --deadline {least}s"
    )
