"""`ens ablate`: variants of a member, trained on the same folds and compared row by row."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.judging.comparison import Difference, compare_with_first
from ensembler.blending.judging.remarks import few_groups, ordered_classes
from ensembler.errors import RequestError, TrainingError, UnknownNameError
from ensembler.execution.executors import executor_of
from ensembler.experiments.variants import (
    CommonOptions,
    Setting,
    check_option,
    member_options,
    named_after_settings,
    variant_recipe,
)
from ensembler.files import write_json
from ensembler.machine.execution import DEFAULT_EXECUTION, Execution
from ensembler.members.executor import Failure
from ensembler.members.option_claims import check_nobody_trains_otherwise
from ensembler.members.prices import PriceList
from ensembler.members.schedule import Schedule
from ensembler.metrics import check_metric
from ensembler.metrics.registry import fits, reported_score
from ensembler.pipeline.check import check_device, check_recipe
from ensembler.predictions.store import RunStore
from ensembler.progress import QUIET, Progress
from ensembler.recipe.document import parse_value
from ensembler.recipe.load import Recipe
from ensembler.recipe.members import PlannedMember
from ensembler.recipe.own_code import introduce_code_of
from ensembler.targets.label_sets import is_known
from ensembler.training.spec import SoupSpec
from ensembler.workspace.workspace import open_workspace

METRICS = ("accuracy", "f1_macro", "log_loss")
MOST_VARIANTS = 64


@dataclass(frozen=True)
class Axis:
    """A member option, dotted where it lies in another, and the values to try.

    `texts` are the values as given.
    """

    option: str
    values: tuple[Any, ...]
    texts: tuple[str, ...]

    @classmethod
    def parse(cls, given: str) -> Axis:
        """From `option=value,value`; a comma inside brackets or quotes divides nothing."""
        option, equals, rest = given.partition("=")
        texts = tuple(text.strip() for text in _divided(rest))
        if not equals or not all(option.split(".")) or not all(texts):
            raise RequestError(
                f"--axis {given!r}: expected option=value,value, such as augment=none,light,heavy"
            )
        if len(set(texts)) != len(texts) or len(texts) < 2:
            raise RequestError(f"--axis {given!r}: expected two values or more, none twice")
        return cls(option, tuple(parse_value(text) for text in texts), texts)

    @property
    def settings(self) -> list[Setting]:
        """Each of its values, as a variant has it."""
        values = zip(self.values, self.texts, strict=True)
        return [
            Setting(self.option, value, text, f"--axis {self.option}={text}")
            for value, text in values
        ]


def _divided(text: str) -> list[str]:
    parts, depth, quote = [""], 0, ""
    for char in text:
        if quote or char in "'\"":
            quote = "" if char == quote else quote or char
        depth += (char in "[{") - (char in "]}")
        if char == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += char
    return parts


@dataclass(frozen=True)
class Variant:
    """One variant: its options, its scores, and its gains over the first (None for the first)."""

    name: str
    options: dict[str, Any]
    members: tuple[str, ...]
    seconds: float
    scores: dict[str, float]
    gains: dict[str, Difference] | None

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        gains = (
            None
            if self.gains is None
            else {metric: gain.to_json() for metric, gain in self.gains.items()}
        )
        return {**self.__dict__, "members": list(self.members), "gains": gains}


@dataclass(frozen=True)
class Ablation:
    """What `ens ablate` found, out of fold on `n` rows that every variant predicts."""

    run: str
    folder: Path
    member: str
    target: str
    n: int
    n_groups: int | None
    folds: int
    seeds: int
    metrics: tuple[str, ...]
    variants: tuple[Variant, ...]
    warnings: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()

    @property
    def n_comparisons(self) -> int:
        """How many variants are compared with the first one."""
        return len(self.variants) - 1

    def to_json(self) -> dict[str, Any]:
        """As the object that `ens ablate --json` prints."""
        return {
            **self.__dict__,
            "folder": str(self.folder),
            "metrics": list(self.metrics),
            "comparisons": self.n_comparisons,
            "variants": [variant.to_json() for variant in self.variants],
            "warnings": list(self.warnings),
            "failures": [failure.__dict__ for failure in self.failures],
        }


def ablate_recipe(  # noqa: PLR0913 in notebooks: a keyword for each option of `ens ablate`
    recipe: Recipe,
    axes: Sequence[Axis],
    artifacts: Path,
    *,
    member: str | None = None,
    folds: int | None = None,
    epochs: int | None = None,
    seeds: int = 1,
    metrics: Sequence[str] | None = None,
    name: str | None = None,
    execution: Execution = DEFAULT_EXECUTION,
    progress: Progress = QUIET,
) -> Ablation:
    """Train every combination of the axes' values as a member, and compare them with the first.

    `member` is the recipe's entry that is varied (default: the first one), `folds` how many folds
    there are, `epochs` and `seeds` those of every variant. What a run of that name has finished is
    not trained again.
    """
    base = _base_of(recipe, member)
    varied, options = _varied(recipe, base, axes, name, CommonOptions(folds, epochs, seeds))
    introduce_code_of(varied, progress, metrics)
    shown = _metrics_of(recipe, base, metrics)
    check_recipe(varied)
    check_device(execution.device, progress)
    workspace = open_workspace(
        varied, artifacts, progress, check=check_nobody_trains_otherwise
    )
    planned = {
        variant: _members_of(workspace.members, variant, seeds) for variant in options
    }
    prices = PriceList.of(workspace, execution)
    training = Schedule(workspace, executor_of(execution), prices).train(workspace.members)
    store = RunStore(workspace.store.folder)
    complete = set(store.complete_members)
    there = {variant: made for variant, made in planned.items() if complete >= set(made)}
    first = next(iter(options))
    if first not in there or len(there) < 2:
        reason = (
            training.failures[0].message
            if training.failures
            else "its folds are not finished"
        )
        raise TrainingError(f"there is nothing to compare: {reason}")
    found = _compare(store, there, options, shown)
    ablation = Ablation(
        run=store.name,
        folder=store.folder,
        member=base,
        folds=len(np.unique(store.samples.folds()[store.samples.folds() >= 0])),
        seeds=seeds,
        metrics=shown,
        failures=training.failures,
        **found,
    )
    write_json(store.folder / "ablation.json", ablation.to_json())
    return ablation


def _metrics_of(
    recipe: Recipe, base: str, metrics: Sequence[str] | None
) -> tuple[str, ...]:
    """The scores to compare by, all of them fit for the target of the member `base`."""
    spec, data = recipe.spec.members[base], recipe.spec.data
    named = () if isinstance(spec, SoupSpec) else spec.targets
    target = next((t for t in data.label_names if t in named), data.label_names[0])
    kind = data.kind(target)
    for metric in metrics or ():
        check_metric(metric, of=kind)
    usual = (*METRICS, recipe.spec.blend.metric)
    return tuple(metrics or dict.fromkeys(m for m in usual if fits(m, of=kind)))


def _base_of(recipe: Recipe, member: str | None) -> str:
    entries = [
        entry
        for entry, spec in recipe.spec.members.items()
        if not isinstance(spec, SoupSpec)
    ]
    if member is None:
        return entries[0]
    if member not in entries:
        raise UnknownNameError("member to vary", member, entries)
    return member


def _varied(
    recipe: Recipe, base: str, axes: Sequence[Axis], name: str | None, common: CommonOptions
) -> tuple[Recipe, dict[str, dict[str, Any]]]:
    """The recipe whose members are the combinations of values, and the options of each."""
    _check_axes(axes, member_options(recipe, base))
    usual = f"{recipe.spec.name}-ablate-{'+'.join(axis.option for axis in axes)}"
    variants = named_after_settings(product(*(axis.settings for axis in axes)))
    options = {
        variant: {setting.option: setting.value for setting in settings}
        for variant, settings in variants.items()
    }
    return variant_recipe(recipe, base, variants, name or usual, common), options


def _check_axes(axes: Sequence[Axis], own: Mapping[str, Any]) -> None:
    """Raise for an option that cannot be varied or is given twice, and for too many variants."""
    for axis in axes:
        check_option(axis.option, own, f"--axis {axis.option}")
    names = [axis.option for axis in axes]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise RequestError(f"--axis {twice[0]} is given twice; list all its values")
    n_variants = math.prod(len(axis.values) for axis in axes)
    if n_variants > MOST_VARIANTS:
        raise RequestError(
            f"the axes make {n_variants} variants; at most {MOST_VARIANTS} are compared at once"
        )


def _members_of(
    members: Sequence[PlannedMember], variant: str, seeds: int
) -> tuple[str, ...]:
    """The members that stand for a variant: one, or one for each seed and repeated split."""
    made = [member for member in members if member.entry == variant and member.in_pool]
    by_name = {member.name for member in made}
    if variant in by_name:
        found: tuple[str, ...] = (variant,)
    else:
        found = tuple(member.name for member in made if member.name == member.training)
    expected = seeds * len({member.fold_column for member in made})
    if len(found) != expected:
        raise RequestError(
            f"a variant makes the members {', '.join(sorted(by_name))}, of which "
            f"{expected} should stand for it; as: ensemble in the recipe makes one of "
            "several, and --seeds is for single networks"
        )
    return found


def _compare(
    store: RunStore,
    members: Mapping[str, Sequence[str]],
    options: Mapping[str, dict[str, Any]],
    metrics: Sequence[str],
) -> dict[str, Any]:
    opened = {
        variant: [store.member(name) for name in names]
        for variant, names in members.items()
    }
    targets = next(iter(opened.values()))[0].targets
    target = store.samples.first_target(targets) or targets[0]
    classes = store.classes(target)
    stacks = [
        np.stack([m.for_target(target).oof(classes) for m in made])
        for made in opened.values()
    ]
    labels = store.labels(target, "train", classes)
    rows = np.flatnonzero(
        is_known(labels) & np.all([np.isfinite(s).all(axis=(0, 2)) for s in stacks], axis=0)
    )
    y, groups = labels[rows], store.samples.groups()
    groups = None if groups is None else groups[rows]
    stacks = [stack[:, rows] for stack in stacks]
    gains = {metric: compare_with_first(metric, stacks, y, groups) for metric in metrics}
    variants = tuple(
        Variant(
            name=variant,
            options=options[variant],
            members=tuple(member.name for member in made),
            seconds=sum(member.record.seconds or 0.0 for member in made),
            scores={metric: _mean_score(metric, stacks[i], y) for metric in metrics},
            gains={metric: gains[metric][i - 1] for metric in metrics} if i else None,
        )
        for i, (variant, made) in enumerate(opened.items())
    )
    n_groups = None if groups is None else len(np.unique(groups))
    remarks = [
        few_groups(n_groups),
        *(ordered_classes(metric, classes) for metric in metrics),
    ]
    same = [
        v.name
        for v, stack in zip(variants[1:], stacks[1:], strict=True)
        if np.array_equal(stack, stacks[0])
    ]
    return {
        "target": target,
        "n": len(rows),
        "n_groups": n_groups,
        "variants": variants,
        "warnings": (
            *(
                f"{name} predicts exactly what {variants[0].name} does: the option has no effect "
                "here"
                for name in same
            ),
            *(remark.message for remark in remarks if remark is not None),
        ),
    }


def _mean_score(metric: str, stack: NDArray[np.floating], y: NDArray[np.int64]) -> float:
    return float(np.mean([reported_score(metric, probs, y) for probs in stack]))
