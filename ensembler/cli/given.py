"""The command that was given, with its options: what an answer says next depends on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from typer.core import TyperCommand

_given: list[tuple[str, Mapping[str, Any]]] = []


class GivenCommand(TyperCommand):
    """A command that notes with what it was given."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        _given[:] = [(str(ctx.info_name), dict(ctx.params))]
        return super().invoke(ctx)


def command_given() -> tuple[str, Mapping[str, Any]]:
    """The name of the command, and what it was given by name; ("", {}) before there is one."""
    return _given[-1] if _given else ("", {})
