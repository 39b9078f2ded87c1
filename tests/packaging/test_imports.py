"""The import rules between the rooms: which crate and which module may know what."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "python/pywebtransport"

MAY_IMPORT = {
    "wire": set(),
    "core": {"wire"},
    "quic": set(),
    "endpoint": {"core", "quic"},
    "python": {"wire", "core", "quic", "endpoint"},
}
SANS_IO = ("wire", "core")
# Anything that reaches a socket, a clock, a thread, an entropy source or Python.
DOES_IO = re.compile(
    r"^(async-std|getrandom|libc|mio|nix|polling|pyo3.*|quinn.*|rand|ring|rustix|rustls.*|smol"
    r"|socket2|tokio.*|windows.*)$"
)
BANNED_STD = re.compile(
    r"\bstd::(net|fs|thread|process|env|io::(stdin|stdout|stderr))\b"
    r"|\b(Instant|SystemTime)\b|\bprintln!|\bextern\s+\"C\""
)


def manifest(crate: str) -> dict[str, dict[str, object]]:
    return tomllib.loads((ROOT / "rust" / crate / "Cargo.toml").read_text())


def sources(crate: str) -> Iterator[tuple[Path, str]]:
    for path in sorted((ROOT / "rust" / crate / "src").rglob("*.rs")):
        # Unit tests stand at the end of a file and may use what they like.
        yield path, path.read_text().partition("#[cfg(test)]")[0]


@pytest.mark.parametrize("crate", MAY_IMPORT)
def test_crate_depends_only_on_the_rooms_below_it(crate: str) -> None:
    ours = {
        name.removeprefix("pywt-")
        for name in manifest(crate).get("dependencies", {})
        if name.startswith("pywt-")
    }
    assert ours <= MAY_IMPORT[crate]


def dependencies_of(crate: str) -> set[str]:
    """Every package that Cargo.lock gives the crate, its tests' and others' included or not."""
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())
    needs = {
        package["name"]: [entry.split()[0] for entry in package.get("dependencies", [])]
        for package in lock["package"]
    }
    # A lock file does not tell dev-dependencies apart, so start from the manifest's own table.
    waiting = list(manifest(crate).get("dependencies", {}))
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += (
                manifest(name.removeprefix("pywt-")).get("dependencies", {})
                if name.startswith("pywt-")
                else needs[name]
            )
    return found


@pytest.mark.parametrize("crate", SANS_IO)
def test_sans_io_crate_has_no_dependency_that_does_io(crate: str) -> None:
    found = dependencies_of(crate)
    print(f"{crate} depends on {sorted(found)}")
    assert not [name for name in found if DOES_IO.match(name)]


@pytest.mark.parametrize("crate", SANS_IO)
def test_sans_io_crate_forbids_unsafe_code(crate: str) -> None:
    assert "#![forbid(unsafe_code)]" in (ROOT / "rust" / crate / "src/lib.rs").read_text()


@pytest.mark.parametrize("crate", SANS_IO)
def test_sans_io_crate_names_no_clock_socket_file_or_thread(crate: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path, text in sources(crate)
        for number, line in enumerate(text.splitlines(), 1)
        if BANNED_STD.search(line) and not line.lstrip().startswith("//")
    ]
    assert not found, "\n".join(found)


@pytest.mark.timeout(300)
def test_core_builds_for_wasm_where_the_target_is_installed() -> None:
    """The proof by compiler: that target has no sockets and no threads to reach for."""
    rustup = shutil.which("rustup")
    command = [rustup or "", "target", "list", "--installed"]
    installed = subprocess.run(command, capture_output=True, text=True).stdout if rustup else ""
    if "wasm32-unknown-unknown" not in installed.split():
        print("wasm32-unknown-unknown is not installed: the sources were searched instead")
        test_sans_io_crate_names_no_clock_socket_file_or_thread("core")
        return
    target = ["--target", "wasm32-unknown-unknown"]
    subprocess.run(["cargo", "check", "--locked", *target, "-p", "pywt-core"], cwd=ROOT, check=True)


def imports(path: Path, *, unrun: bool = False) -> Iterator[str]:
    """What a module imports when it runs, functions included: full dotted names.

    ``unrun``: also what stands under `if TYPE_CHECKING`.
    """
    package = path.relative_to(PACKAGE.parent).with_suffix("").parts[:-1]

    def walk(node: ast.AST) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            is_unrun = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
            if is_unrun and not unrun:
                continue
            if isinstance(child, ast.Import):
                yield from (alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                base = ".".join(package[: len(package) - child.level + 1]) if child.level else ""
                module = ".".join(filter(None, (base, child.module)))
                yield from (f"{module}.{alias.name}" for alias in child.names)
            else:
                yield from walk(child)

    yield from walk(ast.parse(path.read_text()))


MODULES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_module_imports_only_what_its_room_may(path: Path) -> None:
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    names = set(imports(path))
    foreign = {
        name.partition(".")[0]
        for name in names
        if name.partition(".")[0] not in sys.stdlib_module_names | {"pywebtransport"}
    }
    # What only users of a room have to install.
    of_room = {"cli": {"click"}, "telemetry": {"opentelemetry", "prometheus_client"}}
    assert foreign <= of_room.get(room, set()) | {
        "aioquic",
        "cryptography",
        "google",
        "msgpack",
        "nats",
        "redis",
    }
    # The protocol is spoken by rust/core alone, whatever carries it.
    assert not {
        name for name in names if name.startswith(("aioquic.h3", "aioquic.h0", "pylsqpack"))
    }
    if room == "_engine":
        above = ("client", "server", "connection", "session", "stream", "datagram", "framework")
        facade = tuple(f"pywebtransport.{name}" for name in above)
        assert not {name for name in names if name.startswith(facade)}


def module_name(path: Path) -> str:
    name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    return name.removesuffix(".__init__")


def circles(needs: dict[str, set[str]]) -> list[list[str]]:
    """Every way from a module back to itself that is found first, depth first."""
    found: list[list[str]] = []
    done: set[str] = set()

    def visit(module: str, way: list[str]) -> None:
        if module in way:
            found.append([*way[way.index(module) :], module])
        elif module not in done:
            for needed in sorted(needs[module]):
                visit(needed, [*way, module])
            done.add(module)

    for module in sorted(needs):
        visit(module, [])
    return found


def test_no_module_is_needed_by_what_it_needs() -> None:
    """Lines under `if TYPE_CHECKING` and imports within functions count like all others."""
    names = {module_name(path) for path in MODULES}
    needs: dict[str, set[str]] = {}
    for path in MODULES:
        own = module_name(path)
        needs[own] = {
            module
            for name in imports(path, unrun=True)
            for module in (name if name in names else name.rpartition(".")[0],)
            if module in names and module != own
        }
    assert sum(map(len, needs.values())) > len(MODULES)
    assert not circles(needs), "\n".join(" -> ".join(each) for each in circles(needs))


def test_a_circle_is_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == [["b", "c", "b"]]
