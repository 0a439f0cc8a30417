"""A pool of real and different models: quick scikit-learn classifiers on Fashion-MNIST, 5 folds, as .npy files and tables.

python benchmarks/train_pool.py FASHION_MNIST OUT
ens import pool --folder OUT --labels OUT/labels.csv --test-labels OUT/test_labels.csv --by-position
"""

import argparse
import gzip
import time
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import (
    LinearDiscriminantAnalysis,
    QuadraticDiscriminantAnalysis,
)
from sklearn.ensemble import (
    ExtraTreesClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.kernel_approximation import Nystroem, RBFSampler
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.model_selection import StratifiedKFold
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier


def models(seed: int = 0) -> dict[str, object]:
    """Two dozen classifiers, strong and weak, several of a family."""
    found: dict[str, object] = {
        "logistic": make_pipeline(
            PCA(100, random_state=seed), StandardScaler(), LogisticRegression(max_iter=200)
        ),
        "logistic-strong-ridge": make_pipeline(
            PCA(40, random_state=seed), LogisticRegression(C=0.01, max_iter=200)
        ),
        "lda": make_pipeline(PCA(150, random_state=seed), LinearDiscriminantAnalysis()),
        "qda-30": make_pipeline(
            PCA(30, random_state=seed), QuadraticDiscriminantAnalysis(reg_param=0.01)
        ),
        "qda-60": make_pipeline(
            PCA(60, random_state=seed), QuadraticDiscriminantAnalysis(reg_param=0.05)
        ),
        "bayes": make_pipeline(PCA(50, random_state=seed), GaussianNB()),
        "tree-8": DecisionTreeClassifier(max_depth=8, random_state=seed),
        "forest": RandomForestClassifier(150, random_state=seed),
        "forest-leaf-5": RandomForestClassifier(
            100, min_samples_leaf=5, random_state=seed + 1
        ),
        "extra": ExtraTreesClassifier(150, random_state=seed),
        "extra-half": ExtraTreesClassifier(80, max_features=0.1, random_state=seed + 1),
        "knn-5": make_pipeline(
            PCA(50, random_state=seed), KNeighborsClassifier(5, weights="distance")
        ),
        "knn-25": make_pipeline(
            PCA(30, random_state=seed), KNeighborsClassifier(25, weights="distance")
        ),
        "boosting": make_pipeline(
            PCA(40, random_state=seed),
            HistGradientBoostingClassifier(max_iter=60, random_state=seed),
        ),
        "hinge": CalibratedClassifierCV(
            make_pipeline(
                PCA(80, random_state=seed),
                StandardScaler(),
                SGDClassifier(random_state=seed),
            ),
            cv=3,
        ),
    }
    for i, (width, alpha) in enumerate([(64, 1e-3), (128, 1e-2), (256, 1e-4), (100, 1.0)]):
        net = MLPClassifier((width,), alpha=alpha, max_iter=12, random_state=seed + i)
        found[f"mlp-{width}"] = make_pipeline(
            PCA(80, random_state=seed + i), StandardScaler(), net
        )
    net = MLPClassifier((128, 64), max_iter=10, random_state=seed)
    found["mlp-128-64"] = make_pipeline(PCA(120, whiten=True, random_state=seed), net)
    for i, (parts, gamma) in enumerate([(400, 0.01), (800, 0.02), (800, 0.005)]):
        kernel = Nystroem(n_components=parts, gamma=gamma, random_state=seed + i)
        found[f"kernel-{parts}-{gamma}"] = make_pipeline(
            kernel, LogisticRegression(C=10, max_iter=150)
        )
    features = RBFSampler(n_components=600, gamma=0.01, random_state=seed)
    found["fourier"] = make_pipeline(features, LogisticRegression(C=10, max_iter=150))
    return found


def read(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    with gzip.open(folder / f"{part}-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 784)
    with gzip.open(folder / f"{part}-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)
    return images.astype(np.float32) / 255, labels.astype(np.int64)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "data", type=Path, help="the folder with Fashion-MNIST's four idx files"
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--rows", type=int, default=12_000)
    a = parser.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)
    x, y = read(a.data, "train")
    x_test, y_test = read(a.data, "t10k")
    kept = np.sort(np.random.default_rng(0).choice(len(x), a.rows, replace=False))
    x, y = x[kept], y[kept]
    splits = list(StratifiedKFold(5, shuffle=True, random_state=0).split(x, y))
    fold = np.empty(len(y), np.int64)
    for k, (_, out) in enumerate(splits):
        fold[out] = k
    pd.DataFrame({"id": [f"train-{i}" for i in kept], "label": y, "fold": fold}).to_csv(
        a.out / "labels.csv", index=False
    )
    ids = [f"test-{i}" for i in range(len(y_test))]
    pd.DataFrame({"id": ids, "label": y_test}).to_csv(
        a.out / "test_labels.csv", index=False
    )
    for name, model in models().items():
        if (a.out / f"{name}_test.npy").is_file():
            continue
        began = time.perf_counter()
        oof, test = (
            np.empty((len(y), 10), np.float32),
            np.empty((5, len(y_test), 10), np.float32),
        )
        for k, (inside, out) in enumerate(splits):
            model.fit(x[inside], y[inside])
            oof[out], test[k] = model.predict_proba(x[out]), model.predict_proba(x_test)
        np.save(a.out / f"{name}_oof.npy", oof)
        np.save(a.out / f"{name}_test.npy", test)
        loss = -np.log(np.clip(oof[np.arange(len(y)), y], 1e-7, None)).mean()
        print(
            f"{name:24s} log loss {loss:.4f} accuracy {(oof.argmax(1) == y).mean():.4f} "
            f"{time.perf_counter() - began:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
