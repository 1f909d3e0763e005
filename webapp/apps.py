from __future__ import annotations

from django.apps import AppConfig


class WebappConfig(AppConfig):
    name = "webapp"
    verbose_name = "Accounts"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        # The Celery app has to exist wherever a task is sent from, web process included.
        from webapp import celery, live

        assert celery.app
        live.connect()
