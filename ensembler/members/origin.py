"""Where a member comes from, when no entry of the recipe made it."""

from __future__ import annotations

from typing import Any

from ensembler.members.plan import MemberPlan
from ensembler.predictions.trials import read_trial, trial_path


def origin_of(plan: MemberPlan) -> dict[str, Any]:
    """What `member.json` says of a trial of a search; nothing of a member of the recipe."""
    path = trial_path(plan.workspace.store, plan.member.entry)
    if not path.is_file():
        return {}
    record = read_trial(path)
    told = record.to_json()
    kept = ("study", "number", "judged_by", "params", "value")
    return {"origin": "trial", "trial": {key: told[key] for key in kept if key in told}}
