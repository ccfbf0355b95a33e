"""Markdown from source: signatures, docstrings and attributes as their files write them."""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from importlib import import_module
from itertools import pairwise
from typing import Any

CODE_WIDTH = 96
"""Longest signature that stays on one line."""


def one_line(description: str | None) -> str:
    """Return a description as the text of a table cell."""
    return " ".join((description or "").split()).replace("|", "\\|")


def signature(function: Any) -> str:
    """Return a signature as its source writes it, one parameter a line where it is long."""
    node = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    if not isinstance(node, ast.FunctionDef):
        raise TypeError(f"{function!r} is no function")
    returns = "" if node.returns is None else f" -> {_unquoted(ast.unparse(node.returns))}"
    parts = _arguments(node.args)
    whole = f"{node.name}({', '.join(parts)}){returns}"
    if len(whole) <= CODE_WIDTH:
        return whole
    return f"{node.name}(\n" + "".join(f"    {part},\n" for part in parts) + f"){returns}"


def _arguments(given: ast.arguments) -> list[str]:
    """Return the parameters, each with its annotation and default."""
    plain = [*given.posonlyargs, *given.args]
    defaults = [None] * (len(plain) - len(given.defaults)) + list(given.defaults)
    parts = [_argument(one, default) for one, default in zip(plain, defaults, strict=True)]
    if given.vararg is not None:
        parts.append("*" + _argument(given.vararg, None))
    elif given.kwonlyargs:
        parts.append("*")
    pairs = zip(given.kwonlyargs, given.kw_defaults, strict=True)
    parts += [_argument(one, default) for one, default in pairs]
    if given.kwarg is not None:
        parts.append("**" + _argument(given.kwarg, None))
    return parts


def _argument(argument: ast.arg, default: ast.expr | None) -> str:
    shown = _unquoted(ast.unparse(argument))
    if default is None:
        return shown
    return shown + (" = " if argument.annotation else "=") + ast.unparse(default)


def _unquoted(annotation: str) -> str:
    return re.sub(r"(?<=[\s:\[>])'([A-Za-z_][^']*)'|^'([^']*)'$", r"\1\2", annotation)


def docstring(one: Any) -> str:
    """Return a docstring in Google form as Markdown."""
    lines = []
    text = inspect.getdoc(one) or ""
    text, _, examples = text.partition("Examples:\n")
    for line in text.splitlines():
        section = re.fullmatch(r"(Args|Returns|Raises|References):", line)
        entry = re.match(r"    (\*{0,2}\w+): (.*)", line)
        if section:
            lines += ["", f"**{section[1]}**", ""]
        elif entry:
            lines.append(f"- `{entry[1]}`: {entry[2]}")
        else:
            lines.append(re.sub(r"^ {8}", "  ", line) if line.startswith(" " * 8) else line.strip())
    if examples:
        lines += ["", "```pycon", textwrap.dedent(examples).strip(), "```"]
    return "\n".join(lines)


def first_line(one: Any) -> str:
    """Return the first paragraph of a docstring as one line."""
    return one_line((inspect.getdoc(one) or "").split("\n\n", 1)[0])


def attribute_line(module: str, name: str) -> str:
    """Return the string under an assignment of a module."""
    if name == "hookimpl":
        return "Marks a function of a plug-in's module as a hook."
    body = ast.parse(inspect.getsource(import_module(module))).body
    for statement, after in pairwise(body):
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            value = after.value if isinstance(after, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                return one_line(value.value)
    raise LookupError(f"{module}.{name} has no string under it that says what it is")


def attributes(contract: type) -> Iterator[str]:
    """Yield a table of the annotated attributes of a class that have a string under them."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(contract))).body[0]
    body = tree.body if isinstance(tree, ast.ClassDef) else []
    rows = []
    for statement, after in pairwise(body):
        if isinstance(statement, ast.AnnAssign) and isinstance(after, ast.Expr):
            value = after.value.value if isinstance(after.value, ast.Constant) else ""
            kind = _unquoted(ast.unparse(statement.annotation)).replace("|", "\\|")
            default = "" if statement.value is None else f"`{ast.unparse(statement.value)}`"
            rows.append(
                f"| `{ast.unparse(statement.target)}` | `{kind}` | {default} | {one_line(str(value))} |"
            )
    if rows:
        yield "| attribute | type | default | meaning |\n|---|---|---|---|"
        yield from rows
