"""A class made of several tasks: mask x gender x age gives eighteen classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Prior = Literal["none", "observed"]


@dataclass(frozen=True)
class Composition:
    """How the classes of several tasks make the classes of one target.

    `parts` holds, for each of `classes`, the class of every task; a combination without a class is
    impossible.
    """

    name: str
    tasks: tuple[str, ...]
    classes: tuple[str, ...]
    parts: tuple[tuple[str, ...], ...]
    prior: Prior = "none"

    @classmethod
    def build(
        cls,
        name: str,
        classes_of: Mapping[str, Sequence[str]],
        *,
        separator: str = "-",
        numbers: bool = False,
        impossible: Sequence[Mapping[str, str]] = (),
        prior: Prior = "none",
    ) -> Composition:
        """All combinations in the order of the tasks, without the impossible ones.

        The last task varies fastest. `numbers` names each class by its place among all
        combinations. Raises ValueError when two combinations would have the same name.
        """
        tasks = tuple(classes_of)
        everything = list(product(*(classes_of[task] for task in tasks)))
        names = [
            str(i) if numbers else separator.join(parts)
            for i, parts in enumerate(everything)
        ]
        if len(set(names)) != len(names):
            twice = next(n for i, n in enumerate(names) if n in names[:i])
            raise ValueError(
                f"two combinations of {', '.join(tasks)} would both be called {twice!r}"
            )
        kept = [
            i
            for i, parts in enumerate(everything)
            if not any(
                all(parts[tasks.index(t)] == c for t, c in rule.items())
                for rule in impossible
            )
        ]
        return cls(
            name,
            tasks,
            tuple(names[i] for i in kept),
            tuple(everything[i] for i in kept),
            prior,
        )

    def without(self, unwanted: Sequence[str]) -> Composition:
        """The composition without the classes named."""
        kept = [i for i, name in enumerate(self.classes) if name not in set(unwanted)]
        return Composition(
            self.name,
            self.tasks,
            tuple(self.classes[i] for i in kept),
            tuple(self.parts[i] for i in kept),
            self.prior,
        )

    def label(self, parts: Sequence[str | None]) -> str | None:
        """The class that one class of each task makes.

        None when one is unknown, KeyError when it is impossible.
        """
        if any(not isinstance(part, str) for part in parts):
            return None
        return self._name_of[tuple(str(part) for part in parts)]

    @property
    def _name_of(self) -> dict[tuple[str, ...], str]:
        return dict(zip(self.parts, self.classes, strict=True))

    def positions(self, classes_of: Mapping[str, Sequence[str]]) -> NDArray[np.int64]:
        """For each class, its parts' positions `[classes, tasks]` in the classes of each task."""
        at = [{name: i for i, name in enumerate(classes_of[task])} for task in self.tasks]
        return np.array(
            [[at[t][part] for t, part in enumerate(parts)] for parts in self.parts],
            np.int64,
        )

    def compose(
        self,
        probs: Mapping[str, NDArray[np.floating]],
        classes_of: Mapping[str, Sequence[str]],
        factors: NDArray[np.float64] | None = None,
    ) -> NDArray[np.float64]:
        """Probabilities `[rows, classes]`: the tasks' product, times `factors`, renormalised.

        `probs` are `[rows, task classes]` by task. The product takes the tasks to be independent
        given the picture; `factors` `[classes]` from `co_occurrence` say by how much they are not.
        """
        at = self.positions(classes_of)
        logs = sum(
            np.log(np.clip(probs[task], 1e-12, None, dtype=np.float64))[:, at[:, t]]
            for t, task in enumerate(self.tasks)
        )
        if factors is not None:
            logs = logs + np.log(factors)
        found: NDArray[np.float64] = np.exp(logs - np.max(logs, axis=1, keepdims=True))
        return found / found.sum(axis=1, keepdims=True)

    def co_occurrence(
        self,
        labels: Mapping[str, NDArray[np.int64]],
        classes_of: Mapping[str, Sequence[str]],
    ) -> NDArray[np.float64]:
        """How much more often than by chance each class's parts occur together `[classes]`.

        One row's worth of doubt. `labels` are the tasks' label positions `[rows]`; rows in which
        one is unknown (-1) do not count.
        """
        at = self.positions(classes_of)
        together = np.stack([labels[task] for task in self.tasks], axis=1)
        together = together[(together >= 0).all(axis=1)]
        n = len(together)
        observed = np.array(
            [(together == parts).all(axis=1).sum() for parts in at], np.float64
        )
        by_chance = np.ones(len(at))
        for t, task in enumerate(self.tasks):
            share = np.bincount(together[:, t], minlength=len(classes_of[task])) / max(n, 1)
            by_chance *= share[at[:, t]]
        never = by_chance == 0
        factors = (observed + by_chance) / ((n + 1) * np.where(never, 1.0, by_chance))
        return np.where(never, 1.0, factors)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "name": self.name,
            "tasks": list(self.tasks),
            "classes": list(self.classes),
            "parts": [list(parts) for parts in self.parts],
            "prior": self.prior,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Composition:
        """From the plain values of `to_json`."""
        return cls(
            str(content["name"]),
            tuple(content["tasks"]),
            tuple(content["classes"]),
            tuple(tuple(parts) for parts in content["parts"]),
            content.get("prior", "none"),
        )
