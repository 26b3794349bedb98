"""``foremask mcp``: an MCP server over standard input and output."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from foremask.cli.exits import ExtraMissing


def mcp(*, folder: Annotated[list[Path], Parameter(negative="")]) -> None:
    """Let a model mask clips: an MCP server, over standard input and output.

    Args:
        folder: Read clips and write masks only in this folder; may be given several times.
    """
    if find_spec("mcp") is None:
        raise ExtraMissing("`foremask mcp` needs the package mcp", "mcp")
    from foremask.cli.mcp_server import Folders, mcp_server

    mcp_server(Folders.named(folder)).run()
