"""The checks of an audit: samples, splits and image facts in, findings out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ensembler.audit.columns import GroupLike
from ensembler.audit.duplicates import Duplicates
from ensembler.audit.facts import ImageFacts
from ensembler.audit.findings import Finding
from ensembler.data.decoding import DEEP_MODES
from ensembler.data.samples import SampleSet

RARE = 10  # train rows below which a class is called rare, whatever the folds
IMBALANCE = 10.0
_MOST_BITS = 14  # with more, enough of the levels are left
FIX_GROUP_LEAK = "folds: {scheme: stratified-group}"
_LOOKED_AT = 200  # files
TINY = 8  # pixels of the shorter side


def counts(samples: SampleSet, folds: pd.Series | None, facts: ImageFacts) -> dict[str, Any]:
    """How many rows there are by split, target and class, fold and group, and what the images are."""
    table = samples.table
    found: dict[str, Any] = {
        "images": len(table),
        "splits": table["split"].value_counts().to_dict(),
        "classes": {},
    }
    for target in samples.targets:
        labels = samples.labels_below(target)
        crossed = pd.crosstab(labels.to_numpy(), table["split"][labels.index].to_numpy())
        found["classes"][target] = {
            name: {split: int(crossed[split].get(name, 0)) for split in crossed}
            for name in samples.classes[target]
        }
    if folds is not None:
        found["folds"] = {
            str(k): int(n) for k, n in folds[folds >= 0].value_counts().sort_index().items()
        }
    if "group" in table:
        sizes = table["group"].value_counts()
        found["groups"] = {
            "number": len(sizes),
            "largest": int(sizes.iloc[0]),
            "single": int((sizes == 1).sum()),
        }
    shapes = Counter(
        zip(
            facts.width[facts.readable].tolist(), facts.height[facts.readable].tolist(), strict=True
        )
    )
    found["sizes"] = {f"{width}x{height}": n for (width, height), n in shapes.most_common(10)}
    found["kinds"] = dict(Counter(facts.kind[facts.readable].tolist()).most_common())
    return found


def look_at_files(samples: SampleSet, facts: ImageFacts, *, on_broken: str) -> Iterator[Finding]:
    """Images that are broken, empty, blank or tiny, and modes that are mixed."""
    names = _names(samples)
    empty = facts.fault_code == "empty"
    stops = on_broken == "stop"
    for code, rows, what in (
        ("empty", empty, "have no byte in them"),
        ("unreadable", ~facts.readable & ~empty, "cannot be read"),
    ):
        if rows.any():
            reasons = Counter(facts.fault[rows].tolist()).most_common(1)[0][0]
            message = f"{_files(int(rows.sum()))} {what} ({reasons})"
            yield Finding(
                code,
                "error" if stops else "warning",
                message,
                "data: {on_broken: skip}",
                names(rows),
            )
    if facts.blank.any():
        message = f"{_files(int(facts.blank.sum()))} show one colour and nothing else"
        yield Finding(
            "blank",
            "warning",
            message,
            "look at them, and leave them out of the table",
            names(facts.blank),
        )
    tiny = facts.readable & (np.minimum(facts.width, facts.height) < TINY)
    if tiny.any():
        message = f"{_files(int(tiny.sum()))} have a side of less than {TINY} pixels"
        yield Finding(
            "tiny", "warning", message, "look at them, and leave them out of the table", names(tiny)
        )
    colours = {
        kind.split()[-1] in ("L", "1", "I;16", "I", "F", "LA")
        for kind in facts.kind[facts.readable]
    }
    if len(colours) > 1:
        grey = np.array(
            [
                kind.split()[-1:] in (["L"], ["1"], ["I;16"], ["I"], ["F"], ["LA"])
                for kind in facts.kind
            ]
        )
        message = f"{_files(int(grey.sum()))} are grey and the others in colour: a network may learn the difference"
        yield Finding("mixed_modes", "note", message, "input: {channels: 1}", names(grey))


def look_at_levels(samples: SampleSet, facts: ImageFacts, bits: int | None) -> Iterator[Finding]:
    """Files of 16 bits that use the lower part of them alone, as those of 12-bit cameras do."""
    deep = np.flatnonzero(
        [kind.split()[-1:] in (["I"], *[[mode] for mode in DEEP_MODES]) for kind in facts.kind]
    )
    if bits is not None or not len(deep) or facts.thumb[deep].max() > _levels_of(_MOST_BITS):
        return
    # Thumbnails average: the highest level itself is looked for in some of the files.
    some = np.random.default_rng(0).permutation(deep)[:_LOOKED_AT]
    highest = max(int(samples.images.read(int(i)).max()) for i in some)
    fitting = next((b for b in range(9, _MOST_BITS + 1) if highest <= _levels_of(b)), None)
    if fitting is None:
        return
    names = _names(samples)(np.isin(np.arange(len(facts)), deep))
    message = (
        f"{_files(len(deep))} of 16 bits use the levels of {fitting} bits alone, which leaves "
        f"{highest + 1} of 256 "
        "grey levels to the networks"
    )
    yield Finding(
        "narrow_range", "warning", message, f"input: {{bits: {fitting}}}", names, {"bits": fitting}
    )


def _levels_of(bits: int) -> int:
    """The highest of 256 levels that the highest of `bits` bits becomes where 16 are meant."""
    return round((2**bits - 1) / 257)


def look_at_labels(samples: SampleSet, n_folds: int) -> Iterator[Finding]:
    """Classes with few rows, far more rows of one class than of another, and labels that only train rows have."""
    table = samples.table
    train = table["split"] == "train"
    for target in samples.targets:
        labels = samples.labels_below(target)
        of_train = labels[train[labels.index]]
        sizes = of_train.value_counts()
        rare = sizes[sizes < max(RARE, n_folds)]
        if len(rare):
            shown = ", ".join(f"{name} ({n})" for name, n in rare.sort_values().head(8).items())
            files = tuple(table.loc[of_train.index[of_train.isin(rare.index)].unique(), "path"])
            message = f"{target}: {len(rare)} classes have fewer than {max(RARE, n_folds)} train rows: {shown}"
            is_composed = samples.composition is not None and target == samples.composition.name
            place = "compose" if is_composed else f"targets: {{{target}"
            fix = f"data: {{{place}: {{min_count: {max(RARE, n_folds)}}}}}" + "}" * (
                not is_composed
            )
            facts = {"target": target, "classes": list(rare.index)}
            yield Finding("rare_class", "warning", message, fix, files, facts)
        if len(sizes) > 1 and sizes.max() / sizes.min() >= IMBALANCE:
            ratio = float(sizes.max() / sizes.min())
            message = f"{target}: {sizes.idxmax()} has {ratio:.0f} times as many train rows as {sizes.idxmin()}"
            fix = "defaults: {sampler: sqrt}, and a metric such as f1_macro beside the accuracy"
            yield Finding("imbalance", "note", message, fix, (), {"target": target, "ratio": ratio})
        known = labels[~train[labels.index]]
        lacking = sorted(set(sizes.index) - set(known))
        if len(known) and lacking:
            message = f"{target}: no test row with a label is {', '.join(lacking[:8])}"
            yield Finding(
                "label_only_in_train",
                "note",
                message,
                "",
                (),
                {"target": target, "classes": lacking},
            )


def look_at_groups(samples: SampleSet, folds: pd.Series | None) -> Iterator[Finding]:
    """Groups on both sides of train and test, or of a fold."""
    table = samples.table
    if "group" not in table:
        return
    of_test_part = table["source"] == "test"
    both = set(table.loc[of_test_part, "group"].dropna()) & set(
        table.loc[~of_test_part, "group"].dropna()
    )
    if both:
        files = tuple(table.loc[table["group"].isin(both), "path"])
        message = f"{len(both)} groups are in train and in test, such as {sorted(both)[0]!r}"
        fix = "leave their rows out of one of the two, or do not trust scores on the test part"
        yield Finding("group_leak", "warning", message, fix, files, {"across": "train and test"})
    if folds is None:
        return
    validated = folds >= 0
    pairs = pd.DataFrame(
        {"group": table["group"][validated], "fold": folds[validated]}
    ).drop_duplicates()
    astride = pairs["group"].value_counts() > 1
    if astride.any():
        names = sorted(astride.index[astride])
        files = tuple(table.loc[table["group"].isin(names), "path"])
        message = f"{len(names)} groups are in several folds, such as {names[0]!r}"
        yield Finding(
            "group_leak",
            "error",
            message,
            FIX_GROUP_LEAK,
            files,
            {"across": "folds"},
        )


def look_at_duplicates(
    samples: SampleSet, found: Duplicates, folds: pd.Series | None
) -> Iterator[Finding]:
    """Equal and nearly equal images: across folds, across train and test, and with labels that contradict."""
    table = samples.table
    split = table["source"].to_numpy()
    fold = np.full(len(table), -1) if folds is None else folds.to_numpy()
    paths = table["path"].to_numpy(dtype=object)
    contradicting: list[tuple[int, ...]] = []
    for code, sets, what in (
        ("duplicate", found.exact, "the same image"),
        ("near_duplicate", found.near, "as good as the same image"),
    ):
        if not sets:
            continue
        across_parts = [s for s in sets if len({split[i] for i in s}) > 1]
        across_folds = [s for s in sets if len({fold[i] for i in s if fold[i] >= 0}) > 1]
        leaks = sorted({*across_parts, *across_folds})
        message = (
            f"{len(sets)} times several files show {what}: {len(across_folds)} of them across "
            "folds, "
            f"{len(across_parts)} across train and test"
        )
        yield Finding(
            code,
            "warning" if leaks else "note",
            message,
            "data: {group_duplicates: true}",
            tuple(paths[i] for s in sets for i in s),
            {
                "sets": [[paths[i] for i in s] for s in sets],
                "across_folds": len(across_folds),
                "across_train_and_test": len(across_parts),
            },
        )
        contradicting += [s for s in sets if _labels_differ(table, samples.targets, s)]
    contradicting = sorted(set(contradicting))
    if contradicting:
        yield Finding(
            "duplicate_other_label",
            "warning",
            f"{len(contradicting)} times files that show the same image have different labels",
            "look at them, and leave the wrong ones out of the table",
            tuple(dict.fromkeys(paths[i] for s in contradicting for i in s)),
            {"sets": [[paths[i] for i in s] for s in contradicting]},
        )


def look_at_columns(
    found: Sequence[GroupLike], group: str | None, n_folds: int
) -> Iterator[Finding]:
    """Columns and parts of paths that look like a group and are not used as one."""
    for one in found:
        shows = one.alike is not None and not one.only_named
        how = (
            f"; images that share a value look more alike in {one.alike:.0%} of pairs"
            if shows
            else ""
        )
        where = f"the paths' part {one.pattern!r}" if one.pattern else f"column {one.column!r}"
        sizes = f"{one.n_values} values, at most {one.largest} files each"
        message = f"{where} looks like a group ({sizes}) and is not used as one{how}"
        yield Finding(
            "ungrouped_column",
            "warning" if group is None and not one.only_named else "note",
            message,
            line_that_groups(one, n_folds),
            (),
            {"column": one.pattern or one.column, "values": one.n_values},
        )


def line_that_groups(one: GroupLike, n_folds: int) -> str:
    """The recipe line that makes a group of what looks like one."""
    folds = f", folds: {{count: {one.n_values}}}" if one.n_values < n_folds else ""
    if one.pattern:
        return f"data: {{pattern: '{one.pattern}', group: group}}{folds}"
    return f"data: {{group: {one.column}}}{folds}"


def _labels_differ(table: pd.DataFrame, targets: Sequence[str], rows: Sequence[int]) -> bool:
    some = table.iloc[list(rows)]
    return any(len(some[target].dropna().unique()) > 1 for target in targets)


def _files(n: int) -> str:
    return "1 file" if n == 1 else f"{n} files"


def _names(samples: SampleSet) -> Any:
    paths = (
        samples.table["path"]
        .where(samples.table["path"] != "", samples.table["id"])
        .to_numpy(dtype=object)
    )

    def names(rows: NDArray[np.bool_]) -> tuple[str, ...]:
        return tuple(paths[rows])

    return names
