import django.db.models.deletion
from django.db import migrations, models

ARMS = [
    ("claude", "Claude"),
    ("offline", "Offline proposer"),
    ("human", "Person"),
    ("agent", "Outside agent"),
    ("random", "Random"),
    ("tpe", "TPE"),
]


def from_campaigns(apps, schema_editor):
    """What stood in a campaign's columns was of the arm that it asked last; a batch is always Claude's."""
    Turn = apps.get_model("research", "Turn")
    for campaign in apps.get_model("research", "Campaign").objects.all():
        was = {
            "taken_at": campaign.proposing_since,
            "retry_at": campaign.proposer_retry_at,
            "problem": campaign.proposer_problem,
            "num_problems": campaign.num_problems,
            "batch": campaign.batch,
            "batch_problem": campaign.batch_problem,
        }
        if any(was.values()):
            Turn.objects.create(campaign=campaign, arm=asked_last(campaign), **was)


def asked_last(campaign):
    catalogue = campaign.waves.filter(arm="offline").order_by("-pk").first()
    request = campaign.ledger.filter(kind="claude").order_by("-pk").first()
    if campaign.batch or catalogue is None:
        return "claude"
    return "claude" if request is not None and request.created_at > catalogue.created_at else "offline"


def to_campaigns(apps, schema_editor):
    """Claude's last: of two turns it is the one that costs something."""
    for turn in apps.get_model("research", "Turn").objects.order_by("-arm").select_related("campaign"):
        campaign = turn.campaign
        campaign.proposing_since, campaign.proposer_retry_at = turn.taken_at, turn.retry_at
        campaign.proposer_problem, campaign.num_problems = turn.problem, turn.num_problems
        campaign.batch, campaign.batch_problem = turn.batch, turn.batch_problem
        campaign.save()


class Migration(migrations.Migration):
    dependencies = [("research", "0017_watched")]

    operations = [
        migrations.CreateModel(
            name="Turn",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("arm", models.CharField(choices=ARMS, max_length=8)),
                (
                    "taken_at",
                    models.DateTimeField(
                        blank=True, help_text="Since when somebody asks; empty: nobody does.", null=True
                    ),
                ),
                (
                    "retry_at",
                    models.DateTimeField(
                        blank=True, help_text="Not asked, nor its batch looked at, before.", null=True
                    ),
                ),
                (
                    "problem",
                    models.CharField(blank=True, help_text="What was wrong with the last answer.", max_length=500),
                ),
                (
                    "num_problems",
                    models.PositiveSmallIntegerField(default=0, help_text="Calls in a row that gave no draft."),
                ),
                ("batch", models.JSONField(blank=True, help_text="The batch that is on its way.", null=True)),
                (
                    "batch_problem",
                    models.CharField(
                        blank=True, help_text="Why its batch cannot be looked at now.", max_length=500
                    ),
                ),
                (
                    "campaign",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="turns", to="research.campaign"
                    ),
                ),
            ],
            options={
                "constraints": [models.UniqueConstraint(fields=("campaign", "arm"), name="one_turn_per_arm")],
            },
        ),
        migrations.RunPython(from_campaigns, to_campaigns),
    ]
