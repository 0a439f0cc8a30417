"""The order of folds under a deadline, simulated: test log loss of the submission against seconds.

python benchmarks/planner.py digits             # scikit-learn models, trained and timed here (CPU)
python benchmarks/planner.py cifar POOL         # POOL: the folder of cifar10-oof
python benchmarks/planner.py depth              # breadth or depth, on learning curves made here
python benchmarks/planner.py digits --out curves.csv

A step is one fold of one member, as long as it took. After each the submission is the log-linear
pool of the members that have the first k folds, fitted on these folds' rows, k being the one whose
pool does best on the rows of fold 0, cross-fitted in two halves. Nothing is fitted on test rows.

Orders: the recipe's (`given`) and a random one, by member (all folds of one, then the next) and by
fold; the cheapest first by member; what `ens run` does (`planner`, through members/order.py); and
AutoGluon's rule: members in the given order, a bag of folds that would not end in time is thrown
away after its first fold. The area is the mean test log loss over time, linear and by its
logarithm from 0.5 % of the full time on, looked at at 17 moments; before the first submission it is log(classes).

What is supposed: the seconds of the cifar pool were not published, so that each member is given a
cost between 1 and 10 at random (three draws); that pool has no test predictions, so that half of
fold 0's rows are its test rows, predicted by each member's own network of that fold, whichever of
its folds are finished (the gain of averaging folds is left out, for all orders alike).
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ensembler.blending import create_blend
from ensembler.members.depth import ENOUGH, Candidate, choose_depth
from ensembler.members.order import in_order
from ensembler.members.prices import Seconds
from ensembler.metrics import score
from ensembler.progress import FoldCost, FoldTask
from ensembler.training.spec import MemberSpec

SHARES = (0.01, 0.05, 0.10, 0.25, 0.50, 1.00)
FIRST = 0.005  # the share of the time at which the logarithmic area begins
MOMENTS = np.unique(np.concatenate([np.geomspace(FIRST, 1, 13), SHARES]))
MOST_ROWS = 1500  # to fit a blend on
DRAWN = 2  # random orders
Step = tuple[int, int]  # member and fold


@dataclass(frozen=True)
class Recorded:
    """A recorded pool: `oof` `[members, rows, classes]`, `test` `[members, folds, tests, classes]`.

    `fold` and `y` are of the rows, `test_y` of the test rows, `seconds` `[members, folds]`.
    """

    names: tuple[str, ...]
    oof: NDArray[np.float64]
    fold: NDArray[np.int64]
    y: NDArray[np.int64]
    test: NDArray[np.float64]
    test_y: NDArray[np.int64]
    seconds: NDArray[np.float64]

    @property
    def n_folds(self) -> int:
        """How many folds each member has."""
        return self.seconds.shape[1]

    def submission(self, done: Sequence[set[int]]) -> NDArray[np.float64] | None:
        """The test probabilities of what is finished: `done` are the folds of each member."""
        levels = [k for k in range(1, self.n_folds + 1) if self._at_level(k, done)]
        if not levels:
            return None
        k = min(levels, key=lambda level: self._judged(level, done))
        members = self._at_level(k, done)
        fitted = self._fit(members, np.flatnonzero(self.fold < k))
        means = [self.test[m, sorted(done[m])].mean(axis=0) for m in members]
        return np.asarray(fitted.predict_proba(np.stack(means)))

    def _at_level(self, k: int, done: Sequence[set[int]]) -> list[int]:
        wanted = set(range(k))
        return [m for m, folds in enumerate(done) if folds >= wanted]

    def _fit(self, members: Sequence[int], rows: NDArray[np.int64]) -> Any:
        if len(rows) > MOST_ROWS:
            rows = np.random.default_rng(0).choice(rows, MOST_ROWS, replace=False)
        stack = self.oof[np.ix_(members, rows)]
        method = create_blend("loglinear", ridge=0.01)
        return method.fit(stack, self.y[rows])

    def _judged(self, k: int, done: Sequence[set[int]]) -> float:
        """The cross-fitted log loss on fold 0 of the pool of the first k folds."""
        members, common = self._at_level(k, done), np.flatnonzero(self.fold == 0)
        others = np.flatnonzero((self.fold > 0) & (self.fold < k))
        half = np.random.default_rng(1).random(len(common)) < 0.5
        losses = []
        for judged in (half, ~half):
            fitted = self._fit(members, np.concatenate([common[~judged], others]))
            rows = common[judged]
            probs = fitted.predict_proba(self.oof[np.ix_(members, rows)])
            losses.append(score("log_loss", np.asarray(probs), self.y[rows]))
        return float(np.mean(losses))


def by_member(order: Sequence[int], n_folds: int) -> list[Step]:
    """All folds of one member, then those of the next."""
    return [(m, fold) for m in order for fold in range(n_folds)]


def by_fold(order: Sequence[int], n_folds: int) -> list[Step]:
    """Fold 0 of every member, then fold 1."""
    return [(m, fold) for fold in range(n_folds) for m in order]


def planned(pool: Recorded) -> list[Step]:
    """The order of `ens run`."""
    spec = MemberSpec(backbone="resnet18")
    member = SimpleNamespace(base=spec, spec=spec)
    plans = (SimpleNamespace(member=member),)
    trainings: Any = [
        SimpleNamespace(name=str(m), plans=plans, all_plans=plans)
        for m in range(len(pool.names))
    ]
    prices: Any = SimpleNamespace(
        fold=lambda training, _fold: Seconds(float(pool.seconds[int(training.name)].mean()))
    )
    tasks = [
        FoldTask(training.name, fold, FoldCost(1))
        for training in trainings
        for fold in range(pool.n_folds)
    ]
    return [(int(t.training), t.fold) for t in in_order(tasks, trainings, prices)]


Curve = list[tuple[float, float]]  # seconds and test log loss from then on


def curve_of(pool: Recorded, steps: Sequence[Step]) -> Curve:
    """The test log loss of the submission at each of the moments that are looked at."""
    ends = np.cumsum([pool.seconds[member, fold] for member, fold in steps])
    nothing = float(np.log(pool.oof.shape[2]))
    kept, found = {0: nothing}, [(0.0, nothing)]
    for moment in MOMENTS * ends[-1]:
        n = int(np.searchsorted(ends, moment * (1 + 1e-9), side="right"))
        if n not in kept:
            done: list[set[int]] = [set() for _ in pool.names]
            for member, fold in steps[:n]:
                done[member].add(fold)
            probs = pool.submission(done)
            lost = None if probs is None else score("log_loss", probs, pool.test_y)
            kept[n] = nothing if lost is None else lost
        found.append((float(moment), kept[n]))
    return found


def autogluon(pool: Recorded, order: Sequence[int]) -> Curve:
    """What a limit of so many seconds ends with, by AutoGluon's rule, for limits up to all."""
    total = float(pool.seconds.sum())
    limits = MOMENTS * total
    kept, found = {(): float(np.log(pool.oof.shape[2]))}, []
    for limit in limits:
        left, bags = float(limit), []
        for m in order:
            folds = pool.seconds[m]
            if folds.sum() <= left:
                bags.append(m)
                left -= float(folds.sum())
            else:
                # seen after its first fold, and thrown away
                left -= min(left, float(folds[0]))
        key = tuple(bags)
        if key not in kept:
            everything = set(range(pool.n_folds))
            done = [everything if m in bags else set() for m in range(len(pool.names))]
            probs = pool.submission(done)
            assert probs is not None
            kept[key] = score("log_loss", probs, pool.test_y)
        found.append((float(limit), kept[key]))
    return found


def at(curve: Curve, moments: NDArray[np.float64]) -> NDArray[np.float64]:
    """The test log loss at each moment."""
    starts = np.array([moment for moment, _ in curve])
    values = np.array([value for _, value in curve])
    places = np.searchsorted(starts, moments * (1 + 1e-9), side="right") - 1
    return values[np.maximum(places, 0)]


def row_of(name: str, curves: Sequence[Curve], total: float) -> dict[str, Any]:
    """Areas and values at shares of the time, means over `curves`."""
    linear, logs = np.linspace(FIRST, 1, 400), np.geomspace(FIRST, 1, 400)
    grids = (linear, logs)
    areas = [np.mean([at(c, grid * total).mean() for c in curves]) for grid in grids]
    values = np.mean([at(c, np.array(SHARES) * total) for c in curves], axis=0)
    named = {f"{share:.0%}": value for share, value in zip(SHARES, values, strict=True)}
    return {"order": name, "area": areas[0], "area log": areas[1], **named}


def compare(pool: Recorded, seed: int = 0) -> tuple[list[dict[str, Any]], pd.DataFrame]:
    """A line for each order, and all curves."""
    total, n = float(pool.seconds.sum()), len(pool.names)
    given, k = list(range(n)), pool.n_folds
    cheapest = list(np.argsort(pool.seconds.sum(axis=1), kind="stable"))
    rng = np.random.default_rng(seed)
    drawn = [list(rng.permutation(n)) for _ in range(DRAWN)]
    curves = {
        "given, by member": [curve_of(pool, by_member(given, k))],
        "given, by fold": [curve_of(pool, by_fold(given, k))],
        "cheapest, by member": [curve_of(pool, by_member(cheapest, k))],
        "planner": [curve_of(pool, planned(pool))],
        "random, by member": [curve_of(pool, by_member(order, k)) for order in drawn],
        "random, by fold": [curve_of(pool, by_fold(order, k)) for order in drawn],
        "AutoGluon's rule": [autogluon(pool, given)],
    }
    rows = [row_of(name, of_order, total) for name, of_order in curves.items()]
    table = [
        (name, moment / total, value)
        for name, of_order in curves.items()
        for moment, value in of_order[0]
    ]
    return rows, pd.DataFrame(table, columns=["order", "share of the time", "log loss"])


def digits(seed: int = 0) -> Recorded:
    """Scikit-learn's digits: 60 % to train in 5 folds, 40 % to test; processor seconds, as timed."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import StratifiedKFold, train_test_split

    x, y = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(
        x / 16, y, test_size=0.4, random_state=seed, stratify=y
    )
    folds = list(
        StratifiedKFold(5, shuffle=True, random_state=seed).split(x_train, y_train)
    )
    fold = np.zeros(len(y_train), np.int64)
    for number, (_, valid) in enumerate(folds):
        fold[valid] = number
    models = dict(_models(seed))
    oof = np.zeros((len(models), len(y_train), 10))
    test = np.zeros((len(models), 5, len(y_test), 10))
    seconds = np.zeros((len(models), 5))
    for m, make in enumerate(models.values()):
        for number, (train, valid) in enumerate(folds):
            began = time.process_time()
            model = make().fit(x_train[train], y_train[train])
            oof[m, valid] = model.predict_proba(x_train[valid])
            test[m, number] = model.predict_proba(x_test)
            seconds[m, number] = time.process_time() - began
    return Recorded(tuple(models), _safe(oof), fold, y_train, _safe(test), y_test, seconds)


def _models(seed: int) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Models of several kinds, the dear ones among the cheap ones."""
    from functools import partial

    from sklearn.ensemble import (
        ExtraTreesClassifier,
        GradientBoostingClassifier,
        RandomForestClassifier,
    )
    from sklearn.linear_model import LogisticRegression
    from sklearn.naive_bayes import GaussianNB
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.neural_network import MLPClassifier
    from sklearn.svm import SVC

    net = partial(MLPClassifier, random_state=seed)
    yield "mlp 256, 60", partial(net, (256,), max_iter=60)
    yield "forest 50", partial(RandomForestClassifier, 50, random_state=seed)
    yield "mlp 64, 20", partial(net, (64,), max_iter=20)
    yield "logistic", partial(LogisticRegression, max_iter=200)
    yield (
        "boosting",
        partial(GradientBoostingClassifier, n_estimators=15, random_state=seed),
    )
    yield "svm", partial(SVC, probability=True, random_state=seed)
    yield "nearest 5", partial(KNeighborsClassifier, 5)
    yield "mlp 32, 100", partial(net, (32,), max_iter=100)
    yield "extra trees", partial(ExtraTreesClassifier, 100, random_state=seed)
    yield "bayes", GaussianNB
    yield "mlp 128 x 2, 40", partial(net, (128, 128), max_iter=40)
    yield "nearest 1", partial(KNeighborsClassifier, 1)
    yield "mlp 16, 30", partial(net, (16,), max_iter=30)


def cifar(folder: Path, seed: int) -> Recorded:
    """The pool of ResNet-50s on CIFAR-10 with wrong labels; see above for what is supposed."""
    names = sorted(path.name for path in folder.glob("rn50_*.npy"))
    table = pd.read_csv(folder / "labels.csv")
    y, fold = table["label"].to_numpy(), table["fold"].to_numpy()
    probs = [np.load(folder / name, allow_pickle=False).astype(float) for name in names]
    everything = np.stack(probs)
    rng = np.random.default_rng(0)
    is_test = (fold == 0) & (rng.random(len(y)) < 0.5)
    n_folds = int(fold.max()) + 1
    test = np.repeat(everything[:, None, is_test], n_folds, axis=1)
    drawn = np.random.default_rng(seed)
    costs = np.exp(drawn.uniform(0, np.log(10), len(names)))
    order = drawn.permutation(len(names))
    return Recorded(
        tuple(names[m] for m in order),
        _safe(everything[order][:, ~is_test]),
        fold[~is_test],
        y[~is_test],
        _safe(test[order]),
        y[is_test],
        np.repeat(costs[:, None], n_folds, axis=1),
    )


def _safe(probs: NDArray[np.float64]) -> NDArray[np.float64]:
    kept = np.clip(probs, 1e-6, None)
    return np.asarray(kept / kept.sum(axis=-1, keepdims=True))


def depth(seed: int = 0) -> pd.DataFrame:
    """Breadth or depth on digits: nets of three widths, each trained for several lengths.

    Scikit-learn's MLPs with a constant learning rate stand in for networks. The target of the rule
    is the shortest length whose validation loss is within 5 % of the best.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import StratifiedKFold, train_test_split
    from sklearn.neural_network import MLPClassifier

    lengths, widths, k = (1, 2, 4, 8, 16, 32, 64, 128, 256), (24, 48, 96), 3
    x, y = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(
        x / 16, y, test_size=0.5, random_state=seed, stratify=y
    )
    folds = list(
        StratifiedKFold(k, shuffle=True, random_state=seed).split(x_train, y_train)
    )
    test: dict[tuple[int, int, int], NDArray[np.float64]] = {}
    valid_loss: dict[tuple[int, int], float] = {}
    for width in widths:
        for length in lengths:
            losses = []
            for number, (train, valid) in enumerate(folds):
                net = MLPClassifier((width,), max_iter=length, random_state=seed + number)
                net.fit(x_train[train], y_train[train])
                test[width, length, number] = net.predict_proba(x_test)
                probs = _safe(net.predict_proba(x_train[valid]))
                losses.append(score("log_loss", probs, y_train[valid]))
            valid_loss[width, length] = float(np.mean(losses))

    def target(width: int) -> int:
        losses = {length: valid_loss[width, length] for length in lengths}
        return min(n for n in lengths if losses[n] <= 1.05 * min(losses.values()))

    def loss_of(epochs: dict[int, int], folds: dict[int, int]) -> float:
        parts = [
            np.mean([test[w, _at_most(n, lengths), f] for f in range(folds[w])], axis=0)
            for w, n in epochs.items()
            if folds[w]
        ]
        return score("log_loss", _safe(np.mean(parts, axis=0)), y_test)

    def by_rule(budget: int, enough: float) -> tuple[dict[int, int], dict[int, int]]:
        """The epochs of each net, and how many of its folds end, fold by fold."""
        candidates = [Candidate(str(w), target(w), 1.0, 0.0, k) for w in widths]
        found = choose_depth(candidates, budget, enough)
        chosen = {int(name): n for name, n in found.items()}
        folds, left = dict.fromkeys(chosen, 0), budget
        for width in [w for _ in range(k) for w in chosen]:
            if chosen[width] <= left:
                folds[width] += 1
                left -= chosen[width]
        return chosen, folds

    rows = []
    # an epoch costs one unit for every width, so that the question is breadth or depth alone
    for budget in (24, 96, 192, 384, 768, 1152, 1536, 2304):
        each, alone = max(1, budget // (k * len(widths))), max(1, budget // k)
        row = {"epochs in all": budget}
        row |= {f"rule, {e:.0%}": loss_of(*by_rule(budget, e)) for e in (0.5, 0.75, 1.0)}
        chosen, folds = by_rule(budget, ENOUGH)
        row |= {"members": len(chosen), "folds": sum(folds.values())}
        all_folds = dict.fromkeys(widths, k)
        row["all three"] = loss_of(dict.fromkeys(widths, each), all_folds)
        row["one alone"] = loss_of({widths[0]: alone}, all_folds)
        rows.append(row)
    return pd.DataFrame(rows)


def _at_most(n: int, lengths: Sequence[int]) -> int:
    return max(length for length in lengths if length <= max(1, n))


def main() -> None:
    """Simulate what is asked for, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["digits", "cifar", "depth"])
    parser.add_argument("pool", type=Path, nargs="?", help="the folder of cifar10-oof")
    parser.add_argument("--out", type=Path, help="where the curves are written, as CSV")
    asked = parser.parse_args()
    warnings.filterwarnings("ignore")
    pd.set_option("display.width", 160)
    if asked.what == "depth":
        found = pd.concat([depth(seed) for seed in (0, 1, 2)])
        print(found.groupby("epochs in all").mean().round(4).to_string())
        return
    seeds = (0, 1, 2) if asked.what == "cifar" else (0,)
    tables, curves = [], pd.DataFrame()
    for seed in seeds:
        pool = cifar(asked.pool, seed) if asked.what == "cifar" else digits(seed)
        rows, curves = compare(pool, seed)
        tables.append(pd.DataFrame(rows).set_index("order"))
    print(
        f"{len(pool.names)} members, {pool.n_folds} folds, {pool.seconds.sum():.1f} seconds"
    )
    print((sum(tables) / len(tables)).round(4).to_string())
    if asked.out is not None:
        curves.to_csv(asked.out, index=False)


if __name__ == "__main__":
    main()
