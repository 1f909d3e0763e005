"""What people read in a diff: every line of ours fits on a screen, and every template is asked for somewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings

ROOT = Path(__file__).resolve().parents[2]
MOST = 120  # columns, as in Python (pyproject.toml)


def ours() -> Iterator[Path]:
    """Templates, stylesheets and scripts that we wrote."""
    yield from sorted(ROOT.glob("webapp/**/*.html"))
    yield from sorted([*ROOT.glob("static/css/*.css"), *ROOT.glob("static/js/*.js")])


def templates() -> dict[str, Path]:
    """Ours, by the name that Django gives them."""
    folders = [*settings.TEMPLATES[0]["DIRS"], settings.WEBAPP / "templates", settings.WEBAPP / "notify" / "templates"]
    return {str(path.relative_to(folder)): path for folder in folders for path in sorted(folder.glob("**/*.html"))}


def test_no_line_of_a_template_a_stylesheet_or_a_script_is_wider_than_python_may_be() -> None:
    long = [
        f"{path.relative_to(ROOT)}:{number}: {len(line)} columns"
        for path in ours()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if len(line) > MOST
    ]
    assert not long, "\n".join(long)


def test_every_template_is_where_django_looks_for_it() -> None:
    assert sorted(templates().values()) == sorted(ROOT.glob("webapp/**/*.html"))


def test_every_template_is_asked_for_by_a_page_or_by_another_template() -> None:
    texts = [path.read_text() for path in [*ROOT.glob("webapp/**/*.html"), *ROOT.glob("webapp/**/*.py")]]
    named = {name for text in texts for name in re.findall(r'"([\w/]+\.html)"', text)}
    errors = {name for name in templates() if name.startswith("errors/_")}  # asked for by the kind of error
    extends_the_admins = {"admin/base_site.html"}
    assert set(templates()) - named - errors - extends_the_admins == set()
