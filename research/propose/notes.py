"""Steering notes: what a person tells the proposer while the loop runs, in every request until the note is retired."""

from __future__ import annotations

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from research.change import drafts
from research.lifecycle import LostRace
from research.models import Campaign, Note
from research.record import events, kinds, rights
from research.record.kinds import Fact

MAX_CHARS = 2_000
MAX_NOTES = 20  # not retired at once; more than people and proposers can keep in mind would steer nobody


def note(campaign: Campaign, text: str, *, by: User) -> Note:
    """Add a note. Raises PermissionDenied, or ValueError with the field and the way out."""
    rights.check(by, rights.write_notes, campaign)
    text = text.strip()
    if not text:
        raise ValueError("note: write a sentence; the proposer reads it with its next request")
    if len(text) > MAX_CHARS:
        raise ValueError(f"note: {len(text):,} characters; at most {MAX_CHARS:,}")
    with transaction.atomic():
        Campaign.objects.select_for_update().get(pk=campaign.pk)  # two at once must not pass the limit together
        if campaign.notes.filter(retired_at=None).count() >= MAX_NOTES:
            raise ValueError(f"note: {MAX_NOTES} notes hold already; retire one that is done")
        written = Note.objects.create(campaign=campaign, text=text, by=by)
        _record(written, kinds.NOTE_ADDED(note=written.pk), f"{rights.in_words(by)} told the proposer: {text}", by)
    return written


def retire(campaign: Campaign, note_id: int, *, by: User) -> Note:
    """Retire a note. Raises PermissionDenied, or LostRace when somebody was first."""
    rights.check(by, rights.write_notes, campaign)
    with transaction.atomic():
        held = campaign.notes.filter(pk=note_id, retired_at=None)
        if held.update(retired_at=timezone.now()) != 1:
            raise LostRace("This note no longer holds: somebody retired it already")
        retired = campaign.notes.get(pk=note_id)
        sentence = f"{rights.in_words(by)} retired a note: {retired.text}"
        _record(retired, kinds.NOTE_RETIRED(note=retired.pk), sentence, by)
    return retired


def notes(campaign: Campaign) -> tuple[drafts.Note, ...]:
    """The notes that are not retired, oldest first, as the proposer reads them."""
    held = campaign.notes.filter(retired_at=None)
    return tuple(drafts.Note(at=f"{one.created_at:%Y-%m-%d %H:%M}", text=one.text) for one in held)


def _record(note: Note, fact: Fact, sentence: str, by: User) -> None:
    events.record(fact, sentence, by=rights.name_of(by), campaign=note.campaign, rows=[note])
