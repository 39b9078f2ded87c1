"""Every snippet of Python in README and docs runs, and prints what the page says it prints."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.snippets import ROOT, Page, snippets

# The examples of the reference are whole programs of `examples/api`, which test_reference.py runs.
PAGES = [
    path
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    if "docs/reference/api" not in str(path)
    and any(snippet.language == "python" for snippet in snippets(path.read_text()))
]


@pytest.mark.timeout(180)
@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
async def test_snippets_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with Page(path, tmp_path) as page:
        await page.run()
