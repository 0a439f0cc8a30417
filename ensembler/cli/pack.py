"""`ens pack RUN`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ensembler.cli.options import Artifacts, Debug, Device, Json, Quiet, RunArgument
from ensembler.cli.progress import show_progress
from ensembler.cli.terminal import print_json, stoppable


def command(
    run: RunArgument,
    blend: Annotated[
        str | None,
        typer.Option(
            "--blend", metavar="NAME", help="The blend to pack (the submitted one)."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="The bundle to write (RUN.ens)."),
    ] = None,
    precision: Annotated[
        str,
        typer.Option(
            "--precision",
            help="Of the weights: float32, or bfloat16 or float16 for half the size.",
        ),
    ] = "float32",
    with_code: Annotated[
        list[Path] | None,
        typer.Option(
            "--with-code",
            metavar="FILE.py",
            help="A module of your own that the ensemble needs (repeatable); `ens predict` runs it "
            "only with --trust-code.",
        ),
    ] = None,
    max_cost: Annotated[
        str | None,
        typer.Option(
            "--max-cost",
            metavar="5ms",
            help="The best blend that takes at most this for an image.",
        ),
    ] = None,
    max_size: Annotated[
        str | None,
        typer.Option(
            "--max-size",
            metavar="50MB",
            help="The best blend whose bundle is at most this large.",
        ),
    ] = None,
    device: Device = "auto",
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
    artifacts: Artifacts = None,
) -> None:
    """Pack a run's ensemble into one file that predicts anywhere with `ens predict`."""
    from ensembler.pipeline.check import check_training_installed
    from ensembler.predictions.store import RunStore

    store = RunStore.open(run, artifacts)
    check_training_installed("ens pack")
    from ensembler.bundle.pack import check_precision, pack_run

    kept_precision = check_precision(precision)
    limits = None
    if max_cost is not None or max_size is not None:
        from ensembler.pipeline.frontier import Limits

        limits = Limits.parse(max_cost, max_size, kept_precision)
    with stoppable(f"`ens pack {run}`"), show_progress(quiet=quiet) as progress:
        if limits is not None:
            from ensembler.pipeline.frontier import blend_within

            blend = blend_within(store, limits, blend, device=device, progress=progress)
        made = pack_run(
            store,
            out,
            blend=blend,
            precision=kept_precision,
            with_code=with_code or (),
            device=device,
            progress=progress,
        )
    if limits is not None:
        limits.check(made.bundle)
    if json:
        print_json({**made.__dict__, "bundle": str(made.bundle)})
        return
    print(
        f"{made.bundle}: blend {made.blend}, {made.checkpoints} checkpoints of "
        f"{len(made.members)} members, {made.bytes / 1e6:,.1f} MB."
    )
    if made.max_difference > 0:
        own = f" and {made.compared} test images" if made.compared else ""
        print(
            f"Probabilities differ from the run's by at most {made.max_difference:.1e} on the "
            f"reference images{own}."
        )
    print(f"Next: `ens predict {made.bundle} IMAGES`")
