from __future__ import annotations

from django.apps import AppConfig


class NotifyConfig(AppConfig):
    name = "webapp.notify"
    label = "notify"
    verbose_name = "Webhooks"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from research import events
        from webapp.notify import outbox

        events.recorded.connect(outbox.on_event, dispatch_uid="webapp.notify")
