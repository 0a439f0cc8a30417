"""Options that several commands share, each written once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ensembler.errors import RequestError

RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="A run's name (artifacts/NAME) or its folder.")
]
RecipeArgument = Annotated[
    Path, typer.Argument(metavar="RECIPE", help="A recipe file (YAML).")
]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on standard output.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Artifacts = Annotated[
    Path | None,
    typer.Option(
        "--artifacts", metavar="DIR", help="The folder of all runs (or ENS_ARTIFACTS)."
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a value of the recipe, or add to a mapping (repeatable).",
    ),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1 or mps.")]
Devices = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="DEVICE[,DEVICE]",
        help="auto, cpu, cuda, cuda:1 or mps; several, such as cuda:0,cuda:1, share the folds.",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=0,
        max=256,
        help="Processes that augment images (default: none on a CPU, up to 8 for a GPU, shared by "
        "--jobs).",
    ),
]
Jobs = Annotated[
    int,
    typer.Option(
        "--jobs",
        min=1,
        max=256,
        metavar="N",
        help="Folds trained at once, for small networks that leave cores idle.",
    ),
]
Members = Annotated[
    str | None, typer.Option("--members", metavar="A,B", help="Only these members.")
]
MembersNamed = Annotated[
    list[str] | None,
    typer.Option(
        "--member",
        "--members",
        metavar="A,B",
        help="Only these members (repeatable, or with commas).",
    ),
]
TakenAs = Annotated[
    str | None,
    typer.Option(
        "--as",
        metavar="holdout-only",
        help="Take members of other folds for the test rows alone; no blend is fitted on them.",
    ),
]
Folds = Annotated[
    str | None, typer.Option("--folds", metavar="0,2", help="Only these folds.")
]
DeadlineOption = Annotated[
    str | None,
    typer.Option(
        "--deadline",
        metavar="WHEN",
        help="Be done by then: a length such as 45s, 30m or 1h30m from now, a time such as 23:30, "
        "or 2026-12-01T18:00.",
    ),
]


def names(given: str | None) -> tuple[str, ...] | None:
    """The names in "a,b"; None when nothing was given."""
    if given is None:
        return None
    parts = tuple(part.strip() for part in given.split(","))
    if not all(parts) or len(set(parts)) != len(parts):
        raise RequestError(
            f"{given!r} should be names with commas between them, none empty or twice"
        )
    return parts


def names_in_all(given: list[str] | None) -> tuple[str, ...] | None:
    """The names in each of several "a,b"; None when nothing was given."""
    return names(",".join(given)) if given else None


def is_holdout_only(given: str | None) -> bool:
    """Whether members of other folds are taken for test rows; no other way is known."""
    if given not in (None, "holdout-only"):
        raise RequestError(
            f"--as {given!r} is unknown; choose holdout-only, or leave it out"
        )
    return given is not None


def fold_numbers(given: str | None) -> tuple[int, ...] | None:
    """The fold numbers in "0,2"; None when nothing was given."""
    parts = names(given)
    if parts is None:
        return None
    if not all(part.isdecimal() for part in parts):
        raise RequestError(
            f"--folds {given!r} should be fold numbers with commas between them, such as 0,2"
        )
    return tuple(int(part) for part in parts)
