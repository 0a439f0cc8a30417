"""Held-out log loss and accuracy of blends of a real pool, fitted on all out-of-fold rows and on few of them, beside peers.

    python benchmarks/blend_quality.py POOL [--autogluon PYTHON]     # POOL as benchmarks/train_pool.py writes it

Everything is fitted on out-of-fold rows and scored once on the test rows; each fold's test
predictions are blended, then averaged. Peers: AutoGluon's EnsembleSelection (100 rounds, in an
interpreter of its own), hill climbing's rule, scikit-learn's logistic regression on probabilities
and gradient boosting. Figures at few rows are means over --draws random parts.
"""

import argparse
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from blending import AUTOGLUON
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from ensembler.blending import Pool, create_blend, make_blend
from ensembler.blending.spec import BlendSpec
from ensembler.metrics import score


class Fixed:
    """A linear pool with given weights."""

    def __init__(self, weights):
        self.weights = weights

    def predict_proba(self, stack):
        return np.tensordot(self.weights, stack, axes=1)


class Classifier:
    """A scikit-learn classifier on probabilities side by side."""

    def __init__(self, model):
        self.model = model

    def fit(self, stack, y):
        self.model.fit(self.features(stack), y)
        return self

    def features(self, stack):
        return stack.transpose(1, 0, 2).reshape(stack.shape[1], -1)

    def predict_proba(self, stack):
        found = np.zeros(stack.shape[1:])
        found[:, self.model.classes_] = self.model.predict_proba(self.features(stack))
        return found


def hill_climbing_rule(stack, y):
    """hillclimbers' rule: start at the best, add the member and weight (0.01 .. 0.50) that help most, each member once."""
    q = stack[:, np.arange(len(y)), y].astype(np.float64)
    losses = -np.log(np.clip(q, 1e-7, None)).mean(axis=1)
    best = int(losses.argmin())
    weights, mix, loss = np.eye(len(q))[best], q[best], losses[best]
    left = set(range(len(q))) - {best}
    while left:
        tried = [
            (-np.log(np.clip((1 - w) * mix + w * q[m], 1e-7, None)).mean(), m, w)
            for m in left
            for w in np.arange(0.01, 0.51, 0.01)
        ]
        new, m, w = min(tried)
        if new >= loss:
            break
        weights, mix, loss = weights * (1 - w), (1 - w) * mix + w * q[m], new
        weights[m] += w
        left.remove(m)
    return Fixed(weights)


def autogluon(python, stack, y):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "stack.npy", stack)
        np.save(folder / "y.npy", y)
        files = [
            str(folder / "stack.npy"),
            str(folder / "y.npy"),
            "log_loss",
            "100",
            str(folder / "w.npy"),
        ]
        subprocess.run([python, "-c", AUTOGLUON, *files], capture_output=True, check=True)
        return Fixed(np.load(folder / "w.npy"))


def load(folder: Path) -> Pool:
    labels, test_labels = (
        pd.read_csv(folder / f"{name}labels.csv") for name in ("", "test_")
    )
    names = sorted(
        p.name.removesuffix("_oof.npy")
        for p in folder.glob("*_oof.npy")
        if (folder / p.name.replace("_oof", "_test")).is_file()
    )
    oof = np.stack([np.load(folder / f"{name}_oof.npy") for name in names])
    test = tuple(np.load(folder / f"{name}_test.npy") for name in names)
    classes = tuple(map(str, range(oof.shape[2])))
    y, test_y = labels["label"].to_numpy(np.int64), test_labels["label"].to_numpy(np.int64)
    return Pool(
        tuple(names), oof, y, classes, labels["fold"].to_numpy(np.int64), None, test, test_y
    )


def tested(method, pool):
    probs = np.mean([method.predict_proba(stack) for stack in pool.test_stacks()], axis=0)
    return score("log_loss", probs, pool.test_y), score("accuracy", probs, pool.test_y)


def part_of(pool: Pool, n: int, seed: int) -> Pool:
    if n >= len(pool.y):
        return pool
    rows = train_test_split(
        np.arange(len(pool.y)), train_size=n, stratify=pool.y, random_state=seed
    )[0]
    return Pool(
        pool.names,
        pool.oof[:, rows],
        pool.y[rows],
        pool.classes,
        pool.folds[rows],
        None,
        pool.test,
        pool.test_y,
    )


def fits(a):
    found = {
        "single best": lambda p: create_blend("single").fit(p.oof, p.y),
        "soft vote": lambda p: create_blend("soft").fit(p.oof, p.y),
        "greedy": lambda p: create_blend("greedy").fit(p.oof, p.y),
        "simplex": lambda p: create_blend("simplex").fit(p.oof, p.y),
        "loglinear": lambda p: create_blend("loglinear").fit(p.oof, p.y),
        "stack": lambda p: create_blend("stack").fit(p.oof, p.y),
        "stack (p beside log p)": lambda p: create_blend("stack", probabilities=True).fit(p.oof, p.y),
        "peer: hill climbing's rule": lambda p: hill_climbing_rule(p.oof, p.y),
        "peer: logistic regression": lambda p: Classifier(LogisticRegression(max_iter=500)).fit(p.oof, p.y),
        "peer: gradient boosting": lambda p: Classifier(HistGradientBoostingClassifier(max_iter=100, learning_rate=0.05, max_leaf_nodes=15)).fit(p.oof, p.y),
    }  # fmt: skip
    if a.autogluon:
        found["peer: AutoGluon, 100 rounds"] = lambda p: autogluon(a.autogluon, p.oof, p.y)
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("pool", type=Path)
    parser.add_argument("--autogluon", help="a Python that has autogluon.core")
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--rows", default="100,250,500,1000")
    a = parser.parse_args()
    pool = load(a.pool)
    print(f"{len(pool.names)} members, {len(pool.y)} rows, {len(pool.test_y)} test rows")
    for label, fit in fits(a).items():
        began = time.perf_counter()
        method = fit(pool)
        seconds = time.perf_counter() - began
        loss, accuracy = tested(method, pool)
        print(
            f"{label:28s} test log loss {loss:.4f} accuracy {accuracy:.4f}   {seconds:.2f} s",
            flush=True,
        )
    result = make_blend(pool, BlendSpec())
    honest, actual = result.scores["cross_fitted"]["log_loss"], result.scores["holdout"]
    print(
        f"auto took {result.details.chosen}: cross-fitted {honest:.4f}, test log loss "
        f"{actual['log_loss']:.4f} accuracy {actual['accuracy']:.4f}"
    )
    for n in map(int, a.rows.split(",")):
        losses = {"greedy": [], "auto": []}
        taken = []
        for seed in range(a.draws):
            p = part_of(pool, n, seed)
            losses["greedy"].append(tested(create_blend("greedy").fit(p.oof, p.y), p)[0])
            result = make_blend(p, BlendSpec())
            losses["auto"].append(result.scores["holdout"]["log_loss"])
            taken.append(result.details.chosen)
        means = {key: np.mean(values) for key, values in losses.items()}
        differences = np.subtract(losses["auto"], losses["greedy"])
        print(
            f"n = {n:5d}: greedy {means['greedy']:.4f}, auto {means['auto']:.4f} "
            f"({', '.join(taken)}), differences {np.round(differences, 4).tolist()}",
            flush=True,
        )


if __name__ == "__main__":
    main()
