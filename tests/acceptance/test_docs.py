"""What the docs point to is there.

Belongs here: links and file names in Markdown. Not here: commands (test_readme.py).
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "batch_llm").rglob("*.md")]
FILE_NAME = re.compile(r"`((?:batch_llm|assets|resources|sensors|tests|docs|scripts)/[\w./-]*\w/?)`")


def test_links_lead_somewhere() -> None:
    """Every relative link or picture exists."""
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in PAGES
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
        if not target.startswith(("http://", "https://", "mailto:")) and not (page.parent / target).exists()
    ]
    assert not broken


def test_named_files_exist() -> None:
    """Every file of the source that a page names exists."""
    missing = [
        f"{page.relative_to(ROOT)}: {name}"
        for page in PAGES
        for name in FILE_NAME.findall(page.read_text(encoding="utf-8"))
        if not (ROOT / name).exists()
    ]
    assert not missing
