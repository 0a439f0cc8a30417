"""Blending only some members of a pool.

Members are kept if they say something of their own, and if a budget of seconds allows it. Members
are chosen by their labels on the fitted rows. Inside each part of cross-fitting they are therefore
chosen anew, like everything else that is fitted, or the score of few members chosen from many would
be that of the luckiest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.candidate import Candidate
from ensembler.blending.cost import cheapest_bundles, known_seconds
from ensembler.blending.judging.cross_fitting import fit_with_parts
from ensembler.blending.judging.guards import PoolFinding
from ensembler.blending.pool import Pool, Probs, Stack, StackPart, Targets
from ensembler.blending.pruning import Twin, near_twins
from ensembler.blending.registry import Fittable
from ensembler.blending.spec import BlendSpec


@dataclass(frozen=True)
class Narrowing:
    """How the members of a pool are chosen.

    No two are nearer than `prune`, and together they take at most `max_cost` seconds.
    """

    prune: float | None
    max_cost: float | None
    metric: str
    seconds: NDArray[np.float64] | None  # [members], known where `max_cost` is given
    # by the rows of a part
    _found: dict[bytes, list[int]] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, pool: Pool, spec: BlendSpec) -> Narrowing | None:
        """What `spec` asks for.

        None when all members are blended. RequestError where a cost is missing or too high.
        """
        if spec.prune is None and spec.max_cost is None:
            return None
        seconds = (
            None
            if spec.max_cost is None
            else known_seconds(pool, pool.costs, spec.max_cost)
        )
        return cls(spec.prune, spec.max_cost, spec.metric, seconds)

    def kept(self, stack: Stack, y: Targets) -> list[int]:
        """Positions of the members to blend, chosen on these rows.

        Families compared on a part share them.
        """
        rows = getattr(stack, "rows", None)  # of a StackPart
        if rows is None:
            return self._chosen(stack, y)
        key = rows.tobytes()
        if key not in self._found:
            self._found[key] = self._chosen(stack, y)
        return self._found[key]

    def _chosen(self, stack: Stack, y: Targets) -> list[int]:
        unique = self._without_twins(stack, y)[0]
        if self.seconds is None or self.max_cost is None:
            return unique
        part: Any = StackPart(stack, unique)
        bought = cheapest_bundles(part, y, self.seconds[unique], self.max_cost)[-1]
        return [unique[m] for m in bought.members]

    def _without_twins(self, stack: Stack, y: Targets) -> tuple[list[int], dict[int, Twin]]:
        """Members of which no better one says nearly the same, and the others.

        One that is too dear is neither.
        """
        cheap = list(range(len(stack)))
        if self.seconds is not None and self.max_cost is not None:
            cheap = [m for m in cheap if self.seconds[m] <= self.max_cost]
        if self.prune is None:
            return cheap, {}
        part: Any = StackPart(stack, cheap)
        found = near_twins(part, y, self.prune, self.metric)
        twins = {
            cheap[m]: Twin(cheap[twin.member], twin.distance) for m, twin in found.items()
        }
        return [m for m in cheap if m not in twins], twins

    def applied(self, pool: Pool) -> tuple[Pool, list[PoolFinding]]:
        """The pool of the members chosen on all rows, and what to say about the others."""
        names = pool.names
        findings = []
        twins = self._without_twins(pool.oof, pool.y)[1]
        for m, twin in twins.items():
            message = (
                f"member {names[m]!r} is left out: it lies {twin.distance:.3f} from the better "
                f"{names[twin.member]!r}"
            )
            findings.append(PoolFinding("pruned", names[m], message))
        kept = self.kept(pool.oof, pool.y)
        left = len(names) - len(twins)
        if self.seconds is not None and len(kept) < left:
            bought = ", ".join(names[m] for m in kept)
            message = (
                f"{bought} of {left} members fit {self.max_cost:g} s a sample "
                f"({self.seconds[kept].sum():.3g} s)"
            )
            findings.append(PoolFinding("max_cost", None, message))
        return pool.choose([names[m] for m in kept]), findings

    def around(self, candidate: Candidate) -> Callable[[], Fittable]:
        """Make the candidate's method so that it chooses members from the rows it is fitted on."""
        return partial(Narrowed, candidate, self)


class Narrowed:
    """A candidate's method over the members that a narrowing keeps of the fitted rows."""

    takes_parts = True

    def __init__(self, candidate: Candidate, narrowing: Narrowing) -> None:
        self.candidate = candidate
        self.narrowing = narrowing

    def fit(self, stack: Stack, y: Targets, part: NDArray[np.int64] | None = None) -> Self:
        """Choose the members, then fit the method on them.

        `part` `[rows]` says which rows are left out together.
        """
        self.kept_: Sequence[int] = self.narrowing.kept(stack, y)
        self.method_ = self.candidate.of_members(self.kept_).make()
        inner = StackPart(stack, self.kept_).for_method(self.method_)
        if part is None:
            self.method_.fit(inner, y)
        else:
            fit_with_parts(self.method_, inner, y, part)
        return self

    @property
    def weights_(self) -> Any:
        """The method's weights, of the members that were kept."""
        return self.method_.weights_

    def predict_proba(self, stack: Stack) -> Probs:
        """Probabilities `[samples, classes]`."""
        return self.method_.predict_proba(self._part(stack))

    def _part(self, stack: Stack) -> Stack:
        return StackPart(stack, self.kept_).for_method(self.method_)
