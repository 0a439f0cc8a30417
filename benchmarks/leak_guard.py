"""How often the leak guard names leaked members, and how often honest ones, over many small pools of both kinds.

    python benchmarks/leak_guard.py CACHE [POOL]

Pools are made of scikit-learn classifiers on digits and on invented columns, with true and with
wrong labels, and of members of POOL (cifar10-oof) where it is given. A leaked member's out-of-fold
predictions are those of a model that saw the rows; its test predictions are honest. Shifted test
rows are noisier than the fitted ones. CACHE keeps predictions.
"""

import argparse
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.datasets import load_digits, make_classification
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.tree import DecisionTreeClassifier

from ensembler.blending import Pool
from ensembler.blending.judging.guards import look_at

MODELS = {
    "logistic": lambda: LogisticRegression(max_iter=200),
    "ridge": lambda: LogisticRegression(C=0.01, max_iter=200),
    "lda": lambda: LinearDiscriminantAnalysis(),
    "bayes": lambda: GaussianNB(),
    "9-nn": lambda: KNeighborsClassifier(9),
    "25-nn": lambda: KNeighborsClassifier(25),
    "1-nn": lambda: KNeighborsClassifier(1),
    "tree": lambda: DecisionTreeClassifier(random_state=0),
    "tree-6": lambda: DecisionTreeClassifier(max_depth=6, random_state=0),
    "forest": lambda: RandomForestClassifier(40, random_state=0),
    "extra": lambda: ExtraTreesClassifier(40, random_state=1),
    "net": lambda: MLPClassifier((64,), alpha=1e-5, max_iter=150, random_state=0),
}
COMPLETE = (
    "1-nn",
    "tree",
    "forest",
    "extra",
    "net",
    "labels mixed in",
    "labels themselves",
)
PARTIAL = ("9-nn", "25-nn", "tree-6")
SHIFTS = (0.0, 0.5, 1.0)


@dataclass
class Material:
    """Predictions of all models: out of fold, in sample, and on test rows of every shift, fold by fold."""

    y: np.ndarray
    folds: np.ndarray
    oof: np.ndarray
    seen: np.ndarray
    tests: dict[float, np.ndarray]


def columns(data: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    if data == "digits":
        x, y = load_digits(return_X_y=True)
        order = np.random.default_rng(seed).permutation(len(y))
        return x[order] / 16, y[order]
    n_classes = 4 if data == "four classes" else 2
    return make_classification(
        1800,
        20,
        n_informative=8,
        n_classes=n_classes,
        n_clusters_per_class=2,
        class_sep=1.2,
        random_state=seed,
    )


def material(data: str, wrong: float, seed: int, cache: Path) -> Material:
    path = cache / f"{data.replace(' ', '-')}-{wrong}-{seed}.npz"
    if not path.is_file():
        np.savez_compressed(path, **_predicted(data, wrong, seed))
    with np.load(path) as kept:
        tests = {shift: kept[f"test{shift}"] for shift in SHIFTS}
        return Material(kept["y"], kept["folds"], kept["oof"], kept["seen"], tests)


def _predicted(data: str, wrong: float, seed: int) -> dict[str, np.ndarray]:
    x, y = columns(data, seed)
    rng = np.random.default_rng(seed)
    classes = int(y.max()) + 1
    y = np.where(rng.random(len(y)) < wrong, rng.integers(0, classes, len(y)), y).astype(
        np.int64
    )
    n, spread = 1000, x.std()
    tests = {s: x[n:] + s * 0.6 * spread * rng.normal(size=x[n:].shape) for s in SHIFTS}
    x, y = x[:n], y[:n]
    folds = np.empty(n, np.int64)
    shape = (len(MODELS), n, classes)
    found = {"oof": np.zeros(shape, np.float32), "seen": np.zeros(shape, np.float32)}
    for s in SHIFTS:
        found[f"test{s}"] = np.zeros((len(MODELS), 5, len(tests[s]), classes), np.float32)
    for k, (inside, out) in enumerate(
        StratifiedKFold(5, shuffle=True, random_state=seed).split(x, y)
    ):
        folds[out] = k
        for m, make in enumerate(MODELS.values()):
            model = make().fit(x[inside], y[inside])
            found["oof"][m, out] = model.predict_proba(x[out])
            # the last fold's model that saw the row
            found["seen"][m, inside] = model.predict_proba(x[inside])
            for s in SHIFTS:
                found[f"test{s}"][m, k] = model.predict_proba(tests[s])
    return {"y": y, "folds": folds, **found}


@dataclass
class Case:
    """A pool, and which member of it leaked, if any."""

    pool: Pool
    leaked: str | None
    kind: str
    shift: float
    members: int
    rows: int
    averaged: bool


def cases(found: Material, data: str, seed: int, per_kind: int):
    rng = np.random.default_rng([seed, zlib.crc32(data.encode())])
    names = list(MODELS)
    for kind in ("none", *COMPLETE, *PARTIAL):
        for _ in range(per_kind * (3 if kind == "none" else 1)):
            shift = float(rng.choice(SHIFTS))
            members = int(rng.choice([2, 3, 5, 8, 12]))
            rows = int(rng.choice([150, 400, 1000]))
            averaged = bool(rng.integers(2))
            bad = names.index(kind) if kind in names else int(rng.integers(len(names)))
            others = rng.permutation([m for m in range(len(names)) if m != bad])[
                : members - 1
            ]
            chosen = np.sort(np.append(others, bad))
            at = np.sort(rng.permutation(len(found.y))[:rows])
            oof = found.oof[chosen][:, at].copy()
            place = int(np.flatnonzero(chosen == bad)[0])
            tests = [
                t.mean(axis=0, keepdims=True) if averaged else t
                for t in found.tests[shift][chosen]
            ]
            y = found.y[at]
            truth = np.eye(oof.shape[2], dtype=np.float32)[y]
            if kind == "labels mixed in":
                oof[place] = 0.1 * oof[place] + 0.9 * truth
            elif kind == "labels themselves":
                oof[place] = truth
                tests[place] = np.eye(oof.shape[2], dtype=np.float32)[
                    tests[place].argmax(axis=-1)
                ]
            elif kind != "none":
                oof[place] = found.seen[bad, at]
            pool = Pool(
                tuple(names[m] for m in chosen), oof, y, tuple(map(str, range(oof.shape[2]))), found.folds[at], None, tuple(tests)
            )  # fmt: skip
            yield Case(
                pool,
                None if kind == "none" else names[bad],
                kind,
                shift,
                members,
                rows,
                averaged,
            )


def real_cases(folder: Path, n: int):
    """Members of a real pool, random rows as train and test.

    Shifted test rows are those that members disagree on.
    """
    from blend_honesty import load

    pool, rng = load(folder), np.random.default_rng(0)
    hard = 1 - pool.oof.mean(axis=0).max(axis=1)
    for i in range(n):
        kind = ("none", "labels mixed in", "labels themselves")[i % 3]
        shift, members, rows = (
            float(rng.choice(SHIFTS)),
            int(rng.integers(2, 14)),
            int(rng.choice([300, 1000, 5000])),
        )
        chosen = np.sort(rng.permutation(len(pool.names))[:members])
        mixed = rng.permutation(len(pool.y))
        fit, rest = mixed[:rows], mixed[rows:]
        out = rest[
            np.argsort(-shift * hard[rest] - rng.random(len(rest)), kind="stable")[:2000]
        ]
        oof, tests = (
            pool.oof[chosen][:, fit].copy(),
            [pool.oof[m][out][None] for m in chosen],
        )
        truth, place = np.eye(10, dtype=np.float32)[pool.y[fit]], int(rng.integers(members))
        if kind == "labels mixed in":
            oof[place] = 0.1 * oof[place] + 0.9 * truth
        elif kind == "labels themselves":
            oof[place] = truth
            tests[place] = np.eye(10, dtype=np.float32)[tests[place].argmax(axis=-1)]
        names = tuple(pool.names[m] for m in chosen)
        made = Pool(
            names, oof, pool.y[fit], pool.classes, pool.folds[fit], None, tuple(tests)
        )
        yield Case(
            made,
            None if kind == "none" else names[place],
            kind,
            shift,
            members,
            rows,
            False,
        )


def all_cases(cache: Path, folder: Path | None, per_kind: int):
    for data in ("digits", "four classes", "two classes"):
        for wrong in (0.0, 0.1, 0.3):
            for seed in range(2):
                for case in cases(material(data, wrong, seed, cache), data, seed, per_kind):
                    yield data, case
    if folder is not None:
        yield from (("cifar10-oof", case) for case in real_cases(folder, 60 * per_kind))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("cache", type=Path)
    parser.add_argument("pool", type=Path, nargs="?")
    parser.add_argument("--per-kind", type=int, default=6)
    a = parser.parse_args()
    a.cache.mkdir(parents=True, exist_ok=True)
    table = []
    for data, case in all_cases(a.cache, a.pool, a.per_kind):
        codes = {(f.member, f.code) for f in look_at(case.pool)}
        for name in case.pool.names:
            certain, warned = (
                (name, "suspected_leak") in codes,
                (name, "possible_leak") in codes,
            )
            table.append(
                (data, case.kind if name == case.leaked else "honest", case.shift, case.members, case.rows,
                 case.leaked is not None, certain, certain or warned)
            )  # fmt: skip
    keys = [
        "data",
        "kind",
        "shift",
        "members",
        "rows",
        "leak in the pool",
        "left out",
        "named",
    ]
    frame = pd.DataFrame(table, columns=keys)
    for by in (
        ["kind"],
        ["kind", "shift"],
        ["kind", "members"],
        ["kind", "rows"],
        ["kind", "data"],
    ):
        found = frame.groupby(by)[["left out", "named"]].mean().mul(100).round(1)
        found["n"] = frame.groupby(by).size()
        print(found.to_string(), "\n")


if __name__ == "__main__":
    main()
