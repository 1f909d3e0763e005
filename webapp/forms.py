"""What people fill in. Every message names the field and the way out."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.auth.forms import AuthenticationForm

from research import steer
from research.models import Decision


class DecisionForm(forms.Form):
    """One decision on the revision whose digest was on the screen."""

    digest = forms.CharField(max_length=64, widget=forms.HiddenInput)
    choice = forms.ChoiceField(choices=Decision.CHOICES)
    category = forms.ChoiceField(choices=[("", "Choose why"), *Decision.CATEGORIES], required=False)
    reason = forms.CharField(widget=forms.Textarea, required=False, max_length=4_000)

    def clean(self) -> dict[str, Any]:
        fields: dict[str, Any] = super().clean() or {}
        choice = fields.get("choice")
        if choice == "reject" and not fields.get("category"):
            self.add_error("category", "Choose why it is rejected: the proposer reads it.")
        if choice in ("reject", "request_changes") and not fields.get("reason"):
            self.add_error("reason", "Write a sentence: the proposer reads it before the next draft.")
        return fields

    def take(self, error: ValueError) -> None:
        """Put a verb's ``field: sentence`` beside its field."""
        field, _, sentence = str(error).partition(": ")
        known = field if field in self.fields and sentence else None
        self.add_error(known, sentence if known else str(error))


class StateForm(forms.Form):
    """Pause, resume or halt a campaign."""

    state = forms.ChoiceField(choices=[("active", "Resume"), ("paused", "Pause"), ("halted", "Halt")])
    reason = forms.CharField(max_length=300, required=False)


class NoteForm(forms.Form):
    """Something to tell the proposer."""

    note = forms.CharField(max_length=steer.MAX_CHARS, widget=forms.Textarea)


class StopForm(forms.Form):
    """Stop one run."""

    reason = forms.CharField(max_length=200, required=False)


class SignIn(AuthenticationForm):
    """Username and password; the session outlives the browser only where that was ticked."""

    keep = forms.BooleanField(required=False, initial=True)

    error_messages = {
        "invalid_login": "Username and password do not match.",
        "inactive": "This account is switched off. An administrator can switch it on again.",
    }
