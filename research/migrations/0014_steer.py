from django.db import migrations

NAME = "Can pause, resume and halt campaigns, stop runs and write notes"


def to_whoever_could_steer(apps, schema_editor):
    """The right to steer was part of change_campaign: whoever has that keeps both. Nobody gets that by steering."""
    # The permission itself is made after all migrations; of a new database nobody holds the old one.
    ContentType, Permission = apps.get_model("contenttypes", "ContentType"), apps.get_model("auth", "Permission")
    old = Permission.objects.filter(content_type__app_label="research", codename="change_campaign").first()
    if old is None:
        return
    campaign = ContentType.objects.get(app_label="research", model="campaign")
    new, _ = Permission.objects.get_or_create(content_type=campaign, codename="steer_campaign", defaults={"name": NAME})
    for user in apps.get_model("auth", "User").objects.filter(user_permissions=old):
        user.user_permissions.add(new)
    for group in apps.get_model("auth", "Group").objects.filter(permissions=old):
        group.permissions.add(new)


class Migration(migrations.Migration):
    dependencies = [
        ("research", "0013_sealed"),
        ("contenttypes", "0002_remove_content_type_name"),
        ("auth", "0012_alter_user_first_name_max_length"),
    ]

    operations = [migrations.RunPython(to_whoever_could_steer, migrations.RunPython.noop)]
