from django.db import migrations


class Migration(migrations.Migration):
    """Apart from the step before, which wrote rows: PostgreSQL changes no table in whose transaction rows still wait."""

    dependencies = [("research", "0018_turn")]

    operations = [
        migrations.RemoveField(model_name="campaign", name=name)
        for name in (
            "batch", "batch_problem", "num_problems", "proposer_problem", "proposer_retry_at", "proposing_since",
        )  # fmt: skip
    ]
