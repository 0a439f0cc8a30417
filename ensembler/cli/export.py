"""`ens export RUN`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ensembler.cli.options import Artifacts, Debug, Json, Quiet
from ensembler.cli.terminal import print_json

GRAPHS = ("onnx", "openvino", "torch")


def command(
    source: Annotated[
        str,
        typer.Argument(
            metavar="RUN", help="A run's name or folder; of graphs also a bundle (.ens)."
        ),
    ],
    member: Annotated[
        str | None, typer.Option("--member", metavar="NAME", help="The member to export.")
    ] = None,
    blend: Annotated[
        str | None,
        typer.Option(
            "--blend",
            metavar="NAME",
            help="The blend to export (of graphs by default the submitted one).",
        ),
    ] = None,
    format: Annotated[
        str,
        typer.Option(
            "--format",
            help="Predictions as csv, npy or parquet; one graph as onnx, openvino or torch.",
        ),
    ] = "csv",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="PATH",
            help="The folder that predictions go to (default: this one), or a graph's file "
            "(NAME.onnx, .xml, .pt2).",
        ),
    ] = None,
    images: Annotated[
        list[str] | None,
        typer.Option(
            "--images",
            metavar="IMAGES",
            help="Images that a graph is checked on: a folder or files (default: the run's).",
        ),
    ] = None,
    trust_code: Annotated[
        bool, typer.Option("--trust-code", help="Run the code that a bundle brings along.")
    ] = False,
    int8: Annotated[
        bool,
        typer.Option(
            "--int8",
            help="With openvino: networks in 8-bit whole numbers, calibrated on the run's images.",
        ),
    ] = False,
    max_loss: Annotated[
        float | None,
        typer.Option(
            "--max-loss",
            min=0.0,
            metavar="NATS",
            help="How much log loss --int8 may cost (default: 0.005).",
        ),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
    artifacts: Artifacts = None,
) -> None:
    """Write probabilities as CSV, npy or Parquet, or the whole ensemble as one graph."""
    if format in GRAPHS:
        _export_graph(
            source,
            member,
            blend,
            format,
            out,
            {"images": images or [], "int8": int8, "max_loss": max_loss},
            trust_code,
            json,
            quiet,
            artifacts,
        )
        return
    from ensembler.errors import RequestError
    from ensembler.predictions.export import export_predictions
    from ensembler.predictions.store import RunStore

    if images or trust_code or int8 or max_loss is not None:
        raise RequestError(
            "--images, --trust-code, --int8 and --max-loss are for graphs: --format "
            f"{', '.join(GRAPHS)}"
        )
    if source.endswith(".ens"):
        raise RequestError(
            f"{source} is a bundle, which keeps no predictions; a graph of it is made with "
            f"--format {', '.join(GRAPHS)}"
        )
    result = export_predictions(
        RunStore.open(source, artifacts),
        out or Path(),
        member=member,
        blend=blend,
        format=format,
    )
    if json:
        print_json(
            {
                "run": result.run,
                "name": result.name,
                "files": [str(path) for path in result.files],
            }
        )
    else:
        print(f"{result.name} is in {' and '.join(str(path) for path in result.files)}.")


def _export_graph(
    source: str,
    member: str | None,
    blend: str | None,
    format: str,
    out: Path | None,
    asked: dict[str, Any],
    trust_code: bool,
    json: bool,
    quiet: bool,
    artifacts: Path | None,
) -> None:
    from ensembler.bundle.open import open_ensemble
    from ensembler.cli.progress import show_progress
    from ensembler.errors import RequestError
    from ensembler.pipeline.check import check_training_installed
    from ensembler.predictions.store import RunStore

    if asked["max_loss"] is None:
        del asked["max_loss"]
    elif not asked["int8"]:
        raise RequestError("--max-loss says what --int8 may cost; add --int8")
    if member is not None:
        raise RequestError(
            f"a graph holds a blend: `ens blend {source} --method single --members {member} "
            f"--name {member}` makes one of the member, then --blend {member}"
        )
    check_training_installed("ens export --format onnx|openvino|torch")
    from ensembler.bundle.graph import export_graph
    from ensembler.bundle.graph_files import SUFFIXES

    with show_progress(quiet=quiet) as progress:
        ensemble = open_ensemble(
            source, blend=blend, artifacts=artifacts, trust_code=trust_code
        )
        store = None if source.endswith(".ens") else RunStore.open(source, artifacts)
        result = export_graph(
            ensemble,
            format,
            out or Path(f"{ensemble.record.name}{SUFFIXES[format]}"),
            store=store,
            progress=progress,
            **asked,
        )
    if json:
        print_json(result.to_json())
        return
    from_run = (
        ""
        if result.max_difference_run is None
        else f", {result.max_difference_run:.2g} to what the run predicted"
    )
    print(
        f"{result.file} ({result.bytes / 1e6:.1f} MB) holds blend {result.blend}: "
        f"{result.networks} networks of {', '.join(result.members)}."
    )
    print(
        f"Largest difference of a probability: {result.max_difference:.2g} to float32{from_run} "
        f"({result.checked_on})."
    )
    cost = result.int8
    if cost is None:
        return
    print(
        f"int8 costs {cost.cost:+.4f} nats of log loss ({cost.log_loss_float32:.4f} in float32, "
        f"{cost.log_loss_int8:.4f} on {cost.rows} rows, judged by {cost.judged_by}; "
        f"tempered on {cost.tempered_on})."
    )
    for batch, (before, after) in cost.cpu_ms.items():
        print(
            f"{batch}: {after:.2f} ms of processor time an image, {before:.2f} in float32 "
            f"({before / after:.1f} times)."
        )
