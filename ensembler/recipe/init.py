"""`ens init`: a look at a folder or table, and a commented recipe that runs as it is."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass, field
from importlib.resources import files
from itertools import chain
from pathlib import Path

import pandas as pd

from ensembler.data.formats import read_header
from ensembler.data.image_files import (
    find_images,
    is_image_file,
    left_out,
    shown,
    sub_folders,
)
from ensembler.data.images import IMAGE_SUFFIXES
from ensembler.data.spec import DataSpec
from ensembler.data.tables import TABLE_SUFFIXES, read_table
from ensembler.errors import DataError, RequestError
from ensembler.outputs import check_output, is_standard_output, write_output
from ensembler.targets.label_sets import SEPARATOR, SetFormat, labels_in, read_set

_NEAR = 2  # steps up from a recipe to a folder that it shares with its data
_PATH_NAMES = (
    "path",
    "image",
    "image_path",
    "file",
    "filename",
    "file_name",
    "filepath",
    "img",
    "image_id",
)
_TARGET_NAMES = ("label", "target", "class", "y", "category", "labels", "class_name")
_SET_SEPARATORS = ("|", ";", ",", " ")
_NO_LABEL_NAMES = ("none", "nothing", "no finding", "no label", "no labels")
_GROUP_HINTS = (
    "group",
    "person",
    "patient",
    "subject",
    "user",
    "sender",
    "owner",
    "origin",
    "session",
    "scene",
    "case",
)


@dataclass(frozen=True)
class InitResult:
    """A recipe that was written, and what was seen on the way."""

    path: Path
    findings: tuple[str, ...]


@dataclass
class _Guess:
    source: str
    path_column: str | None = None
    targets: list[str] = field(default_factory=list)
    other_targets: list[str] = field(default_factory=list)
    id_column: str | None = None
    sets: SetFormat | None = None
    group: str | None = None
    test: str | None = None
    has_test_folder: bool = False
    template: str | None = None
    size: int = 64
    channels: int = 3
    folds: int = 5
    small: list[str] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)


def init_recipe(data: str, out: Path | None = None, *, force: bool = False) -> InitResult:
    """Write a recipe for a folder, a table or a shipped recipe's name.

    RequestError when nothing can be guessed.
    """
    shipped = shipped_recipes()
    path = Path(data)
    if data in shipped and not path.exists():
        target = out or Path(f"{data}.yaml")
        _refuse_overwriting(target, force)
        write_output(target, shipped[data].encode())
        return InitResult(target, (f"{data} is a recipe that comes with ens.",))
    if not path.exists():
        raise RequestError(
            f"{data} does not exist; name a folder of images, a CSV, or a shipped recipe "
            f"({', '.join(shipped)})"
        )
    guess = _look_at_folder(path) if path.is_dir() else _look_at_table(path)
    named_after = out or (path.resolve() if path.is_dir() else path)
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", named_after.stem).strip("-") or "run"
    target = out or Path(f"{name}.yaml")
    _refuse_overwriting(target, force)
    try:
        content = _text(guess, name, target).encode()
    except UnicodeEncodeError as error:
        raise RequestError(
            f"{shown(data)} has a name that no recipe can hold (it is not UTF-8); rename it"
        ) from error
    write_output(target, content)
    return InitResult(target, tuple(guess.findings))


def shipped_recipes() -> dict[str, str]:
    """Texts of the recipes that come with the package, by name."""
    inside = files("ensembler") / "recipes"
    folder = inside if inside.is_dir() else Path(__file__).parents[2] / "recipes"
    found = (
        {p.name: p for p in folder.iterdir() if p.name.endswith(".yaml")}
        if folder.is_dir()
        else {}
    )
    return {
        name.removesuffix(".yaml"): found[name].read_text(encoding="utf-8")
        for name in sorted(found)
    }


def _refuse_overwriting(path: Path, force: bool) -> None:
    check_output(path)
    if path.is_file() and not force and not is_standard_output(path):
        raise RequestError(
            f"{path} is there already; --force overwrites it, --out names another file"
        )


def _look_at_folder(path: Path) -> _Guess:
    names = {p.name for p in sub_folders(path)}
    tables = [p for p in sorted(path.iterdir()) if p.suffix.lower() in TABLE_SUFFIXES]
    train_table = next(
        (
            p
            for p in tables
            if p.stem.lower() in ("train", "labels", "manifest", "train_labels")
        ),
        None,
    )
    if train_table is not None:
        return _look_at_table(train_table)
    guess = _Guess(str(path.resolve()), targets=["label"])
    train = path / "train" if "train" in names and names <= {"train", "test"} else path
    classes = sub_folders(train)
    images, others = find_images(train)
    found = Counter(image.relative_to(train).parts[0] for image in images)
    counts = {folder.name: found[folder.name] for folder in classes}
    if not any(counts.values()):
        raise DataError(
            f"{path} has no class folders with images and no train.csv; expected CLASS/image.jpg "
            "or a table"
        )
    guess.findings.append(f"{sum(counts.values())} images in {len(counts)} class folders.")
    guess.findings += [f"{remark.message}." for remark in left_out(train, others)]
    if train != path and "test" in names:
        guess.has_test_folder = True
        guess.findings.append("test/ is the test part.")
    _look_at_counts(guess, pd.Series(counts))
    _look_at_images(guess, images[:200])
    return guess


def _look_at_table(path: Path) -> _Guess:
    table = read_table(path, DataSpec(source=str(path)))
    guess = _Guess(str(path.resolve()))
    guess.path_column = _path_column(table, path)
    images = [path.parent / p for p in table[guess.path_column]]
    rest = [c for c in table.columns if c != guess.path_column]
    guess.id_column = next(
        (c for c in rest if c.lower() == "id" and table[c].is_unique), None
    )
    if guess.id_column == "id":
        rest.remove("id")
        guess.id_column = None  # a column called id is the id by its name
    guess.group = _group_column(table, rest)
    guess.targets = _target_columns(table, [c for c in rest if c != guess.group])
    if not guess.targets:
        raise DataError(
            f"{path} has no column that looks like a label; its columns are "
            f"{', '.join(table.columns)}"
        )
    guess.targets, guess.other_targets = guess.targets[:1], guess.targets[1:]
    labels = table[guess.targets[0]]
    guess.sets = _sets_of_labels(labels)
    guess.findings.append(
        f"{len(table)} rows; images in {guess.path_column!r}, labels in {guess.targets[0]!r}."
    )
    if guess.other_targets:
        guess.findings.append(
            f"More columns that could be targets: {', '.join(guess.other_targets)}."
        )
    if guess.group:
        count = table[guess.group].nunique()
        guess.findings.append(
            f"{guess.group!r} looks like a group ({count} values): its rows stay on one side."
        )
    if guess.sets is not None:
        labels = labels.map(guess.sets.parse).map(read_set).explode().dropna()
        guess.findings.append(
            f"Rows have several labels at once, with {guess.sets.separator!r} between them."
        )
    _look_at_test(guess, path)
    _look_at_counts(guess, labels.value_counts(), groups=guess.group is not None)
    _look_at_images(guess, [p for p in images if is_image_file(p)][:200])
    return guess


def _path_column(table: pd.DataFrame, path: Path) -> str:
    def is_image(name: str) -> bool:
        return name.strip().lower().endswith(IMAGE_SUFFIXES) or is_image_file(
            path.parent / name.strip()
        )

    def share_of_images(column: str) -> float:
        return float(table[column].head(200).map(is_image).mean())

    columns = sorted(
        table.columns, key=lambda c: (-share_of_images(c), c.lower() not in _PATH_NAMES)
    )
    if share_of_images(columns[0]) < 0.5:
        raise DataError(
            f"{path} has no column of image paths; its columns are {', '.join(table.columns)}"
        )
    return str(columns[0])


def _target_columns(table: pd.DataFrame, columns: list[str]) -> list[str]:
    def is_one(column: str) -> bool:
        values, sets = table[column], _sets_of_labels(table[column])
        if sets is not None:
            return len(labels_in(values.map(sets.parse))) <= len(table) // 3
        return 2 <= values.nunique() <= max(2, min(1000, len(table) // 3)) and bool(
            (values != "").all()
        )

    few = [c for c in columns if is_one(c)]
    return sorted(few, key=lambda c: (c.lower() not in _TARGET_NAMES, columns.index(c)))


def _sets_of_labels(values: pd.Series) -> SetFormat | None:
    """How values write several labels at once; None when they look like single labels.

    There are fewer labels than sets, and the labels of some set also stand alone, as those of `dark
    red` never do.
    """
    for separator in _SET_SEPARATORS:
        if values.str.contains(SEPARATOR, regex=False).any() and separator != SEPARATOR:
            continue
        split = (
            tuple(filter(None, map(str.strip, value.split(separator))))
            for value in values.unique()
        )
        sets = {labels for labels in split if labels}
        alone = {labels[0] for labels in sets if len(labels) == 1}
        together = any(len(labels) > 1 and alone.issuperset(labels) for labels in sets)
        if together and len(set(chain.from_iterable(sets))) < len(sets):
            none = sorted(label for label in alone if label.lower() in _NO_LABEL_NAMES)
            return SetFormat(
                separator, none[0] if none else "" if (values == "").any() else None
            )
    return None


def _group_column(table: pd.DataFrame, columns: list[str]) -> str | None:
    for column in columns:
        name = column.lower()
        if any(hint in name for hint in _GROUP_HINTS) and 2 <= table[
            column
        ].nunique() < len(table):
            return column
    return None


def _look_at_test(guess: _Guess, path: Path) -> None:
    folder = path.parent
    for candidate in (folder / "test.csv", folder / "test.parquet", folder / "test"):
        if candidate.exists() and candidate != path:
            guess.test = str(candidate.resolve())
            guess.findings.append(f"{candidate.name} is the test part.")
            break
    template = folder / "sample_submission.csv"
    if template.is_file() and guess.test is not None:
        guess.template = str(template.resolve())
        guess.findings.append("sample_submission.csv says what the submission looks like.")


def _look_at_counts(guess: _Guess, counts: pd.Series, *, groups: bool = False) -> None:
    counts = counts[counts > 0].sort_values()
    if len(counts) < 2:
        raise DataError(
            f"{guess.source} has the one class {counts.index[0]!r}; two are needed to learn"
        )
    ratio = counts.iloc[-1] / counts.iloc[0]
    guess.findings.append(
        f"{len(counts)} classes, from {counts.iloc[0]} ({counts.index[0]}) to "
        f"{counts.iloc[-1]} ({counts.index[-1]}) "
        f"images{'; unbalanced' if ratio > 5 else ''}."
    )
    guess.small = [str(name) for name in counts.index[counts < (5 if groups else 2)]]
    large = counts[~counts.index.isin(guess.small)]
    guess.folds = int(max(2, min(5, large.min()))) if len(large) else 2


def _look_at_images(guess: _Guess, images: list[Path]) -> None:
    sides, grey = [], 0
    for path in images:
        header = read_header(path)
        if (
            header is not None
        ):  # a broken file is the audit's and the run's business, with its name
            sides.append(min(header.height, header.width))
            grey += header.is_grey
    if not sides:
        return
    side = sorted(sides)[len(sides) // 2]
    guess.size = int(min(128, max(32, round(side / 32) * 32)))
    guess.channels = 1 if grey == len(sides) else 3
    kind = "grey" if guess.channels == 1 else "colour"
    guess.findings.append(
        f"Images are {kind}, about {side} px on the shorter side; networks see {guess.size} px."
    )


def _text(guess: _Guess, name: str, target: Path) -> str:
    relative = _Relative(target.resolve().parent)
    data = [f"  source: {relative(guess.source)}"]
    if guess.path_column and guess.path_column != "path":
        data.append(f"  path: {_quoted(guess.path_column)}")
    data.append(f"  targets: {_target(guess)}")
    data += [f"  # {other} could be a target too" for other in guess.other_targets]
    data.append(
        f"  group: {_quoted(guess.group)}"
        if guess.group
        else "  # group: person   # samples that belong together"
    )
    data.append(
        f"  test: {relative(guess.test)}"
        if guess.test
        else "  # test: test.csv    # a folder or table to predict"
    )
    if guess.small:
        fix = (
            "min_count of the target leaves labels out"
            if guess.sets
            else "keep: [...] leaves classes out"
        )
        data.append(f"  # too few images to split: {', '.join(guess.small)}; {fix}")
    holdout = 0 if guess.test or guess.has_test_folder else 0.1
    template = f", template: {relative(guess.template)}" if guess.template else ""
    metric = "f1_micro, calibrate: biases" if guess.sets else "log_loss"
    scheme = ", scheme: plain" if guess.small and not guess.group else ""
    return f"""\
# Written by `ens init`. Run it with: ens run {target}
name: {name}
data:
{chr(10).join(data)}
folds: {{count: {guess.folds}, seed: 0, holdout: {holdout}{scheme}}}   \
# holdout: labelled rows nothing is fitted on
input: {{size: {guess.size}, channels: {guess.channels}}}
augment: light                 # none, light, medium, heavy, or a list of albumentations transforms
views: [identity, hflip]       # test-time augmentation; drop hflip where left and right matter
defaults:
  epochs: auto                 # 10, or what a deadline allows: ens run ... --deadline 30m
  batch_size: 64
  pretrained: false            \
# true starts from ImageNet weights: on photographs worth more than any other line here
members:
  resnet: {{backbone: resnet18, lr: 1e-3}}
  convnext: {{backbone: convnext_atto, lr: 1e-3}}
  efficientnet: {{backbone: tf_efficientnet_lite0, lr: 2e-3}}
blend: {{method: auto, metric: {metric}}}
submission: {{format: labels{template}}}
"""


def _target(guess: _Guess) -> str:
    name = _quoted(guess.targets[0])
    if guess.sets is None:
        return name
    none = (
        "" if guess.sets.no_label is None else f", no_label: {_quoted(guess.sets.no_label)}"
    )
    return f"{{{name}: {{multi_label: '{guess.sets.separator}'{none}}}}}"


@dataclass(frozen=True)
class _Relative:
    """Paths as they are written in a recipe of `folder`: relative when both would move together."""

    folder: Path

    def __call__(self, path: str) -> str:
        common = Path(os.path.commonpath([self.folder, path]))
        steps_up = len(self.folder.relative_to(common).parts)
        near = steps_up == 0 or (steps_up <= _NEAR and common != Path(common.anchor))
        return _quoted(os.path.relpath(path, self.folder) if near else path)


def _quoted(text: str) -> str:
    plain = re.fullmatch(r"[A-Za-z0-9_./][A-Za-z0-9_./ -]*", text) and text.lower() not in (
        "true",
        "false",
        "null",
        "no",
    )
    return text if plain else "'" + text.replace("'", "''") + "'"
