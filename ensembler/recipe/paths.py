"""Paths in a recipe, which are relative to the file they stand in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from ensembler.data.spec import BUILT_IN_SOURCES
from ensembler.errors import RecipeError
from ensembler.networks.sources import FOLDER, source_of_backbone
from ensembler.recipe.document import Document, Place
from ensembler.recipe.variables import with_known

# Places that hold a path; * stands for any name.
_PATH_PLACES = (
    ("data", "source"),
    ("data", "root"),
    ("data", "test"),
    ("data", "corrections"),
    ("data", "corrections", "file"),
    ("folds",),
    ("folds", "file"),
    ("defaults", "checkpoint"),
    ("members", "*", "checkpoint"),
    ("members", "*", "features", "checkpoint"),
    ("members", "*", "features", "file"),
    ("members", "*", "features", "ids"),
    ("submission", "template"),
)
# Places of a name that may hold a path, behind this.
_BACKBONE_PLACES = (
    ("defaults", "backbone"),
    ("members", "*", "backbone"),
    ("members", "*", "features", "backbone"),
)


def resolve_paths(document: Document) -> Document:
    """The document with absolute paths; RecipeError for an empty one."""
    folder = document.path.resolve().parent

    def resolved(value: Any, place: Place) -> Any:
        if isinstance(value, dict):
            return {key: resolved(item, (*place, key)) for key, item in value.items()}
        if not isinstance(value, str):
            return value
        if _is_among(_BACKBONE_PLACES, place):
            return _backbone(value, folder)
        is_built_in = place == ("data", "source") and value in BUILT_IN_SOURCES
        if is_built_in or not _is_among(_PATH_PLACES, place):
            return value
        if not value.strip():
            dotted = ".".join(map(str, place))
            raise RecipeError(
                [f"{document.where(place)}: {dotted} is empty, expected a path"]
            )
        return _absolute(value, folder)

    return replace(document, content=resolved(document.content, ()))


def _backbone(name: str, folder: Path) -> str:
    source, place = source_of_backbone(name)
    return f"{FOLDER}:{_absolute(place, folder)}" if source == FOLDER else name


def _absolute(path: str, folder: Path) -> str:
    # A variable may stand for an absolute path: expand it before judging.
    return str(folder / Path(with_known(path)).expanduser())


def _is_among(patterns: tuple[tuple[str, ...], ...], place: Place) -> bool:
    return any(_matches(place, pattern) for pattern in patterns)


def _matches(place: Place, pattern: tuple[str, ...]) -> bool:
    return len(place) == len(pattern) and all(
        p in ("*", k) for k, p in zip(place, pattern, strict=True)
    )
