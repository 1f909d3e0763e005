"""Alice looks at an imported history: a first number that was far off does not hide what came after it."""

from __future__ import annotations

from webapp.drawing.imported import Tried, imported_figure


def tried(*values: float) -> list[Tried]:
    best = [min(values[: i + 1]) for i in range(len(values))]
    return [
        Tried(number=i + 1, title="An idea", outcome="kept", value=value, best=best[i])
        for i, value in enumerate(values)
    ]


def test_gains_are_seen_after_a_first_number_that_was_a_hundred_times_as_large() -> None:
    drawn = imported_figure(tried(1_000.0, *(10.0 - 0.1 * i for i in range(40))), "score", width=1120)
    assert drawn is not None
    heights = [y for _, y, _ in drawn.kept]
    assert max(heights[1:]) - min(heights[1:]) > 100, "of 208 pixels"
    assert heights[0] == min(heights), "at the frame's top"
