"""A campaign, the turns of its arms, and the incumbents that it had."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from gpu_runner import contract
from research import lifecycle

USER = settings.AUTH_USER_MODEL


def states(table: lifecycle.Table) -> list[tuple[str, str]]:
    return [(state, state.replace("_", " ")) for state in table]


ARMS = [
    ("claude", "Claude"),
    ("offline", "Offline proposer"),
    ("human", "Person"),
    ("agent", "Outside agent"),
    ("random", "Random"),
    ("tpe", "TPE"),
]


class Campaign(models.Model):
    """A goal, a recipe, a dataset, a budget and a policy. One git repository each."""

    slug = models.SlugField(unique=True)
    name = models.CharField(max_length=120)
    goal = models.TextField(help_text="What is to be reached, in one or two sentences.")
    program = models.TextField(blank=True, help_text="Research directions, written by a person for Claude.")
    state = models.CharField(max_length=16, choices=states(lifecycle.CAMPAIGN), default="active")
    state_reason = models.CharField(max_length=300, blank=True)
    recipe = models.CharField(max_length=60, default="gpt")
    dataset = models.CharField(max_length=60, default="stdlib")
    dataset_sha256 = models.CharField(max_length=64)
    target_bpb = models.FloatField(null=True, blank=True)
    metric = models.CharField(max_length=64, default="val_bpb", help_text="What its runs are compared by.")
    metric_unit = models.CharField(max_length=40, blank=True)
    direction = models.CharField(
        max_length=6, choices=[("lower", "lower is better"), ("higher", "higher is better")], default="lower"
    )
    judges_self_reported = models.BooleanField(
        default=False, help_text="Verdicts may rest on numbers that the trainer reports itself."
    )
    environment_sha256 = models.CharField(
        max_length=64, blank=True, help_text="Of the packages of the environment that its recipe names."
    )

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
    def is_self_reported(self) -> bool:
        """Whether its runs are compared by what their trainer says, and not by what the scorer measures."""
        return self.metric != contract.OURS

    @property
    def incumbent(self) -> Incumbent:
        """The best accepted commit. Every campaign has one from its first transaction on."""
        return self.incumbents.latest("number")


class Turn(models.Model):
    """The right to ask one arm of a campaign for proposals: since when it is taken, and when to ask again.

    With its batch under way, and with what was wrong with the last answers.
    """

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
