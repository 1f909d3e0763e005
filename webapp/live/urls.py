"""Addresses of a run's points over HTTP."""

from __future__ import annotations

from django.urls import path

from webapp.live import points

urlpatterns = [
    path("runs/<int:run_id>/points.json", points.run_points, name="run-points"),
    path("runs/<int:run_id>/points.csv", points.run_csv, name="run-csv"),
]
