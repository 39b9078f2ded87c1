"""``module:app``: the object that a command line names."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from pywebtransport.cli.output import fail, note
from pywebtransport.server.running import Import

__all__ = ["load"]

DEFAULT_ATTRIBUTE = "app"


def load(target: str, *, directory: str = ".") -> Any:
    """Import ``module:attribute``, where ``attribute`` may be dotted and is ``app`` if left out.

    Modules are looked for in ``directory`` first. What is not there, and what fails while it is
    imported, ends the command.
    """
    name, _, attribute = target.partition(":")
    folder = Path(directory).resolve()
    if name.endswith(".py") or "/" in name or "\\" in name:
        dotted = ".".join(Path(name.removesuffix(".py")).parts)
        fail(
            f"{target!r} is the path of a file: name its module,"
            f" as in {dotted}:{attribute or DEFAULT_ATTRIBUTE}"
        )
    if not all(part.isidentifier() for part in name.split(".")):
        fail(f"{target!r} does not name an application: write module:attribute, as in server:app")
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    found: Any = import_named(name, folder)
    place = f"module {name!r}"
    for part in (attribute or DEFAULT_ATTRIBUTE).split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            fail(f"{place} has no attribute {part!r}{nearest(part, names_in(found))}")
        place = f"{name}:{part}"
    return found


def import_named(name: str, folder: Path) -> ModuleType:
    try:
        with Import.by_command():
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            fail(f"module {name!r} cannot be imported: {error} ({place_of(error, folder)})")
        parent, _, last = error.name.rpartition(".")
        siblings = [module.name for module in pkgutil.iter_modules(paths_of(parent, folder))]
        if parent and not hasattr(sys.modules[parent], "__path__"):
            fail(f"module {parent!r} is no package; did you mean {parent}:{last}?")
        where = f"package {parent!r}" if parent else str(folder)
        fail(f"no module {error.name!r} in {where}{nearest(last, siblings)}")
    except Exception as error:
        # The frames above are the command's and the import system's.
        note("".join(traceback.format_exception(type(error), error, own_frames(error))).rstrip())
        kind = type(error).__name__
        fail(f"module {name!r} cannot be imported: {kind} ({place_of(error, folder)})")


def paths_of(package: str, folder: Path) -> list[str]:
    return list(getattr(sys.modules.get(package), "__path__", ())) if package else [str(folder)]


def own_frames(error: BaseException) -> Any:
    frames = error.__traceback__
    while frames is not None and frames.tb_next is not None:
        name = frames.tb_frame.f_globals.get("__name__", "")
        if name != __name__ and not name.startswith("importlib"):
            break
        frames = frames.tb_next
    return frames


def place_of(error: BaseException, folder: Path) -> str:
    """The innermost line of the user's, else of anybody's."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    frames = traceback.extract_tb(own_frames(error))
    inner = [frame for frame in frames if not frame.filename.startswith("<frozen ")]
    own = [frame for frame in inner if folder in Path(frame.filename).parents]
    if not inner:
        return "at import"
    last = (own or inner)[-1]
    return f"{last.filename}, line {last.lineno}"


def names_in(holder: Any) -> list[str]:
    return [name for name in vars(holder) if not name.startswith("_")] if vars(holder) else []


def nearest(name: str, names: list[str]) -> str:
    close = difflib.get_close_matches(name, names, n=3)
    return f"; did you mean {' or '.join(close)}?" if close else ""
