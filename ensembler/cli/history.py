"""`ens history RUN`."""

from __future__ import annotations

from typing import Annotated

import typer

from ensembler.cli.options import Artifacts, Debug, Json, Quiet, RunArgument
from ensembler.cli.terminal import print_json, print_table
from ensembler.errors import RequestError


def command(
    run: RunArgument,
    set_score: Annotated[
        tuple[int, str] | None,
        typer.Option(
            "--set-score",
            metavar="N SCORE",
            help="Note the public score of submission N; none takes it back.",
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            "--metric", help="The metric of that score, where it is not the blend's."
        ),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
    artifacts: Artifacts = None,
) -> None:
    """List every submission there was, with honest and public scores."""
    from ensembler.metrics import check_metric_name
    from ensembler.predictions.store import RunStore
    from ensembler.reporting.history import run_history, set_public_score

    store = RunStore.open(run, artifacts)
    if metric is not None:
        check_metric_name(metric)
        if set_score is None:
            raise RequestError("--metric says of which metric a score is; give --set-score")
    if set_score is not None:
        n, text = set_score
        set_public_score(store, n, _value(text), metric)
    history = run_history(store)
    if json:
        print_json(history.to_json())
        return
    if not history.versions:
        print(f"No submission of {history.run} yet; `ens submit {history.run}` writes one.")
        return
    for table in history.tables():
        print_table(table)


def _value(text: str) -> float | None:
    if text == "none":
        return None
    try:
        return float(text)
    except ValueError as error:
        raise RequestError(f"--set-score {text!r}: expected a number, or none") from error
