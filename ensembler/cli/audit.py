"""`ens audit RECIPE`, and `ens audit RUN --labels`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ensembler.cli.options import (
    Artifacts,
    Debug,
    Json,
    Members,
    Overrides,
    Quiet,
    names,
)
from ensembler.cli.progress import show_progress
from ensembler.cli.terminal import print_json, print_table
from ensembler.errors import RequestError

if TYPE_CHECKING:
    from ensembler.audit.audit import Audit
    from ensembler.pipeline.audit_labels import LabelAudit


def command(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE",
            help="A recipe file (YAML); a run's name or folder with --labels.",
        ),
    ],
    labels: Annotated[
        bool,
        typer.Option(
            "--labels",
            help="Of a run: which labels are wrong, by the out-of-fold predictions of its members.",
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="CSV",
            help="With --labels: write the suspects, for you to edit and data.corrections to take.",
        ),
    ] = None,
    sheet: Annotated[
        Path | None,
        typer.Option(
            "--sheet",
            metavar="PNG",
            help="With --labels: draw the pictures of the suspects.",
        ),
    ] = None,
    members: Members = None,
    target: Annotated[
        str | None,
        typer.Option("--target", help="With --labels: the target whose labels are judged."),
    ] = None,
    leak_test: Annotated[
        bool,
        typer.Option(
            "--leak-test", help="Score a cheap model under plain and under grouped folds."
        ),
    ] = False,
    adversarial: Annotated[
        bool,
        typer.Option(
            "--adversarial",
            help="Adversarial validation: can a cheap model tell train from test images?",
        ),
    ] = False,
    preview: Annotated[
        Path | None,
        typer.Option(
            "--preview",
            metavar="PNG",
            help="Draw prepared and augmented images as the networks see them.",
        ),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Exit with 1 when there is an error or a warning."),
    ] = False,
    overrides: Overrides = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
    artifacts: Artifacts = None,
) -> None:
    """Check the data for problems, most harmful first; or the labels, with --labels."""
    of_labels = {"--out": out, "--sheet": sheet, "--members": members, "--target": target}
    of_recipes = {
        "--leak-test": leak_test or None,
        "--adversarial": adversarial or None,
        "--preview": preview,
        "--set": overrides or None,
    }
    if labels:
        _refuse(of_recipes, "is an option of `ens audit RECIPE`, without --labels")
    else:
        _refuse(of_labels, "goes with --labels: `ens audit RUN --labels`")
    if labels:
        audited = _audit_labels(
            recipe, artifacts, members, target, out, sheet, quiet=quiet or json
        )
        if json:
            print_json(audited.to_json())
        else:
            print_label_audit(audited)
        if strict and audited.errors.wrong.expected >= 1:
            raise typer.Exit(1)
        return
    from ensembler.audit.audit import audit_recipe
    from ensembler.pipeline.check import check_training_installed
    from ensembler.predictions.store import artifacts_folder
    from ensembler.recipe.load import Recipe

    loaded = Recipe.load(Path(recipe), overrides or ())
    check_training_installed("ens audit")
    if preview is not None:
        from ensembler.audit.contact_sheet import check_preview, write_preview

        check_preview(preview)
    with show_progress(quiet=quiet or json) as progress:
        audit = audit_recipe(
            loaded.spec,
            artifacts_folder(artifacts),
            test_leak=leak_test,
            adversarial=adversarial,
            progress=progress,
        )
    if preview is not None:
        from ensembler.recipe.own_code import introduce_code_of

        introduce_code_of(loaded, progress)
        write_preview(loaded.spec, artifacts_folder(artifacts), preview)
    if json:
        print_json(
            {**audit.to_json(), "preview": None if preview is None else str(preview)}
        )
    else:
        print_audit(audit)
        if preview is not None:
            print(f"Images as the networks see them: {preview}")
    if strict and not audit.is_clean:
        raise typer.Exit(1)


def _refuse(given: Mapping[str, object], why: str) -> None:
    """Raise RequestError for the first option that was given."""
    for option, value in given.items():
        if value is not None:
            raise RequestError(f"{option} {why}")


def _audit_labels(
    run: str,
    artifacts: Path | None,
    members: str | None,
    target: str | None,
    out: Path | None,
    sheet: Path | None,
    *,
    quiet: bool,
) -> LabelAudit:
    from ensembler.outputs import check_output
    from ensembler.pipeline.audit_labels import audit_labels
    from ensembler.predictions.store import RunStore

    if out is not None:
        check_output(out)
    if sheet is not None:
        from ensembler.audit.label_sheet import check_sheet

        check_sheet(sheet)
    store = RunStore.open(run, artifacts)
    with show_progress(quiet=quiet) as progress:
        return audit_labels(
            store, names(members), target=target, out=out, sheet=sheet, progress=progress
        )


def print_label_audit(audited: LabelAudit) -> None:
    """Print the first suspects, how many labels are wrong, and what was written."""
    for table in audited.errors.tables():
        print_table(table)
    for warning in audited.errors.warnings:
        print(f"warning: {warning}")
    print(f"{audited.errors.verdict}.")
    if audited.sheet is not None:
        print(f"Their pictures: {audited.sheet}")
    if audited.out is not None:
        print(
            f"Written: {audited.out}. Look at the rows, delete those that are right, and name the "
            "file in a recipe: data: {corrections: " + audited.out.name + "}"
        )


def print_audit(audit: Audit) -> None:
    """Print counts, findings with their fixes, the probes, and the verdict."""
    from ensembler.audit.tables import count_tables

    for table in count_tables(audit):
        print_table(table)
    for key in ("folds", "groups", "sizes", "kinds"):
        if audit.counts.get(key):
            print(
                f"{key}: "
                + ", ".join(f"{name} {n}" for name, n in audit.counts[key].items())
            )
    for finding in audit.findings:
        print(f"\n{finding.severity} {finding.code}: {finding.message}")
        shown = ", ".join(finding.files[:5]) + (
            f" and {len(finding.files) - 5} more" if len(finding.files) > 5 else ""
        )
        if shown:
            print(f"  files: {shown}")
        if finding.fix:
            print(f"  fix:   {finding.fix}")
    if audit.leak is not None:
        leak = audit.leak
        print(
            f"\nleak test on {leak.n} rows, {leak.n_groups} groups by {leak.group}, accuracy of "
            f"{leak.target}:"
        )
        print(f"  plain folds   {leak.plain}\n  grouped folds {leak.grouped}")
        print(f"  {leak.plain.value:.2f} would have been {leak.grouped.value:.2f}")
    if audit.adversarial is not None:
        print(f"\nadversarial validation, AUC of train against test: {audit.adversarial}")
        if audit.adversarial_null is not None:
            print(
                f"  some train groups against the others: {audit.adversarial_null}; test groups "
                "are not known,"
            )
            print(
                "  so a model may know them again, and only what lies above that is a shift"
            )
    print(f"\n{audit.verdict}")
