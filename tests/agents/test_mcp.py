"""The MCP server: a client of the official SDK talks to a process of it."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from ensembler.agents.mcp import call, run_command
from ensembler.agents.tools import Tool, ToolOption
from ensembler.predictions.testing import write_fake_run

LS = Tool("ls", "List.", (ToolOption("run", None, "string", "A run."),))


def test_an_unknown_tool_and_a_wrong_option_are_answers():
    unknown = asyncio.run(call({"ls": LS}, "rm", {}))
    assert unknown["exit_code"] == 2
    assert "tools are ls" in unknown["error"]
    wrong = asyncio.run(call({"ls": LS}, "ls", {"rnu": "x"}))
    assert wrong["code"] == "unknown_name"


@pytest.mark.slow
def test_a_command_that_prints_no_json_is_an_error():
    answer = asyncio.run(run_command(["--version"]))
    assert "exit code" in answer["error"]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_client_lists_tools_and_calls_them(tmp_path):
    pytest.importorskip("mcp")
    write_fake_run(tmp_path / "artifacts" / "fake")
    found = asyncio.run(_talk(tmp_path))
    assert {"ls", "evaluate"} <= found["tools"]
    assert "run" not in found["tools"]  # --read-only
    assert found["run"] == "fake"
    assert found["refused"]["code"] == "missing_run"


async def _talk(folder):
    from mcp import ClientSession, StdioServerParameters
    from mcp.client.stdio import stdio_client

    root = str(Path(__file__).parents[2])
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "ensembler", "mcp", "--read-only"],
        cwd=str(folder),
        env={**os.environ, "PYTHONPATH": root},
    )
    async with stdio_client(server) as (read, write), ClientSession(read, write) as client:
        await client.initialize()
        tools = {tool.name for tool in (await client.list_tools()).tools}
        listed = await client.call_tool("ls", {"run": "fake"})
        refused = await client.call_tool("ls", {"run": "nosuch"})
        assert refused.is_error
    return {
        "tools": tools,
        "run": json.loads(listed.content[0].text)["run"],
        "refused": json.loads(refused.content[0].text),
    }
