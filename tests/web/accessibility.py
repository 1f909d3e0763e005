"""What axe finds on a page, and whether it fits on the screen."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Page

from tests.web.chromium import HOST

AXE = (Path(__file__).parent / "vendor" / "axe.min.js").read_text()
RULES = "{runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa', 'wcag22aa', 'best-practice']}"


def problems_of(page: Page, address: str) -> list[str]:
    """Violations of axe, and whether anything sticks out of the screen."""
    # A run's page reads its points; leaving it in the middle would be a complaint of our own making.
    page.goto(HOST + address, wait_until="networkidle" if address.startswith("/runs/") else "load")
    page.evaluate(AXE)
    found = page.evaluate(f"axe.run(document, {RULES})")["violations"]
    problems = [f"{address}: {v['id']} {v['nodes'][0]['html'][:120]}" for v in found]
    if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
        problems.append(f"{address}: wider than the screen")
    return problems
