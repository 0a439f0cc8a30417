"""`ens share RUN TARGET`."""

from __future__ import annotations

from typing import Annotated

import typer

from ensembler.cli.options import (
    Artifacts,
    Debug,
    Json,
    MembersNamed,
    Quiet,
    RunArgument,
    names_in_all,
)
from ensembler.cli.progress import show_progress
from ensembler.cli.taken import print_skipped, print_taken_json
from ensembler.cli.terminal import stoppable


def command(
    run: RunArgument,
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET", help="A pool: a folder, or a URL such as s3://bucket/team."
        ),
    ],
    member: MembersNamed = None,
    weights: Annotated[
        bool, typer.Option("--weights", help="Share their networks, too.")
    ] = False,
    author: Annotated[
        str | None,
        typer.Option(
            "--author", help="Your name (default: git's user.name, else the login)."
        ),
    ] = None,
    note: Annotated[
        str | None, typer.Option("--note", help="What your team should know of them.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
    artifacts: Artifacts = None,
) -> None:
    """Share members with a team: logits, records and the recipe, in a pool."""
    from ensembler.predictions.store import RunStore
    from ensembler.sharing.share import share_run

    store = RunStore.open(run, artifacts)
    again = "the same command"
    with stoppable(again), show_progress(quiet=quiet or json) as progress:
        shared = share_run(
            store,
            target,
            members=names_in_all(member),
            weights=weights,
            author=author,
            note=note,
            progress=progress,
        )
    if json:
        print_taken_json(shared.to_json(), shared.refusal)
        return
    new = [name for name in shared.members if name not in shared.already]
    print(
        f"{len(new)} new of {len(shared.members)} members are in {shared.pool} "
        f"({shared.bytes / 1e6:.1f} MB written), by {shared.author}."
    )
    print_skipped(shared.skipped, shared.refusal)
