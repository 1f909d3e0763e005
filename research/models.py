"""The record of the loop. Rows are written by the verbs in this package, never by a view.

Reading order: Campaign -> Incumbent -> Turn -> Wave -> Proposal -> Revision -> Gate -> Decision -> Run -> ReportBatch
-> Score -> Verdict -> Finding; beside them Worker, LedgerEntry and Event.
Missing numbers are NULL, never 0.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from gpu_runner import contract
from research import lifecycle

USER = settings.AUTH_USER_MODEL


def _states(table: lifecycle.Table) -> list[tuple[str, str]]:
    return [(state, state.replace("_", " ")) for state in table]


class Campaign(models.Model):
    """A goal, a recipe, a dataset, a budget and a policy. One git repository each."""

    slug = models.SlugField(unique=True)
    name = models.CharField(max_length=120)
    goal = models.TextField(help_text="What is to be reached, in one or two sentences.")
    program = models.TextField(blank=True, help_text="Research directions, written by a person for Claude.")
    state = models.CharField(max_length=16, choices=_states(lifecycle.CAMPAIGN), default="active")
    state_reason = models.CharField(max_length=300, blank=True)
    recipe = models.CharField(max_length=60, default="gpt")
    dataset = models.CharField(max_length=60, default="stdlib")
    dataset_sha256 = models.CharField(max_length=64)
    target_bpb = models.FloatField(null=True, blank=True)

    run_budget_kind = models.CharField(
        max_length=8,
        choices=[("tokens", "tokens"), ("seconds", "seconds")],
        default="tokens",
        help_text="FLOPs are no choice: only the recipe could say how many a token takes, and a proposal edits it.",
    )
    run_budget_amount = models.FloatField()
    deadline_s = models.FloatField(default=600, help_text="Wall clock of one training process.")
    smoke_steps = models.PositiveIntegerField(default=5)
    score_tokens = models.PositiveIntegerField(default=131_072)

    min_pairs = models.PositiveSmallIntegerField(default=3)
    max_pairs = models.PositiveSmallIntegerField(default=6)
    alpha = models.FloatField(default=0.05)
    min_effect_bpb = models.FloatField(default=0.005, help_text="The smallest gain worth finding.")

    budget_gpu_hours = models.FloatField(null=True, blank=True)
    budget_usd = models.DecimalField(max_digits=10, decimal_places=2, null=True, blank=True)
    usd_per_gpu_hour = models.DecimalField(max_digits=8, decimal_places=4, null=True, blank=True)
    num_waiting = models.PositiveSmallIntegerField(default=3, help_text="Proposals to keep waiting for review.")
    max_agent_open = models.PositiveSmallIntegerField(
        default=6, help_text="Open proposals that outside agents may have at once; 0 takes none."
    )
    approval_ttl_h = models.FloatField(default=24)
    sandbox_level = models.CharField(max_length=20, default="bubblewrap")
    hardware_class = models.CharField(
        max_length=60, blank=True, help_text="Bound by the first run; classes are never mixed."
    )

    in_batches = models.BooleanField(
        default=False, help_text="Ask Claude in batches: half the price, answers within a day instead of minutes."
    )
    created_by = models.ForeignKey(USER, null=True, blank=True, on_delete=models.PROTECT)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        # Apart from change_campaign: the right to what a result means (alpha, budgets, what Claude is asked for).
        permissions = [("steer_campaign", "Can pause, resume and halt campaigns, stop runs and write notes")]

    def __str__(self) -> str:
        return self.name

    @property
    def run_budget(self) -> contract.Budget:
        return contract.Budget(kind=self.run_budget_kind, amount=self.run_budget_amount)  # type: ignore[arg-type]

    @property
    def seeds(self) -> contract.SeedPolicy:
        return contract.SeedPolicy(
            min_pairs=self.min_pairs,
            max_pairs=self.max_pairs,
            alpha=self.alpha,
            min_effect_bpb=self.min_effect_bpb,
        )

    @property
    def incumbent(self) -> Incumbent:
        """The best accepted commit. Every campaign has one from its first transaction on."""
        return self.incumbents.latest("number")


MAX_KEPT = 2**31 - 1  # of PostgreSQL's integer


class Incumbent(models.Model):
    """A commit that was the best one from its promotion until the next. Number 0 is the base recipe."""

    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="incumbents")
    number = models.PositiveIntegerField()
    commit = models.CharField(max_length=40)
    proposal = models.OneToOneField(
        "Proposal", null=True, blank=True, on_delete=models.PROTECT, related_name="promoted"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["campaign", "number"], name="one_incumbent_per_number")]

    def __str__(self) -> str:
        return f"{self.campaign.slug}@{self.commit[:7]}"

    @property
    def has_seeds(self) -> bool:
        """Whether all of its seeds fit into the database and into torch."""
        return self.pk * contract.SEEDS_OF_AN_INCUMBENT <= MAX_KEPT

    def seed(self, pair: int) -> int:
        """The seed of pair 1, 2, ...: fresh for every incumbent, so that a keep takes no luck of its seeds along.

        Derived from the key, which is unique: two campaigns on one recipe would otherwise train the same weights.
        """
        assert 1 <= pair < contract.SEEDS_OF_AN_INCUMBENT, f"pair {pair} would be the next incumbent's"
        return (self.pk - 1) * contract.SEEDS_OF_AN_INCUMBENT + pair


ARMS = [
    ("claude", "Claude"),
    ("offline", "Offline proposer"),
    ("human", "Person"),
    ("agent", "Outside agent"),
    ("random", "Random"),
    ("tpe", "TPE"),
]


class Turn(models.Model):
    """The right to ask one arm of a campaign for proposals: who has it, what came of it last, and when to ask again."""

    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="turns")
    arm = models.CharField(max_length=8, choices=ARMS)
    taken_at = models.DateTimeField(null=True, blank=True, help_text="Since when somebody asks; empty: nobody does.")
    retry_at = models.DateTimeField(null=True, blank=True, help_text="Not asked, nor its batch looked at, before.")
    problem = models.CharField(max_length=500, blank=True, help_text="What was wrong with the last answer.")
    num_problems = models.PositiveSmallIntegerField(default=0, help_text="Calls in a row that gave no draft.")
    batch = models.JSONField(null=True, blank=True, help_text="The batch that is on its way.")
    batch_problem = models.CharField(max_length=500, blank=True, help_text="Why its batch cannot be looked at now.")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["campaign", "arm"], name="one_turn_per_arm")]

    def __str__(self) -> str:
        return f"{self.get_arm_display()} for {self.campaign}"


class Wave(models.Model):
    """Proposals that came in one answer and were designed together; each is decided on its own."""

    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="waves")
    arm = models.CharField(max_length=8, choices=ARMS)
    design = models.TextField(blank=True, help_text="What they are to find out together, and how they differ.")
    model = models.CharField(max_length=100, blank=True)
    prompt_sha256 = models.CharField(max_length=64, blank=True, help_text="Of the whole request.")
    templates_sha256 = models.CharField(max_length=64, blank=True, help_text="Of our own words in it.")
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"wave {self.pk} of {self.campaign_id}"


class Proposal(models.Model):
    """One proposed experiment. Shown as P-142."""

    ARMS = ARMS

    FROM_OUTSIDE = ("human", "agent")  # arms that the loop does not ask

    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="proposals")
    arm = models.CharField(max_length=8, choices=ARMS)
    state = models.CharField(max_length=20, choices=_states(lifecycle.PROPOSAL), default="drafted", db_index=True)
    state_at = models.DateTimeField(auto_now_add=True)
    title = models.CharField(max_length=200)
    source = models.CharField(max_length=200, blank=True, help_text="Catalogue entry, or model and prompt hash.")
    author = models.ForeignKey(USER, null=True, blank=True, on_delete=models.PROTECT)
    precedents = models.ManyToManyField("self", symmetrical=False, blank=True)
    kept_on_val = models.JSONField(
        null=True, blank=True, editable=False, help_text="The judge's last look on val: final, while sealed is read."
    )
    wave = models.ForeignKey(Wave, null=True, blank=True, on_delete=models.PROTECT, related_name="proposals")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes = [models.Index(fields=["campaign", "state"])]

    def __str__(self) -> str:
        return f"P-{self.pk} {self.title}"

    @property
    def revision(self) -> Revision:
        """The newest revision: the only one that can be decided on."""
        return self.revisions.latest("number")


class Revision(models.Model):
    """What exactly is proposed. Immutable: an edit or a rebase is a new revision."""

    RISKS = [
        ("contained", "contained"),
        ("may_diverge", "may diverge"),
        ("heavier", "slower or more memory"),
        ("numerics", "touches numerics"),
    ]
    ORIGINS = [("drafted", "drafted"), ("answered", "answered"), ("rebased", "rebased"), ("edited", "edited")]

    proposal = models.ForeignKey(Proposal, on_delete=models.CASCADE, related_name="revisions")
    number = models.PositiveSmallIntegerField()
    incumbent = models.ForeignKey(Incumbent, on_delete=models.PROTECT, related_name="revisions")
    hypothesis = models.TextField()
    mechanism = models.TextField(blank=True)
    refuted_if = models.TextField()
    effect_bpb = models.FloatField()
    low_bpb = models.FloatField()
    high_bpb = models.FloatField()
    chance_to_win = models.FloatField()
    risk = models.CharField(max_length=12, choices=RISKS, blank=True)
    time_factor = models.FloatField(
        null=True, blank=True, help_text="Expected seconds for the same tokens, relative to the incumbent."
    )
    memory_factor = models.FloatField(
        null=True, blank=True, help_text="Expected peak memory, relative to the incumbent."
    )
    why_together = models.TextField(blank=True, help_text="Why more than one thing changes at once.")
    returns_from = models.ForeignKey(
        Proposal,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
        help_text="The rejected one that it takes up again.",
    )
    what_changed = models.TextField(blank=True, help_text="What is different since that one was rejected.")
    model = models.CharField(max_length=100, blank=True, help_text="Which model wrote it.")
    prompt_sha256 = models.CharField(max_length=64, blank=True, help_text="Of the whole request.")
    templates_sha256 = models.CharField(max_length=64, blank=True, help_text="Of our own words in it.")
    overrides = models.JSONField(default=list, help_text="[{key, value, reason}]")
    edits = models.JSONField(default=list, help_text="[{path, search, replace}]")
    patch = models.TextField(blank=True)
    origin = models.CharField(max_length=8, choices=ORIGINS, default="drafted", help_text="What it was made by.")
    author = models.ForeignKey(
        USER, null=True, blank=True, on_delete=models.PROTECT, related_name="+", help_text="Who edited it."
    )
    answers = models.TextField(blank=True, help_text="The comment that this revision answers.")
    reply = models.TextField(blank=True, help_text="How it answers, in the proposer's words.")
    digest = models.CharField(max_length=64)
    approval = models.JSONField(help_text="gpu_runner.contract.Approval, what the digest is taken of.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["proposal", "number"], name="one_revision_per_number"),
            models.CheckConstraint(
                condition=Q(low_bpb__lte=F("effect_bpb")) & Q(effect_bpb__lte=F("high_bpb")),
                name="interval_holds_effect",
            ),
            models.CheckConstraint(
                condition=Q(chance_to_win__gte=0, chance_to_win__lte=1), name="chance_is_a_probability"
            ),
            models.CheckConstraint(
                condition=Q(time_factor__isnull=True) | Q(time_factor__gt=0), name="time_factor_is_positive"
            ),
            models.CheckConstraint(
                condition=Q(memory_factor__isnull=True) | Q(memory_factor__gt=0), name="memory_factor_is_positive"
            ),
        ]

    def __str__(self) -> str:
        return f"P-{self.proposal_id} revision {self.number}"

    @property
    def alpha(self) -> float:
        """The signed alpha; the measured interval is one of 1 - alpha."""
        alpha: float = self.approval["seeds"]["alpha"]
        return alpha

    @property
    def knobs(self) -> dict[str, Any]:
        return {override["key"]: override["value"] for override in self.overrides}


class Gate(models.Model):
    """One check of one revision, with what it measured."""

    OUTCOMES = [("pending", "pending"), ("passed", "passed"), ("warned", "warned"), ("failed", "failed")]

    revision = models.ForeignKey(Revision, on_delete=models.CASCADE, related_name="gates")
    order = models.PositiveSmallIntegerField()
    name = models.CharField(max_length=40)
    outcome = models.CharField(max_length=8, choices=OUTCOMES)
    sentence = models.CharField(max_length=1_000, help_text="What was found, for a person.")
    measured = models.JSONField(default=dict)
    seconds = models.FloatField(null=True, blank=True)

    class Meta:
        ordering = ["order"]
        constraints = [models.UniqueConstraint(fields=["revision", "name"], name="one_row_per_gate")]

    def __str__(self) -> str:
        return f"{self.name}: {self.outcome}"


class Decision(models.Model):
    """Who decided what, why, on which digest. Never changed."""

    ON_A_REVIEW = [("approve", "approve"), ("reject", "reject"), ("request_changes", "request changes")]
    CHOICES = [*ON_A_REVIEW, ("override", "override")]
    CATEGORIES = [
        ("not_worth_it", "Not worth the compute"),
        ("already_known", "Already known or tried"),
        ("flawed", "The reasoning or the change is flawed"),
        ("unsafe", "Unsafe or out of bounds"),
        ("later", "Right idea, wrong time"),
        ("other", "Something else"),
    ]

    revision = models.ForeignKey(Revision, on_delete=models.PROTECT, related_name="decisions")
    choice = models.CharField(max_length=16, choices=CHOICES)
    category = models.CharField(max_length=16, choices=CATEGORIES, blank=True)
    reason = models.TextField(blank=True)
    digest = models.CharField(max_length=64)
    gates_sha256 = models.CharField(
        max_length=64, blank=True, help_text="Of the failed gates that it overrides, with all that they found."
    )
    by = models.ForeignKey(USER, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["revision", "gates_sha256", "by"],
                condition=Q(choice="override"),
                name="one_signature_per_person",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.choice} P-{self.revision.proposal_id} by {self.by}"


class Worker(models.Model):
    """A GPU machine's supervisor. It holds a token; only the hash is stored here."""

    name = models.CharField(max_length=64, unique=True)
    token_sha256 = models.CharField(max_length=64, unique=True)
    enabled = models.BooleanField(default=True)
    hardware_class = models.CharField(max_length=60, blank=True)
    hardware = models.JSONField(default=dict, blank=True)
    sandbox_level = models.CharField(max_length=20, blank=True)
    lock_sha256 = models.CharField(max_length=64, blank=True)
    seen_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.name


class Run(models.Model):
    """One seed of one revision, or of the incumbent, on one machine. Shown as R-388."""

    STOPS = [
        (lifecycle.Stop.PERSON.value, "by a person"),
        (lifecycle.Stop.HALTED.value, "with its campaign: it is run again when that goes on"),
        (lifecycle.Stop.POSTPONED.value, "until its turn: it is run again then"),
        (lifecycle.Stop.UNWANTED.value, "because it was not wanted any more"),
    ]
    PURPOSES = [("smoke", "Smoke"), ("baseline", "Incumbent"), ("candidate", "Candidate")]
    # States after which the same seed may be run again. A candidate's crash is an answer; the incumbent's is not.
    REPLACEABLE = {
        "smoke": ("cancelled",),
        "candidate": ("cancelled",),
        "baseline": ("cancelled", "failed", "timed_out"),
    }

    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="runs")
    incumbent = models.ForeignKey(Incumbent, on_delete=models.PROTECT, related_name="runs")
    revision = models.ForeignKey(Revision, null=True, blank=True, on_delete=models.CASCADE, related_name="runs")
    purpose = models.CharField(max_length=10, choices=PURPOSES)
    seed = models.PositiveIntegerField()
    state = models.CharField(max_length=10, choices=_states(lifecycle.RUN), default="queued", db_index=True)
    state_at = models.DateTimeField(auto_now_add=True)
    approval = models.JSONField(help_text="gpu_runner.contract.Approval that the worker must reproduce.")
    digest = models.CharField(max_length=64)
    reads_sealed = models.BooleanField(default=False, help_text="Its scorer reads the sealed split, too.")
    set_aside = models.BooleanField(
        default=False, help_text="Of the incumbent's own: its score was disputed, and its seed is measured again."
    )
    rank = models.PositiveSmallIntegerField(default=50, help_text="Lower is claimed first.")

    worker = models.ForeignKey(Worker, null=True, blank=True, on_delete=models.SET_NULL, related_name="runs")
    hardware_class = models.CharField(max_length=60, blank=True)
    sandbox_level = models.CharField(max_length=20, blank=True)
    attempt = models.PositiveSmallIntegerField(default=0)
    fence = models.PositiveIntegerField(default=0)
    token_sha256 = models.CharField(max_length=64, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    rung_at = models.DateTimeField(null=True, blank=True)
    stop_kind = models.CharField(
        max_length=10, choices=STOPS, blank=True, help_text="Set: the next report is answered with stop."
    )
    stop_reason = models.CharField(max_length=200, blank=True)

    last_seq = models.PositiveIntegerField(default=0)
    progress = models.JSONField(null=True, blank=True)
    latest = models.JSONField(default=dict, blank=True, help_text="Newest value of each metric, with its step.")
    started = models.JSONField(null=True, blank=True)
    failure = models.JSONField(null=True, blank=True)
    device_s = models.FloatField(null=True, blank=True)
    train_s = models.FloatField(null=True, blank=True)
    peak_memory_mib = models.FloatField(null=True, blank=True)
    num_steps = models.PositiveIntegerField(null=True, blank=True)
    num_tokens = models.PositiveBigIntegerField(null=True, blank=True)
    spent = models.JSONField(null=True, blank=True, help_text="gpu_runner.contract.Spent: measured outside of the run.")

    created_at = models.DateTimeField(auto_now_add=True)
    leased_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [models.Index(fields=["state", "rank", "id"]), models.Index(fields=["campaign", "purpose", "state"])]
        constraints = [
            models.UniqueConstraint(
                fields=["incumbent", "seed", "digest"],
                condition=Q(purpose="baseline", set_aside=False) & ~Q(state__in=("cancelled", "failed", "timed_out")),
                name="one_baseline_per_seed",
            ),
            models.UniqueConstraint(
                fields=["revision", "seed", "purpose"],
                condition=Q(purpose__in=("candidate", "smoke")) & ~Q(state="cancelled"),
                name="one_run_per_revision_and_seed",
            ),
        ]

    def __str__(self) -> str:
        return f"R-{self.pk} {self.purpose} seed {self.seed}"


class ReportBatch(models.Model):
    """One accepted report: columns of points and log lines, compressed. No row per point.

    ``body`` is zlib-compressed canonical JSON of {points, log}; (run, seq) makes a retry harmless.
    """

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="batches")
    seq = models.PositiveIntegerField()
    attempt = models.PositiveSmallIntegerField()
    num_points = models.PositiveIntegerField()
    watched = models.BooleanField(null=True, help_text="Holds a measurement on the watch text; NULL: written before.")
    body = models.BinaryField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["run", "seq"], name="one_batch_per_seq")]
        verbose_name_plural = "report batches"

    def __str__(self) -> str:
        return f"R-{self.run_id} batch {self.seq}"


class Score(models.Model):
    """What the trusted scorer measured on a run's checkpoint."""

    run = models.OneToOneField(Run, on_delete=models.CASCADE, related_name="score")
    outcome = models.CharField(max_length=12)
    val_bpb = models.FloatField(null=True, blank=True)
    sealed_bpb = models.FloatField(null=True, blank=True)
    self_reported_bpb = models.FloatField(null=True, blank=True)
    reasons = models.JSONField(default=list)
    evidence = models.JSONField(null=True, blank=True, help_text="gpu_runner.contract.Evidence: what challenges found.")
    effort = models.JSONField(null=True, blank=True, help_text="gpu_runner.contract.Effort: what being scored took.")
    provenance = models.JSONField(default=dict)
    seconds = models.FloatField()
    settled_by = models.ForeignKey(
        USER,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="+",
        help_text="Who took it out of quarantine.",
    )
    settled_reason = models.TextField(blank=True)
    settled_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"R-{self.run_id}: {self.val_bpb} ({self.outcome})"


class Verdict(models.Model):
    """What the judge decided over paired seeds. Never changed."""

    OUTCOMES = [("keep", "Kept"), ("discard", "Discarded"), ("inconclusive", "Within noise"), ("disputed", "Disputed")]

    revision = models.OneToOneField(Revision, on_delete=models.PROTECT, related_name="verdict")
    outcome = models.CharField(max_length=12, choices=OUTCOMES)
    reason = models.CharField(max_length=600)
    effect_bpb = models.FloatField(null=True, blank=True)
    low_bpb = models.FloatField(null=True, blank=True)
    high_bpb = models.FloatField(null=True, blank=True)
    e_value = models.FloatField(null=True, blank=True)
    crashed = models.BooleanField(default=False)
    num_pairs = models.PositiveSmallIntegerField(default=0)
    pairs = models.JSONField(default=list, help_text="[{seed, candidate_bpb, incumbent_bpb, difference_bpb, e_value}]")
    candidate_bpb = models.FloatField(null=True, blank=True, help_text="Mean over the pairs.")
    incumbent_bpb = models.FloatField(null=True, blank=True)
    sealed_effect_bpb = models.FloatField(
        null=True, blank=True, help_text="Estimated on the sealed text; not for Claude."
    )
    sealed = models.JSONField(
        null=True,
        blank=True,
        help_text="{seed, candidate_bpb, incumbent_bpb, candidate_sealed_bpb, incumbent_sealed_bpb}",
    )
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.outcome} P-{self.revision.proposal_id}"


class Finding(models.Model):
    """What we now believe about a proposal, in a sentence that reaches the next prompt."""

    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="findings")
    proposal = models.OneToOneField(Proposal, on_delete=models.CASCADE, related_name="finding")
    kind = models.CharField(
        max_length=16, help_text="kept, discarded, inconclusive, disputed, crashed, rejected, blocked"
    )
    text = models.TextField()
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.text[:80]


class Note(models.Model):
    """A person's steering note for the proposer while the loop runs. Retired, not deleted."""

    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="notes")
    text = models.TextField()
    by = models.ForeignKey(USER, null=True, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    retired_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        return self.text[:60]


class LedgerEntry(models.Model):
    """Money or GPU-seconds spent. Dollars of unknown price are NULL, never 0."""

    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="ledger")
    kind = models.CharField(max_length=8, choices=[("gpu", "GPU time"), ("claude", "Claude")])
    gpu_s = models.FloatField(null=True, blank=True)
    usd = models.DecimalField(max_digits=12, decimal_places=6, null=True, blank=True)
    run = models.ForeignKey(Run, null=True, blank=True, on_delete=models.SET_NULL)
    usage = models.JSONField(default=dict, blank=True)
    answer = models.TextField(blank=True, help_text="What Claude's side sent back, as it came but for our key.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name_plural = "ledger entries"

    def __str__(self) -> str:
        return f"{self.kind} {self.gpu_s or ''} {self.usd or ''}"


class Event(models.Model):
    """What happened, by whom. Append-only; written in the transaction that it happened in."""

    kind = models.CharField(max_length=60, db_index=True)
    by = models.CharField(max_length=120, help_text="user:NAME, worker:NAME, or the room that acted, as judge.")
    campaign = models.ForeignKey(Campaign, null=True, blank=True, on_delete=models.SET_NULL, related_name="events")
    proposal = models.ForeignKey(Proposal, null=True, blank=True, on_delete=models.SET_NULL, related_name="events")
    run = models.ForeignKey(Run, null=True, blank=True, on_delete=models.SET_NULL, related_name="events")
    sentence = models.CharField(max_length=600)
    payload = models.JSONField(default=dict)
    rows = models.JSONField(default=dict, editable=False, help_text="{table: {key: {part: hash}}} of what it tells of.")
    at = models.DateTimeField(default=timezone.now, editable=False)
    seal = models.CharField(max_length=104, unique=True, null=True, editable=False, help_text="See record.seal.")
    position = models.PositiveBigIntegerField(null=True, editable=False, unique=True, help_text="In the audit chain.")
    sha256 = models.CharField(max_length=64, blank=True, editable=False, help_text="Of this event and all before it.")

    class Meta:
        indexes = [models.Index(fields=["campaign", "-id"])]

    def __str__(self) -> str:
        return f"{self.kind}: {self.sentence}"


class AuditHead(models.Model):
    """The audit chain's length and last hash, in one row, so that a cut end is noticed."""

    num_events = models.PositiveBigIntegerField(default=0)
    sha256 = models.CharField(max_length=64, blank=True)
    begun = models.PositiveBigIntegerField(default=0, help_text="From this position on every event is sealed.")
    signature = models.CharField(max_length=72, blank=True, help_text="See record.seal.")

    def __str__(self) -> str:
        return f"{self.num_events} events, {self.sha256[:12]}"
