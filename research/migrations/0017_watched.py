from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("research", "0016_set_aside")]

    operations = [
        migrations.AddField(
            model_name="reportbatch",
            name="watched",
            field=models.BooleanField(
                help_text="Holds a measurement on the watch text; NULL: written before.", null=True
            ),
        ),
    ]
