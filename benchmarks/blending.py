"""Processor seconds of a fit, float32 probabilities in memory, one thread, against peers on the same generated pool, in one run.

SciPy's SLSQP on the simplex is always there; `--autogluon PYTHON` names an interpreter with
autogluon.core for its EnsembleSelection (its figure is that of --rounds rounds, scaled to 100: the
cost of a round does not change).
"""

import argparse
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

from ensembler.blending import create_blend
from ensembler.blending.methods.true_class import true_class_column
from ensembler.logits import softmax
from ensembler.metrics import score

AUTOGLUON = """
import sys, time, numpy as np
from autogluon.core.models.greedy_ensemble.ensemble_selection import EnsembleSelection
from autogluon.core.metrics import log_loss, accuracy, f1_macro
stack, y = np.load(sys.argv[1]), np.load(sys.argv[2])
metric = {"log_loss": log_loss, "accuracy": accuracy, "f1_macro": f1_macro}[sys.argv[3]]
selection = EnsembleSelection(ensemble_size=int(sys.argv[4]), problem_type="multiclass", metric=metric)
began = time.process_time()
selection.fit(list(stack), y)
print(time.process_time() - began)
np.save(sys.argv[5], np.array(selection.weights_))
"""


def generated(members: int, rows: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Members of unequal strength with shared errors and 5 % wrong labels."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, classes, rows)
    shared = rng.normal(size=(rows, classes)).astype(np.float32)
    stack = np.empty((members, rows, classes), np.float32)
    for m in range(members):
        z = shared + 1.3 * rng.normal(size=(rows, classes)).astype(np.float32)
        z[np.arange(rows), truth] += rng.uniform(1.0, 3.5)
        stack[m] = softmax(z * rng.uniform(0.6, 1.6))
    wrong = rng.random(rows) < 0.05
    return stack, np.where(wrong, rng.integers(0, classes, rows), truth)


def slsqp(
    stack: np.ndarray, y: np.ndarray, ftol: float = 1e-6, kind: type = np.float32
) -> np.ndarray:
    q = true_class_column(stack, y).astype(kind)
    start = np.full(len(q), 1 / len(q))
    total = {"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like}

    def objective(w: np.ndarray) -> tuple[float, np.ndarray]:
        mix = w.astype(kind) @ q
        return float(-np.log(mix).mean()), -(q @ (1 / mix)).astype(float) / len(mix)

    found = minimize(
        objective,
        start,
        jac=True,
        bounds=[(0, 1)] * len(q),
        constraints=[total],
        method="SLSQP",
        options={"ftol": ftol, "maxiter": 1000},
    ).x.clip(0)
    return found / found.sum()


def gap(stack: np.ndarray, y: np.ndarray, weights: np.ndarray) -> float:
    """How far from the optimum the weights may be, at most."""
    q = true_class_column(stack, y).astype(np.float64)
    return float((q @ (1 / (weights @ q))).max() / q.shape[1] - 1)


def timed(fit: Callable[[], object], repeats: int) -> tuple[float, object]:
    times, result = [], None
    for _ in range(repeats):
        began = time.process_time()
        result = fit()
        times.append(time.process_time() - began)
    return statistics.median(times), result


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pool", default="50,20000,10", help="members,rows,classes")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--autogluon", help="a Python that has autogluon.core")
    parser.add_argument(
        "--rounds", type=int, default=5, help="rounds AutoGluon is timed for"
    )
    parser.add_argument(
        "--without",
        default="",
        help="methods to leave out, such as loglinear on a very large pool",
    )
    a = parser.parse_args()
    stack, y = generated(*map(int, a.pool.split(",")))
    seconds: dict[str, float] = {}
    with threadpool_limits(1):
        for name, options in [
            ("greedy", {}), ("greedy", {"metric": "accuracy"}), ("greedy", {"metric": "f1_macro"}),
            ("simplex", {"tolerance": 1e-5}), ("loglinear", {"ridge": 1e-4}), ("loglinear", {}),
        ]:  # fmt: skip
            label = " ".join([name, *map(str, options.values())])
            if name in a.without.split(","):
                continue
            seconds[label], fitted = timed(
                lambda n=name, o=options: create_blend(n, **o).fit(stack, y), a.repeats
            )
            loss = score("log_loss", fitted.predict_proba(stack), y)
            print(
                f"{label:22s} {seconds[label]:8.3f} s   log loss {loss:.5f}  "
                f"{getattr(fitted, 'gap_', '')}",
                flush=True,
            )
        for kind, ftol in [
            (np.float32, 1e-6),
            (np.float32, 1e-8),
            (np.float32, 1e-10),
            (np.float64, 1e-10),
        ]:
            took, weights = timed(lambda k=kind, f=ftol: slsqp(stack, y, f, k), a.repeats)
            loss = -np.log(weights @ true_class_column(stack, y)).mean()
            found = gap(stack, y, weights)
            print(
                f"SLSQP {kind.__name__} {ftol:<8g} {took:8.3f} s   log loss {loss:.5f}   gap "
                f"{found:.1e}   simplex is {took / seconds['simplex 1e-05']:.1f} x",
                flush=True,
            )
    if a.autogluon:
        compare_autogluon(a, stack, y, seconds)


def compare_autogluon(
    a: argparse.Namespace, stack: np.ndarray, y: np.ndarray, seconds: dict[str, float]
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "stack.npy", stack)
        np.save(folder / "y.npy", y)
        for metric, label in (
            ("log_loss", "greedy"),
            ("accuracy", "greedy accuracy"),
            ("f1_macro", "greedy f1_macro"),
        ):
            files = [
                str(folder / "stack.npy"),
                str(folder / "y.npy"),
                metric,
                str(a.rounds),
                str(folder / "w.npy"),
            ]
            done = subprocess.run(
                [a.autogluon, "-c", AUTOGLUON, *files],
                capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
            )  # fmt: skip
            scaled = float(done.stdout.split()[-1]) * 100 / a.rounds
            print(
                f"AutoGluon {metric:12s} {scaled:8.1f} s for 100 rounds   {label} is "
                f"{scaled / seconds[label]:.0f} x"
            )


if __name__ == "__main__":
    main()
