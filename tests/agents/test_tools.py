"""Commands as tools: what they take, and the command line that it becomes."""

import pytest
import typer

from ensembler.agents.guide import check_form, guide
from ensembler.agents.tools import Tool, ToolOption
from ensembler.cli.app import app
from ensembler.cli.tools import command_tools
from ensembler.errors import RequestError, UnknownNameError

GROUP = typer.main.get_command(app)
TOOLS = {tool.name: tool for tool in command_tools(GROUP)}
DEMO = Tool(
    "demo",
    "Shows.",
    (
        ToolOption("run", None, "string", "A run.", required=True),
        ToolOption("count", "--count", "integer", "How many."),
        ToolOption("overrides", "--set", "string", "Override.", repeated=True),
        ToolOption("keep", "--keep", "boolean", "Keep.", off="--no-keep"),
    ),
)


def test_what_is_given_becomes_the_command_line():
    given = {"run": "r", "count": 3, "overrides": ["a=1", "b=2"], "keep": True}
    words = ["demo", "--count=3", "--set=a=1", "--set=b=2", "--keep", "--json", "--", "r"]
    assert DEMO.command_line(given) == words
    assert DEMO.command_line({"run": "r", "keep": False})[1] == "--no-keep"


def test_an_argument_that_looks_like_an_option_is_none():
    assert DEMO.command_line({"run": "--json"})[-2:] == ["--", "--json"]


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"run": "r", "count": "3"},
        {"run": "r", "keep": 1},
        {"run": ["r"]},
        {"run": True},
    ],
)
def test_what_does_not_fit_is_refused(given):
    with pytest.raises(RequestError):
        DEMO.command_line(given)


def test_an_unknown_option_names_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'count'"):
        DEMO.command_line({"run": "r", "coutn": 3})


def test_every_command_but_the_server_and_the_guide_is_a_tool():
    names = {name for name, command in GROUP.commands.items() if not command.hidden}
    assert set(TOOLS) == names - {"mcp", "guide"}


def test_a_tool_takes_what_its_command_takes():
    assert {"recipe", "deadline", "overrides", "members"} <= {
        option.name for option in TOOLS["run"].options
    }
    schema = TOOLS["run"].schema()
    assert schema["required"] == ["recipe"]
    assert schema["properties"]["overrides"]["type"] == "array"
    assert schema["properties"]["jobs"]["type"] == "integer"
    assert "json" not in schema["properties"]


@pytest.mark.parametrize("name", sorted(TOOLS))
def test_its_command_line_is_one(name):
    """All options of a tool at once, with values of their kind, are options of the command."""
    values = {"string": "auto", "integer": 12, "number": 0.5, "boolean": True}
    given = {}
    for option in TOOLS[name].options:
        value = values[option.kind]
        given[option.name] = [value] if option.repeated else value
    words = TOOLS[name].command_line(given)
    command = GROUP.commands[words[0]]
    context = command.make_context(words[0], words[1:], resilient_parsing=True)
    assert set(given) <= set(context.params)


def test_the_guide_names_every_command_and_the_keys_of_a_recipe():
    text = guide(list(TOOLS.values()), [("data", "What is read."), ("folds", "")])
    for name in TOOLS:
        assert f"- `ens {name}`" in text
    assert "- `data`: What is read." in text
    assert "{" not in text.split("## Commands")[0].split("`{")[0]
    assert not text.startswith("---")


def test_a_skill_has_a_head_that_says_when_to_use_it():
    text = guide([], [], "skill")
    assert text.startswith("---\nname: ensembler\ndescription:")
    with pytest.raises(UnknownNameError):
        check_form("poem")
