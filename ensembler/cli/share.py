"""`ens share RUN TARGET`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

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
from ensembler.cli.terminal import print_json, stoppable
from ensembler.errors import RequestError

if TYPE_CHECKING:
    from ensembler.predictions.store import RunStore


def command(
    run: RunArgument,
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="[TARGET]", help="A pool: a folder, or a URL such as s3://bucket/team."
        ),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="TRACKER",
            help="Mirror the run in a tracker: mlflow, wandb, tensorboard or trackio.",
        ),
    ] = None,
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
    if (target is None) == (to is None):
        raise RequestError("name a pool, or a tracker with --to, and not both")
    if to is not None:
        if weights or author is not None or note is not None:
            raise RequestError(
                "--weights, --author and --note are for a pool, not for --to"
            )
        _mirror(store, to, names_in_all(member), json)
        return
    assert target is not None
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


def _mirror(
    store: RunStore, tracker: str, members: Sequence[str] | None, json: bool
) -> None:
    from ensembler.sharing.trackers.mirror import mirror_run
    from ensembler.sharing.trackers.tracker import TRACKERS

    TRACKERS.check(tracker)
    for name in members or ():
        store.member(name)
    with stoppable("the same command"):
        mirrored = mirror_run(store, tracker, members=members)
    names = [*mirrored.members, *mirrored.already]
    if json:
        print_json(
            {
                "run": store.name,
                "tracker": tracker,
                "members": names,
                "already": mirrored.already,
                "skipped": [],
            }
        )
        return
    print(
        f"{tracker} has {len(names)} members of {store.name}, {len(mirrored.members)} new."
    )
