"""`ens report RECIPE`: the look at the data that everyone should take on the first day."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import ensembler
from ensembler.audit.audit import Audit, audit_recipe
from ensembler.audit.contact_sheet import preview_lines
from ensembler.audit.duplicates import find_duplicates
from ensembler.audit.facts import ImageFacts, look_at_images
from ensembler.data.folds import split_samples
from ensembler.data.samples import SampleSet, read_samples
from ensembler.errors import DataError, EnsemblerError, RequestError
from ensembler.predictions.store import cache_folder
from ensembler.progress import Progress
from ensembler.recipe.load import Recipe
from ensembler.report.pictures import Gallery, as_source
from ensembler.report.record import audit_blocks
from ensembler.reporting.page import (
    Block,
    Chart,
    Code,
    Facts,
    Folded,
    Page,
    Picture,
    Pictures,
    Section,
    Text,
    grid,
    section,
)
from ensembler.reporting.svg import Line, bars, lines, matrix
from ensembler.reporting.tables import Cell, Table

_OF_CLASS = 6  # pictures of a class
_CLASSES = 20  # whose pictures are shown
_SETS = 12  # sets of duplicates whose pictures are shown
_BARS = 60  # classes that have a bar
_BINS = 32  # of brightness


@dataclass(frozen=True)
class Look:
    """What is looked at: samples, facts of their images, the audit, and pictures."""

    recipe: Recipe
    artifacts: Path
    samples: SampleSet
    facts: ImageFacts
    audit: Audit
    folds: NDArray[np.int64] | None  # of each sample; -1 = never validated
    gallery: Gallery


def recipe_page(
    recipe: Recipe, artifacts: Path, pictures: int, progress: Progress
) -> tuple[Page, list[str]]:
    """The page of a recipe's data, and what could not be shown on it."""
    audit = audit_recipe(recipe.spec, artifacts, progress=progress)
    notes: list[str] = []
    try:
        look = _look(recipe, artifacts, audit, pictures, progress)
        sections = _sections(look, notes)
    except DataError as error:
        notes.append(str(error))
        sections = [*_audit_section(audit)]
    recipe_text = recipe.path.read_text("utf-8", "replace")
    sections += section(
        "recipe", "Recipe", [Folded(recipe.path.name, (Code("Recipe", recipe_text),))]
    )
    written = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    foot = (f"Written {written} by ensembler {ensembler.__version__}.",)
    lead = "What is in the data, before anything is trained."
    return Page(f"{recipe.spec.name}: the data", lead, tuple(sections), foot), notes


def _look(
    recipe: Recipe, artifacts: Path, audit: Audit, pictures: int, progress: Progress
) -> Look:
    samples = read_samples(recipe.spec.data, recipe.spec.folds, [])
    facts = look_at_images(samples.images, cache_folder(artifacts), progress)
    position = {name: i for i, name in enumerate(samples.table["id"].tolist())}
    gallery = Gallery(samples.images, position, pictures)
    folds = _folds(samples, recipe)
    return Look(recipe, artifacts, samples, facts, audit, folds, gallery)


def _folds(samples: SampleSet, recipe: Recipe) -> NDArray[np.int64] | None:
    """The fold of each sample; None where the data allow none, which the audit says."""
    try:
        split = split_samples(samples, recipe.spec.folds).table.set_index("id")["fold"]
    except (DataError, RequestError):
        return None
    return split.reindex(samples.table["id"]).fillna(-1).to_numpy(np.int64)


def _sections(look: Look, notes: list[str]) -> list[Section]:
    return [
        *_in_short(look),
        *_audit_section(look.audit),
        *_classes(look),
        *_duplicates(look),
        *_images(look),
        *_folds_section(look),
        *_seen(look, notes),
    ]


def _in_short(look: Look) -> list[Section]:
    table = look.samples.table
    train = table["split"] == "train"
    target = look.samples.targets[0]
    counts = look.samples.labels_below(target).value_counts()
    pairs = [
        ("Rows", f"{int(train.sum()):,} train, {int((~train).sum()):,} test"),
        ("Classes", f"{len(look.samples.classes[target])} of {target}"),
        ("Largest class", f"{counts.index[0]}: {int(counts.iloc[0]):,} rows"),
        ("Smallest class", f"{counts.index[-1]}: {int(counts.iloc[-1]):,} rows"),
    ]
    if "group" in table:
        sizes = table["group"].value_counts()
        pairs.append(
            ("Groups", f"{len(sizes):,}, the largest of {int(sizes.iloc[0]):,} rows")
        )
    if look.folds is not None:
        n_folds = int(look.folds.max()) + 1
        pairs.append(
            ("Folds", f"{n_folds}, {look.recipe.spec.folds.scheme or 'stratified'}")
        )
    tone = "good" if look.audit.is_clean else "bad"
    said = Text((look.audit.verdict,), tone)
    return section("answer", "In short", [said, Facts(tuple(pairs))])


def _audit_section(audit: Audit) -> list[Section]:
    content = audit.to_json()
    if not audit.findings:
        return []
    return section("audit", "What to fix", audit_blocks({**content, "verdict": ""}))


def _classes(look: Look) -> list[Section]:
    blocks: list[Block | None] = []
    for target in look.samples.targets:
        labels = look.samples.labels_below(target)
        split = look.samples.table["split"].loc[labels.index]
        crossed = pd.crosstab(labels.to_numpy(), split.to_numpy())
        crossed = crossed.reindex(list(look.samples.classes[target]), fill_value=0)
        ordered = crossed.sort_values(list(crossed.columns)[-1], ascending=False)
        shown = ordered.iloc[:_BARS]
        legend = tuple(str(column) for column in crossed.columns)
        svg = bars(
            f"Rows by class of {target}",
            "rows",
            [str(name) for name in shown.index],
            shown.to_numpy(float).tolist(),
        )
        most = f", the {_BARS} largest" if len(ordered) > _BARS else ""
        blocks.append(Chart(svg, f"Rows by class of {target}{most}.", legend))
    blocks += _class_pictures(look)
    return section("classes", "Classes", blocks)


def _class_pictures(look: Look) -> list[Block | None]:
    """Some pictures of each class, drawn with a fixed seed."""
    target = look.samples.targets[0]
    labels = look.samples.labels_below(target)
    train = labels[look.samples.table["split"].loc[labels.index] == "train"]
    classes = [name for name in look.samples.classes[target] if (train == name).any()]
    shown = classes[:_CLASSES]
    of_each = max(1, min(_OF_CLASS, look.gallery.left // 2 // max(len(shown), 1)))
    rng = np.random.default_rng(0)
    blocks: list[Block | None] = []
    for name in shown:
        rows = train.index[train == name].to_numpy()
        some = rng.permutation(rows)[:of_each]
        ids = [str(i) for i in look.samples.table["id"].loc[some]]
        blocks.append(look.gallery.sheet(str(name), ids, [[str(name)]] * len(ids)))
    return blocks


def _duplicates(look: Look) -> list[Section]:
    """Sets of images that show the same, as pictures."""
    found = find_duplicates(look.facts)
    sets = found.near or found.exact
    if not sets:
        return []
    table = look.samples.table
    target = look.samples.targets[0]
    blocks: list[Block | None] = [
        Text(
            (
                f"{len(found.near)} sets of nearly equal images, {len(found.exact)} of equal ones. "
                "Copies on both sides of a split make every score too good.",
            )
        )
    ]
    for i, same in enumerate(sets[:_SETS], start=1):
        rows = table.iloc[list(same)[:_OF_CLASS]]
        said = [_where(row, target) for _, row in rows.iterrows()]
        ids = [str(name) for name in rows["id"]]
        blocks.append(look.gallery.sheet(f"Set {i} of {len(sets)}", ids, said))
    return section("duplicates", "Duplicates", blocks)


def _where(row: pd.Series, target: str) -> list[str]:
    label = row[target]
    return [str(row["split"]), "no label" if label is None else str(label)]


def _images(look: Look) -> list[Section]:
    """Sizes and brightness, train beside test."""
    facts, split = look.facts, look.samples.table["split"].to_numpy()
    readable = facts.readable
    brightness = facts.thumb.mean(axis=(1, 2, 3))
    series = []
    for part in ("train", "test"):
        inside = readable & (split == part)
        if inside.any():
            shares, edges = np.histogram(brightness[inside], bins=_BINS, range=(0, 255))
            middle = ((edges[1:] + edges[:-1]) / 2).tolist()
            series.append(Line(part, middle, (shares / inside.sum()).tolist()))
    blocks: list[Block | None] = [
        Chart(
            lines("Brightness", "mean brightness of an image", "share of images", series),
            "Brightness of images, train beside test: two different curves are a shift.",
            tuple(line.name for line in series),
        ),
        grid(_sizes(facts, split, readable)),
        _brightness_by_class(look, brightness),
    ]
    return section("images", "Images: train beside test", blocks)


def _sizes(
    facts: ImageFacts, split: NDArray[np.object_], readable: NDArray[np.bool_]
) -> Table:
    sizes = [f"{w}x{h}" for w, h in zip(facts.width, facts.height, strict=True)]
    counted: Counter[tuple[str, str]] = Counter()
    for size, part, is_readable in zip(sizes, split, readable, strict=True):
        if is_readable:
            counted[(size, str(part))] += 1
    of_size: Counter[str] = Counter()
    for (size, _), n in counted.items():
        of_size[size] += n
    rows: list[tuple[Cell, ...]] = [
        (size, counted[(size, "train")], counted[(size, "test")])
        for size, _ in of_size.most_common(20)
    ]
    title = f"Sizes in pixels, the most frequent of {len(of_size)}"
    return Table(title, ("width x height", "train", "test"), tuple(rows))


def _brightness_by_class(look: Look, brightness: NDArray[np.floating]) -> Block | None:
    target = look.samples.targets[0]
    labels = look.samples.labels_below(target)
    rows: list[tuple[Cell, ...]] = []
    for name in look.samples.classes[target]:
        of_class = labels.index[labels == name].to_numpy()
        if len(of_class):
            values = brightness[of_class]
            rows.append(
                (str(name), len(of_class), float(values.mean()), float(values.std()))
            )
    table = Table(
        "Brightness by class: a class told by its light alone is told for the wrong reason",
        ("class", "rows", "mean", "deviation"),
        tuple(rows),
        digits=1,
    )
    return grid(table)


def _folds_section(look: Look) -> list[Section]:
    """Folds by class, and how large the groups are."""
    blocks: list[Block | None] = []
    if look.folds is not None and look.folds.max() >= 0:
        blocks.append(_fold_matrix(look))
    if "group" in look.samples.table:
        sizes = look.samples.table["group"].value_counts()
        rows = tuple((str(name), int(n)) for name, n in sizes.iloc[:20].items())
        title = f"The largest of {len(sizes)} groups"
        blocks.append(grid(Table(title, ("group", "rows"), rows)))
    return section("folds", "Folds and groups", blocks)


def _fold_matrix(look: Look) -> Chart:
    target = look.samples.targets[0]
    labels = look.samples.labels_below(target)
    folds = np.asarray(look.folds)[labels.index.to_numpy()]
    names = list(look.samples.classes[target])
    counts = np.zeros((len(names), int(folds.max()) + 1), np.int64)
    position = {name: i for i, name in enumerate(names)}
    for label, fold in zip(labels.tolist(), folds.tolist(), strict=True):
        if fold >= 0:
            counts[position[label], fold] += 1
    shares = counts / np.maximum(counts.max(axis=1, keepdims=True), 1)
    columns = [f"fold {k}" for k in range(counts.shape[1])]
    caption = (
        "Rows of each class by the fold that validates them: even shades are even folds."
    )
    return Chart(matrix("Folds by class", names, columns, shares, counts), caption)


def _seen(look: Look, notes: list[str]) -> list[Section]:
    """What the networks see: images as read, as prepared, and augmented."""
    try:
        found = preview_lines(look.recipe.spec, look.artifacts)
    except EnsemblerError as error:
        notes.append(f"what the networks see: {error}")
        return []
    pictures = tuple(
        Picture(
            as_source(line, side=line.shape[1]),
            f"train image {i}, as read and prepared",
            (),
        )
        for i, line in enumerate(found, start=1)
    )
    said = "Each row: an image as read, as prepared for the input, then augmented three times in "
    said += "each way that the recipe augments."
    blocks: list[Block | None] = [
        Text((said,)),
        Pictures("As the networks see them", pictures, is_wide=True),
    ]
    return section("seen", "What the networks see", blocks)
