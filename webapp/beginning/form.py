"""The one form of a campaign, for the page, ``manage.py campaign`` and the API: the same fields, bounds and sentences.

form = BeginForm(filled(given))
if form.is_valid():
    campaign = form.begin(by=user)      # None: see form.errors
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, ClassVar

import pydantic
from django import forms
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.forms import BoundField
from django.utils.text import slugify

from gpu_runner import contract
from research.begin import datasets
from research.change.visible import readable
from research.models import Campaign
from research.record import campaigns, recipe_source, rights
from research.record.rights import Actor

SANDBOXES = ("bubblewrap", "landlock", "none")
MAX_PROGRAM = 20_000
HALF = {"span": "half"}  # of the row on a page; others take a quarter
YES_OR_NO = [("False", "no"), ("True", "yes")]


class Prose(forms.CharField):
    """Text of several lines. Line ends are newlines, invisible characters are shown, as proposers read them."""

    widget = forms.Textarea

    def to_python(self, value: Any) -> str:
        return readable((super().to_python(value) or "").replace("\r\n", "\n"))

    def has_changed(self, initial: Any, data: Any) -> bool:
        """Not by the line ends of a browser, nor by a last one that is taken off."""
        return self.to_python(initial) != self.to_python(data)


class Switch(forms.TypedChoiceField):
    """Yes or no, as a choice that also says what no is; takes true and false of JSON."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(choices=YES_OR_NO, coerce=lambda value: value == "True", **kwargs)

    def to_python(self, value: Any) -> str:
        return {"true": "True", "on": "True", "yes": "True", "1": "True"}.get(str(value).lower(), "False")

    def valid_value(self, value: Any) -> bool:
        return value in ("True", "False")

    def prepare_value(self, value: Any) -> Any:
        return self.to_python(value)

    def has_changed(self, initial: Any, data: Any) -> bool:
        return self.to_python(initial) != self.to_python(data)


class Group:
    """Fields that stand together on a page."""

    def __init__(self, form: forms.BaseForm, title: str, about: str, names: tuple[str, ...]) -> None:
        self.title, self.about, self.id = title, about, slugify(title)
        self.fields: list[BoundField] = [form[name] for name in names if name in form.fields]


class CampaignForm(forms.ModelForm):  # type: ignore[type-arg]  # generic in the stubs only
    """What may be set at any time: goal, budget, policy and pace."""

    GROUPS: ClassVar[list[tuple[str, str, tuple[str, ...]]]] = [
        ("Goal", "what Claude is told", campaigns.GOAL),
        ("Budget", "when it stops by itself", campaigns.BUDGET),
        ("Verdicts", "how sure a keep has to be", campaigns.SEEDS),
        ("Policy", "what may wait, and how long", ("approval_ttl_h", "deadline_s", *campaigns.PACE)),
    ]

    name = forms.CharField(max_length=120, widget=forms.TextInput(HALF), help_text="As people call it.")
    goal = Prose(
        max_length=4_000,
        widget=forms.Textarea({"rows": 2, "span": "wide"}),
        help_text="What is to be reached, in one or two sentences.",
    )
    program = Prose(
        max_length=MAX_PROGRAM,
        required=False,
        widget=forms.Textarea({"rows": 7, "span": "wide"}),
        help_text="Research directions, in your words: Claude reads them first.",
    )
    in_batches = Switch(required=False, label="In batches", help_text="Half the price; answers take up to a day.")

    class Meta:
        model = Campaign
        fields = (*campaigns.GOAL, *campaigns.BUDGET, *campaigns.POLICY, *campaigns.PACE)
        labels: ClassVar[dict[str, str]] = {
            "target_bpb": "Target (optional)",
            "budget_gpu_hours": "GPU-hours",
            "budget_usd": "Dollars",
            "usd_per_gpu_hour": "$ a GPU-hour",
            "min_pairs": "Fewest pairs",
            "max_pairs": "Most pairs",
            "min_effect_bpb": "Smallest effect",
            "approval_ttl_h": "Approval holds, hours",
            "deadline_s": "Deadline, seconds",
            "num_waiting": "Kept waiting",
            "max_agent_open": "Agents’ proposals",
        }
        help_texts: ClassVar[dict[str, str]] = {
            "target_bpb": "A value of the metric at which it is reached.",
            "budget_gpu_hours": "Spent by runs; empty: no limit.",
            "budget_usd": "Machines and Claude; empty: no limit.",
            "usd_per_gpu_hour": "Empty: machines cost nothing in the ledger.",
            "min_pairs": "Fewer than three can prove nothing.",
            "max_pairs": "Then it is judged as it stands.",
            "alpha": "Chance of a false keep; 0.05 is usual.",
            "min_effect_bpb": "The smallest gain worth finding.",
            "approval_ttl_h": "Then the proposal goes stale.",
            "deadline_s": "Wall clock of one training process.",
            "num_waiting": "Claude drafts until so many wait.",
            "max_agent_open": "Open at once; 0 takes none.",
        }

    def clean(self) -> dict[str, Any]:
        values: dict[str, Any] = {**(super().clean() or {})}
        for name, (low, high) in campaigns.BOUNDS.items():
            if values.get(name) is not None and not low <= values[name] <= high:
                self.add_error(name, f"Must be {low:,} to {high:,}.")
        policy: dict[str, Any] = {name: values.get(name) for name in campaigns.SEEDS}
        if None not in policy.values() and not policy.keys() & self.errors.keys():
            try:
                contract.SeedPolicy(**policy)
            except pydantic.ValidationError as error:
                for found in error.errors():
                    self._take(found)
        return values

    def _take(self, found: Any) -> None:
        name = str(found["loc"][0]) if found["loc"] else "max_pairs"
        self.add_error(name, str(found["msg"]).removeprefix("Value error, "))

    @property
    def changed(self) -> dict[str, Any]:
        """What differs from what is set now, as far as it may be so."""
        return {name: self.cleaned_data[name] for name in self.changed_data if name in self.cleaned_data}

    @property
    def groups(self) -> list[Group]:
        return [Group(self, *each) for each in self.GROUPS]

    @property
    def sentences(self) -> dict[str, list[str]]:
        """Field -> what is wrong with it; what is wrong with all of it has the name ``form``."""
        return {
            ("form" if name == "__all__" else name): [str(one) for one in said] for name, said in self.errors.items()
        }

    @property
    def in_one_sentence(self) -> str:
        return "; ".join(f"{name}: {' '.join(said)}" for name, said in self.sentences.items())

    def take(self, error: ValueError) -> None:
        """Put a verb's ``field: sentence`` beside its field."""
        field, _, sentence = str(error).partition(": ")
        known = field if field in self.fields and sentence else None
        self.add_error(known, sentence if known else str(error))


class BeginForm(CampaignForm):
    """A new campaign: what may be set at any time, and what is fixed from its beginning."""

    GROUPS: ClassVar[list[tuple[str, str, tuple[str, ...]]]] = [
        ("Recipe", "what trains, and what Claude may edit", ("recipe", "recipe_commit")),
        ("Goal", "what Claude is told", ("name", "slug", "goal", "program")),
        (
            "One run",
            "fixed once it began, since runs have to be comparable",
            ("dataset", "run_budget_kind", "run_budget_amount", "metric", "metric_unit", "direction", "target_bpb",
             "judges_self_reported", "sandbox_level", "hardware_class"),
        ),
        *CampaignForm.GROUPS[1:],
    ]  # fmt: skip

    slug = forms.SlugField(
        max_length=50,
        required=False,
        widget=forms.TextInput(HALF),
        help_text="In addresses and git; empty: made from the name.",
    )
    recipe = forms.CharField(
        max_length=recipe_source.MAX_ORIGIN,
        widget=forms.TextInput({"list": "recipes", "span": "half"}),
        help_text="A shipped one by name, or a git repository or folder on the web machine: /home/alice/nano",
    )
    recipe_commit = forms.CharField(
        max_length=200,
        required=False,
        label="Commit or branch",
        widget=forms.TextInput(HALF),
        help_text="Empty: what is checked out there.",
    )
    dataset = forms.CharField(
        max_length=60, widget=forms.TextInput({"list": "datasets"}), help_text="By name, as a worker has it."
    )
    dataset_sha256 = forms.RegexField(r"^[0-9a-f]{64}$", required=False)
    run_budget_kind = forms.ChoiceField(
        choices=[("tokens", "tokens"), ("seconds", "seconds")],
        label="Budget in",
        help_text="Seconds compare speed, too.",
    )
    run_budget_amount = forms.FloatField(label="Budget of a run", help_text="Tokens, or seconds of training.")
    metric = forms.CharField(max_length=64, help_text="val_bpb is the trusted scorer's.")
    metric_unit = forms.CharField(max_length=40, required=False, label="Its unit", help_text="Empty for val_bpb.")
    direction = forms.ChoiceField(choices=[("lower", "lower is better"), ("higher", "higher is better")])
    judges_self_reported = Switch(
        required=False,
        label="Judge self-reports",
        help_text="The trainer's own word; never mixed with others.",
    )
    sandbox_level = forms.ChoiceField(
        choices=[(level, level) for level in SANDBOXES],
        label="Sandbox",
        help_text="A worker with this one takes its runs.",
    )
    hardware_class = forms.CharField(
        max_length=60,
        required=False,
        label="Hardware class",
        widget=forms.TextInput({"list": "classes"}),
        help_text="Empty: bound by the first run.",
    )

    class Meta(CampaignForm.Meta):
        fields = ("slug", *CampaignForm.Meta.fields, *campaigns.MEASURED, "hardware_class")  # type: ignore[assignment]

    def clean_slug(self) -> str:
        return self.cleaned_data["slug"] or slugify(str(self.data.get("name", "")))[:50]

    def clean(self) -> dict[str, Any]:
        values = super().clean()
        if not values.get("slug") and "slug" not in self.errors:
            self.add_error("slug", "Write one: the name gives none (letters, digits, dashes).")
        elif Campaign.objects.filter(slug=values.get("slug")).exists():
            self.add_error("slug", f"There is a campaign {values['slug']!r} already; choose another.")
        if "run_budget_amount" in self.errors and not self.data.get("run_budget_amount"):
            self._say_what_is_wrong_with_the_recipe()
        if values.get("dataset") and not values.get("dataset_sha256") and "dataset_sha256" not in self.errors:
            try:
                values["dataset_sha256"] = datasets.sha256_of(values["dataset"])
            except ValueError as error:
                self.take(error)
        return values

    def _say_what_is_wrong_with_the_recipe(self) -> None:
        """The recipe would have said the budget, had it been read: that is what is to be mended first."""
        try:
            with recipe_source.opened(str(self.data.get("recipe", "")), str(self.data.get("recipe_commit", ""))):
                pass
        except ValueError as error:
            self.errors["run_budget_amount"] = self.error_class(["Say it, or mend the recipe, which says it."])
            self.take(error)

    def validate_unique(self) -> None:
        """``clean`` says it, with the way out."""

    def begin(self, *, by: Actor, created_by: User | None = None, starts: bool = True) -> Campaign | None:
        """The campaign, active or planned; None where a verb refused, and the form says why. Needs ``is_valid``."""
        if self.dry_run(by=by) is None:
            return None
        fields: dict[str, Any] = dict(self.cleaned_data)
        state = "active" if starts else "planned"
        try:
            return campaigns.create(by=by, created_by=created_by, state=state, **fields)
        except ValueError as error:
            self.take(error)
            return None

    def dry_run(self, *, by: Actor) -> recipe_source.Source | None:
        """All that ``begin`` would look at, without making anything; None where it would be refused."""
        rights.check(by, rights.begin, None)
        try:
            with recipe_source.opened(self.cleaned_data["recipe"], self.cleaned_data["recipe_commit"]) as source:
                command = source.recipe.command
                if command and (why := command.problem_with_budget(self.cleaned_data["run_budget_kind"])):
                    raise ValueError(f"run_budget_kind: {why}")
                campaigns.check_metric(self.cleaned_data["metric"], self.cleaned_data["direction"], source.recipe)
                return source
        except ValueError as error:
            self.take(error)
            return None


# --- defaults ------------------------------------------------------------------------------------

_PLAIN = (
    "max_agent_open", "num_waiting", "approval_ttl_h", "deadline_s", "min_pairs", "max_pairs", "alpha",
    "min_effect_bpb", "score_tokens", "smoke_steps", "metric", "direction", "judges_self_reported", "in_batches",
    "hardware_class", "metric_unit", "target_bpb", "budget_gpu_hours", "budget_usd", "usd_per_gpu_hour",
    "run_budget_kind",
)  # fmt: skip


def filled(given: Mapping[str, Any], *, reads_recipe: bool = True) -> dict[str, Any]:
    """``given`` with defaults from its recipe, from what workers said, and from the model, for what it leaves out."""
    place = str(given.get("recipe") or "gpt"), str(given.get("recipe_commit") or "")
    recipe = _read(*place) if reads_recipe else None
    fresh = Campaign()
    defaults: dict[str, Any] = {name: getattr(fresh, name) for name in _PLAIN}
    defaults |= {"recipe": "gpt", "recipe_commit": ""} | of_machines()
    if recipe is not None:
        defaults |= of_recipe(recipe)
    return defaults | dict(given)


def _read(where: str, at: str) -> contract.Recipe | None:
    """The recipe; None where it is refused, which ``begin`` says."""
    try:
        with recipe_source.opened(where, at) as source:
            return source.recipe
    except ValueError:
        return None


def of_recipe(recipe: contract.Recipe) -> dict[str, Any]:
    """What the recipe says of a campaign on it: budget, deadline and, of a foreign trainer, its metric."""
    said: dict[str, Any] = {}
    if recipe.budget_tokens is not None:
        said |= {"run_budget_kind": "tokens", "run_budget_amount": float(recipe.budget_tokens)}
    if recipe.budget_seconds is not None:
        longest = max(600.0, 3 * recipe.budget_seconds)
        said |= {"run_budget_kind": "seconds", "run_budget_amount": recipe.budget_seconds, "deadline_s": longest}
    if recipe.metrics is not None and recipe.is_self_reported:
        said |= {"metric": recipe.metrics.metric, "metric_unit": recipe.metrics.unit}
        said |= {"direction": recipe.metrics.direction}
    return said


def of_machines() -> dict[str, Any]:
    """The dataset and the sandbox of the workers that are there, where these have one in common."""
    names = sorted({one.name for one in datasets.known() if one.workers})
    dataset = names[0] if len(names) == 1 else "stdlib" if "stdlib" in names or not names else names[0]
    levels = {worker.sandbox_level for worker in datasets.here()} & set(SANDBOXES)
    return {"dataset": dataset, "sandbox_level": next((one for one in SANDBOXES if one in levels), SANDBOXES[0])}


def tidy(values: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers as a person writes them: 2 for 2.0 and for 2.0000."""
    return {name: _tidy(value) for name, value in values.items()}


def _tidy(value: Any) -> Any:
    if isinstance(value, Decimal):
        return Decimal(int(value)) if value == value.to_integral_value() else value.normalize()
    return int(value) if isinstance(value, float) and value.is_integer() else value


def refuse_unknown(given: Mapping[str, Any]) -> None:
    """Raise ValidationError for a name that is no field, or a value that is no plain one: JSON may hold anything."""
    known = BeginForm.base_fields
    for name, value in given.items():
        if name not in known:
            raise ValidationError(f"{name}: is no field; fields are {', '.join(sorted(known))}")
        if not isinstance(value, str | int | float | bool | None):
            raise ValidationError(f"{name}: must be a string, a number, true, false or null")
