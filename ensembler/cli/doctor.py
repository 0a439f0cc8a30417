"""`ens doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ensembler.cli.options import Debug, Device, Json, Quiet
from ensembler.cli.progress import show_progress
from ensembler.cli.terminal import print_json
from ensembler.machine.shared_folder import SharedFolder, check_shared

if TYPE_CHECKING:
    from ensembler.machine.doctor import Diagnosis


def command(
    gpu: Annotated[
        bool,
        typer.Option(
            "--gpu",
            help="Try every path on the device for a minute; a block to paste into an issue.",
        ),
    ] = False,
    shared: Annotated[
        Path | None,
        typer.Option(
            "--shared",
            metavar="DIR",
            help="Check that machines which share this folder may share a run: that locks hold.",
        ),
    ] = None,
    hold: Annotated[
        float,
        typer.Option(
            "--hold",
            min=0.0,
            max=3600.0,
            metavar="SECONDS",
            help="With --shared, wait so long for the same check on another machine.",
        ),
    ] = 0.0,
    device: Device = "auto",
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Show versions, devices and what each extra would add; --gpu tries the device."""
    if shared is not None:
        _print_shared(check_shared(shared, hold), json=json)
        return
    from ensembler.machine.doctor import examine
    from ensembler.networks.devices_here import devices_here

    report = examine(devices_here)
    tried = None
    if gpu:
        from ensembler.pipeline.check import check_training_installed

        check_training_installed("ens doctor --gpu")
        from ensembler.pipeline.doctor_gpu import try_device

        with show_progress(quiet=quiet) as progress:
            tried = try_device(device, progress)
    if json:
        print_json(report.to_json() | ({} if tried is None else {"gpu": tried.to_json()}))
        return
    if tried is None:
        _print_diagnosis(report)
        return
    print("```text")
    _print_diagnosis(report)
    print(*tried.lines, sep="\n")
    print("```")


def _print_shared(found: SharedFolder, *, json: bool) -> None:
    if json:
        print_json(found.to_json())
    else:
        print(found.message)
    if not found.holds:
        raise typer.Exit(1)


def _print_diagnosis(report: Diagnosis) -> None:
    print(
        f"ensembler-toolkit {report.version}, Python {report.python}, {report.processor}, "
        f"{report.cores} cores"
    )
    for device in report.devices:
        print(f"device: {device}")
    for extra in report.extras:
        missing = f"; missing: {', '.join(extra.missing)}" if extra.missing else ""
        print(
            f"extra {extra.name} ({extra.adds}): "
            f"{'installed' if not extra.missing else 'not installed'}{missing}"
        )
    for name, version in report.packages.items():
        print(f"  {name} {version}")
    for problem in report.problems:
        print(f"problem: {problem}")
