from __future__ import annotations

from django.apps import AppConfig


class ResearchConfig(AppConfig):
    name = "research"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from research.loop import follow
        from research.record import audited, watch

        assert audited.APART
        watch.connect()
        follow.connect()
