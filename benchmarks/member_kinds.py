"""All ways to train a member at the same number of gradient steps: runs recipes/member-kinds.yaml and prints a table.

Scores are those of test rows, on which nothing was fitted, averaged over --seeds; the gain over
`single` is paired by row, its error that of the rows and seeds together. Disagreement is the share
of test rows on which two networks of a member differ.
"""

import argparse
import statistics
from itertools import combinations
from pathlib import Path

import numpy as np

from ensembler import Recipe, Run
from ensembler.machine.execution import Execution
from ensembler.metrics import score
from ensembler.pipeline.run import run_recipe
from ensembler.progress import Progress

RECIPE = Path(__file__).parents[1] / "recipes" / "member-kinds.yaml"


class Lines(Progress):
    def fold_done(self, task, text):
        print(f"  {task.training} fold {task.fold}: {text}", flush=True)


def row_loss(probs, y):
    return -np.log(np.clip(probs[np.arange(len(y)), y], 1e-12, None))


def disagreement(run, name):
    """Mean over pairs of networks of one fold, and over folds."""
    parts = sorted(part for part, whole in run.store.lock.part_of.items() if whole == name)
    if not parts:
        return float("nan")
    # [folds, rows] each
    votes = [run.members[part].test_logits.mean(axis=1).argmax(axis=2) for part in parts]
    return float(np.mean([(a != b).mean() for a, b in combinations(votes, 2)]))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "artifacts", type=Path, help="where the runs are kept; a second call goes on"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1, help="folds trained at once")
    a = parser.parse_args()
    runs = []
    for seed in range(a.seeds):
        recipe = Recipe.load(RECIPE, [f"seed={seed}", f"name=member-kinds-{seed}"])
        run_recipe(
            recipe, a.artifacts, execution=Execution(processes=a.jobs), progress=Lines()
        )
        runs.append(Run.open(f"member-kinds-{seed}", a.artifacts))
    names = [*runs[0].store.pool_members, "blend auto"]
    found = {name: {} for name in names}
    for run in runs:
        y = run.labels("test")
        base = row_loss(run.stack("test", ["single"])[0], y)
        for name in names:
            is_blend = name.startswith("blend")
            probs = run.blends["auto"].test if is_blend else run.stack("test", [name])[0]
            row = {
                metric: score(metric, probs, y)
                for metric in ("accuracy", "log_loss", "ece")
            }
            row["gain"] = base - row_loss(probs, y)
            row["disagree"] = float("nan") if is_blend else disagreement(run, name)
            wholes = run.store.lock.part_of
            record = None if is_blend else run.members[name].record
            parts = [part for part, whole in wholes.items() if whole == name] or [name]
            row["seconds"] = (
                float("nan")
                if record is None
                else sum(run.members[p].record.seconds or 0.0 for p in parts)
            )
            for key, value in row.items():
                found[name].setdefault(key, []).append(value)
    print(
        "| member | accuracy | log loss | ECE | gain in log loss over single | disagreement | "
        "seconds |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, of in found.items():
        means = {k: statistics.mean(v) for k, v in of.items() if k != "gain"}
        gains = np.stack(of["gain"])  # [seeds, rows]
        between = gains.mean(axis=1)
        error = np.hypot(
            gains.mean(axis=0).std() / np.sqrt(gains.shape[1]),
            between.std() / np.sqrt(len(between)),
        )
        gain = "-" if name == "single" else f"{gains.mean():+.4f} ± {2 * error:.4f}"
        told = [
            f"{means['accuracy']:.4f}",
            f"{means['log_loss']:.4f}",
            f"{means['ece']:.4f}",
            gain,
        ]
        told += ["-" if np.isnan(means["disagree"]) else f"{means['disagree']:.3f}"]
        told += ["-" if np.isnan(means["seconds"]) else f"{means['seconds']:.0f}"]
        print(f"| {name} | {' | '.join(told)} |")


if __name__ == "__main__":
    main()
