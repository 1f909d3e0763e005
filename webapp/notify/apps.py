from __future__ import annotations

from django.apps import AppConfig


class NotifyConfig(AppConfig):
    name = "webapp.notify"
    label = "notify"
    verbose_name = "Webhooks"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from research.record import events, held, kinds, watch
        from webapp.notify import outbox
        from webapp.notify.models import Endpoint

        events.recorded.connect(outbox.on_event, dispatch_uid="webapp.notify")
        pace = "what came of its last messages; where it listens is held"
        watch.over(
            held.cover(
                held.Table(
                    model=Endpoint,
                    name="endpoint {description}",
                    by_column=True,
                    rewrites={
                        kinds.ENDPOINT_ENABLED: frozenset({"enabled", "disabled_reason"}),
                        kinds.ENDPOINT_DISABLED: frozenset({"enabled", "disabled_reason"}),
                        kinds.ENDPOINT_SECRET_ROTATED: frozenset({"secret", "old_secret", "old_secret_until"}),
                    },
                    apart=dict.fromkeys(("num_failures", "failing_since", "busy_until"), pace),
                    secret=frozenset({"secret", "old_secret"}),
                )
            )
        )
