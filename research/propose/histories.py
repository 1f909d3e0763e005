"""Past experiments of other loops, as precedents: brought into a campaign, told to its proposers, taken out again.

Their numbers are self-reported, of one seed each, and no verdict of ours: no noise, evidence or incumbent is computed
from them. What the campaign's own noise says of their gains is on the history page.
"""

from __future__ import annotations

from dataclasses import replace

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Max
from django.utils import timezone

from research.change import drafts
from research.gates.checks import credentials
from research.history import parameters
from research.history.past import Experiment, Reading, Refused
from research.lifecycle import LostRace
from research.models import Campaign, Import, PastExperiment
from research.record import events, held, kinds, rights
from research.record.rights import Actor

MAX_TOLD = 5_000


def bring(campaign: Campaign, reading: Reading, *, by: Actor) -> Import:
    """Import what was read: all of it in one transaction. What an earlier import holds is refused by its number.

    Raises PermissionDenied, or ValueError naming the field where there is nothing new.
    """
    rights.check(by, rights.import_history, campaign)
    check(reading)
    with transaction.atomic():
        Campaign.objects.select_for_update().get(pk=campaign.pk)  # two at once: the second sees the first
        _refuse_the_same(campaign, reading)
        known = known_of(campaign, reading)
        reading = without(reading, known)
        made = Import.objects.create(campaign=campaign, **_about(reading), by=by if isinstance(by, User) else None)
        PastExperiment.objects.bulk_create(_rows(made, reading), batch_size=500)
        _link(made, reading, known)
        payload = kinds.HISTORY_IMPORTED(
            imported=made.pk, sha256=made.sha256, num_read=made.num_read, num_refused=made.num_refused
        )
        sentence = f"{rights.in_words(by)} imported {made.num_mapped} past experiments from {made.source}"
        rows: list[held.Ref] = [made, (PastExperiment, made.pk)]
        events.record(payload, sentence, by=rights.name_of(by), campaign=campaign, rows=rows)
    return made


def archive(campaign: Campaign, import_id: int, *, by: Actor) -> Import:
    """Take an import out of every prompt. The record keeps it, and its source may be imported again.

    Raises PermissionDenied, or LostRace when somebody was first.
    """
    rights.check(by, rights.import_history, campaign)
    with transaction.atomic():
        here = campaign.imports.filter(pk=import_id, archived_at=None)
        person = by if isinstance(by, User) else None
        if here.update(archived_at=timezone.now(), archived_by=person) != 1:
            raise LostRace("This import is archived already, or was never made here")
        made = campaign.imports.get(pk=import_id)
        sentence = f"{rights.in_words(by)} archived the import of {made.source}: nobody is told of it any more"
        fact = kinds.HISTORY_ARCHIVED(imported=made.pk)
        events.record(fact, sentence, by=rights.name_of(by), campaign=campaign, rows=[made])
    return made


# --- what is new ----------------------------------------------------------------------------------


def check(reading: Reading) -> None:
    """Raises ValueError where it holds no experiment."""
    if not reading.num_read:
        raise ValueError(f"file: {reading.name} has a header and no row")
    if not reading.experiments:
        first = reading.refused[0]
        raise ValueError(f"file: none of {reading.num_read} rows is an experiment; line {first.line}: {first.reason}")


def _refuse_the_same(campaign: Campaign, reading: Reading) -> None:
    if (same := campaign.imports.filter(sha256=reading.sha256, archived_at=None).first()) is not None:
        raise ValueError(
            f"file: {reading.name} was imported already, on {same.created_at:%Y-%m-%d}, as {same.source}; "
            "nothing was changed. Archive that import to read it in another way"
        )


def known_of(campaign: Campaign, reading: Reading) -> dict[int, int]:
    """Line -> number of the rows that an earlier import brought, as when a file has grown since."""
    rows = PastExperiment.objects.filter(imported__campaign=campaign, imported__archived_at=None)
    numbers = dict(rows.values_list("key", "number"))
    return {one.line: numbers[one.key] for one in reading.experiments if one.key in numbers}


def without(reading: Reading, known: dict[int, int]) -> Reading:
    """``reading`` with the ``known`` rows refused by their number. Raises ValueError where no other is left."""
    new = tuple(one for one in reading.experiments if one.line not in known)
    if not new:
        raise ValueError(f"file: every row of {reading.name} was imported already; nothing was changed")
    refused = [
        Refused(line=one.line, reason=f"imported already, as H-{known[one.line]}", text=one.title)
        for one in reading.experiments
        if one.line in known
    ]
    all_refused = sorted((*reading.refused, *refused), key=lambda one: one.line)
    return replace(reading, experiments=new, refused=tuple(all_refused))


# --- rows -----------------------------------------------------------------------------------------


def _about(reading: Reading) -> dict[str, object]:
    return {
        "kind": reading.kind,
        "source": reading.name,
        "sha256": reading.sha256,
        "columns": [[column.theirs, column.field] for column in reading.columns],
        "metric": reading.metric,
        "direction": reading.direction,
        "num_read": reading.num_read,
        "refused": [{"line": one.line, "reason": one.reason, "text": one.text} for one in reading.refused],
        "notes": list(reading.notes),
    }


def _rows(made: Import, reading: Reading) -> list[PastExperiment]:
    newest = PastExperiment.objects.filter(imported__campaign=made.campaign).aggregate(last=Max("number"))["last"]
    return [_row(made, one, number) for number, one in enumerate(reading.experiments, start=(newest or 0) + 1)]


def _row(made: Import, one: Experiment, number: int) -> PastExperiment:
    patch, message = credentials.blanked(one.patch), credentials.blanked(one.message)
    return PastExperiment(
        imported=made, number=number, line=one.line, key=one.key, title=one.title,
        description=credentials.blanked(one.description), commit=one.commit, outcome=one.outcome, said=one.said,
        value=one.value, memory_mib=one.memory_mib, train_s=one.train_s, parameters=one.parameters, extras=one.extras,
        is_git_s=one.is_git_s, patch=patch, message=message,
    )  # fmt: skip


def _link(made: Import, reading: Reading, known: dict[int, int]) -> None:
    """Point every row at the one that it stands on, which has its key only now; it may be of an earlier import."""
    earlier = PastExperiment.objects.filter(imported__campaign=made.campaign, number__in=list(known.values()))
    numbered = {row.number: row for row in earlier}
    rows = {line: numbered[number] for line, number in known.items()} | {
        row.line: row for row in made.experiments.all()
    }
    changed = []
    for one in reading.experiments:
        if one.parent is not None:
            rows[one.line].parent = rows.get(one.parent)
            changed.append(rows[one.line])
    PastExperiment.objects.bulk_update(changed, ["parent"], batch_size=500)


# --- what a proposer is told ----------------------------------------------------------------------


def told(campaign: Campaign) -> tuple[drafts.Imported, ...]:
    """Every experiment of the imports that are not archived, as the proposer reads them, in their order."""
    rows = PastExperiment.objects.filter(imported__campaign=campaign, imported__archived_at=None)
    rows = rows.select_related("imported", "parent__imported").order_by("number")[:MAX_TOLD]
    by_import: dict[int, list[PastExperiment]] = {}
    for row in rows:
        by_import.setdefault(row.imported_id, []).append(row)
    return tuple(_told(row, varying) for rows_ in by_import.values() for row, varying in _varying(rows_))


def _varying(rows: list[PastExperiment]) -> list[tuple[PastExperiment, dict[str, str]]]:
    """Each row with those of its parameters that are not the same in all: the others tell nothing."""
    names = parameters.varying([row.parameters for row in rows])
    return [(row, {name: row.parameters[name] for name in names if name in row.parameters}) for row in rows]


def _told(row: PastExperiment, varying: dict[str, str]) -> drafts.Imported:
    return drafts.Imported(
        number=row.number,
        source=row.imported.get_kind_display(),
        title=row.title,
        description=row.description,
        outcome=row.outcome,
        said=row.said,
        metric=row.imported.metric,
        direction=row.imported.direction,
        value=row.value,
        gain=gain_of(row),
        stands_on=None if row.parent is None else row.parent.number,
        memory_mib=row.memory_mib,
        parameters=varying,
        extras=parameters.telling(row.extras),
        patch=row.patch,
    )


def gain_of(row: PastExperiment) -> float | None:
    """How much better it says to be than what it stands on, in its metric; None where either has no number."""
    before = row.parent
    if before is None or before.value is None or row.value is None or before.imported.metric != row.imported.metric:
        return None
    return before.value - row.value if row.imported.direction == "lower" else row.value - before.value
