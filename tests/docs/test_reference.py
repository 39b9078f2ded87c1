"""The reference pages are what the docstrings say now, and every example runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pywebtransport._engine.select import ENVIRONMENT_VARIABLE
from pywebtransport.constants import ENGINES

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "docs"))

import generate_reference as reference  # noqa: E402

EXAMPLES = sorted((ROOT / "examples" / "api").glob("[a-z]*.py"))


def test_reference_pages_are_up_to_date() -> None:
    stale = [
        path.name
        for path, body in reference.pages().items()
        if not path.exists() or path.read_text() != body
    ]
    assert not stale, "run `make docs`"


@pytest.mark.parametrize("module", reference.MODULES)
def test_every_public_name_says_what_it_is(module: str) -> None:
    assert reference.undocumented(module) == []


def test_docstring_becomes_markdown() -> None:
    doc = """See :meth:`~a.b.Klass.read` and ``x``.

Like this::

    call()

Args:
    size: The most to return,
        and more.
    a, *b: Others.
"""
    assert (
        reference.markdown(doc.strip())
        == """See `Klass.read()` and `x`.

Like this:

```python
call()
```

**Args**

- `size`: The most to return,
  and more.
- `a`, `*b`: Others."""
    )


def test_every_module_has_an_example() -> None:
    have = {path.stem for path in EXAMPLES}
    wanted = {name.replace(".", "_") for name in set(reference.MODULES) - reference.WITHOUT_EXAMPLE}
    assert wanted == have - {"local"}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("path", [p for p in EXAMPLES if p.stem != "local"], ids=lambda p: p.stem)
def test_example_runs(path: Path, engine: str) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-m", f"examples.api.{path.stem}"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), ENVIRONMENT_VARIABLE: engine},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip(), "an example shows something"
    assert "Traceback" not in done.stderr, done.stderr
