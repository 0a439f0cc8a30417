"""`ens merge RUN OTHER`."""

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
    run: RunArgument,
    other: Annotated[
        str,
        typer.Argument(metavar="OTHER", help="A colleague's run: its folder or its name."),
    ],
    member: MembersNamed = None,
    author: Annotated[
        str | None,
        typer.Option(
            "--author", help="Whose run it is, for names that clash (default: its name)."
        ),
    ] = None,
    as_: TakenAs = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
    artifacts: Artifacts = None,
) -> None:
    """Take the members of a colleague's run into yours, where they blend with yours."""
    from ensembler.predictions.store import RunStore
    from ensembler.sharing.merge import merge_run

    holdout_only = is_holdout_only(as_)
    store, others = RunStore.open(run, artifacts), RunStore.open(other, artifacts)
    with stoppable("the same command"):
        taken = merge_run(
            store,
            others,
            members=names_in_all(member),
            author=author,
            holdout_only=holdout_only,
        )
    print_taken(taken, json)
