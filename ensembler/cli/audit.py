"""`ens audit RECIPE`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ensembler.cli.options import Artifacts, Debug, Json, Overrides, Quiet, RecipeArgument
from ensembler.cli.progress import show_progress
from ensembler.cli.terminal import print_json, print_table

if TYPE_CHECKING:
    from ensembler.audit.audit import Audit


def command(
    recipe: RecipeArgument,
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
    """Check the data for problems, most harmful first, with a fix for each."""
    from ensembler.audit.audit import audit_recipe
    from ensembler.pipeline.check import check_training_installed
    from ensembler.predictions.store import artifacts_folder
    from ensembler.recipe.load import Recipe

    loaded = Recipe.load(recipe, overrides or ())
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
