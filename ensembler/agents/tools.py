"""Commands as values: what the guide lists, and what an MCP server offers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ensembler.errors import RequestError, UnknownNameError

Kind = Literal["string", "integer", "number", "boolean"]

# Commands that only look: they write nothing but caches and the file that an option names.
LOOKING = (
    "audit",
    "diversity",
    "doctor",
    "evaluate",
    "guide",
    "history",
    "ls",
    "plan",
    "schema",
)


@dataclass(frozen=True)
class ToolOption:
    """An option or argument of a command.

    `flag` is how it is written (None = an argument, by its place), `off` how a switch that is on
    by itself is turned off; `repeated` ones take a list.
    """

    name: str
    flag: str | None
    kind: Kind
    about: str
    required: bool = False
    repeated: bool = False
    off: str | None = None

    def schema(self) -> dict[str, Any]:
        """Its JSON Schema."""
        about = {"description": self.about} if self.about else {}
        if self.repeated:
            return {"type": "array", "items": {"type": self.kind}, **about}
        return {"type": self.kind, **about}

    def words(self, value: Any) -> list[str]:
        """How it is given on the command line; RequestError for a value of another type."""
        values = value if self.repeated and isinstance(value, list) else [value]
        for one in values:
            self._check(one)
        if self.kind == "boolean":
            chosen = self.flag if value else self.off
            return [] if chosen is None else [chosen]
        if self.flag is None:
            return [str(one) for one in values]
        # One word: a value that begins with a dash is not taken for an option.
        return [f"{self.flag}={one}" for one in values]

    def _check(self, value: Any) -> None:
        types = _TYPES[self.kind]
        is_bool = isinstance(value, bool)
        if not isinstance(value, types) or is_bool != (self.kind == "boolean"):
            raise RequestError(f"{self.name} is {value!r}, expected a {self.kind}")


_TYPES: dict[Kind, tuple[type, ...]] = {
    "string": (str, int, float),  # a number is written as it stands, such as fold 0
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}


@dataclass(frozen=True)
class Tool:
    """A command that an agent may call."""

    name: str
    about: str
    options: tuple[ToolOption, ...]

    @property
    def only_looks(self) -> bool:
        """Whether it changes no run."""
        return self.name in LOOKING

    def schema(self) -> dict[str, Any]:
        """The JSON Schema of what it takes."""
        return {
            "type": "object",
            "properties": {option.name: option.schema() for option in self.options},
            "required": [option.name for option in self.options if option.required],
            "additionalProperties": False,
        }

    def command_line(self, given: Mapping[str, Any]) -> list[str]:
        """The words of the command for what is given; RequestError where that does not fit."""
        by_name = {option.name: option for option in self.options}
        for name in given:
            if name not in by_name:
                raise UnknownNameError("option", name, by_name, of=f"ens {self.name}")
        missing = [o.name for o in self.options if o.required and given.get(o.name) is None]
        if missing:
            raise RequestError(f"ens {self.name} needs {missing[0]}")
        words, arguments = [self.name], []
        for name, option in by_name.items():
            if given.get(name) is None:
                continue
            if option.flag is None:
                arguments += option.words(given[name])
            else:
                words += option.words(given[name])
        return [*words, "--json", "--", *arguments]
