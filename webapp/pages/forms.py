"""All forms. Every message names the field and the way out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from django import forms
from django.contrib.auth.forms import AuthenticationForm

from gpu_runner.contract import Recipe
from research.change import handwritten, pasted
from research.change.drafts import Draft, ExpectedCost, Prediction
from research.change.visible import readable
from research.models import Decision, Revision
from research.propose import notes


class Words(forms.CharField):
    """Prose that reviewers read, normalised as Claude's is: invisible characters are shown, line ends are newlines."""

    def to_python(self, value: Any) -> str:
        return readable(super().to_python(value) or "")


class Patch(forms.CharField):
    """A diff. All checks, also of its size and of a NUL, are left to ``pasted``, as for ``manage.py gate``."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.validators = []


class Fields(forms.Form):
    """A form whose fields can get the errors of a verb."""

    asks_for = ""  # the panel on the page that it came from
    CALLED: Mapping[str, str] = {}

    def take(self, error: ValueError) -> None:
        """Put a verb's ``field: sentence`` beside its field."""
        field, _, sentence = str(error).partition(": ")
        field = self.CALLED.get(field, field)
        known = field if field in self.fields and sentence else None
        self.add_error(known, sentence if known else str(error))


class OnARevision(Fields):
    """Carries the revision that was on the screen: its digest for the change, its number for the words."""

    OLD = {"required": "This page is too old: reload it, and read what is on the table now."}

    digest = forms.CharField(max_length=64, widget=forms.HiddenInput, error_messages=OLD)
    number = forms.IntegerField(widget=forms.HiddenInput, error_messages=OLD)


class DecisionForm(OnARevision):
    """A decision on a proposal."""

    choice = forms.ChoiceField(choices=Decision.ON_A_REVIEW)
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


class OverrideForm(OnARevision):
    """A signature to override the gates that were on the screen."""

    asks_for = "override"
    gates_sha256 = forms.CharField(max_length=64, widget=forms.HiddenInput)
    reason = forms.CharField(
        widget=forms.Textarea, max_length=4_000, error_messages={"required": "Write why the gates are wrong here."}
    )


class WithdrawForm(Fields):
    """Withdraw a proposal."""

    asks_for = "withdraw"
    reason = forms.CharField(
        widget=forms.Textarea, max_length=4_000, error_messages={"required": "Write why: the proposer reads it."}
    )


class SettleForm(Fields):
    """Accept or dispute a quarantined score."""

    choice = forms.ChoiceField(choices=[("accept", "Accept"), ("dispute", "Dispute")])
    reason = forms.CharField(
        widget=forms.Textarea,
        max_length=4_000,
        error_messages={"required": "Write what you looked at: it stands beside the number for good."},
    )


class CloneForm(Fields):
    """A campaign again, under another slug."""

    slug = forms.SlugField(max_length=50)
    name = forms.CharField(max_length=120)


class StateForm(forms.Form):
    """Pause, resume, halt or archive a campaign."""

    STATES = [("active", "Resume"), ("paused", "Pause"), ("halted", "Halt"), ("archived", "Archive")]

    state = forms.ChoiceField(choices=STATES)
    reason = forms.CharField(max_length=300, required=False)


class ProposalForm(Fields):
    """A person's own experiment on the present incumbent."""

    CALLED = {"edits": "patch"}  # what a verb calls the field

    title = Words(max_length=160)
    hypothesis = Words(max_length=4_000, widget=forms.Textarea)
    mechanism = Words(max_length=4_000, widget=forms.Textarea, required=False)
    refuted_if = Words(max_length=4_000, widget=forms.Textarea)
    effect_bpb = forms.FloatField(min_value=-10, max_value=10)
    low_bpb = forms.FloatField(min_value=-10, max_value=10)
    high_bpb = forms.FloatField(min_value=-10, max_value=10)
    chance_percent = forms.FloatField(min_value=0, max_value=100)
    risk = forms.ChoiceField(choices=[("", "Not said"), *Revision.RISKS], required=False)
    time_factor = forms.FloatField(min_value=0.01, max_value=100, required=False)
    memory_factor = forms.FloatField(min_value=0.01, max_value=100, required=False)
    why_together = Words(max_length=4_000, widget=forms.Textarea, required=False)
    overrides = Words(max_length=4_000, widget=forms.Textarea, required=False)
    patch = Patch(widget=forms.Textarea, required=False, strip=False)

    def __init__(self, *args: Any, recipe: Recipe, source: dict[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.recipe, self.source = recipe, source

    def clean(self) -> dict[str, Any]:
        fields: dict[str, Any] = super().clean() or {}
        low, effect, high = (fields.get(name) for name in ("low_bpb", "effect_bpb", "high_bpb"))
        if low is not None and effect is not None and high is not None and not low <= effect <= high:
            self.add_error("effect_bpb", f"It has to lie in its interval, {low:g} to {high:g}.")
        for one, other in (("time_factor", "memory_factor"), ("memory_factor", "time_factor")):
            if fields.get(one) is None and fields.get(other) is not None:
                self.add_error(one, "Say both, time and memory, or neither; 1 is as much as the incumbent.")
        self._parse(fields, "overrides", lambda text: handwritten.overrides_of(text, self.recipe))
        self._parse(fields, "patch", lambda text: pasted.edits_of(text, self.source))
        if not (self.errors or fields.get("overrides") or fields.get("patch")):
            self.add_error("overrides", "Change something: an override here, a diff below, or both.")
        return fields

    def _parse(self, fields: dict[str, Any], name: str, read: Callable[[str], tuple[Any, ...]]) -> None:
        """Parse a field's text; an error stands beside the field."""
        try:
            fields[name] = read(fields.get(name, ""))
        except ValueError as error:
            self.add_error(name, str(error))

    @property
    def _cost(self) -> ExpectedCost | None:
        time, memory = self.cleaned_data["time_factor"], self.cleaned_data["memory_factor"]
        return None if time is None else ExpectedCost(time_factor=time, memory_factor=memory)

    @property
    def _chance(self) -> float:
        percent: float = self.cleaned_data["chance_percent"]
        return percent / 100

    @property
    def said(self) -> dict[str, Any]:
        """The fields of a Draft that the person filled in."""
        said = self.cleaned_data
        prediction = Prediction(
            effect_bpb=said["effect_bpb"],
            low_bpb=said["low_bpb"],
            high_bpb=said["high_bpb"],
            chance_to_win=self._chance,
        )
        as_typed = ("title", "hypothesis", "mechanism", "refuted_if", "risk", "why_together", "overrides")
        words = {name: said[name] for name in as_typed}
        return {**words, "prediction": prediction, "cost": self._cost, "edits": said["patch"]}

    @property
    def draft(self) -> Draft:
        return Draft(**self.said)


class EditForm(ProposalForm):
    """A proposal in another person's hands: fields that are left alone keep their exact values."""

    number = forms.IntegerField(widget=forms.HiddenInput)
    digest = forms.CharField(max_length=64, widget=forms.HiddenInput)
    # What Claude may write is longer than what a person would.
    overrides = Words(max_length=60_000, widget=forms.Textarea, required=False)

    def __init__(self, *args: Any, shown: Draft, recipe: Recipe, source: dict[str, str], **kwargs: Any) -> None:
        self.shown = shown
        initial = _written(shown, source) | kwargs.pop("initial", {})
        super().__init__(*args, recipe=recipe, source=source, initial=initial, **kwargs)

    def _parse(self, fields: dict[str, Any], name: str, read: Callable[[str], tuple[Any, ...]]) -> None:
        if name == "patch" and _plain(fields.get(name, "")) == _plain(self.initial[name]):
            fields[name] = self.shown.edits
            return
        super()._parse(fields, name, read)
        if name == "overrides" and name not in self.errors:
            fields[name] = handwritten.as_they_were(fields[name], self.shown.overrides)

    @property
    def _chance(self) -> float:
        """The chance from a percentage. Left alone, it is the exact chance as stated, however many digits it has."""
        if self.cleaned_data["chance_percent"] == self.initial["chance_percent"]:
            return self.shown.prediction.chance_to_win
        return super()._chance

    @property
    def draft(self) -> Draft:
        return replace(self.shown, **self.said)


def _plain(text: str) -> str:
    """The text with plain line ends, since a browser sends others than it was given."""
    return text.replace("\r\n", "\n").strip()


def _written(draft: Draft, files: dict[str, str]) -> dict[str, Any]:
    """``draft`` as form fields; the diff is empty where it no longer applies."""
    try:
        patch = handwritten.diff_of(files, draft.edits)
    except ValueError:
        patch = ""
    said = draft.prediction
    return {
        "title": draft.title,
        "hypothesis": draft.hypothesis,
        "mechanism": draft.mechanism,
        "refuted_if": draft.refuted_if,
        "effect_bpb": said.effect_bpb,
        "low_bpb": said.low_bpb,
        "high_bpb": said.high_bpb,
        "chance_percent": round(100 * said.chance_to_win, 6),
        "risk": draft.risk,
        "time_factor": draft.cost.time_factor if draft.cost else None,
        "memory_factor": draft.cost.memory_factor if draft.cost else None,
        "why_together": draft.why_together,
        "overrides": handwritten.lines_of(draft.overrides),
        "patch": patch,
    }


class NoteForm(forms.Form):
    """A steering note for the proposer."""

    note = forms.CharField(max_length=notes.MAX_CHARS, widget=forms.Textarea)


class StopForm(forms.Form):
    """Stop one run."""

    reason = forms.CharField(max_length=200, required=False)


class SignIn(AuthenticationForm):
    """Username and password; the session outlives the browser only if that was ticked."""

    keep = forms.BooleanField(required=False, initial=True)

    error_messages = {
        "invalid_login": "Username and password do not match.",
        "inactive": "This account is switched off. An administrator can switch it on again.",
    }
