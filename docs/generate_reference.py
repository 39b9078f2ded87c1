"""Writes docs/reference/api/: a page per module, from docstrings, and its example.

``python docs/generate_reference.py`` writes; ``--check`` says what is out of date, with status 1.
"""

from __future__ import annotations

import argparse
import dataclasses
import enum
import importlib
import inspect
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "docs" / "reference" / "api"
EXAMPLES = ROOT / "examples" / "api"
PACKAGE = "pywebtransport"

MODULES = [
    "client",
    "config",
    "connection",
    "constants",
    "datagram",
    "events",
    "exceptions",
    "framework",
    "manager",
    "monitor",
    "pool",
    "protocol",
    "pubsub",
    "quic",
    "quic.events",
    "rpc",
    "serializer",
    "server",
    "session",
    "stream",
    "types",
    "utils",
]


def text(thing: Any) -> str:
    """The docstring of a class or function itself, not one that it inherits."""
    return inspect.cleandoc(thing.__doc__ or "")


def signature(thing: Any) -> str:
    try:
        shown = str(inspect.signature(thing))
    except (TypeError, ValueError):
        return "(...)"
    shown = re.sub(r"<factory>", "...", shown)
    shown = re.sub(r"\bself, |\bself\b|\bcls, |\bcls\b", "", shown, count=1)
    return re.sub(r"pywebtransport(\.\w+)*\.|typing\.|collections\.abc\.", "", shown).replace(
        "'", ""
    )


def members(cls: type) -> Iterator[tuple[str, Any]]:
    """Public members that the class or a base of this package defines, in order of definition."""
    seen: set[str] = set()
    for base in cls.__mro__:
        if not base.__module__.startswith(PACKAGE):
            continue
        for name, member in vars(base).items():
            if not name.startswith("_") and name not in seen:
                seen.add(name)
                yield name, member


def describe_member(name: str, member: Any) -> list[str]:
    if isinstance(member, property):
        return [f"#### `{name}`", "", text(member.fget), ""]
    if isinstance(member, classmethod | staticmethod):
        member = member.__func__
    if not inspect.isfunction(member):
        return []
    prefix = "async " if inspect.iscoroutinefunction(member) else ""
    return [f"#### `{prefix}{name}{signature(member)}`", "", text(member), ""]


def field_docs(cls: type) -> dict[str, str]:
    """The string below each annotated name of a class body."""
    import ast
    import textwrap

    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if not base.__module__.startswith(PACKAGE):
            continue
        try:
            source = textwrap.dedent(inspect.getsource(base))
        except (OSError, TypeError):
            continue
        body = ast.parse(source).body[0]
        assert isinstance(body, ast.ClassDef)
        for node, below in zip(body.body, body.body[1:], strict=False):
            if (
                isinstance(node, ast.AnnAssign)
                and isinstance(node.target, ast.Name)
                and isinstance(below, ast.Expr)
                and isinstance(below.value, ast.Constant)
                and isinstance(below.value.value, str)
            ):
                found[node.target.id] = inspect.cleandoc(below.value.value)
    return found


def default_of(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        shown = repr(field.default)
        return "..." if "0x" in shown or len(shown) > 60 else shown
    return "..." if field.default_factory is not dataclasses.MISSING else "required"


def describe_class(name: str, cls: type) -> list[str]:
    lines = [f"## {name}", ""]
    if issubclass(cls, enum.Enum):
        show = hex if name == "ErrorCodes" else repr
        values = [f"| `{member.name}` | `{show(member.value)}` |" for member in cls]
        return [*lines, text(cls), "", "| name | value |", "| --- | --- |", *values, ""]
    bases = [base.__name__ for base in cls.__bases__ if base is not object]
    if bases:
        lines += [f"*{', '.join(bases)}*", ""]
    if dataclasses.is_dataclass(cls):
        docs = field_docs(cls)
        about = text(cls)
        if not about.startswith(f"{name}("):
            lines += [about, ""]
        lines += ["| field | default | |", "| --- | --- | --- |"]
        for field in dataclasses.fields(cls):
            note = " ".join(docs.get(field.name, "").split())
            lines.append(f"| `{field.name}` | `{default_of(field)}` | {note} |")
        lines.append("")
        fields = {field.name for field in dataclasses.fields(cls)}
    else:
        lines += [f"`{name}{signature(cls)}`", "", text(cls), ""]
        fields = set()
    for member_name, member in members(cls):
        if member_name not in fields:
            lines += describe_member(member_name, member)
    return lines


def describe(name: str, thing: Any) -> list[str]:
    if isinstance(thing, type) and not isinstance(thing, types.GenericAlias):
        return describe_class(name, thing)
    if inspect.isfunction(thing):
        prefix = "async " if inspect.iscoroutinefunction(thing) else ""
        return [f"## {name}", "", f"`{prefix}{name}{signature(thing)}`", "", text(thing), ""]
    return []


def constants_table(module: types.ModuleType, names: list[str]) -> list[str]:
    rows = []
    for name in names:
        value = getattr(module, name)
        if isinstance(value, bool | int | float | str | tuple | list | dict) and not isinstance(
            value, enum.Enum
        ):
            shown = hex(value) if type(value) is int and value > 0xFFFFF else repr(value)
            rows.append(f"| `{name}` | `{shown}` |")
    if not rows:
        return []
    return ["## Constants", "", "| name | value |", "| --- | --- |", *rows, ""]


def example_of(module_name: str) -> list[str]:
    path = EXAMPLES / f"{module_name.replace('.', '_')}.py"
    if not path.exists():
        return []
    where = path.relative_to(ROOT)
    return ["## Example", "", f"`python -m {'.'.join(where.with_suffix('').parts)}`:", "",
            "```python", path.read_text().rstrip(), "```", ""]  # fmt: skip


def page(module_name: str) -> str:
    module = importlib.import_module(f"{PACKAGE}.{module_name}")
    names = sorted(module.__all__, key=str.lower)
    lines = [f"# {PACKAGE}.{module_name}", "", text(module), ""]
    lines += example_of(module_name)
    lines += constants_table(module, names)
    for name in names:
        lines += describe(name, getattr(module, name))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


def index() -> str:
    lines = [
        "# API reference",
        "",
        "Made from the docstrings by `python docs/generate_reference.py`.",
        "",
    ]
    for name in MODULES:
        module = importlib.import_module(f"{PACKAGE}.{name}")
        first = text(module).split("\n\n")[0].replace("\n", " ")
        lines.append(f"- [{PACKAGE}.{name}]({name}.md): {first}")
    return "\n".join(lines) + "\n"


def pages() -> dict[Path, str]:
    wanted = {PAGES / f"{name}.md": page(name) for name in MODULES}
    wanted[PAGES / "index.md"] = index()
    return wanted


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    wanted = pages()
    stale = [p for p, body in wanted.items() if not p.exists() or p.read_text() != body]
    extra = [p for p in PAGES.glob("*.md") if p not in wanted]
    if check:
        for path in stale + extra:
            print(f"out of date: {path.relative_to(ROOT)}")
        return 1 if stale or extra else 0
    PAGES.mkdir(parents=True, exist_ok=True)
    for path in extra:
        path.unlink()
    for path in stale:
        path.write_text(wanted[path])
    print(f"{len(wanted)} pages, {len(stale)} written, {len(extra)} removed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
