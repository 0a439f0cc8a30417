"""`ens predict BUNDLE IMAGES`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ensembler.cli.options import Artifacts, Debug, Device, Json, Quiet
from ensembler.cli.progress import show_progress
from ensembler.cli.terminal import print_json, stoppable


def command(
    bundle: Annotated[
        Path, typer.Argument(metavar="BUNDLE", help="A bundle that `ens pack` wrote.")
    ],
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGES...",
            help="Files, folders, patterns, manifests (CSV, Parquet), or - for a list on standard "
            "input.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            metavar="FILE",
            help="Where predictions go; its ending says how: .csv, .parquet, .jsonl or .npz.",
        ),
    ] = Path("predictions.csv"),
    template: Annotated[
        Path | None,
        typer.Option(
            "--template",
            metavar="CSV",
            help="A sample submission: its ids, order and columns are what is written.",
        ),
    ] = None,
    jobs: Annotated[
        int,
        typer.Option(
            "--jobs",
            min=1,
            max=256,
            metavar="N",
            help="Processes that predict at the same time, for small networks that leave cores "
            "idle.",
        ),
    ] = 1,
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at an image that cannot be read.")
    ] = False,
    engine: Annotated[
        str | None,
        typer.Option(
            "--engine",
            help="default, auto, eager, traced, compile, openvino, onnx (else the bundle's).",
        ),
    ] = None,
    trust_code: Annotated[
        bool,
        typer.Option(
            "--trust-code",
            help="Run the code that the bundle brings along; without it the code is shown.",
        ),
    ] = False,
    device: Device = "auto",
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
    artifacts: Artifacts = None,
) -> None:
    """Predict images with a bundle; needs no recipe, no training data and no network."""
    from ensembler.outputs import is_standard_output
    from ensembler.pipeline.check import check_training_installed

    check_training_installed("ens predict")
    from ensembler.bundle.check import check_reference
    from ensembler.bundle.images import find_asked
    from ensembler.bundle.networks import Networks
    from ensembler.bundle.open import open_bundle
    from ensembler.bundle.predict import Form, predict_images
    from ensembler.inference.engines.registry import check_engine, check_installed

    check_installed(check_engine(engine or "default"))
    show_code(bundle, trusted=trust_code)
    ensemble = open_bundle(bundle, trust_code=trust_code)
    record = ensemble.record
    asked = find_asked(
        images, sys.stdin, path_column=record.path_column, id_column=record.id_column
    )
    form = Form(template, strict, jobs)
    again = f"`ens predict {bundle}` with the same images"
    with stoppable(again), show_progress(quiet=quiet) as progress:
        networks = Networks(ensemble, device, engine, progress)
        check_reference(networks)
        made = predict_images(networks, asked, out, form, progress)
    if json:
        failed = [{"path": path, "message": fault} for path, fault in made.failed]
        print_json({**made.__dict__, "out": str(made.out), "failed": failed})
    else:
        told = sys.stderr if is_standard_output(made.out) else sys.stdout
        n_predicted = made.rows - len(made.failed)
        print(f"{n_predicted} predictions are in {made.out}.", file=told)
    if made.failed:
        n, first = len(made.failed), ", ".join(path for path, _ in made.failed[:3])
        print(
            f"{n} of {made.rows} images could not be read and have an empty row: {first}"
            f"{', ...' if n > 3 else ''}",
            file=sys.stderr,
        )
        raise typer.Exit(1)


def show_code(bundle: Path, *, trusted: bool) -> None:
    """Show the code that a bundle brings along: all of it, or its names where it is trusted."""
    from ensembler.bundle.archive import open_archive
    from ensembler.bundle.code import sources_in

    for name, text in sources_in(open_archive(bundle)).items():
        if trusted:
            print(f"runs code of the bundle: {name}", file=sys.stderr)
        else:
            print(f"--- {bundle}: {name}\n{text.rstrip()}\n---", file=sys.stderr)
