"""`ens pull SOURCE RUN`."""

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
    TakenAs,
    is_holdout_only,
    names_in_all,
)
from ensembler.cli.taken import print_taken
from ensembler.cli.terminal import stoppable


def command(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="A pool: a folder or a URL.")
    ],
    run: RunArgument,
    member: MembersNamed = None,
    as_: TakenAs = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
    artifacts: Artifacts = None,
) -> None:
    """Take a team's members out of a pool into a run, where they blend with yours."""
    from ensembler.predictions.store import RunStore
    from ensembler.sharing.pull import pull_members

    holdout_only = is_holdout_only(as_)
    store = RunStore.open(run, artifacts)
    with stoppable("the same command"):
        taken = pull_members(
            store, source, members=names_in_all(member), holdout_only=holdout_only
        )
    print_taken(taken, json)
