"""An MCP server on standard input and output: every command of `ens` as a tool.

Each call is a process of its own that runs `ens COMMAND --json`: the same functions with the same
checks, the same claims between processes, and nothing that it prints can get between the messages.
Nothing listens on the network.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ensembler.agents.tools import Tool
from ensembler.errors import MissingExtraError, RequestError

if TYPE_CHECKING:
    from mcp.server import Server

_LAST_LINES = 4000  # characters of what a command that printed no JSON said
_SECONDS_TO_STOP = 60.0  # a job that is cancelled keeps what is finished


def serve(tools: Sequence[Tool], guide: str) -> None:
    """Serve the tools until standard input is closed."""
    try:
        from mcp.server.stdio import stdio_server
    except ImportError as error:
        raise MissingExtraError("ens mcp", "mcp") from error
    server = _server(tools, guide)

    async def run() -> None:
        async with stdio_server() as (read, write):
            await server.run(read, write, server.create_initialization_options())

    asyncio.run(run())


def _server(tools: Sequence[Tool], guide: str) -> Server[Any]:
    import mcp_types as types
    from mcp.server import Server

    from ensembler import __version__

    by_name = {tool.name: tool for tool in tools}
    offered = [
        types.Tool(
            name=tool.name,
            description=tool.about,
            input_schema=tool.schema(),
            annotations=types.ToolAnnotations(
                read_only_hint=tool.only_looks, open_world_hint=False
            ),
        )
        for tool in tools
    ]

    async def list_tools(_context: Any, _params: Any) -> types.ListToolsResult:
        return types.ListToolsResult(tools=offered)

    async def call_tool(
        _context: Any, params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        answer = await call(by_name, params.name, params.arguments or {})
        text = types.TextContent(type="text", text=json.dumps(answer, ensure_ascii=False))
        return types.CallToolResult(
            content=[text], structured_content=answer, is_error="error" in answer
        )

    return Server(
        "ens",
        version=__version__,
        instructions=guide,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


async def call(
    tools: Mapping[str, Tool], name: str, given: Mapping[str, Any]
) -> dict[str, Any]:
    """The answer of a command as its JSON object; an error is an answer, too."""
    try:
        if name not in tools:
            raise RequestError(f"there is no tool {name!r}; tools are {', '.join(tools)}")
        words = tools[name].command_line(given)
    except RequestError as error:
        return {"error": str(error), "exit_code": error.exit_code, "code": error.code}
    return await run_command(words)


async def run_command(words: Sequence[str]) -> dict[str, Any]:
    """Run `ens` in a process of its own, and return the JSON object that it prints.

    When the call is cancelled the process is asked to stop, as by Ctrl-C: it keeps what is
    finished.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "ensembler",
        *words,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, said = await process.communicate()
    except asyncio.CancelledError:
        await _stop(process)
        raise
    try:
        answer = json.loads(out)
    except ValueError:
        tail = said.decode(errors="replace")[-_LAST_LINES:]
        code = process.returncode or 1
        return {"error": f"ens ended with exit code {code}: {tail}", "exit_code": code}
    return dict(answer)


async def _stop(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGINT)
    try:
        await asyncio.shield(asyncio.wait_for(process.wait(), _SECONDS_TO_STOP))
    except (TimeoutError, asyncio.CancelledError):
        with suppress(ProcessLookupError):
            process.kill()
