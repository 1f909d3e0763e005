"""The ledger: money and GPU-seconds that were spent, what is left, and when a campaign has to stop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Count, Q, QuerySet, Sum
from django.utils import timezone

from gpu_runner import contract
from research.change.drafts import Allowance, OverCap, Usage
from research.models import Campaign, LedgerEntry, Run, Turn
from research.record import events, kinds, rights
from research.record.kinds import Fact

_APART = ("usd", "usd_at_most", "row", "body")  # of a Usage: not in the JSON of its row
SENT = "sent"  # an attempt under way: not spent yet, and of no allowance any more


@dataclass(frozen=True, kw_only=True)
class Spent:
    """Sums over a campaign. ``num_unpriced`` entries have an unknown price and are in no dollar sum."""

    gpu_s: float
    usd: Decimal
    num_unpriced: int
    usd_unpriced_at_most: Decimal  # of those together

    @property
    def gpu_hours(self) -> float:
        return self.gpu_s / 3600


def spent(campaign: Campaign) -> Spent:
    entries = _over(campaign.ledger.all())
    sums = entries.aggregate(
        all_s=Sum("gpu_s"), all_usd=Sum("usd"), num_unpriced=Count("pk", filter=Q(kind="claude", usd=None))
    )
    return Spent(
        gpu_s=sums["all_s"] or 0.0,
        usd=sums["all_usd"] or Decimal(0),
        num_unpriced=sums["num_unpriced"],
        usd_unpriced_at_most=_unpriced_at_most(entries) if sums["num_unpriced"] else Decimal(0),
    )


def _over(entries: QuerySet[LedgerEntry]) -> QuerySet[LedgerEntry]:
    """Entries without attempts under way.

    Naming the kind keeps GPU entries, which lack this key: NULL is never unequal.
    """
    return entries.exclude(kind="claude", usage__stop_reason=SENT)


def _unpriced_at_most(entries: QuerySet[LedgerEntry]) -> Decimal:
    usages = entries.filter(kind="claude", usd=None).values_list("usage", flat=True)
    return sum((Decimal(usage.get("usd_at_most") or 0) for usage in usages), Decimal(0))


def charge_run(run: Run, device_s: float) -> None:
    """Enter the GPU-seconds of one lease, priced when the campaign has a price."""
    price = run.campaign.usd_per_gpu_hour
    usd = None if price is None else price * Decimal(device_s) / 3600
    entry = LedgerEntry.objects.create(campaign=run.campaign, kind="gpu", gpu_s=device_s, usd=usd, run=run)
    _tell(run.campaign, kinds.LEDGER_CHARGED(), f"R-{run.pk} took {device_s:,.0f} s of a GPU", entry)


def _tell(campaign: Campaign, fact: Fact, sentence: str, *entries: LedgerEntry) -> None:
    events.record(fact, sentence, by=rights.LEDGER, campaign=campaign, rows=entries)


def enter(campaign: Campaign, usage: Usage, purpose: str) -> int:
    """Enter an attempt before it is sent, with the most that it can cost, in case this process dies.

    Raises OverCap when that is more than is left. The row is written before the sum is taken, so that of two callers
    that ask for the last of it at the same time at least one sees the other's.
    """
    with transaction.atomic():
        entry = LedgerEntry.objects.create(campaign=campaign, kind="claude", usd=None, usage=_fields(usage, purpose))
        _tell(campaign, kinds.LEDGER_ENTERED(), f"A request to Claude is about to be sent, to {purpose}", entry)
    weighed = allowance(campaign)
    if weighed.usd_left < 0:
        with transaction.atomic():
            LedgerEntry.objects.filter(pk=entry.pk).delete()
            _tell(campaign, kinds.LEDGER_NOT_SENT(), "It was not sent: too little is left", entry)
        raise OverCap(f"Others are asking, and what they may cost leaves too little of the {weighed.name}; not sent.")
    return entry.pk


def write_off(campaign: Campaign) -> int:
    """Mark attempts whose process died as lost; each counts with the most that it can have cost."""
    entries = list(campaign.ledger.filter(kind="claude", usage__stop_reason=SENT))
    for entry in entries:
        entry.usage["stop_reason"] = "lost"
        entry.save(update_fields=["usage"])
    if entries:
        sentence = f"{len(entries)} requests to Claude were left without an answer"
        _tell(campaign, kinds.LEDGER_WRITTEN_OFF(), sentence, *entries)
    return len(entries)


def charge_claude(campaign: Campaign, usages: tuple[Usage, ...], purpose: str) -> None:
    """Enter every HTTP attempt that was made to ``propose`` or to ``revise``. An unknown price stays NULL."""
    for usage in usages:
        if not enter_usage(usage, purpose):
            with transaction.atomic():
                entry = LedgerEntry.objects.create(campaign=campaign, kind="claude", **_said(usage, purpose))
                _tell(campaign, kinds.LEDGER_CHARGED(), f"An answer of Claude, to {purpose}", entry)


def enter_usage(usage: Usage, purpose: str) -> bool:
    """Enter what came of an attempt that was entered before; False where it was not. May be done again."""
    if usage.row is None:
        return False
    with transaction.atomic():
        if LedgerEntry.objects.filter(pk=usage.row).update(**_said(usage, purpose)) != 1:
            return False
        entry = LedgerEntry.objects.select_related("campaign").defer("answer").get(pk=usage.row)
        _tell(entry.campaign, kinds.LEDGER_CHARGED(), f"An answer of Claude, to {purpose}", entry)
    return True


def _said(usage: Usage, purpose: str) -> dict[str, Any]:
    return {"usd": usage.usd, "usage": _fields(usage, purpose), "answer": usage.body}


def _fields(usage: Usage, purpose: str) -> dict[str, Any]:
    fields = {"purpose": purpose} | {k: v for k, v in vars(usage).items() if k not in _APART}
    return fields if usage.usd_at_most is None else fields | {"usd_at_most": str(usage.usd_at_most)}


def _on_its_way(campaigns: QuerySet[Campaign]) -> Decimal:
    """The most that attempts and batches without an answer yet can cost."""
    turns = Turn.objects.filter(campaign__in=campaigns).exclude(batch=None)
    sent = _unpriced_at_most(LedgerEntry.objects.filter(campaign__in=campaigns, usage__stop_reason=SENT))
    return sum((Decimal(batch["usd_at_most"]) for batch in turns.values_list("batch", flat=True) if batch), sent)


@dataclass(frozen=True, kw_only=True)
class Account:
    """What Claude cost a campaign so far, and how much of what it read came from the cache."""

    num_attempts: int
    num_failed: int  # without an answer
    num_refused: int
    failures: dict[str, int]  # attempts without an answer, by why, most frequent first
    usd: Decimal
    num_unpriced: int  # in none of the sums
    usd_by_purpose: dict[str, Decimal]
    usd_by_model: dict[str, Decimal]  # dearest first
    usd_per_keep: Decimal | None
    input_tokens: int  # read by the model, from the cache or not
    output_tokens: int
    cache_share: float | None
    seconds: float  # spent waiting for answers


def account(campaign: Campaign) -> Account:
    entries = _over(campaign.ledger.filter(kind="claude"))
    rows = list(entries.values_list("usd", "usage"))
    usages = [usage for _, usage in rows]
    cached = sum(usage["cache_read_tokens"] for usage in usages)
    read = cached + sum(usage["input_tokens"] + usage["cache_write_tokens"] for usage in usages)
    why = Counter(usage["stop_reason"] for usage in usages if usage["stop_reason"] not in ("end_turn", "refusal"))
    by_purpose = _sums((usage.get("purpose", "propose"), usd) for usd, usage in rows)
    total = sum(by_purpose.values(), Decimal(0))
    num_kept = campaign.proposals.filter(arm="claude", promoted__isnull=False).count()
    return Account(
        num_attempts=len(rows),
        num_failed=why.total(),
        num_refused=sum(usage["stop_reason"] == "refusal" for usage in usages),
        failures=dict(why.most_common()),
        usd=total,
        num_unpriced=sum(usd is None for usd, _ in rows),
        usd_by_purpose=by_purpose,
        usd_by_model=_sums((usage["model"], usd) for usd, usage in rows),
        usd_per_keep=total / num_kept if num_kept else None,
        input_tokens=read,
        output_tokens=sum(usage["output_tokens"] for usage in usages),
        cache_share=cached / read if read else None,
        seconds=sum(usage["seconds"] for usage in usages),
    )


def _sums(entries: Iterable[tuple[str, Decimal | None]]) -> dict[str, Decimal]:
    """Dollars by name, dearest first. An unknown price adds nothing, but its name is listed."""
    sums: dict[str, Decimal] = {}
    for name, usd in entries:
        sums[name] = sums.get(name, Decimal(0)) + (usd or Decimal(0))
    return dict(sorted(sums.items(), key=lambda item: -item[1]))


def exhausted(campaign: Campaign) -> str:
    """Why the budget forbids another run or call; empty while it does not."""
    total = spent(campaign)
    if campaign.budget_gpu_hours is not None and total.gpu_hours >= campaign.budget_gpu_hours:
        return f"{total.gpu_hours:.2f} of {campaign.budget_gpu_hours:g} GPU-hours are spent"
    if campaign.budget_usd is not None and total.usd + total.usd_unpriced_at_most >= campaign.budget_usd:
        unsure = f", up to ${total.usd_unpriced_at_most:.2f} more of unknown price" if total.num_unpriced else ""
        return f"${total.usd:.2f} of ${campaign.budget_usd:.2f} are spent{unsure}"
    return ""


def allowance(campaign: Campaign) -> Allowance:
    """What Claude may cost now: the lesser of what is left of the campaign's budget and of today's cap."""
    midnight = timezone.now().astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    today = _over(LedgerEntry.objects.filter(kind="claude", created_at__gte=midnight))
    spent_today = (today.aggregate(usd=Sum("usd"))["usd"] or Decimal(0)) + _unpriced_at_most(today)
    of_the_day = settings.CLAUDE_USD_PER_DAY - spent_today - _on_its_way(Campaign.objects.all())
    left, name = (
        of_the_day,
        f"${settings.CLAUDE_USD_PER_DAY:.2f} a day (COUNTERSIGN_CLAUDE_USD_PER_DAY, until 0:00 UTC)",
    )
    if campaign.budget_usd is not None:
        total = spent(campaign)
        on_its_way = _on_its_way(Campaign.objects.filter(pk=campaign.pk))
        of_the_campaign = campaign.budget_usd - total.usd - total.usd_unpriced_at_most - on_its_way
        if of_the_campaign < left:
            left, name = of_the_campaign, f"campaign's ${campaign.budget_usd:.2f}"
    return Allowance(usd_per_call=settings.CLAUDE_USD_PER_CALL, usd_left=left, name=name)


def left_in_words(campaign: Campaign) -> str:
    total = spent(campaign)
    parts = []
    if campaign.budget_gpu_hours is not None:
        parts.append(f"{max(0.0, campaign.budget_gpu_hours - total.gpu_hours):.2f} GPU-hours")
    if campaign.budget_usd is not None:
        parts.append(f"${max(Decimal(0), campaign.budget_usd - total.usd):.2f}")
    return " and ".join(parts) or "no limit set"


def budget_in_words(budget: contract.Budget) -> str:
    unit = {"seconds": "seconds of training", "tokens": "tokens", "flops": "FLOPs"}[budget.kind]
    amount = f"{budget.amount:.3g}" if budget.kind == "flops" else f"{budget.amount:,.0f}"
    return f"{amount} {unit}"
