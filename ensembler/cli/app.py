"""The command line: the list of commands, and the one place where errors are reported.

There an error becomes a line and an exit code.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import typer

from ensembler.cli import (
    ablate,
    audit,
    bag,
    blend,
    demo_data,
    distill,
    diversity,
    doctor,
    evaluate,
    export,
    folds,
    frontier,
    guide,
    history,
    import_,
    init,
    kfold,
    ls,
    mcp,
    merge,
    pack,
    plan,
    predict,
    pull,
    replay,
    report,
    reproduce,
    run,
    schema,
    share,
    submit,
    tta_predict,
    tune,
)
from ensembler.cli.began import note_began
from ensembler.cli.given import GivenCommand
from ensembler.cli.terminal import print_error
from ensembler.errors import EnsemblerError
from ensembler.files import FULL, READ_ONLY, disk_full
from ensembler.stop import interrupt_on_sigterm

_INTERRUPTED = 130  # Typer's exit code after Ctrl-C; older versions raise Abort

app = typer.Typer(
    name="ens",
    help="Train K-fold members, keep every prediction, and submit the best blend, with an honest "
    "score.",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command("init")(init.command)
app.command("run")(run.command)
app.command("plan")(plan.command)
app.command("audit")(audit.command)
app.command("folds")(folds.command)
app.command("kfold")(kfold.command)
app.command("bag")(bag.command)
# the same, by the name that people look for
app.command("ensemble", hidden=True)(bag.command)
app.command("tta-predict")(tta_predict.command)
app.command("blend")(blend.command)
app.command("evaluate")(evaluate.command)
app.command("report")(report.command)
app.command("ablate")(ablate.command)
app.command("tune")(tune.command)
app.command("diversity")(diversity.command)
app.command("ls")(ls.command)
app.command("submit")(submit.command)
app.command("history")(history.command)
app.command("replay")(replay.command)
app.command("frontier")(frontier.command)
app.command("distill")(distill.command)
app.command("reproduce")(reproduce.command)
app.command("pack")(pack.command)
app.command("predict")(predict.command)
app.command("import")(import_.command)
app.command("export")(export.command)
app.command("share")(share.command)
app.command("pull")(pull.command)
app.command("merge")(merge.command)
app.command("doctor")(doctor.command)
app.command("schema")(schema.command)
app.command("demo-data")(demo_data.command)
app.command("guide")(guide.command)
app.command("mcp")(mcp.command)

for _registered in app.registered_commands:
    _registered.cls = GivenCommand


def _version(wanted: bool) -> None:
    if wanted:
        from ensembler import __version__

        typer.echo(f"ens {__version__}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """Train K-fold members, keep every prediction, and submit the best blend, honestly scored."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@cache
def _parser() -> Any:
    """All commands with their options: read from their functions once in a process."""
    return typer.main.get_command(app)


def main(began: float | None = None) -> NoReturn:
    """Run the command line, which `began` then, and leave with its exit code.

    0: done, 1: the work failed, 2: the request was wrong.
    """
    _prepare_streams()
    note_began(began)
    try:
        interrupt_on_sigterm()
        code = _parser()(standalone_mode=False)
        sys.stdout.flush()
        if code == _INTERRUPTED:
            raise KeyboardInterrupt
        sys.exit(code if isinstance(code, int) else 0)
    except (
        KeyboardInterrupt,
        typer.Abort,
    ):  # before the work began, or in a command that has nothing to resume
        print_error("stopped; give the same command again", exit_code=1, code="interrupted")
        sys.exit(1)
    except (EnsemblerError, OSError) as error:
        if "--debug" in sys.argv:
            raise
        sys.exit(_report(error))
    except Exception as error:
        # Typer's usage errors: their class depends on Typer's version, their interface does not.
        if not hasattr(error, "format_message"):
            raise
        print_error(
            f"{error.format_message()} (`{_command_named()} --help` lists what there is)",
            exit_code=2,
            code="usage",
        )
        sys.exit(2)


def _prepare_streams() -> None:
    """Let every command print, whatever streams it was started with.

    They may be closed, or have an encoding without some letters.
    """
    # A closed one is opened at once: a file that is opened later would get its number otherwise,
    # and what is printed.
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115
    sys.stderr = sys.stderr or Path(os.devnull).open("w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        # Where a stream has been put elsewhere in the middle of a line it cannot be changed, and
        # stays as it is.
        with contextlib.suppress(OSError):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")


def _command_named() -> str:
    names = {c.name for c in app.registered_commands}
    return "ens " + sys.argv[1] if len(sys.argv) > 1 and sys.argv[1] in names else "ens"


def _report(error: EnsemblerError | OSError) -> int:
    if isinstance(error, EnsemblerError):
        print_error(str(error), exit_code=error.exit_code, code=error.code)
        return error.exit_code
    if error.errno == errno.EPIPE:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    place = error.filename or "standard output"
    if error.errno in FULL:
        message = (
            str(disk_full(Path(error.filename), error))
            if error.filename
            else f"{error.strerror}: {place}"
        )
    elif error.errno in READ_ONLY:
        message = (
            f"no permission to write or read {place}; choose another folder with "
            "--artifacts DIR"
        )
    else:
        message = f"{error.strerror or error}: {place}"
    code = 1 if error.errno in (*FULL, errno.EIO) else 2
    print_error(message, exit_code=code, code="file")
    return code
