from django.db import migrations, models

STANDS = models.Q(("purpose", "baseline"), ("set_aside", False)) & ~models.Q(
    ("state__in", ("cancelled", "failed", "timed_out"))
)


class Migration(migrations.Migration):
    dependencies = [("research", "0015_stops")]

    operations = [
        migrations.RemoveConstraint(model_name="run", name="one_baseline_per_seed"),
        migrations.AddField(
            model_name="run",
            name="set_aside",
            field=models.BooleanField(
                default=False,
                help_text="Of the incumbent's own: its score was disputed, and its seed is measured again.",
            ),
        ),
        migrations.AddConstraint(
            model_name="run",
            constraint=models.UniqueConstraint(
                fields=("incumbent", "seed", "digest"), condition=STANDS, name="one_baseline_per_seed"
            ),
        ),
    ]
