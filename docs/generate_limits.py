"""Writes the tables of limits into SECURITY.md, from where the code says them.

``python docs/generate_limits.py``; ``make docs`` runs it, tests/docs/test_limits.py compares.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from pywebtransport import ServerConfig
from pywebtransport import config as config_module

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "SECURITY.md"
BEGIN, END = "<!-- limits: docs/generate_limits.py -->\n", "<!-- end of limits -->\n"
CORE = ROOT / "rust/core/src/limits.rs"
DRIVER = ROOT / "python/pywebtransport/_engine/driver.py"

CONFIGURED = [
    "close_timeout",
    "connection_idle_timeout",
    "first_session_timeout",
    "max_connections",
    "max_connections_per_address",
    "max_datagram_size",
    "max_field_section_size",
    "max_incoming_datagrams",
    "max_outgoing_datagrams",
    "max_pending_events_per_session",
    "max_sessions",
    "max_sessions_per_connection",
    "max_stream_buffer_size",
    "max_total_pending_events",
    "max_unfinished_message_bytes",
    "pending_event_ttl",
    "quic_max_concurrent_bidi_streams",
    "quic_max_concurrent_uni_streams",
    "quic_receive_window",
    "quic_send_window",
    "quic_stream_receive_window",
    "retry",
    "write_timeout",
]
"""Fields of ServerConfig that bound what a peer can do."""

FIXED = [
    ("python/pywebtransport/_engine/aioquic_quic.py", "MAX_GAPS"),
    ("python/pywebtransport/_engine/rules.py", "HANDSHAKE_TIMEOUT"),
    ("python/pywebtransport/pubsub/broker.py", "DEFAULT_MAX_QUEUE_SIZE"),
    ("python/pywebtransport/pubsub/broker.py", "DEFAULT_MAX_QUEUE_BYTES"),
    ("python/pywebtransport/pubsub/broker.py", "DEFAULT_MAX_STREAMS_PER_CONNECTION"),
    ("python/pywebtransport/pubsub/broker.py", "DEFAULT_MAX_SUBSCRIPTIONS"),
    ("python/pywebtransport/rpc/manager.py", "DEFAULT_MAX_BATCH_SIZE"),
    ("python/pywebtransport/rpc/manager.py", "DEFAULT_MAX_PENDING_REQUESTS"),
    ("rust/quic/src/endpoint.rs", "MAX_PENDING_INITIALS"),
    ("rust/quic/src/endpoint.rs", "MAX_RESPONSES"),
    ("rust/wire/src/capsule.rs", "MAX_REASON_SIZE"),
    ("rust/wire/src/qpack/mod.rs", "MAX_FIELDS"),
    ("rust/wire/src/settings.rs", "MAX_SETTINGS"),
]
"""Constants elsewhere that a peer meets: where, and their names."""

Row = tuple[str, ...]


def table(head: Row, rows: Iterator[Row]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def said(name: str, value: object) -> str:
    """A value as one would say it; ``name`` tells bytes from other numbers."""
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, float):
        return f"{value:g} s"
    if isinstance(value, str):
        return value
    is_size = any(word in name.lower() for word in ("buffer", "bytes", "limit", "size", "window"))
    if isinstance(value, int) and is_size and value >= 1 << 12 and value % (1 << 10) == 0:
        return f"{value >> 20:,} MiB" if value % (1 << 20) == 0 else f"{value >> 10:,} KiB"
    return f"{value:,}"


def documented(path: Path) -> dict[str, tuple[ast.expr | None, str]]:
    """Assigned names of a module and of its classes: the value, and the text under it."""
    found: dict[str, tuple[ast.expr | None, str]] = {}
    tree = ast.parse(path.read_text())
    bodies = [tree.body, *(node.body for node in tree.body if isinstance(node, ast.ClassDef))]
    for body in bodies:
        for node, after in zip(body, [*body[1:], None], strict=True):
            target = node.target if isinstance(node, ast.AnnAssign) else None
            if isinstance(node, ast.Assign):
                target = node.targets[0]
            if not isinstance(target, ast.Name) or not isinstance(node, ast.Assign | ast.AnnAssign):
                continue
            text = ""
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                text = " ".join(str(after.value.value).split())
            found[target.id] = (node.value, text)
    return found


def plain(text: str) -> str:
    """Rust's documentation without its links, in one line of a table."""
    text = re.sub(r"\[(`[^`]+`)\](\([^)]*\))?", r"\1", " ".join(text.split()))
    return text.replace("``", "`").replace("|", "\\|")


def number(source: str) -> object:
    """What a literal of Rust, or an expression of Python's numbers, stands for."""
    if seconds := re.fullmatch(r"Duration::from_secs\((\d+)\)", source):
        return float(seconds[1])
    if rate := re.search(r"burst: ([\d_]+),\s*per_second: ([\d_]+)", source):
        return f"{int(rate[1]):,} at once, {int(rate[2]):,} a second"
    return eval(source, {"__builtins__": {}})


def configured() -> Iterator[Row]:
    texts = documented(Path(str(config_module.__file__)))
    defaults = ServerConfig()
    for name in CONFIGURED:
        yield f"`{name}`", said(name, getattr(defaults, name)), plain(texts[name][1])


def set_by() -> dict[str, str]:
    """Which field of the configuration sets a limit of the core."""
    tree = ast.parse(DRIVER.read_text())
    found = {}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or getattr(node.func, "id", "") != "CoreConfig":
            continue
        for keyword in node.keywords:
            read = re.search(r"config(?:\.|, ['\"])(\w+)", ast.unparse(keyword.value))
            if read and keyword.arg is not None:
                found[keyword.arg] = read[1]
    return found


def core() -> Iterator[Row]:
    source = CORE.read_text()
    struct = source[source.index("pub struct Limits {") : source.index("impl Default for Limits")]
    values = source[source.index("impl Default for Limits") : source.index("pub struct Rate")]
    setters = set_by()
    for comment, name in re.findall(r"((?:    /// .*\n)+)    pub (\w+):", struct):
        default = re.search(rf"\b{name}: (Rate \{{[^}}]*\}}|[^,\n]+)", values)
        assert default, name
        text = plain(comment.replace("///", ""))
        setter = f"`{setters[name]}`" if name in setters else ""
        yield f"`{name}`", said(name, number(default[1])), setter, text


def fixed() -> Iterator[Row]:
    for path, name in FIXED:
        source = (ROOT / path).read_text()
        if path.endswith(".py"):
            value, text = documented(ROOT / path)[name]
            assert value is not None
            shown = ast.unparse(value)
        else:
            found = re.search(rf"((?:\s*/// .*\n)+)\s*(?:pub )?const {name}: \w+ = (.+);", source)
            assert found, name
            shown, text = found[2], found[1].replace("///", "")
        yield f"`{name}`", said(name, number(shown)), plain(text), f"`{path}`"


def section() -> str:
    return "\n".join(
        [
            "What `ServerConfig` sets (`ClientConfig` has those that concern it), with its"
            " defaults:\n",
            table(("field", "default", "what it bounds"), configured()),
            "The protocol, for each connection, on both engines (`rust/core/src/limits.rs`). The"
            " third column names the field that sets it instead, where there is one:\n",
            table(("limit", "default", "set by", "what it bounds"), core()),
            "Elsewhere:\n",
            table(("constant", "value", "what it bounds", "where"), fixed()),
        ]
    )


def page() -> str:
    """SECURITY.md as it should be."""
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{section()}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page())
