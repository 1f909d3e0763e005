"""The data of a run's page besides its curves: facts, comparison, provenance, events."""

from __future__ import annotations

from decimal import Decimal
from functools import cached_property
from typing import Any

from django.contrib.auth.models import User
from django.db.models import Avg, Count
from django.utils import timezone

from gpu_runner import contract
from research import lifecycle
from research.models import Decision, Event, Run, Score
from research.record import rights
from webapp.pages.runs.doubt import Doubt, doubts
from webapp.pages.runs.measured import Stretch, stretches
from webapp.pages.runs.spent import in_words
from webapp.templatetags.shown import count

MAX_EVENTS = 40


class Logbook:
    """One run, read lazily."""

    def __init__(self, run: Run) -> None:
        self.run = run

    @property
    def title(self) -> str:
        if self.run.revision:
            return self.run.revision.proposal.title
        return f"Incumbent {self.run.incumbent.number}, {self.run.incumbent.commit[:7]}"

    @property
    def page_title(self) -> str:
        """The title with the run's progress, for a tab behind others."""
        so_far = "" if self.percent is None or self.is_over else f"{self.percent} % · "
        return f"{so_far}R-{self.run.pk} · {self.run.get_state_display()}"

    @property
    def curves_say(self) -> str:
        """What the plot shows, in words, for screen readers."""
        beside = ", with the incumbent’s run of the same seed dashed" if self.parent else ""
        return f"Training loss and live validation of R-{self.run.pk}{beside}"

    @property
    def is_live(self) -> bool:
        return self.run.state in lifecycle.RUN_LIVE

    @property
    def is_over(self) -> bool:
        return self.run.state in lifecycle.RUN_OVER

    @property
    def can_stop(self) -> bool:
        return not self.run.stop_kind and (self.is_live or self.run.state == "queued")

    @cached_property
    def score(self) -> Score | None:
        return getattr(self.run, "score", None)

    @property
    def effort(self) -> str:
        """The model's effort in words, counted from outside; "" where no scorer reported it."""
        if self.score is None or self.score.effort is None:
            return ""
        return in_words(contract.Effort.model_validate(self.score.effort))

    @cached_property
    def doubts(self) -> list[Doubt]:
        """The doubt about its score, if there is one."""
        return doubts([self.run])

    def may_settle(self, user: User) -> bool:
        """May ``user`` say what its quarantined score counts for?"""
        return any(doubt.is_open for doubt in self.doubts) and rights.may(user, rights.resolve, self.run)

    # --- progress

    @property
    def fraction(self) -> float | None:
        if self.run.state in ("scoring", "finished"):
            return 1.0
        return None if self.run.progress is None else self.run.progress["fraction"]

    @property
    def percent(self) -> int | None:
        return None if self.fraction is None else int(100 * self.fraction)

    @property
    def step(self) -> int | None:
        return self.run.progress["step"] if self.run.progress else self.run.num_steps

    @property
    def num_steps(self) -> int | None:
        return self.run.progress["num_steps"] if self.run.progress else None

    @property
    def stands_at(self) -> str:
        if self.run.state == "queued":
            return "Waits for a worker"
        if self.step is None:
            return "No step yet"
        return f"Step {count(self.step)}" + (f" of {count(self.num_steps)}" if self.num_steps else "")

    @property
    def eta_s(self) -> float | None:
        if self.run.state != "training" or self.run.progress is None:
            return None
        eta_s: float | None = self.run.progress["eta_s"]
        return eta_s

    def latest(self, metric: str) -> float | None:
        """Newest value of a metric; None if it was never taken."""
        pair = self.run.latest.get(metric)
        return None if pair is None else pair[0]

    @property
    def train_loss(self) -> float | None:
        return self.latest("train_loss")

    @property
    def watched(self) -> float | None:
        """What the run says of itself on the watched text: in bpb, or a foreign trainer's own metric."""
        return self.latest(self._watched_name)

    @property
    def _watched_name(self) -> str:
        return self.run.campaign.metric if self.run.campaign.is_self_reported else "watch_bpb"

    @property
    def watch_step(self) -> int | None:
        pair = self.run.latest.get(self._watched_name)
        return None if pair is None else int(pair[1])

    @property
    def tokens_per_s(self) -> float | None:
        return self.latest("tokens_per_s")

    @property
    def mfu_percent(self) -> float | None:
        return self.latest("mfu_percent")

    @property
    def on_gpu(self) -> bool:
        return str((self.run.started or {}).get("device", "")).startswith("cuda")

    @property
    def peak_memory_mib(self) -> float | None:
        return self.run.peak_memory_mib or self.latest("peak_memory_mib")

    @property
    def held_s(self) -> float | None:
        """Seconds for which a device was held: as measured at the end, before it since the lease."""
        if self.run.device_s is not None:
            return self.run.device_s
        if self.run.leased_at is None or not self.is_live:
            return None
        return (timezone.now() - self.run.leased_at).total_seconds()

    @property
    def usd(self) -> Decimal | None:
        price = self.run.campaign.usd_per_gpu_hour
        return None if price is None or self.held_s is None else price * Decimal(self.held_s) / 3600

    @cached_property
    def usual(self) -> dict[str, Any]:
        """Mean device time of this campaign's finished runs, with n."""
        over = Run.objects.filter(campaign=self.run.campaign, state="finished").exclude(purpose="smoke")
        return over.aggregate(mean=Avg("device_s"), n=Count("pk"))

    @cached_property
    def stretches(self) -> list[Stretch]:
        return stretches(self.run)

    # --- comparison

    @cached_property
    def parent(self) -> Run | None:
        """The incumbent's run of the same seed and conditions: the other half of the pair."""
        if self.run.purpose != "candidate":
            return None
        signed = contract.Approval.model_validate(self.run.approval).of_the_incumbent().digest()
        same = Run.objects.filter(incumbent=self.run.incumbent, purpose="baseline", seed=self.run.seed, digest=signed)
        standing = same.filter(set_aside=False).exclude(state__in=Run.REPLACEABLE["baseline"])
        return standing.select_related("score").first()

    @property
    def parent_score(self) -> float | None:
        score = getattr(self.parent, "score", None) if self.parent else None
        return score.val_bpb if score else None

    @property
    def difference(self) -> float | None:
        """Trusted score minus that of the incumbent's run of the same seed."""
        mine = self.score.val_bpb if self.score else None
        return None if mine is None or self.parent_score is None else mine - self.parent_score

    @property
    def self_difference(self) -> float | None:
        """Trusted score minus the run's self-reported one."""
        if self.score is None or self.score.val_bpb is None or self.score.self_reported_bpb is None:
            return None
        return self.score.val_bpb - self.score.self_reported_bpb

    # --- provenance, history

    @cached_property
    def approved(self) -> Decision | None:
        if self.run.revision is None:
            return None
        return self.run.revision.decisions.filter(choice="approve").select_related("by").order_by("-pk").first()

    @property
    def knobs(self) -> dict[str, Any]:
        """The knobs as the harness reported them; proposed code shares its process, so they may be false."""
        knobs = (self.run.started or {}).get("knobs")
        return knobs if isinstance(knobs, dict) else {}

    @property
    def changed_knobs(self) -> set[str]:
        return set(self.run.approval.get("overrides", {}))

    @property
    def machine(self) -> list[tuple[str, Any]]:
        """Facts about the machine that the harness reported, in reading order."""
        started = self.run.started or {}
        names = {
            "device_name": "Device",
            "dtype": "Precision",
            "compile": "Compiled",
            "attention": "Attention",
            "num_params": "Parameters",
            "torch": "torch",
            "threads": "Threads",
        }
        if not isinstance(started.get("num_params"), int | float):
            del names["num_params"]  # it is written as a number
        return [(label, started[key]) for key, label in names.items() if started.get(key) is not None]

    @cached_property
    def events(self) -> list[Event]:
        return list(Event.objects.filter(run=self.run).order_by("-pk")[:MAX_EVENTS])
