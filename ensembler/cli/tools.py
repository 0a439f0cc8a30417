"""The commands of `ens` as values for agents, read from how they are declared."""

from __future__ import annotations

import inspect
from types import UnionType
from typing import Any, Union, get_args, get_origin

import typer
from typer.models import ArgumentInfo

from ensembler.agents.tools import Kind, Tool, ToolOption

_NOT_OFFERED = ("mcp", "guide")  # a server does not serve itself, and has told the guide
_GENERAL = ("json", "quiet", "debug")
_KINDS: dict[type, Kind] = {bool: "boolean", int: "integer", float: "number"}


def command_tools(group: Any) -> list[Tool]:
    """Every command of the command line, as Typer makes it, that an agent may call."""
    tools = []
    for name, command in group.commands.items():
        if command.hidden or name in _NOT_OFFERED:
            continue
        about = " ".join(str(command.help or "").split())
        tools.append(Tool(name, about, _options(inspect.unwrap(command.callback))))
    return tools


def tools_of(context: typer.Context) -> list[Tool]:
    """The same, from inside a command."""
    return command_tools(context.find_root().command)


def _options(function: Any) -> tuple[ToolOption, ...]:
    """The options of a command, by the annotations of its function."""
    hints = inspect.get_annotations(function, eval_str=True)
    options = []
    for name, parameter in inspect.signature(function).parameters.items():
        if name in _GENERAL or hints[name] is typer.Context:
            continue
        declared = get_args(hints[name])
        options.append(_option(name, parameter.default, declared[0], declared[-1]))
    return tuple(options)


def _option(name: str, default: object, annotation: Any, information: Any) -> ToolOption:
    is_argument = isinstance(information, ArgumentInfo)
    # Inside Annotated, Typer keeps the first name of an option where a default would stand.
    declared = [information.default, *(information.param_decls or ())]
    flags = [flag for flag in declared if isinstance(flag, str) and flag.startswith("--")]
    on, _, off = (flags[0] if flags else f"--{name.replace('_', '-')}").partition("/")
    kept = _without_none(annotation)
    is_list = get_origin(kept) in (list, tuple)
    of_one = get_args(kept)[0] if is_list else kept
    return ToolOption(
        name=name,
        flag=None if is_argument else on,
        kind=_KINDS.get(of_one, "string"),
        about=" ".join(str(information.help or "").split()),
        required=default is inspect.Parameter.empty,
        repeated=is_list,
        off=off or None,
    )


def _without_none(annotation: Any) -> Any:
    """The type in `X | None`, and any other as it is."""
    if get_origin(annotation) not in (Union, UnionType):
        return annotation
    kept = [part for part in get_args(annotation) if part is not type(None)]
    return kept[0] if len(kept) == 1 else str
