"""``manage.py loginlink [NAME]``: a link that signs one person in once."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError

from webapp.pages.accounts import links


class Command(BaseCommand):
    help = "Prints a one-time login link, valid for an hour. Without a name: for the first administrator."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", nargs="?", help="user name; default: the first administrator")

    def handle(self, *args: Any, **options: Any) -> None:
        wanted = {"username": options["name"]} if options["name"] else {"is_superuser": True}
        user = User.objects.filter(is_active=True, **wanted).order_by("pk").first()
        if user is None:
            names = (
                ", ".join(User.objects.filter(is_active=True).values_list("username", flat=True)[:10]) or "nobody yet"
            )
            raise CommandError(
                f"name: there is no active user {options['name'] or 'who administers'}; there are: {names}"
            )
        self.stdout.write(f"{settings.PUBLIC_URL}/login/{links.make_link(user)}/")
