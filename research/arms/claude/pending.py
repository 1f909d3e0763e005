"""A batch under way, as the Turn stores it.

Apart from ``batches``, so that readers need not import the slow SDK.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from research.change.drafts import Origin

GIVEN_UP_AFTER = timedelta(hours=26)  # a batch ends within 24 hours


@dataclass(frozen=True, kw_only=True)
class Pending:
    """``id`` is empty from before the batch is sent until its id is known."""

    id: str
    model: str
    prompt_sha256: str
    num_wanted: int
    usd_at_most: str  # JSON knows no Decimal
    at: str
    templates_sha256: str = ""  # a batch that was on its way before this was kept has none

    @property
    def origin(self) -> Origin:
        return Origin(model=self.model, prompt_sha256=self.prompt_sha256, templates_sha256=self.templates_sha256)

    @property
    def is_overdue(self) -> bool:
        return datetime.now(UTC) - datetime.fromisoformat(self.at) > GIVEN_UP_AFTER
