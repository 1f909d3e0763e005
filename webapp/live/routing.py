"""Addresses of the sockets."""

from __future__ import annotations

from django.urls import re_path

from webapp.live.consumers import CampaignConsumer, NoSuchSocket, RunConsumer

websocket_urlpatterns = [
    re_path(r"^live/runs/(?P<run_id>[0-9]{1,18})/$", RunConsumer.as_asgi()),
    re_path(r"^live/campaigns/(?P<slug>[-a-zA-Z0-9_]+)/$", CampaignConsumer.as_asgi()),
    re_path(r"", NoSuchSocket.as_asgi()),
]
