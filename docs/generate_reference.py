"""Writes docs/reference/api/: a page per module, from docstrings, and its example.

``python docs/generate_reference.py`` writes; ``--check`` says what is out of date, with status 1.

Docstrings are text with ``literals``, ``:meth:`` and its like, and the sections Args, Raises,
Returns and Yields. A member that another documented class defines is described there only.
"""

from __future__ import annotations

import argparse
import ast
import builtins
import dataclasses
import enum
import functools
import importlib
import inspect
import re
import sys
import textwrap
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "docs" / "reference" / "api"
EXAMPLES = ROOT / "examples" / "api"
PACKAGE = "pywebtransport"

MODULES = [
    "asgi",
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
    "protocol.events",
    "protocol.h3_engine",
    "pubsub",
    "quic",
    "quic.events",
    "rpc",
    "serializer",
    "server",
    "server.protocol",
    "session",
    "stream",
    "telemetry",
    "types",
    "utils",
]
WITHOUT_EXAMPLE = frozenset({"protocol.events", "quic.events"})
"""Modules whose example is that of the module next to them."""

LINE = 88
"""A signature that is longer goes over several lines."""
NO_PARAMETER = inspect.Parameter.empty
SECTIONS = ("Args", "Raises", "Returns", "Yields")


def module_of(name: str) -> types.ModuleType:
    return importlib.import_module(f"{PACKAGE}.{name}")


@functools.cache
def home() -> dict[Any, tuple[str, str]]:
    """Page and name of every documented class; the module that defines it comes first."""
    found: dict[Any, tuple[str, str]] = {}
    for module in MODULES:
        for name in names_of(module_of(module)):
            thing = getattr(module_of(module), name)
            is_here = getattr(thing, "__module__", "").startswith(f"{PACKAGE}.{module}")
            if is_class(thing) and (thing not in found or is_here):
                found[thing] = module, name
    return found


def names_of(module: types.ModuleType) -> list[str]:
    """What a module exports, and its classes that ``import *`` leaves out, as they have the names
    of built-in ones."""
    own = (
        name
        for name, thing in vars(module).items()
        if hasattr(builtins, name) and is_class(thing) and thing.__module__ == module.__name__
    )
    return list(dict.fromkeys((*module.__all__, *own)))


# ---------------------------------------------------------------- text


def text(thing: Any) -> str:
    """The docstring of a class or function itself, not one that it inherits."""
    doc = inspect.cleandoc(thing.__doc__ or "")
    made_by_dataclasses = isinstance(thing, type) and doc.startswith(f"{thing.__name__}(")
    return "" if made_by_dataclasses else doc


def markdown(doc: str) -> str:
    """A docstring as Markdown."""
    doc = re.sub(r":\w+:`([\w.]+) <[\w.]+>`", r"`\1`", doc)
    doc = re.sub(r":mod:`([\w.]+)`", r"`\1`", doc)
    doc = re.sub(r":(?:meth|func):`~?(?:\w+\.)*?(\w+(?:\.\w+)?)`", r"`\1()`", doc)
    doc = re.sub(r":\w+:`~?(?:[a-z_]\w*\.)*([\w.]+)`", r"`\1`", doc)
    doc = re.sub(r"``(.+?)``", r"`\1`", doc, flags=re.DOTALL)
    blocks: list[str] = []
    for block in re.split(r"\n\s*\n", doc):
        head, _, rest = block.partition("\n")
        if blocks and blocks[-1].endswith("::"):
            blocks[-1] = blocks[-1].removesuffix(":")
            kind = "text" if block.lstrip().startswith("what ended") else "python"
            blocks.append(f"```{kind}\n{textwrap.dedent(block)}\n```")
            continue
        if "├" in block or "│" in block:
            blocks.append(f"```text\n{block}\n```")
        elif head.rstrip(":") in SECTIONS and head.endswith(":"):
            blocks.append(f"**{head.rstrip(':')}**\n\n{items(rest)}")
        else:
            blocks.append(block)
    return "\n\n".join(blocks)


def items(block: str) -> str:
    """The entries of a section as a list; what is indented further continues an entry."""
    lines = []
    for line in textwrap.dedent(block).splitlines():
        if line.startswith(" "):
            lines.append(f"  {line.strip()}")
            continue
        names, colon, what = line.partition(": ")
        if colon and re.fullmatch(r"[*\w., ]+", names):
            shown = ", ".join(f"`{name}`" for name in names.split(", "))
            lines.append(f"- {shown}: {what}")
        else:
            lines.append(f"- {line}")
    return "\n".join(lines)


def cell(doc: str) -> str:
    return " ".join(markdown(doc).split()).replace("|", "\\|")


# ---------------------------------------------------------------- signatures


def annotation(kind: Any) -> str:
    """A type as the source writes it, without the modules."""
    shown = kind if isinstance(kind, str) else inspect.formatannotation(kind)
    shown = shown.strip("'\"")
    return re.sub(r"\b(?:typing|builtins|pywebtransport(?:\.\w+)*|collections\.abc)\.", "", shown)


def default(value: Any) -> str:
    if isinstance(value, enum.Enum):
        return f"{annotation(type(value))}.{value.name}"
    shown = repr(value)
    return "..." if "0x" in shown or shown.startswith("<") or len(shown) > 60 else shown


def parameters(thing: Any, *, is_bound: bool) -> list[str]:
    shown: list[str] = []
    is_keyword_only = False
    found = list(inspect.signature(thing).parameters.values())[1 if is_bound else 0 :]
    if hasattr(thing, "__signature__") and not isinstance(thing, type):
        # `first_by_position`: introspection tells the documented API, this page what may be typed.
        found[0] = found[0].replace(kind=inspect.Parameter.POSITIONAL_OR_KEYWORD)
    for parameter in found:
        if parameter.kind is parameter.KEYWORD_ONLY and not is_keyword_only:
            is_keyword_only = True
            if not any(each.kind is each.VAR_POSITIONAL for each in found):
                shown.append("*")
        stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}
        one = stars.get(parameter.kind, "") + parameter.name
        if parameter.annotation is not NO_PARAMETER:
            one += f": {annotation(parameter.annotation)}"
        if parameter.default is not NO_PARAMETER:
            equals = "=" if parameter.annotation is NO_PARAMETER else " = "
            one += equals + default(parameter.default)
        shown.append(one)
    return shown


def code(head: str, shown: list[str], tail: str) -> list[str]:
    line = f"{head}({', '.join(shown)}){tail}"
    if len(line) > LINE:
        line = "\n".join([f"{head}(", *(f"    {each}," for each in shown), f"){tail}"])
    return ["```python", line, "```", ""]


def function_signature(name: str, function: Any, *, is_bound: bool) -> list[str]:
    prefix = "async def " if inspect.iscoroutinefunction(function) else "def "
    returned = inspect.signature(function).return_annotation
    tail = "" if returned is NO_PARAMETER else f" -> {annotation(returned)}"
    return code(prefix + name, parameters(function, is_bound=is_bound), tail)


def class_signature(name: str, cls: type) -> list[str]:
    try:
        return code(f"class {name}", parameters(cls, is_bound=False), "")
    except (TypeError, ValueError):
        return []


# ---------------------------------------------------------------- members


def function_of(member: Any) -> Any:
    """What a class body's ``def`` made, below its decorator; None for other attributes."""
    if isinstance(member, classmethod | staticmethod):
        member = member.__func__
    if isinstance(member, property | functools.cached_property):
        return member.fget if isinstance(member, property) else member.func
    return member if inspect.isfunction(member) else None


def own_members(cls: type) -> Iterator[tuple[str, Any]]:
    """Public methods and properties to describe here, in order of definition.

    Those of bases that have no page of their own count as the class's.
    """
    seen: set[str] = set()
    fields = {field.name for field in dataclasses.fields(cls)} if is_dataclass(cls) else set()
    for base in cls.__mro__:
        if base is not cls and (base in home() or not base.__module__.startswith(PACKAGE)):
            continue
        for name, member in vars(base).items():
            if name.startswith("_") or name in seen | fields or function_of(member) is None:
                continue
            seen.add(name)
            if not text(function_of(member)) and is_described_by_base(cls, name):
                continue
            yield name, member


def is_described_by_base(cls: type, name: str) -> bool:
    """Whether a member that says nothing is what a documented base says."""
    return any(
        base in home() and name in vars(base) and text(function_of(vars(base)[name]))
        for base in cls.__mro__[1:]
    )


def inherited(cls: type) -> Iterator[tuple[type, list[str]]]:
    """Documented bases, each with its members that the class has unchanged."""
    own = {name for name, _ in own_members(cls)}
    for base in cls.__mro__[1:]:
        if base in home():
            names = [
                name
                for name, member in vars(base).items()
                if not name.startswith("_") and name not in own and function_of(member) is not None
            ]
            own.update(names)
            yield base, names


def is_dataclass(cls: type) -> bool:
    return dataclasses.is_dataclass(cls)


def describe_member(name: str, member: Any) -> list[str]:
    function = function_of(member)
    if isinstance(member, property | functools.cached_property):
        kind = inspect.signature(function).return_annotation
        shown = [] if kind is NO_PARAMETER else ["```python", f"{name}: {annotation(kind)}", "```"]
        return [f"### {name}", "", *shown, "", markdown(text(function)), ""]
    is_static = isinstance(member, staticmethod)
    marks = ["classmethod"] if isinstance(member, classmethod) else []
    marks += ["staticmethod"] if is_static else []
    shown = function_signature(name, function, is_bound=not is_static)
    shown[1] = "".join(f"@{mark}\n" for mark in marks) + shown[1]
    return [f"### {name}", "", *shown, markdown(text(function)), ""]


# ---------------------------------------------------------------- classes


def field_docs(cls: type) -> dict[str, str]:
    """The string below each name that a class body assigns or annotates."""
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
            if isinstance(node, ast.AnnAssign):
                target = node.target
            elif isinstance(node, ast.Assign):
                target = node.targets[0]
            else:
                continue
            if (
                isinstance(target, ast.Name)
                and isinstance(below, ast.Expr)
                and isinstance(below.value, ast.Constant)
                and isinstance(below.value.value, str)
            ):
                found[target.id] = inspect.cleandoc(below.value.value)
    return found


def table(heads: list[str], rows: list[list[str]]) -> list[str]:
    """A Markdown table without the columns that are empty throughout."""
    kept = [
        column for column, _ in enumerate(heads) if column == 0 or any(row[column] for row in rows)
    ]

    def line(cells: list[str]) -> str:
        return "| " + " | ".join(cells[column] for column in kept) + " |"

    return [line(heads), line(["---"] * len(heads)), *(line(row) for row in rows), ""]


def default_of(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        return f"`{default(field.default)}`"
    if field.default_factory is dataclasses.MISSING:
        return "required"
    made = field.default_factory
    return f"`{made()!r}`" if made in (dict, list, set) else "made for each"


def describe_enum(name: str, cls: type[enum.Enum]) -> list[str]:
    docs = field_docs(cls)
    show = hex if name == "ErrorCodes" else repr
    rows = [
        [f"`{member.name}`", f"`{show(member.value)}`", cell(docs.get(member.name, ""))]
        for member in cls
    ]
    return table(["name", "value", "meaning"], rows)


def describe_fields(cls: type) -> list[str]:
    docs = field_docs(cls)
    rows = []
    for field in dataclasses.fields(cls):
        kind = annotation(field.type).replace("|", "\\|")
        note = cell(docs.get(field.name, ""))
        rows.append([f"`{field.name}`", f"`{kind}`", default_of(field), note])
    return table(["field", "type", "default", "meaning"], rows) if rows else []


def link(cls: type, from_page: str) -> str:
    if cls not in home():
        return f"`{cls.__name__}`"
    page_name, name = home()[cls]
    where = "" if page_name == from_page else f"{page_name}.md"
    return f"[{name}]({where}#{name.lower()})"


def describe_class(name: str, cls: type, module_name: str) -> list[str]:
    lines = [f"## {name}", ""]
    bases = [base for base in cls.__bases__ if base in home() or base.__module__ == "builtins"]
    bases = [base for base in bases if base is not object]
    if bases:
        lines += [f"Base: {', '.join(link(base, module_name) for base in bases)}.", ""]
    if issubclass(cls, enum.Enum):
        return [*lines, markdown(text(cls)), "", *describe_enum(name, cls)]
    if is_dataclass(cls):
        lines += [markdown(text(cls)), "", *describe_fields(cls)]
    elif not getattr(cls, "_is_protocol", False):
        about = "" if "__init__" not in vars(cls) else text(cls.__init__)
        lines += [*class_signature(name, cls), markdown(text(cls)), "", markdown(about), ""]
    else:
        lines += [markdown(text(cls)), ""]
    for member_name, member in own_members(cls):
        lines += describe_member(member_name, member)
    for base, names in inherited(cls):
        if names:
            shown = ", ".join(f"`{each}`" for each in names)
            lines += [f"From {link(base, module_name)}: {shown}.", ""]
    return lines


# ---------------------------------------------------------------- pages


def is_class(thing: Any) -> bool:
    """Whether this package defines it: aliases of other types are one line in a table."""
    return (
        isinstance(thing, type)
        and not isinstance(thing, types.GenericAlias)
        and thing.__module__.startswith(PACKAGE)
    )


def describe(name: str, thing: Any, module_name: str) -> list[str]:
    if is_class(thing):
        if home().get(thing, (module_name, name))[0] != module_name:
            return [f"## {name}", "", f"See {link(thing, module_name)}.", ""]
        return describe_class(name, thing, module_name)
    if inspect.isfunction(thing):
        shown = function_signature(name, thing, is_bound=False)
        return [f"## {name}", "", *shown, markdown(text(thing)), ""]
    return []


def plain_values(module: types.ModuleType, names: list[str]) -> list[str]:
    rows = []
    for name in names:
        value = getattr(module, name)
        if isinstance(value, bool | int | float | str | tuple | list | dict) and not isinstance(
            value, enum.Enum
        ):
            shown = hex(value) if type(value) is int and value > 0xFFFFF else repr(value)
            rows.append([f"`{name}`", f"`{shown}`"])
    return ["## Constants", "", *table(["name", "value"], rows)] if rows else []


def type_aliases(module: types.ModuleType, names: list[str]) -> list[str]:
    """Names that are neither classes, functions nor plain values, by their source."""
    rows = []
    source = ast.parse(inspect.getsource(module))
    docs = {}
    for node, below in zip(source.body, [*source.body[1:], ast.Pass()], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            note = ""
            if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
                note = str(below.value.value)
            docs[node.target.id] = ast.unparse(node.value), note
    for name in names:
        thing = getattr(module, name)
        if is_class(thing) or inspect.isfunction(thing):
            continue
        if isinstance(thing, bool | int | float | str | tuple | list | dict):
            continue
        meaning, note = docs.get(name) or (elsewhere(thing), "")
        shown = annotation(meaning.replace("'", "")).replace("|", "\\|")
        rows.append([f"`{name}`", f"`{shown}`", cell(note)])
    return ["## Type aliases", "", *table(["name", "type", "meaning"], rows)] if rows else []


def elsewhere(thing: Any) -> str:
    """What an imported name stands for."""
    name = getattr(thing, "__qualname__", None)
    return str(thing) if name is None else f"{thing.__module__}.{name}"


def example_of(module_name: str) -> list[str]:
    if module_name in WITHOUT_EXAMPLE:
        return []
    path = EXAMPLES / f"{module_name.replace('.', '_')}.py"
    where = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return ["## Example", "", f"`python -m {where}`, in a checkout:", "",
            "```python", path.read_text().rstrip(), "```", ""]  # fmt: skip


def contents(module: types.ModuleType, names: list[str]) -> list[str]:
    shown = [
        f"[{name}](#{name.lower()})"
        for name in names
        if is_class(getattr(module, name)) or inspect.isfunction(getattr(module, name))
    ]
    return [" · ".join(shown), ""] if len(shown) > 1 else []


def page(module_name: str) -> str:
    module = module_of(module_name)
    names = sorted(names_of(module), key=str.lower)
    lines = [f"# {PACKAGE}.{module_name}", "", markdown(text(module)), ""]
    lines += contents(module, names)
    lines += example_of(module_name)
    lines += plain_values(module, names)
    lines += type_aliases(module, names)
    for name in names:
        lines += describe(name, getattr(module, name), module_name)
    return "\n".join(squeezed(lines)).rstrip() + "\n"


def squeezed(lines: list[str]) -> Iterator[str]:
    """Without the empty strings that repeat; what is inside a block stays."""
    last = ""
    for line in lines:
        if line or last:
            yield line
        last = line


def undocumented(module_name: str) -> list[str]:
    """Public names of a module that nobody has said anything about."""
    module = module_of(module_name)
    missing = [] if text(module) else [module_name]
    for name in names_of(module):
        thing = getattr(module, name)
        if is_class(thing):
            missing += [] if text(thing) else [name]
            missing += [
                f"{name}.{member_name}"
                for member_name, member in own_members(thing)
                if not text(function_of(member))
            ]
        elif inspect.isfunction(thing) and not text(thing):
            missing.append(name)
    return missing


def index() -> str:
    lines = [
        "# API reference",
        "",
        "A page per module, made from the docstrings by `make docs`. Every example is a program of",
        "`examples/api` that the tests run. Sizes are in bytes and times in seconds where nothing",
        "else is said.",
        "",
        "| module | |",
        "| --- | --- |",
    ]
    for name in MODULES:
        first = cell(text(module_of(name)).split("\n\n")[0])
        lines.append(f"| [{PACKAGE}.{name}]({name}.md) | {first} |")
    lines += ["", "```{toctree}", ":hidden:", "", *MODULES, "```"]
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
