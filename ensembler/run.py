"""A run in a notebook: what the command line does, in a few lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Literal, TypedDict, Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ensembler.blending.pool import Pool
from ensembler.blending.spec import BlendSpec
from ensembler.blends.blend import blend_run
from ensembler.blends.composed import blend_label
from ensembler.blends.keep import BlendOutcome
from ensembler.blends.pool import read_pool
from ensembler.blends.submit import submission_spec, submit_blend
from ensembler.evaluation.by_class import ByClass, evaluate_by_class
from ensembler.evaluation.evaluate import evaluate
from ensembler.evaluation.scores import Evaluation
from ensembler.predictions.blends import Blend
from ensembler.predictions.members import Member
from ensembler.predictions.merging import Merge, Reduce
from ensembler.predictions.store import RunStore


class PoolOptions(TypedDict, total=False):
    """What `Run.pool` may be asked for."""

    target: str | None
    merge: Merge
    views: Sequence[str] | None
    common_rows: bool
    costs: Mapping[str, float] | None


class BlendOptions(TypedDict, total=False):
    """What `Run.blend` may be asked for: the keys of `blend:` in a recipe, and a target."""

    metric: str
    members: Sequence[str] | None
    weights: Mapping[str, float] | Sequence[float] | None
    name: str | None
    merge: Merge
    views: Sequence[str] | None
    calibrate: Literal["none", "temperature", "vector", "biases"]
    calibrate_members: Literal["none", "temperature", "vector"]
    prune: float | None
    max_cost: float | None
    options: Mapping[str, object]
    seed: int
    target: str | None


class EvaluationOptions(TypedDict, total=False):
    """What `Run.evaluate` may be asked for."""

    members: Sequence[str] | None
    merge: Merge
    views: Sequence[str] | None
    by_view: bool
    target: str | None
    metrics: Sequence[str] | None
    per: Literal["row", "group"]
    reduce: Reduce


class Run:
    """One run of the store.

    Examples:
        >>> run = Run.open("digits")  # doctest: +SKIP
        >>> outcome = run.blend(method="soft", name="mine")  # doctest: +SKIP
        >>> outcome.result.scores["cross_fitted"]["log_loss"]  # doctest: +SKIP
    """

    def __init__(self, store: RunStore) -> None:
        self.store = store

    @classmethod
    def open(cls, run: str | Path, artifacts: str | Path | None = None) -> Run:
        """Open a run by its name (under `artifacts`) or its folder.

        MissingRunError names the nearest.
        """
        return cls(RunStore.open(run, None if artifacts is None else Path(artifacts)))

    def __repr__(self) -> str:
        return f"Run({str(self.store.folder)!r})"

    @property
    def name(self) -> str:
        """The run's name."""
        return self.store.name

    @property
    def samples(self) -> pd.DataFrame:
        """The rows of `samples.csv`: id, split, fold, targets and group."""
        return self.store.samples.table

    @property
    def members(self) -> dict[str, Member]:
        """The complete members by name, in the recipe's order."""
        return {name: self.store.member(name) for name in self.store.complete_members}

    @property
    def blends(self) -> dict[str, Blend]:
        """The blends by name."""
        return {name: self.store.blend(name) for name in self.store.blends}

    def classes(self, target: str | None = None) -> tuple[str, ...]:
        """Class names of a target (the first one when none is named)."""
        return self.store.classes(target or self.store.samples.targets[0])

    def stack(
        self,
        split: Literal["oof", "test"] = "oof",
        members: Sequence[str] | None = None,
        *,
        merge: Merge = "mean",
        views: Sequence[str] | None = None,
        target: str | None = None,
    ) -> NDArray[np.floating]:
        """Aligned probabilities `[members, samples, classes]` of the members of one target.

        The default target is the label. "oof": over the train rows, NaN where a member has no
        prediction; "test": over the test rows, each member's folds averaged.
        """
        opened = [self.store.member(name) for name in (members or self.store.pool_members)]
        if target is None:
            named = list(chain.from_iterable(member.targets for member in opened))
            target = self.store.samples.first_target(named)
        opened = (
            [m.for_target(target) for m in opened if target in m.targets] if target else []
        )
        classes = self.classes(target)
        if split == "oof":
            return np.stack([member.oof(classes, merge, views) for member in opened])
        return np.stack(
            [member.test(classes, merge, views).mean(axis=0) for member in opened]
        )

    def labels(
        self, split: Literal["oof", "test"] = "oof", target: str | None = None
    ) -> NDArray[np.int64]:
        """Label indices `[samples]` in the order of `classes()`; -1 = unknown.

        Of a multi-label target 0 or 1 `[samples, classes]`.
        """
        target = target or self.store.samples.targets[0]
        return self.store.labels(
            target, "train" if split == "oof" else "test", self.classes(target)
        )

    def pool(
        self, members: Sequence[str] | None = None, **options: Unpack[PoolOptions]
    ) -> Pool:
        """The members as a `Pool`, for `ensembler.blending.make_blend` and friends."""
        return read_pool(self.store, members, **options).pool

    def blend(
        self, method: str = "auto", *, submit: bool = False, **options: Unpack[BlendOptions]
    ) -> BlendOutcome:
        """Make and keep a blend of the label.

        `options` are the keys of `blend:` in a recipe (members, weights, ...). With `target` it is
        a blend of that target's members alone.
        """
        target = options.pop("target", None)
        spec = BlendSpec.model_validate({"method": method, **options})
        blend = blend_label if target is None else partial(blend_run, target=target)
        outcome = blend(self.store, spec)
        if submit:
            submit_blend(
                self.store, outcome.result.name, submission_spec(self.store), by_hand=True
            )
        return outcome

    def evaluate(self, **options: Unpack[EvaluationOptions]) -> Evaluation:
        """Scores of members and blends, out of fold and on the holdout."""
        return evaluate(self.store, **options)

    def evaluate_by_class(
        self, members: Sequence[str] | None = None, *, target: str | None = None
    ) -> ByClass:
        """What each class is worth with each member and blend, and what is taken for what."""
        return evaluate_by_class(self.store, members=members, target=target)
