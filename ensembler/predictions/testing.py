"""A run of invented predictions, for tests and for trials without a network or an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ensembler.predictions.arrays import write_array
from ensembler.predictions.members import FORMAT, MEMBER_RECORD, MemberRecord, checksums
from ensembler.predictions.records import write_record
from ensembler.predictions.samples import write_samples
from ensembler.predictions.store import RunStore


def invented_logits(
    y: NDArray[np.int64], classes: int, strength: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Logits `[samples, classes]` that lean towards the label by `strength`.

    The noise has a standard deviation of one.
    """
    logits = rng.normal(size=(len(y), classes))
    logits[np.arange(len(y)), y] += strength
    return logits.astype(np.float32)


def write_fake_run(  # noqa: PLR0913 a keyword for each thing that a test may ask for
    folder: Path,
    members: Mapping[str, float] | None = None,
    *,
    n_train: int = 60,
    n_test: int = 20,
    classes: Sequence[str] = ("cat", "dog", "eel"),
    folds: int = 3,
    views: Sequence[str] = ("identity", "hflip"),
    seed: int = 0,
    labelled_test: bool = True,
) -> RunStore:
    """Write a whole run by hand: samples and members.

    `members` gives for each name the strength by which its logits lean towards the label.
    """
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    y = rng.integers(0, len(classes), n_train + n_test)
    y[: len(classes) * folds] = np.tile(np.arange(len(classes)), folds)
    fold = np.where(
        np.arange(len(y)) < n_train, np.arange(len(y)) // len(classes) % folds, -1
    )
    labels = [classes[i] if labelled_test or k < n_train else None for k, i in enumerate(y)]
    table = pd.DataFrame(
        {
            "id": [f"s{i:04d}" for i in range(len(y))],
            "split": "train",
            "fold": fold,
            "label": labels,
        }
    )
    table.loc[n_train:, "split"] = "test"
    write_samples(folder / "samples.csv", table)
    for name, strength in (members or {"a": 1.5, "b": 1.0}).items():
        oof = [invented_logits(y[:n_train], len(classes), strength, rng) for _ in views]
        test = [
            [invented_logits(y[n_train:], len(classes), strength, rng) for _ in views]
            for _ in range(folds)
        ]
        write_fake_member(folder, name, np.stack(oof), np.array(test), classes, views)
    return RunStore(folder)


def write_fake_member(
    run: Path,
    name: str,
    oof: NDArray[np.float32],
    test: NDArray[np.float32],
    classes: Sequence[str],
    views: Sequence[str] = ("identity",),
) -> None:
    """Write a complete member.

    `oof` is `[views, train rows, classes]`, `test` is `[folds, views, test rows, classes]`.
    """
    folder = run / "members" / name
    folder.mkdir(parents=True, exist_ok=True)
    write_array(folder / "oof.npy", oof)
    write_array(folder / "test.npy", test)
    sums = checksums(folder, ["oof.npy", "test.npy"]) | checksums(run, ["samples.csv"])
    record = MemberRecord(
        format=FORMAT,
        name=name,
        classes=tuple(classes),
        views=tuple(views),
        folds=len(test),
        scores={},
        seconds=0.0,
        sha256=sums,
    )
    write_record(folder / MEMBER_RECORD, record)
