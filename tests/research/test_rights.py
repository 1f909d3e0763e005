"""Who could pause and set alpha before the two rights came apart keeps both; who is let steer gets no more."""

from __future__ import annotations

import importlib

import pytest
from django.apps import apps
from django.contrib.auth.models import Group, Permission, User

pytestmark = pytest.mark.django_db


def rights(codename: str) -> Permission:
    return Permission.objects.get(codename=codename)


def migrated() -> None:
    migration = importlib.import_module("research.migrations.0014_steer")
    migration.to_whoever_could_steer(apps, None)


def test_whoever_could_pause_before_still_can_as_a_person_or_by_a_group(alice: User) -> None:
    Permission.objects.filter(codename="steer_campaign").delete()  # as in a database of the version before
    steerers = Group.objects.create(name="Steerers")
    steerers.permissions.add(rights("change_campaign"))
    grace = User.objects.create(username="grace")
    grace.groups.add(steerers)
    alice.user_permissions.add(rights("change_campaign"))
    migrated()
    for name in ("alice", "grace"):
        person = User.objects.get(username=name)
        assert person.has_perms(["research.steer_campaign", "research.change_campaign"])
    migrated()  # again changes nothing
    assert User.objects.get(username="alice").user_permissions.count() == 2


def test_whoever_may_only_steer_or_nothing_gets_no_right_to_the_science(bob: User, charlie: User) -> None:
    migrated()
    assert not User.objects.get(pk=bob.pk).has_perm("research.change_campaign")
    assert not User.objects.get(pk=charlie.pk).has_perm("research.steer_campaign")
