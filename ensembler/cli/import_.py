"""`ens import RUN`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ensembler.cli.options import Artifacts, Debug, Json, Quiet, names
from ensembler.cli.terminal import print_json


def command(
    run: Annotated[
        str,
        typer.Argument(metavar="RUN", help="A new run's name, or a run to add members to."),
    ],
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels",
            metavar="FILE",
            help="CSV of id,label[,fold][,group]: the train rows.",
        ),
    ] = None,
    member: Annotated[
        list[str] | None,
        typer.Option(
            "--member", metavar="NAME=OOF[,TEST]", help="A member's files (repeatable)."
        ),
    ] = None,
    kind: Annotated[
        str, typer.Option("--kind", help="What the files hold: probs, logits or labels.")
    ] = "probs",
    test_ids: Annotated[
        Path | None,
        typer.Option(
            "--test-ids", metavar="FILE", help="CSV of id: the test rows in their order."
        ),
    ] = None,
    test_labels: Annotated[
        Path | None,
        typer.Option(
            "--test-labels", metavar="FILE", help="CSV of id,label: labelled test rows."
        ),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            "--classes", metavar="A,B", help="Class names in the order of the columns."
        ),
    ] = None,
    multi_label: Annotated[
        str | None,
        typer.Option(
            "--multi-label",
            metavar="SEP",
            help="Separator of a multi-label column, such as ' '.",
        ),
    ] = None,
    no_label: Annotated[
        str | None,
        typer.Option(
            "--no-label", help="With --multi-label, the word for a row without labels."
        ),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--folder", metavar="DIR", help="Import every member with files in this folder."
        ),
    ] = None,
    oof_pattern: Annotated[
        str, typer.Option("--oof-pattern", help="Their out-of-fold files.")
    ] = "{name}_oof.npy",
    test_pattern: Annotated[
        str, typer.Option("--test-pattern", help="Their test files.")
    ] = "{name}_test.npy",
    by_position: Annotated[
        bool,
        typer.Option(
            "--by-position", help="Match rows of files without ids by their order."
        ),
    ] = False,
    partial: Annotated[
        bool,
        typer.Option(
            "--partial", help="Accept members without predictions for some train rows."
        ),
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
    artifacts: Artifacts = None,
) -> None:
    """Make members out of predictions of any other tool."""
    from ensembler.errors import RequestError, UnknownNameError
    from ensembler.files import check_name
    from ensembler.predictions.importing.import_ import (
        find_members,
        import_predictions,
        parse_member,
    )
    from ensembler.predictions.store import artifacts_folder
    from ensembler.targets.label_sets import SetFormat

    if kind not in ("probs", "logits", "labels"):
        raise UnknownNameError("kind", kind, ("probs", "logits", "labels"))
    if no_label is not None and not multi_label:
        raise RequestError("--no-label goes with --multi-label SEP")
    members = [parse_member(text) for text in member or ()]
    if folder is not None:
        members += find_members(folder, oof_pattern, test_pattern)
    given = Path(run)
    target = (
        given
        if (given / "samples.csv").is_file()
        else artifacts_folder(artifacts) / check_name("run", run)
    )
    result = import_predictions(
        target,
        members,
        labels=labels,
        test_ids=test_ids,
        test_labels=test_labels,
        kind="probs" if kind == "probs" else "logits" if kind == "logits" else "labels",
        classes=names(classes),
        by_position=by_position,
        partial=partial,
        set_format=SetFormat(multi_label, no_label) if multi_label else None,
    )
    if json:
        print_json({**result.__dict__, "folder": str(target)})
        return
    for note in result.notes:
        print(f"note: {note}")
    members_in = (
        "1 member" if len(result.members) == 1 else f"{len(result.members)} members"
    )
    print(
        f"{members_in}, {result.train_rows} train rows, {result.test_rows} test rows in {target}."
    )
    print(f"Next: `ens blend {run}`")
