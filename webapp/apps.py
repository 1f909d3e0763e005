from __future__ import annotations

from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig


class WebappConfig(AppConfig):
    name = "webapp"
    verbose_name = "Accounts"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        # The Celery app has to exist wherever a task is sent from, web process included.
        from webapp import audited, celery
        from webapp.live import nudges
        from webapp.pages.accounts import turnstile

        assert celery.app
        nudges.connect()
        turnstile.connect()
        audited.connect()


class PanelConfig(AdminConfig):
    default_site = "webapp.panel.Panel"
