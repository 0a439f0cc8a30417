"""What holds for every command, whichever there are."""

from importlib.util import find_spec

import pytest

import ensembler
from ensembler.cli.app import app

# `ensemble` is another name of `bag`, and hidden
COMMANDS = [command.name for command in app.registered_commands if not command.hidden]
# the room in which the work of a command is done, by the file that is called after it
WORK = {
    "ablate": "experiments.ablate",
    "audit": "audit.audit",
    "bag": "pipeline.bag",
    "blend": "blends.blend",
    "demo-data": "demo.demo_data",
    "diversity": "evaluation.diversity",
    "doctor": "machine.doctor",
    "evaluate": "evaluation.evaluate",
    "distill": "pipeline.distill",
    "export": "predictions.export",
    "folds": "data.folds",
    "frontier": "pipeline.frontier",
    "guide": "agents.guide",
    "history": "reporting.history",
    "init": "recipe.init",
    "kfold": "pipeline.kfold",
    "ls": "evaluation.ls",
    "mcp": "agents.mcp",
    "merge": "sharing.merge",
    "pack": "bundle.pack",
    "plan": "pipeline.plan",
    "predict": "bundle.predict",
    "pull": "sharing.pull",
    "replay": "blends.replay",
    "report": "report.report",
    "reproduce": "pipeline.reproduce",
    "run": "pipeline.run",
    "schema": "recipe.schema",
    "share": "sharing.share",
    "submit": "blends.submit",
    "tta-predict": "members.tta_predict",
    "tune": "experiments.tune",
}
# whose work is in several files of one room
ELSEWHERE = {"import": "predictions.importing"}


def test_help_lists_every_command(ens_here):
    shown = ens_here("--help").stdout
    assert all(f" {name} " in shown for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_the_options_that_all_have(ens_here, name):
    shown = ens_here(name, "--help").stdout
    assert {option for option in ("--json", "--quiet", "--debug") if option in shown} == {
        "--json",
        "--quiet",
        "--debug",
    }


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_leads_to_a_file_called_after_it(name):
    parsed_in = name.replace("-", "_")
    own = find_spec(f"ensembler.cli.{parsed_in}") or find_spec(
        f"ensembler.cli.{parsed_in}_"
    )
    assert own is not None
    done_in = {**WORK, **ELSEWHERE}[name]
    assert find_spec(f"ensembler.{done_in}") is not None
    if name in WORK:
        assert done_in.rpartition(".")[2] == parsed_in


@pytest.mark.parametrize("name", COMMANDS)
def test_an_option_that_a_command_has_not_is_a_wrong_request(ens_here, name):
    done = ens_here(name, "--no-such-option", expect=2)
    assert "--no-such-option" in done.stderr
    assert f"`ens {name} --help`" in done.stderr
    assert done.stdout == ""


def test_the_version_is_that_of_the_package(ens_here):
    assert ens_here("--version").stdout.strip() == f"ens {ensembler.__version__}"


def test_an_unknown_command_is_a_wrong_request(ens_here):
    assert "nonsense" in ens_here("nonsense", expect=2).stderr


@pytest.mark.parametrize(
    ("error", "expected", "message"),
    [
        (
            PermissionError(13, "Permission denied", "/no/where"),
            2,
            "no permission to write",
        ),
        (
            OSError(28, "No space left on device", "/tmp/x"),
            1,
            "no room left to write /tmp/x",
        ),
        (OSError(5, "Input/output error", "/tmp/x"), 1, "Input/output error: /tmp/x"),
        (KeyboardInterrupt(), 1, "stopped; give the same command again"),
    ],
)
def test_what_goes_wrong_beneath_is_one_line_and_an_exit_code(
    ens_here, monkeypatch, error, expected, message
):
    from ensembler.predictions import store

    def broken(*_):
        raise error

    monkeypatch.setattr(store.RunStore, "open", broken)
    done = ens_here("ls", "fake", expect=expected)
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_debug_shows_where_an_error_comes_from(monkeypatch, tmp_path):
    from ensembler.cli.app import main
    from ensembler.errors import EnsemblerError

    monkeypatch.setattr(
        "sys.argv", ["ens", "ls", "nothing", "--artifacts", str(tmp_path), "--debug"]
    )
    with pytest.raises(EnsemblerError):
        main()
