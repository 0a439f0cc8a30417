"""Cross-fitted against actual scores: fit on one random half of real out-of-fold predictions, score on the other.

POOL is a folder with `models.json` (names), `<name>.npy` [rows, classes] and `labels.csv` (label,
fold), such as cifar10-oof.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd

from ensembler.blending import Pool, make_blend
from ensembler.blending.judging.guards import look_at, suspected
from ensembler.blending.spec import BlendSpec

METHODS = ("single", "soft", "geometric", "greedy", "simplex", "loglinear", "stack", "auto")


def load(folder: Path) -> Pool:
    names = json.loads((folder / "models.json").read_text())
    names = [Path(str(n)).stem for n in names]
    labels = pd.read_csv(folder / "labels.csv")
    oof = np.stack(
        [np.load(folder / f"{n}.npy", allow_pickle=False) for n in names]
    ).astype(np.float32)
    oof /= oof.sum(axis=-1, keepdims=True)
    classes = tuple(f"c{i}" for i in range(oof.shape[2]))
    return Pool(
        tuple(names),
        oof,
        labels["label"].to_numpy(np.int64),
        classes,
        labels["fold"].to_numpy(np.int64),
    )


def part(pool: Pool, fit: np.ndarray, out: np.ndarray) -> Pool:
    return Pool(
        pool.names, pool.oof[:, fit], pool.y[fit], pool.classes, pool.folds[fit],
        test=tuple(m[out][None] for m in pool.oof), test_y=pool.y[out],
    )  # fmt: skip


def halves(pool: Pool, seed: int) -> tuple[np.ndarray, np.ndarray]:
    order = np.lexsort(
        (np.random.default_rng(seed).random(len(pool.y)), pool.folds, pool.y)
    )
    return np.sort(order[::2]), np.sort(order[1::2])


def honesty(pool: Pool, seeds: int, rows: int | None) -> None:
    table = []
    for seed in range(seeds):
        a, b = halves(pool, seed)
        for fit, out in ((a, b), (b, a)):
            if rows is not None:
                fit = np.sort(np.random.default_rng(seed).choice(fit, rows, replace=False))
            inside = part(pool, fit, out)
            for method in METHODS:
                result = make_blend(inside, BlendSpec(method=method))
                holdout = result.scores["holdout"]
                table.append(
                    (
                        method,
                        result.scores["fitted"]["log_loss"],
                        result.scores["cross_fitted"]["log_loss"],
                        holdout["log_loss"],
                        holdout["accuracy"],
                        result.details.chosen or "",
                    )
                )
    frame = pd.DataFrame(
        table, columns=["method", "fitted", "cross-fitted", "actual", "accuracy", "chosen"]
    )
    frame["error"] = frame["cross-fitted"] - frame["actual"]
    print(
        frame.groupby("method", sort=False)[
            ["fitted", "cross-fitted", "actual", "error", "accuracy"]
        ]
        .mean()
        .round(4)
    )
    print("auto took:", frame[frame.method == "auto"]["chosen"].value_counts().to_dict())


def shift(pool: Pool) -> None:
    early = np.flatnonzero(pool.folds < 2)
    late = np.flatnonzero(pool.folds >= 2)
    inside = part(pool, early, late)
    print("\nfitted on folds 0 and 1, scored on 2 and 3, whose models differ:")
    for method in METHODS:
        scores = make_blend(inside, BlendSpec(method=method)).scores
        print(
            f"  {method:10s} cross-fitted {scores['cross_fitted']['log_loss']:.4f}  actual "
            f"{scores['holdout']['log_loss']:.4f}"
        )


def false_alarms(pool: Pool, draws: int) -> None:
    """Honest pools: random members, random rows as train and test.

    How often is a member suspected? And a leaked one?
    """
    rng = np.random.default_rng(0)
    alarms = members = caught = 0
    for _ in range(draws):
        chosen = rng.choice(
            len(pool.names), rng.integers(2, len(pool.names) + 1), replace=False
        )
        rows = rng.permutation(len(pool.y))
        fit, out = rows[: rng.integers(500, 20000)], rows[-2000:]
        honest = part(pool.choose([pool.names[i] for i in chosen]), fit, out)
        alarms += len(suspected(look_at(honest)))
        members += len(chosen)
        leaked = honest.oof.copy()
        hot = np.eye(len(pool.classes), dtype=np.float32)[honest.y]
        leaked[0] = 0.1 * leaked[0] + 0.9 * hot
        caught += honest.names[0] in suspected(
            look_at(
                Pool(
                    honest.names,
                    leaked,
                    honest.y,
                    honest.classes,
                    honest.folds,
                    test=honest.test,
                    test_y=honest.test_y,
                )
            )
        )
    print(
        f"\nleak guard: {alarms} false alarms over {members} honest members; {caught} of {draws} "
        "leaked members named"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("pool", type=Path)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--rows", type=int, help="fit on so many rows only")
    arguments = parser.parse_args()
    pool = load(arguments.pool)
    honesty(pool, arguments.seeds, arguments.rows)
    if arguments.rows is None:
        shift(pool)
        false_alarms(pool, 100)


if __name__ == "__main__":
    main()
