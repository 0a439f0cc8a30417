"""Trainings that are too short for their augmentation, which then costs more than it gives.

Measured by benchmarks/augmentation.py on networks trained from scratch (docs/tasks.md): in fewer
optimizer steps than these a network does not yet know the images as they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ensembler.data.augment import where_to_augment
from ensembler.members.plan import MemberPlan
from ensembler.training.spec import MemberSpec

STEPS_FOR_PRESET = {"light": 300, "medium": 300, "heavy": 500}


def advice_on_augmentation(plans: Sequence[MemberPlan]) -> str | None:
    """What to say of members whose preset needs more steps than they have, or None."""
    short = {plan.member.entry: plan for plan in plans if is_too_short(plan)}
    if not short:
        return None
    fewest = min(short, key=lambda entry: steps_of(short[entry]))
    plan = short[fewest]
    preset = preset_of(plan)
    others = f" (and {len(short) - 1} more)" if len(short) > 1 else ""
    return (
        f"member {fewest!r}{others} takes {steps_of(plan)} steps from scratch, and in fewer than "
        f"{STEPS_FOR_PRESET[preset]} augment: {preset} may cost accuracy; train longer, or try "
        "augment: none"
    )


def is_too_short(plan: MemberPlan) -> bool:
    """Whether a network from scratch is augmented by a preset and takes too few steps for it."""
    base = plan.member.base
    if not isinstance(base, MemberSpec) or base.pretrained or base.checkpoint is not None:
        return False
    return steps_of(plan) < STEPS_FOR_PRESET.get(preset_of(plan), 0)


def preset_of(plan: MemberPlan) -> str:
    """The name of the preset that augments a member's images; empty for transforms by hand."""
    augment = where_to_augment(plan.augment).transforms
    return augment if isinstance(augment, str) else ""


def steps_of(plan: MemberPlan) -> int:
    """How often the optimizer of a fold moves."""
    base = plan.member.base
    assert isinstance(base, MemberSpec)
    batches = math.ceil(len(plan.rows.rows_of_fold(0, validation=False)) / base.batch_size)
    return base.epochs * math.ceil(batches / base.accumulate)
