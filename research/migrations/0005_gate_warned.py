from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('research', '0004_audit'),
    ]

    operations = [
        migrations.AlterField(
            model_name='gate',
            name='outcome',
            field=models.CharField(choices=[('pending', 'pending'), ('passed', 'passed'), ('warned', 'warned'), ('failed', 'failed')], max_length=8),
        ),
    ]
