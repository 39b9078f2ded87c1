"""What the documents say that works is shown by tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pywebtransport import ServerConfig
from pywebtransport.constants import DEFAULT_ENGINE, ENGINES

ROOT = Path(__file__).resolve().parents[2]
MATRIX = ROOT / "docs" / "reference" / "feature-matrix.md"
PAGES = sorted(ROOT.glob("*.md"))
"""Pages of the root; links within `docs` are Sphinx's to check (test_site.py)."""


def claims() -> list[tuple[str, str]]:
    """Feature and tests of every line of the matrix."""
    found = []
    for line in MATRIX.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| ") and cells[-1] not in ("test", "---"):
            found.append((cells[0], cells[-1]))
    return found


@pytest.mark.parametrize(("feature", "tests"), claims(), ids=[name for name, _ in claims()])
def test_feature_has_its_tests(feature: str, tests: str) -> None:
    names = re.findall(r"`([^`]+)`", tests)
    assert names, f"nothing shows that there is {feature}"
    for name in names:
        path, _, function = name.partition("::")
        source = (ROOT / path).read_text()
        assert re.search(rf"^(async )?(def|fn) {function or 'test_'}", source, re.MULTILINE), name


def test_matrix_names_the_default_engine() -> None:
    assert f"The default\nengine is `{DEFAULT_ENGINE}`." in MATRIX.read_text()
    assert f"The default is `{DEFAULT_ENGINE}`." in (ROOT / "docs/howto/engine.md").read_text()
    assert set(
        re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/howto/engine.md").read_text(), re.M)
    ) == {*ENGINES}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, heading = target.partition("#")
        if "://" in target:
            continue
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{page}: {target}"
        if heading:
            headings = re.findall(r"^#+ (.+)$", there.read_text(), re.MULTILINE)
            assert heading in {anchor(each) for each in headings}, f"{page}: {target}"


def anchor(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def test_fields_to_which_others_are_mapped_exist() -> None:
    text = (ROOT / "docs/migration/pywebtransport.md").read_text()
    rows = text[text.index("| field of 0.21 |") :].splitlines()[2:]
    named = [
        name for row in rows if row.startswith("| ") for name in re.findall("`(.+?)`", row)[1:]
    ]
    assert len(named) > 10
    assert not [name for name in named if not hasattr(ServerConfig(), name)]


def test_libraries_are_compared_in_the_versions_that_were_met() -> None:
    met = re.findall(
        r"^\| [A-Z] \| ([^|]+) \|", (ROOT / "docs/reference/peers.md").read_text(), re.M
    )
    text = (ROOT / "docs/reference/compared.md").read_text()
    (head,) = [line for line in text.splitlines() if line.startswith("|  | this one |")]
    named = [cell.strip() for cell in head.strip("|").split("|")][2:]
    assert len(named) == 6
    assert set(named) <= {name.strip() for name in met}
