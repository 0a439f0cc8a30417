"""`ens tta-predict RUN`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ensembler.cli.options import (
    Artifacts,
    Debug,
    Device,
    Json,
    Members,
    Quiet,
    RunArgument,
    names,
)
from ensembler.cli.progress import show_progress
from ensembler.cli.terminal import print_json, stoppable
from ensembler.machine.execution import Execution


def command(
    run: RunArgument,
    views: Annotated[
        str | None,
        typer.Option(
            "--views", metavar="A,B", help="Views to add, such as identity,hflip,rot90."
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", metavar="DATA", help="A folder or CSV of new, unlabelled images."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="Where predictions for --data go (predictions.csv).",
        ),
    ] = None,
    members: Members = None,
    engine: Annotated[
        str | None,
        typer.Option(
            "--engine",
            help="default, auto, eager, graph, traced, compile, openvino, onnx (else the "
            "recipe's).",
        ),
    ] = None,
    device: Device = "auto",
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
    artifacts: Artifacts = None,
) -> None:
    """Cache the members' logits under more views, or predict new images with --data."""
    from ensembler.errors import RequestError
    from ensembler.outputs import is_standard_output
    from ensembler.pipeline.check import check_device, check_training_installed
    from ensembler.predictions.store import RunStore
    from ensembler.recipe.own_code import introduce_code, own_among

    if data is not None and views is not None:
        raise RequestError(
            "--data and --views do not go together: new images are predicted with the views of the "
            "run"
        )
    store = RunStore.open(run, artifacts)
    check_training_installed("ens tta-predict")
    from ensembler.inference.engines.registry import check_engine, check_installed
    from ensembler.inference.views import expand_views
    from ensembler.members.option_claims import check_nobody_trains_otherwise
    from ensembler.members.tta_predict import ViewPredictor, predict_missing_views
    from ensembler.pipeline.predict_new import predict_new
    from ensembler.workspace.workspace import workspace_of_run

    check_installed(check_engine(engine or "default"))
    execution = Execution(device, engine=engine)
    with (
        stoppable(f"the same `ens tta-predict {run}`"),
        show_progress(quiet=quiet) as progress,
    ):
        code = dict.fromkeys(own_among(names(views)), "view")
        introduce_code(code, progress, [Path.cwd()])
        wanted = expand_views(names(views) or ()) if views else None
        check_device(device, progress)
        workspace = workspace_of_run(store, progress, check=check_nobody_trains_otherwise)
        if data is not None:
            new = predict_new(
                workspace, data, out, execution=execution, members=names(members)
            )
            if json:
                print_json({**new.__dict__, "out": str(new.out)})
            else:
                made = (
                    f"blend {new.blend}"
                    if new.blend
                    else f"soft vote of {', '.join(new.members)}"
                )
                told = sys.stderr if is_standard_output(new.out) else sys.stdout
                print(f"{new.rows} predictions by {made} are in {new.out}.", file=told)
            return
        if wanted is None:
            result = predict_missing_views(workspace, execution)
        else:
            result = ViewPredictor(workspace, execution).add_views(wanted, names(members))
    if json:
        print_json({"run": result.run, "views": result.views, "added": result.added})
        return
    for name, has in result.views.items():
        added = result.added.get(name, ())
        print(
            f"{name}: {', '.join(has)}"
            + (f" (added {', '.join(added)})" if added else " (nothing to add)")
        )
    print(f"Next: `ens evaluate {run} --by-view` shows what each view is worth.")
