"""The control worker's Celery app: ``celery -A webapp.celery worker -Q control``."""

from __future__ import annotations

import os

from celery import Celery
from celery.signals import worker_ready

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "webapp.settings")

app = Celery("countersign")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["research.loop", "webapp.notify"])


@worker_ready.connect
def look_around(**_: object) -> None:
    """Reconcile as soon as a control worker starts, before the first beat."""
    app.send_task("control.reconcile", queue="control", kwargs={"at_start": True})
