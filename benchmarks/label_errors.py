"""Labels made wrong at random and by pairs that are confused: how many of the first suspects are wrong, and how many are expected.

python benchmarks/label_errors.py cifar CIFAR10_OOF             # 13 published members, 12,000 rows
python benchmarks/label_errors.py fashion FASHION_MNIST OUT     # 47 members trained on the wrong labels, minutes each
    --cleanlab PYTHON    also what cleanlab says, in an environment that has it
"""

import argparse
import json
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import (
    LinearDiscriminantAnalysis,
    QuadraticDiscriminantAnalysis,
)
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import NearestNeighbors
from sklearn.neural_network import MLPClassifier
from sklearn.tree import DecisionTreeClassifier
from train_pool import read

from ensembler.blending.pool import Pool
from ensembler.evaluation.label_errors import Judged, Rows
from ensembler.progress import QUIET

RATES = (0.02, 0.05, 0.10)
FASHION_PAIRS = np.array([6, 3, 4, 1, 6, 7, 0, 9, 0, 7])  # whom each class is taken for
CLEANLAB = """
import sys, json, numpy as np
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_ensemble_scores, get_label_quality_scores
z = np.load(sys.argv[1]); stack, y = z["stack"].astype(float), z["y"]
stack /= stack.sum(2, keepdims=True)
scores = get_label_quality_ensemble_scores(y, list(stack))
mean = stack.mean(0); mean /= mean.sum(1, keepdims=True)
found = find_label_issues(y, mean)
np.savez(sys.argv[2], ensemble=scores, mean=get_label_quality_scores(y, mean), found=found)
"""


def made_wrong(
    truth: np.ndarray, rate: float, pairs: np.ndarray | None, seed: int
) -> np.ndarray:
    """Labels of which a share is wrong: at random, or the class that each is taken for."""
    rng = np.random.default_rng(seed)
    rows = rng.choice(len(truth), round(rate * len(truth)), replace=False)
    given = truth.copy()
    others = (truth[rows] + rng.integers(1, 10, len(rows))) % 10
    given[rows] = others if pairs is None else pairs[truth[rows]]
    return given


def pairs_of(truth: np.ndarray, probs: np.ndarray) -> np.ndarray:
    """The class that each is most often taken for."""
    counts = np.zeros((10, 10))
    np.add.at(counts, (truth, probs.argmax(axis=1)), 1)
    np.fill_diagonal(counts, 0)
    return (counts + counts.T).argmax(axis=1)


def softmax(scores: np.ndarray) -> np.ndarray:
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def neighbours(
    seen: np.ndarray, y: np.ndarray, unseen: np.ndarray, sizes: tuple[int, ...]
) -> list[np.ndarray]:
    """Nearest neighbours, weighted by distance, for several numbers of them."""
    far, near = NearestNeighbors(n_neighbors=max(sizes)).fit(seen).kneighbors(unseen)
    found = []
    for k in sizes:
        probs = np.full((len(unseen), 10), 0.02)
        weights = 1 / (far[:, :k] + 1e-3)
        for j in range(k):
            share = weights[:, j] / weights.sum(axis=1)
            np.add.at(probs, (np.arange(len(unseen)), y[near[:, j]]), share)
        found.append(probs / probs.sum(axis=1, keepdims=True))
    return found


def random_features(
    seen: np.ndarray, y: np.ndarray, unseen: np.ndarray, seed: int
) -> np.ndarray:
    """Ridge regression on random Fourier features."""
    width, scale = (200, 500, 900)[seed % 3], (0.1, 0.15, 0.2, 0.25)[seed % 4]
    ridge, rng = (1.0, 10.0)[seed % 2], np.random.default_rng(seed)
    directions = rng.normal(size=(seen.shape[1], width)).astype(np.float32) * scale
    shift = rng.uniform(0, 6.28, width).astype(np.float32)
    a, b = np.cos(seen @ directions + shift), np.cos(unseen @ directions + shift)
    targets = np.eye(10, dtype=np.float32)[y] - 0.1
    square = a.T @ a + ridge * np.eye(width, dtype=np.float32)
    return softmax(6 * (b @ np.linalg.solve(square, a.T @ targets)))


def fitted() -> list[tuple[int | None, object]]:
    """Classifiers of scikit-learn, each with how many principal components it sees (None: pixels)."""
    found: list[tuple[int | None, object]] = []
    found += [(d, LinearDiscriminantAnalysis()) for d in (20, 50, 100)]
    found += [
        (d, QuadraticDiscriminantAnalysis(reg_param=r))
        for d, r in ((15, 0.01), (30, 0.01), (50, 0.05), (80, 0.2))
    ]
    found += [(d, GaussianNB()) for d in (10, 30)]
    found += [
        (d, LogisticRegression(C=c, max_iter=40))
        for d, c in ((30, 0.05), (60, 0.01), (100, 0.02))
    ]
    for i, (n, least) in enumerate(((25, 3), (20, 10), (30, 5))):
        found.append(
            (50, RandomForestClassifier(n, min_samples_leaf=least, random_state=i))
        )
    for i, (n, least) in enumerate(((30, 3), (30, 8), (20, 20))):
        found.append(
            (None, ExtraTreesClassifier(n, min_samples_leaf=least, random_state=i))
        )
    found += [(30, DecisionTreeClassifier(max_depth=d, random_state=0)) for d in (6, 9)]
    sizes = (
        (32, 8, 1e-3),
        (64, 10, 1e-2),
        (96, 8, 1e-1),
        (64, 25, 1e-4),
        (128, 6, 1.0),
        (48, 12, 0.1),
        (64, 8, 1e-3),
    )
    for i, (width, epochs, alpha) in enumerate(sizes):
        options = {"max_iter": epochs, "alpha": alpha, "learning_rate_init": 2e-3}
        found.append((80, MLPClassifier((width,), random_state=i, **options)))
    return found


def predicted(x: np.ndarray, y: np.ndarray, unseen_x: np.ndarray) -> list[np.ndarray]:
    """What 47 cheap members predict of unseen rows."""
    parts = PCA(100, random_state=0, svd_solver="randomized").fit(x)
    seen = parts.transform(x).astype(np.float32)
    unseen = parts.transform(unseen_x).astype(np.float32)
    found = []
    for d, sizes in ((20, (5, 10, 25)), (50, (5, 15, 40)), (100, (10, 30))):
        found += neighbours(seen[:, :d], y, unseen[:, :d], sizes)
    found += [random_features(seen, y, unseen, seed) for seed in range(12)]
    for d, model in fitted():
        inside, outside = (x, unseen_x) if d is None else (seen[:, :d], unseen[:, :d])
        found.append(model.fit(inside, y).predict_proba(outside))
    return found


def out_of_fold(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Predictions `[47, rows, 10]` of members that have not trained on the row."""
    parts: dict[int, list[np.ndarray]] = {}
    where = {}
    for k, (inside, out) in enumerate(
        StratifiedKFold(5, shuffle=True, random_state=0).split(x, y)
    ):
        where[k], parts[k] = out, predicted(x[inside], y[inside], x[out])
    stack = np.empty((len(parts[0]), len(y), 10), np.float32)
    for k, out in where.items():
        stack[:, out] = np.stack(parts[k])
    return stack


def judged(stack: np.ndarray, given: np.ndarray) -> Judged:
    """What `ens audit RUN --labels` makes of a pool."""
    classes = tuple("0123456789")
    names = tuple(f"m{i:02d}" for i in range(len(stack)))
    pool = Pool(
        names, stack.astype(np.float32), given, classes, np.zeros(len(given), np.int64)
    )
    ids = tuple(f"r{i:06d}" for i in range(len(given)))
    return Judged.of(Rows(ids, pool), QUIET)


def precision(order: np.ndarray, wrong: np.ndarray) -> dict[str, float]:
    """Of the first 100 and of the first N (as many as are wrong), how many are; and of all, how many in the first 2 N."""
    n = int(wrong.sum())
    return {
        "first 100": round(float(wrong[order[:100]].mean()), 3),
        "first N": round(float(wrong[order[:n]].mean()), 3),
        "found in 2 N": round(float(wrong[order[: 2 * n]].sum() / n), 3),
    }


def by_cleanlab(python: str, stack: np.ndarray, given: np.ndarray) -> dict[str, np.ndarray]:
    """Orders of rows by cleanlab, the most suspect first."""
    with tempfile.TemporaryDirectory() as folder:
        there, back = Path(folder) / "in.npz", Path(folder) / "out.npz"
        np.savez(there, stack=stack, y=given)
        subprocess.run([python, "-c", CLEANLAB, there, back], check=True)
        found = np.load(back)
        orders = {k: np.argsort(found[k], kind="stable") for k in ("ensemble", "mean")}
        print(json.dumps({"cleanlab finds": int(found["found"].sum())}), flush=True)
    return orders


def conditions(
    given_by: argparse.Namespace,
) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """Name, stack, given and true labels of each condition."""
    if given_by.what == "cifar":
        names = json.loads((given_by.data / "models.json").read_text())
        rows = np.sort(
            np.random.default_rng(0).choice(50_000, given_by.rows, replace=False)
        )
        stack = np.stack([np.load(given_by.data / f"{name}.npy")[rows] for name in names])
        truth = pd.read_csv(given_by.data / "labels.csv")["label"].to_numpy()[rows]
        pairs = pairs_of(truth, stack[0])
        for rate in RATES:
            for kind, taken_for in (("random", None), ("pairs", pairs)):
                given = made_wrong(truth, rate, taken_for, int(1000 * rate))
                yield f"{kind} {rate:.0%}", stack, given, truth
        return
    x, truth = read(given_by.data, "train")
    rows = np.sort(np.random.default_rng(0).choice(len(x), given_by.rows, replace=False))
    x, truth = x[rows], truth[rows]
    given_by.out.mkdir(parents=True, exist_ok=True)
    for rate in RATES:
        for kind, taken_for in (("random", None), ("pairs", FASHION_PAIRS)):
            given = made_wrong(truth, rate, taken_for, int(1000 * rate))
            kept = given_by.out / f"{kind}-{int(100 * rate)}.npy"
            if not kept.is_file():
                np.save(kept, out_of_fold(x, given))
            yield f"{kind} {rate:.0%}", np.load(kept), given, truth


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("cifar", "fashion"))
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path, nargs="?", default=Path("label-pools"))
    parser.add_argument("--rows", type=int, default=8_000)
    parser.add_argument("--cleanlab", metavar="PYTHON")
    given_by = parser.parse_args()
    warnings.filterwarnings("ignore")
    for name, stack, given, truth in conditions(given_by):
        wrong = given != truth
        found = judged(stack, given)
        order = np.argsort(-found.noise.log_odds, kind="stable")
        counts = found.wrong
        said = [round(counts.low), round(counts.expected), round(counts.high)]
        result = {"condition": name, "wrong": int(wrong.sum()), "low, expected, high": said}
        print(json.dumps({**result, **precision(order, wrong)}), flush=True)
        if given_by.cleanlab:
            for by, other in by_cleanlab(given_by.cleanlab, stack, given).items():
                print(json.dumps({"cleanlab": by, **precision(other, wrong)}), flush=True)


if __name__ == "__main__":
    main()
