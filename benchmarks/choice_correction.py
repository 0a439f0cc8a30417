"""Reported minus true score of the chosen candidate, before and after the correction for choosing, in simulations.

python benchmarks/choice_correction.py [--draws 150]

Eight candidates err together to a degree; their true accuracies are known. The rule of `auto` takes
one of them on a sample.
"""

import argparse

import numpy as np

from ensembler.blending.judging.choosing import Contest
from ensembler.metrics import score

CANDIDATES = 8
SETTINGS = {
    "100 rows, correlation 0.8, equal": (100, 0.8, np.zeros(CANDIDATES)),
    "500 rows, correlation 0.8, equal": (500, 0.8, np.zeros(CANDIDATES)),
    "200 rows, correlation 0.8, 1 point apart": (200, 0.8, -0.01 * np.arange(CANDIDATES)),
    "200 rows, correlation 0.5, first 3 points worse": (
        200,
        0.5,
        np.array([-0.03, *[0.0] * 7]),
    ),
}


def sample(
    rows: int, correlation: float, shifts: np.ndarray, rng: np.random.Generator
) -> tuple[list, np.ndarray]:
    """Decisions between two classes, right with probability 0.7 and the candidate's shift."""
    from scipy.special import ndtr

    y = rng.integers(0, 2, rows)
    common = rng.normal(size=rows)
    found = []
    for shift in shifts:
        luck = ndtr(
            np.sqrt(correlation) * common + np.sqrt(1 - correlation) * rng.normal(size=rows)
        )
        said = np.where(luck < 0.7 + shift, y, 1 - y)
        found.append(0.1 + 0.8 * np.eye(2)[said])
    return found, y


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--draws", type=int, default=150)
    a = parser.parse_args()
    print(
        "points; rule: first within 0.5 (2) standard errors; true optimism, subtracted, reported - "
        "true afterwards"
    )
    for name, (rows, correlation, shifts) in SETTINGS.items():
        for metric in ("accuracy", "f1_macro"):
            for times in (0.5, 2.0):
                rng = np.random.default_rng(0)
                optimism, taken = [], []
                for _ in range(a.draws):
                    predictions, y = sample(rows, correlation, shifts, rng)
                    contest = Contest.of(metric, predictions, y, None, seed=0)
                    chosen = contest.first_near_best(times)
                    optimism.append(
                        score(metric, predictions[chosen], y) - 0.7 - shifts[chosen]
                    )
                    taken.append(contest.flattery(times))
                left = 100 * (np.array(optimism) - np.array(taken))
                print(
                    f"{name:50s} {metric:9s} {times:3.1f}  {100 * np.mean(optimism):5.2f}  "
                    f"{100 * np.mean(taken):5.2f}  {left.mean():5.2f} +- "
                    f"{left.std() / np.sqrt(a.draws):.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
