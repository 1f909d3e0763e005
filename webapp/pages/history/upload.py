"""An uploaded table between its preview and its import: it travels with the form, so nothing waits on the server."""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from django import forms

from research.history import columns, reader
from research.history.past import KINDS, Kind, Reading, Wanted
from research.models import Campaign

MAX_BYTES = 2 * 2**20  # held, it has to fit into DATA_UPLOAD_MAX_MEMORY_SIZE
CHOICES = {
    "commit": "commit", "outcome": "outcome", "description": "description", "title": "name", "memory": "memory",
    "seconds": "seconds", "metric": "the metric", "parameter": "a setting", "extra": "kept as an extra",
}  # fmt: skip
DIRECTIONS = [("", "by itself"), ("lower", "lower is better"), ("higher", "higher is better")]


class UploadForm(forms.Form):
    """A table of experiments, from a person's disk."""

    kind = forms.ChoiceField(choices=list(KINDS.items()))
    file = forms.FileField(
        max_length=200, allow_empty_file=True, error_messages={"required": "Choose a results.tsv, or a table as CSV."}
    )

    def clean_file(self) -> Any:
        file = self.cleaned_data["file"]
        if file.size > MAX_BYTES:
            raise forms.ValidationError(
                f"It has {file.size / 2**20:.1f} MiB; at most {MAX_BYTES // 2**20} MiB are taken here. "
                "`manage.py import` takes more."
            )
        return file


class HeldForm(forms.Form):
    """The table that was uploaded, with what was chosen for its columns."""

    kind = forms.ChoiceField(choices=list(KINDS.items()))
    name = forms.CharField(max_length=200)
    held = forms.CharField(widget=forms.HiddenInput, strip=False)
    direction = forms.ChoiceField(choices=DIRECTIONS, required=False)

    def clean_held(self) -> bytes:
        try:
            return unpacked(self.cleaned_data["held"])
        except ValueError as error:
            raise forms.ValidationError("The form is damaged; choose the file again.") from error


def packed(body: bytes) -> str:
    return base64.b64encode(zlib.compress(body)).decode()


def unpacked(held: str) -> bytes:
    """Raises ValueError for what ``packed`` did not make, or what is larger than it may have been."""
    try:
        opened = zlib.decompressobj()
        body = opened.decompress(base64.b64decode(held, validate=True), MAX_BYTES + 1)
    except (binascii.Error, zlib.error) as error:
        raise ValueError(str(error)) from error
    if len(body) > MAX_BYTES or not opened.eof:
        raise ValueError("it is larger than what is taken")
    return body


def reading_of(
    campaign: Campaign, kind: Kind, body: bytes, name: str, posted: Mapping[str, str], direction: str
) -> Reading:
    """The table as ``campaign`` reads it, by what was chosen: ``column-0`` is our field of its first column, and so on.

    Raises ValueError naming the file, or the column.
    """
    by_itself = Wanted(ours=campaign.metric, our_direction=campaign.direction)  # type: ignore[arg-type]  # its choices
    first = reader.read(kind, body, name, by_itself)
    chosen = {column.theirs: posted.get(f"column-{place}", "") for place, column in enumerate(first.columns)}
    if not any(chosen.values()) and not direction:
        return first
    fields = {theirs: ours for theirs, ours in chosen.items() if ours in columns.FIELDS}
    wanted = replace(by_itself, columns=fields, direction=direction)  # type: ignore[arg-type]  # one of DIRECTIONS
    return reader.read(kind, body, name, wanted)
