"""`ens doctor`."""

from __future__ import annotations

from ensembler.cli.options import Debug, Json, Quiet
from ensembler.cli.terminal import print_json


def command(json: Json = False, quiet: Quiet = False, debug: Debug = False) -> None:
    """Show versions, devices and what each extra would add."""
    from ensembler.machine.doctor import examine
    from ensembler.networks.devices_here import devices_here

    report = examine(devices_here)
    if json:
        print_json(report.to_json())
        return
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
