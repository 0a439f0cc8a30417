"""What `ens share`, `ens pull` and `ens merge` say of what they left."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

from ensembler.cli.terminal import print_json

if TYPE_CHECKING:
    from ensembler.sharing.pool import Unusable
    from ensembler.sharing.take import Taken


def print_taken(taken: Taken, json: bool) -> None:
    """Print what was taken into a run; leave with exit code 2 when nothing could be."""
    if json:
        print_taken_json(taken.to_json(), taken.refusal)
        return
    new = [name for name in taken.members if name not in taken.already]
    for name in new:
        was = f" ({taken.renamed[name]} there)" if name in taken.renamed else ""
        print(f"took {name}{was}")
    if taken.already:
        print(f"there already: {', '.join(taken.already)}")
    print_skipped(taken.skipped, taken.refusal)
    if new:
        print(f"`ens blend {taken.run}` blends them with yours.")


def print_taken_json(answer: Mapping[str, Any], refusal: str | None) -> None:
    """Print an answer, with the error when nothing of what was asked for could be done."""
    if refusal is None:
        print_json(answer)
        return
    print(f"error: {refusal}", file=sys.stderr)
    print_json({**answer, "error": refusal, "exit_code": 2})
    raise typer.Exit(2)


def print_skipped(skipped: Sequence[Unusable], refusal: str | None) -> None:
    """Print what was left and why; leave with exit code 2 when that was all."""
    if refusal is not None:
        print(f"error: {refusal}", file=sys.stderr)
        raise typer.Exit(2)
    for left in skipped:
        print(f"skipped {left.member}: {left.reason}", file=sys.stderr)
