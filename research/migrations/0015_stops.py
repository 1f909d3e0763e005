from django.db import migrations, models

STOPS = [
    ("person", "by a person"),
    ("halted", "with its campaign: it is run again when that goes on"),
    ("postponed", "until its turn: it is run again then"),
    ("unwanted", "because it was not wanted any more"),
]


def name_the_kinds(apps, schema_editor):
    """Until now the kind was how the sentence began. Who asked for the others nobody can tell: none is run again."""
    stopped = apps.get_model("research", "Run").objects.exclude(stop_reason="")
    stopped.update(stop_kind="unwanted")
    stopped.filter(stop_reason__startswith="halted: ").update(stop_kind="halted")
    stopped.filter(stop_reason__startswith="later: ").update(stop_kind="postponed")


class Migration(migrations.Migration):
    dependencies = [("research", "0014_steer")]

    operations = [
        migrations.AddField(
            model_name="campaign",
            name="batch_problem",
            field=models.CharField(blank=True, help_text="Why its batch cannot be looked at now.", max_length=500),
        ),
        migrations.AddField(
            model_name="run",
            name="stop_kind",
            field=models.CharField(
                blank=True, choices=STOPS, help_text="Set: the next report is answered with stop.", max_length=10
            ),
        ),
        migrations.AlterField(
            model_name="run", name="stop_reason", field=models.CharField(blank=True, max_length=200)
        ),
        migrations.RunPython(name_the_kinds, migrations.RunPython.noop),
    ]
