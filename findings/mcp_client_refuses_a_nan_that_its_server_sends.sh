#!/usr/bin/env bash
# mcp 2.3.0 (the Python SDK): a tool with a typed answer returns NaN or infinity, and the SDK's own client raises.
#
# Behaviour: the server declares {"type": "number"} for a float and writes NaN and infinity as null into the structured answer, which does
# not fit its own schema; it notices nothing. The client checks the answer against that schema and raises RuntimeError, so the
# caller gets nothing of it, also not the fields that were fine nor the text. A diverged run breaks a tool that lists runs.
# Way out: type such numbers as float | None and return None.
#
# Seen with mcp 2.3.0 on Python 3.11, server and client in one process:
#     finite: {'val_bpb': 1.5, 'steps': 100}
#     diverged: RuntimeError: Invalid structured content returned by tool diverged: None is not of type 'number'
#     infinite: RuntimeError: Invalid structured content returned by tool infinite: None is not of type 'number'
#     optional: {'val_bpb': None, 'steps': 100}
set -euo pipefail
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install --quiet mcp==2.3.0
cat > "$here/try.py" <<'PY'
import asyncio
import importlib.metadata
import math
import sys

from mcp import Client
from mcp.server.mcpserver import MCPServer
from pydantic import BaseModel

print("mcp", importlib.metadata.version("mcp"))


class Score(BaseModel):
    val_bpb: float
    steps: int


class Optional(BaseModel):
    val_bpb: float | None
    steps: int


server = MCPServer("scores")


@server.tool()
def finite() -> Score:
    return Score(val_bpb=1.5, steps=100)


@server.tool()
def diverged() -> Score:
    return Score(val_bpb=math.nan, steps=100)


@server.tool()
def infinite() -> Score:
    return Score(val_bpb=math.inf, steps=100)


@server.tool()
def optional() -> Optional:
    return Optional(val_bpb=None, steps=100)


async def answers() -> dict[str, str]:
    found = {}
    async with Client(server) as client:
        for name in ("finite", "diverged", "infinite", "optional"):
            try:
                found[name] = str((await client.call_tool(name, {})).structured_content)
            except RuntimeError as error:
                found[name] = "RuntimeError: " + str(error).splitlines()[0]
    return found


found = asyncio.run(answers())
for name, answer in found.items():
    print(f"{name}: {answer}")
refused = "RuntimeError: Invalid structured content returned by tool {}: None is not of type 'number'"
expected = {
    "finite": "{'val_bpb': 1.5, 'steps': 100}",
    "diverged": refused.format("diverged"),
    "infinite": refused.format("infinite"),
    "optional": "{'val_bpb': None, 'steps': 100}",
}
sys.exit(0 if found == expected else 1)
PY
"$here/venv/bin/python" "$here/try.py"
