"""`ens ls [RUN]`."""

from __future__ import annotations

from typing import Annotated

import typer

from ensembler.cli.options import Artifacts, Debug, Json, Quiet
from ensembler.cli.terminal import number, print_json, print_table


def command(
    run: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="A run's name or folder; none = all runs.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
    artifacts: Artifacts = None,
) -> None:
    """List the runs, or what is in one: members, views, blends, submission."""
    from ensembler.evaluation.ls import list_run, list_runs
    from ensembler.predictions.members import number_in
    from ensembler.predictions.store import RunStore, artifacts_folder

    if run is None:
        root = artifacts_folder(artifacts)
        runs = list_runs(root)
        if json:
            print_json({"artifacts": str(root), "runs": [listing.to_json() for listing in runs]})
        elif not runs:
            print(f"No runs in {root} yet; `ens run RECIPE` makes one.")
        else:
            rows = [
                [r.run, str(len(r.members)), str(len(r.blends)), "yes" if r.submission else "no"]
                for r in runs
            ]
            print_table(f"runs in {root}", ["run", "members", "blends", "submission"], rows)
        return
    listing = list_run(RunStore.open(run, artifacts), check=True)
    if json:
        print_json(listing.to_json())
        return
    rows = [
        [
            m.name,
            f"{m.folds_done}/{m.folds}",
            ", ".join(m.views) or "-",
            number(number_in(m.scores, "oof", "accuracy")),
            number(number_in(m.scores, "oof", "log_loss")),
            m.state,
        ]
        for m in listing.members
    ]
    print_table(
        f"members of {listing.run}",
        ["member", "folds", "views", "accuracy", "log loss", "state"],
        rows,
    )
    if listing.blends:
        body = [
            [
                b.name,
                b.method,
                number(b.scores.get("log_loss")),
                number(b.scores.get("accuracy")),
                "yes" if b.submitted else "",
            ]
            for b in listing.blends
        ]
        print_table(
            "blends (cross-fitted)", ["blend", "method", "log loss", "accuracy", "submitted"], body
        )
    print(f"submission: {listing.submission or 'none yet'}")
    if listing.submission_altered:
        print(
            f"It is not as it was written (altered or cut short): `ens submit {listing.run}` "
            "writes it again."
        )
