"""Which rule should `auto` choose a family by? Fitted on random rows of many pools, scored on the others.

    python benchmarks/auto_rule.py CACHE [POOL ...] [--sizes 60,400,2500] [--draws 4]

A POOL is a folder as benchmarks/train_pool.py writes it, or with `models.json` and `<name>.npy`
(cifar10-oof). Beside them stand pools of scikit-learn classifiers on digits, with true and with
partly wrong labels, and invented ones. Every family is cross-fitted on the fitted rows and scored
on the others once, and kept in CACHE; rules are compared on that. A rule's regret is its log loss
on the other rows less that of the family which is best there, in hindsight.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from ensembler.blending.candidate import Candidate
from ensembler.blending.judging.cross_fitting import cross_fit, fitting_parts
from ensembler.blending.testing import invented_pool

FAMILIES = [
    Candidate("simplex"),
    Candidate("simplex", after="temperature"),
    Candidate("loglinear"),
    Candidate("stack"),
    Candidate("stack", {"probabilities": True}),
    Candidate("geometric"),
    Candidate("soft"),
    Candidate("single"),
    Candidate("greedy"),
]
NAMES = [
    "simplex",
    "simplex + T",
    "loglinear",
    "stack",
    "stack, probabilities",
    "geometric",
    "soft",
    "single",
    "greedy",
]
_FLOOR = 1e-7


@dataclass
class Trial:
    """What every family gave the true class, cross-fitted `[families, rows]` and on the other rows."""

    pool: str
    members: int
    classes: int
    inside: np.ndarray
    outside: np.ndarray

    @property
    def rows(self) -> int:
        return self.inside.shape[1]

    def losses(self) -> np.ndarray:
        return -np.log(np.clip(self.inside, _FLOOR, None))

    def actual(self, chosen: list[int]) -> float:
        """The log loss on the other rows of the mean of some families."""
        return float(
            -np.log(np.clip(self.outside[chosen].mean(axis=0), _FLOOR, None)).mean()
        )


# --- pools
# -----------------------------------------------------------------------------------------------------------


def read(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    labels = pd.read_csv(folder / "labels.csv")["label"].to_numpy(np.int64)
    if (folder / "models.json").is_file():
        paths = [
            folder / f"{Path(str(name)).stem}.npy"
            for name in json.loads((folder / "models.json").read_text())
        ]
    else:
        paths = [
            p
            for p in sorted(folder.glob("*_oof.npy"))
            if (folder / p.name.replace("_oof", "_test")).is_file()
        ]
    stack = np.stack([np.load(path) for path in paths]).astype(np.float32)
    return stack / stack.sum(axis=2, keepdims=True), labels


def digits(wrong: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Out-of-fold predictions of ten classifiers on scikit-learn's digits.

    A share of the labels is wrong.
    """
    from sklearn.datasets import load_digits
    from sklearn.discriminant_analysis import (
        LinearDiscriminantAnalysis,
        QuadraticDiscriminantAnalysis,
    )
    from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict
    from sklearn.naive_bayes import GaussianNB
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.neural_network import MLPClassifier
    from sklearn.tree import DecisionTreeClassifier

    x, y = load_digits(return_X_y=True)
    rng = np.random.default_rng(seed)
    x = x / 16 + rng.normal(0, 0.25, x.shape)
    y = np.where(rng.random(len(y)) < wrong, rng.integers(0, 10, len(y)), y)
    models = [
        LogisticRegression(max_iter=200),
        LogisticRegression(C=0.01, max_iter=200),
        LinearDiscriminantAnalysis(),
        QuadraticDiscriminantAnalysis(reg_param=0.1),
        GaussianNB(),
        KNeighborsClassifier(5),
        KNeighborsClassifier(25),
        DecisionTreeClassifier(max_depth=8, random_state=0),
        RandomForestClassifier(50, random_state=0),
        ExtraTreesClassifier(50, random_state=0),
        MLPClassifier((32,), max_iter=40, early_stopping=True, random_state=0),
    ]
    found = [
        cross_val_predict(model, x, y, cv=5, method="predict_proba") for model in models
    ]
    return np.stack(found).astype(np.float32), y.astype(np.int64)


def all_pools(
    folders: list[Path],
) -> dict[str, Callable[[], tuple[np.ndarray, np.ndarray]]]:
    found = {
        folder.resolve().name: lambda folder=folder: read(folder) for folder in folders
    }
    found["digits"] = lambda: digits(0.0)
    found["digits, 20 % wrong"] = lambda: digits(0.2)
    for members, classes, strength in (
        (5, 2, 1.0),
        (8, 5, 2.0),
        (20, 3, 0.7),
        (40, 4, 1.0),
    ):
        shape = (members, 8000, classes)
        found[f"invented {members} x {classes}"] = lambda shape=shape, s=strength: (
            invented_pool(*shape, 7, s)
        )
    return found


# --- trials
# ----------------------------------------------------------------------------------------------------------


def run(
    name: str, stack: np.ndarray, y: np.ndarray, n: int, seed: int, kept: Path
) -> Trial | None:
    path = (
        kept / f"{name.replace(' ', '-').replace('%', '').replace(',', '')}-{n}-{seed}.npz"
    )
    if not path.is_file():
        if n > len(y) / 2:
            return None
        rng = np.random.default_rng(seed)
        rows = rng.permutation(len(y))
        fit, out = np.sort(rows[:n]), np.sort(rows[n : n + 8000])
        members = (
            np.arange(len(stack))
            if seed % 2 == 0
            else np.sort(rng.choice(len(stack), max(3, len(stack) // 2), False))
        )
        inner, outer = (
            np.ascontiguousarray(stack[members][:, fit]),
            np.ascontiguousarray(stack[members][:, out]),
        )
        part = fitting_parts(y[fit], np.zeros(n, np.int64), seed=seed)
        inside, outside = [], []
        for family in FAMILIES:
            probs = cross_fit(family.make, inner, y[fit], part)
            inside.append(probs[np.arange(n), y[fit]])
            probs = family.make().fit(inner, y[fit]).predict_proba(outer)
            outside.append(probs[np.arange(len(out)), y[out]])
        shape = np.array([len(members), stack.shape[2]])
        np.savez(path, inside=np.float32(inside), outside=np.float32(outside), shape=shape)
        print(
            f"{path.stem}: "
            f"{np.round(-np.log(np.clip(outside, _FLOOR, None)).mean(axis=1), 4).tolist()}",
            flush=True,
        )
    with np.load(path) as found:
        return Trial(
            name,
            *map(int, found["shape"]),
            np.float64(found["inside"]),
            np.float64(found["outside"]),
        )


# --- rules
# -----------------------------------------------------------------------------------------------------------


def compared(
    trial: Trial, per_member: float, per_cell: float, probabilities: bool
) -> list[int]:
    """Families that `auto` compares, in its order, from so many rows a member, and for each member and class."""
    found = [0, 1]
    if trial.rows >= per_member * trial.members:
        found.append(2)
    if trial.rows >= per_cell * trial.members * trial.classes:
        found += [3, 4] if probabilities else [3]
    return [*found, 5, 6, 7]


def first_near_best(trial: Trial, order: list[int], errors: float) -> list[int]:
    """The first family within so many paired standard errors of the best one."""
    losses = trial.losses()
    best = min(order, key=lambda i: losses[i].mean())
    return [next(i for i in order if _is_near(losses[i] - losses[best], errors))]


def _is_near(difference: np.ndarray, errors: float) -> bool:
    return difference.mean() <= errors * difference.std(ddof=1) / np.sqrt(len(difference))


def _many(trial: Trial) -> bool:
    return trial.rows >= 20 * trial.members


RULES: dict[str, Callable[[Trial], list[int]]] = {
    "before: 1 or 2 standard errors, no probabilities": lambda t: first_near_best(
        t, compared(t, 20, max(5, 500 / t.members / t.classes), False), 1 if _many(t) else 2
    ),
    "the same with probabilities": lambda t: first_near_best(
        t, compared(t, 20, max(5, 500 / t.members / t.classes), True), 1 if _many(t) else 2
    ),
    "now: richer families earlier, 0.5 or 2": lambda t: first_near_best(
        t, compared(t, 5, 2, True), 0.5 if _many(t) else 2
    ),
    "richer families earlier, always the best": lambda t: first_near_best(
        t, compared(t, 5, 2, True), 0
    ),
    "simplex": lambda _: [0],
    "greedy": lambda _: [8],
    "loglinear": lambda _: [2],
}


def tell(trials: list[Trial]) -> None:
    table = []
    for trial in trials:
        alone = [trial.actual([i]) for i in range(len(FAMILIES))]
        for rule, choose in RULES.items():
            value = trial.actual(choose(trial))
            table.append(
                (rule, trial.rows / trial.members, value - min(alone[:8]), value - alone[8])
            )
    frame = pd.DataFrame(table, columns=["rule", "rows a member", "regret", "over greedy"])
    frame["rows a member"] = pd.cut(frame["rows a member"], [0, 5, 20, 100, np.inf]).astype(
        str
    )
    shown = (
        frame.pivot_table(index="rule", columns="rows a member", values="regret")
        .reindex(RULES)
        .round(4)
    )
    shown["all"] = frame.groupby("rule")["regret"].mean().round(4)
    shown["most over greedy"] = frame.groupby("rule")["over greedy"].max().round(4)
    print(shown.to_string())
    print(
        frame[frame["rule"] == "greedy"].groupby("rows a member").size().to_dict(), "trials"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("cache", type=Path)
    parser.add_argument("pools", type=Path, nargs="*")
    parser.add_argument("--sizes", default="60,150,400,1000,2500,6000")
    parser.add_argument("--draws", type=int, default=4)
    a = parser.parse_args()
    a.cache.mkdir(parents=True, exist_ok=True)
    pools = {name: cache(make) for name, make in all_pools(a.pools).items()}
    trials = []
    for n in map(int, a.sizes.split(",")):
        for name, make in pools.items():
            stack, y = make()
            trials += [
                t
                for seed in range(a.draws)
                if (t := run(name, stack, y, n, seed, a.cache)) is not None
            ]
    tell(trials)


if __name__ == "__main__":
    main()
