"""Sphinx extension: the directive ``{command-line}`` documents the command ``pynn``.

The text of each command, and the tables of its arguments and options, come from the program itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import typer
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from pynn.cli.app import app as program


def marked(text: str) -> str:
    """Return a text of the program as Markdown, with options as code."""
    text = re.sub(r"[\x08\f]", "", text).replace("<", r"\<")
    return re.sub(r"(?<![\w`-])--?[a-z][\w-]*", r"`\g<0>`", text)


def cell(text: str) -> str:
    """Return a text as the cell of a Markdown table."""
    return re.sub(r"\s+", " ", marked(text)).replace("|", r"\|").strip()


def name_of(parameter: Any) -> str:
    """Return how a parameter is typed, as Markdown."""
    if parameter.param_type_name == "argument":
        return f"`{argument(parameter)}`"
    names = ", ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts])
    value = "" if parameter.is_flag else f" `{parameter.metavar or 'VALUE'}`"
    return (names + value).replace("|", r"\|")


def argument(parameter: Any) -> str:
    """Return the name of an argument, without brackets."""
    return re.sub(r"[\[\]]", "", parameter.metavar or parameter.name.upper())


def default_of(parameter: Any) -> str:
    """Return the default of a parameter, as its help shows it."""
    shown = parameter.show_default
    if isinstance(shown, str):
        return cell(shown)
    if shown is False or parameter.default is None or callable(parameter.default):
        return ""
    if parameter.is_flag:
        return "on" if parameter.default else "off"
    return cell(str(parameter.default))


def table(parameters: list[Any], heading: str) -> Iterator[str]:
    """Yield the lines of a table of parameters."""
    yield from ("", f"| {heading} | meaning | default |", "| --- | --- | --- |")
    for p in parameters:
        yield f"| {name_of(p)} | {cell(p.help or '')} | {default_of(p)} |"


def pages_text() -> Iterator[str]:
    """Yield the lines of the page, as Markdown."""
    commands: dict[str, Any] = typer.main.get_command(program).commands  # type: ignore[attr-defined]
    for name, command in commands.items():
        shown = [p for p in command.params if p.help and not getattr(p, "hidden", False)]
        arguments = [p for p in shown if p.param_type_name == "argument"]
        options = [p for p in shown if p.param_type_name == "option"]
        typed = "".join(f" [{argument(p)}]" for p in arguments)
        yield from ("", f"## pynn {name}", "", "```sh", f"pynn {name} [OPTIONS]{typed}", "```", "")
        yield marked(command.help or "")
        example = re.match(r"Examples?: (pynn [^;]+)", command.epilog or "")
        if example:
            yield from ("", "Example:", "", "```sh", example[1].strip(), "```")
        if arguments:
            yield from table(arguments, "argument")
        for panel, members in groupby(options, lambda p: p.rich_help_panel or "Options"):
            yield from table(list(members), panel)


class CommandLine(SphinxDirective):
    """The commands, their arguments and options."""

    def run(self) -> list[nodes.Node]:
        """Return the nodes of all commands."""
        return self.parse_text_to_nodes("\n".join(pages_text()), allow_section_headings=True)


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the directive."""
    app.add_directive("command-line", CommandLine)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
