"""How often 95 % intervals hold the truth: of gains over few groups, and of ablations with few seeds.

Predictions are invented so that the true gain is zero: row by row the losses of two predictions
differ by the effect of the row's group, of the training seed, and chance. `--draws` samples of each
kind give coverage with a standard error of 0.007 at 1,000. Alone is one comparison's interval;
jointly, all comparisons with the first prediction at once.

    python benchmarks/interval_coverage.py --draws 1000
"""

import argparse

import numpy as np

from ensembler.blending.judging.comparison import compare_with_first, paired_gain

ROWS_EACH = 20  # rows of a group, on average


def with_losses(losses):
    """Probabilities of two classes with these log losses of the true class, which is the first `[..., rows, 2]`."""
    right = np.exp(-losses)
    return np.stack([right, 1 - right], axis=-1)


def groups_of(count, kind, rng):
    """The group of each row: of equal sizes, or of very unequal ones."""
    if kind == "equal":
        sizes = np.full(count, ROWS_EACH)
    else:
        sizes = np.maximum(2, np.round(ROWS_EACH * rng.lognormal(-0.3, 0.8, count))).astype(
            int
        )
    return np.repeat(np.arange(count), sizes)


def over_groups(count, kind, metric, draws, rng):
    """Coverage of one gain, and how often a gain is called beyond noise though there is none."""
    held = beyond = 0
    for seed in range(draws):
        groups = groups_of(count, kind, rng)
        y = np.zeros(len(groups), np.int64)
        if metric == "log_loss":
            # correlation 0.3
            effect = rng.normal(0, 0.55, count)[groups] + rng.normal(0, 0.84, len(groups))
            ours, theirs = (with_losses(2 + sign * effect / 4) for sign in (1, -1))
        else:
            y = rng.integers(0, 3, len(groups))
            ours, theirs = (decisions(y, groups, count, rng) for _ in range(2))
        gain = paired_gain(metric, ours, "theirs", theirs, y, groups, seed=seed)
        held += gain.low <= 0 <= gain.high
        beyond += gain.beyond_noise or gain.high < 0
    return held / draws, beyond / draws


def decisions(y, groups, count, rng):
    """Hard decisions that are right in 60 to 90 % of rows, depending on the group."""
    share = rng.uniform(0.6, 0.9, count)[groups]
    decided = np.where(rng.random(len(y)) < share, y, rng.integers(0, 3, len(y)))
    return np.eye(3)[decided] * 0.8 + 0.2 / 3


def jointly_over_groups(count, variants, draws, rng):
    held = 0
    for seed in range(draws):
        groups = groups_of(count, "equal", rng)
        effects = rng.normal(0, 0.55, (variants, count))[:, groups] + rng.normal(
            0, 0.84, (variants, len(groups))
        )
        stacks = [with_losses(2 + effect / 4)[None] for effect in effects]
        found = compare_with_first(
            "log_loss", stacks, np.zeros(len(groups), np.int64), groups, seed=seed
        )
        held += all(d.joint_low <= 0 <= d.joint_high for d in found)
    return held / draws


def over_seeds(n_seeds, deviation, variants, draws, rng, rows=300):
    """Coverage alone (of the first comparison) and jointly, when scores differ by `deviation` between seeds."""
    alone = jointly = 0
    y = np.zeros(rows, np.int64)
    for seed in range(draws):
        of_rows = rng.normal(0, 0.4, (variants, 1, rows))
        of_seeds = rng.normal(0, deviation, (variants, n_seeds, 1))
        chance = rng.normal(0, 0.3, (variants, n_seeds, rows))
        stacks = list(with_losses(np.maximum(2.5 + of_rows + of_seeds + chance, 1e-3)))
        found = compare_with_first("log_loss", stacks, y, seed=seed)
        alone += found[0].low <= 0 <= found[0].high
        jointly += all(d.joint_low <= 0 <= d.joint_high for d in found)
    return alone / draws, jointly / draws


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    print(
        "| groups | sizes | metric | coverage | called beyond noise |\n| --- | --- | --- | --- | "
        "--- |"
    )
    for metric in ("log_loss", "f1_macro"):
        draws = arguments.draws if metric == "log_loss" else max(arguments.draws // 3, 1)
        for kind in ("equal", "unequal"):
            for count in (3, 5, 8, 15, 40):
                held, beyond = over_groups(count, kind, metric, draws, rng)
                print(
                    f"| {count} | {kind} | {metric} | {held:.3f} | {beyond:.3f} |",
                    flush=True,
                )
    print("\n| groups | predictions | all held jointly |\n| --- | --- | --- |")
    for count in (5, 8, 15, 40):
        print(
            f"| {count} | 6 | {jointly_over_groups(count, 6, arguments.draws // 2, rng):.3f} |",
            flush=True,
        )
    print(
        "\n| seeds | deviation between seeds | variants | alone | jointly |\n| --- | --- | --- | "
        "--- | --- |"
    )
    for n_seeds in (2, 3, 5):
        for deviation in (0.0, 0.02, 0.1):
            for variants in (2, 6):
                alone, jointly = over_seeds(
                    n_seeds, deviation, variants, arguments.draws // 2, rng
                )
                print(
                    f"| {n_seeds} | {deviation} | {variants} | {alone:.3f} | {jointly:.3f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
