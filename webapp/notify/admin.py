"""The admin pages of webhooks: endpoints are made and changed; deliveries are read, tested and replayed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone

from research.record import rights
from webapp.admin.read_only import AnyAdmin, Permission, never
from webapp.notify import deliver, outbox, post
from webapp.notify.models import KINDS, Delivery, Endpoint
from webapp.pages.access import person

if TYPE_CHECKING:
    AnyForm = forms.ModelForm[Endpoint]  # generic in its stubs only
else:
    AnyForm = forms.ModelForm


class EndpointForm(AnyForm):
    kinds = forms.MultipleChoiceField(
        choices=[(kind, kind) for kind in KINDS], widget=forms.CheckboxSelectMultiple, initial=list(KINDS)
    )

    class Meta:
        model = Endpoint
        fields = ("description", "url", "kinds")

    def clean_url(self) -> str:
        url: str = self.cleaned_data["url"]
        try:
            post.check_url(url)
            post.check_destination(url)
        except ValueError as error:
            raise forms.ValidationError(str(error)) from error
        return url


@admin.register(Endpoint)
class EndpointAdmin(AnyAdmin):
    """The secret is shown once, on the page after an endpoint is made or its secret rotated."""

    form = EndpointForm
    list_display = ("description", "url", "listens_to", "health")
    list_filter = ("enabled",)
    search_fields = ("description", "url")
    readonly_fields = ("health", "created_at")
    actions = ("send_test", "rotate_secret", "switch_off", "switch_on")

    @admin.display(description="kinds")
    def listens_to(self, endpoint: Endpoint) -> str:
        return ", ".join(endpoint.kinds)

    @admin.display
    def health(self, endpoint: Endpoint) -> str:
        if not endpoint.enabled:
            return f"Switched off. {endpoint.disabled_reason}"
        if endpoint.failing_since:
            return f"{endpoint.num_failures} failed in a row, since {endpoint.failing_since:%d %b, %H:%M} UTC"
        return "Healthy" if endpoint.deliveries.filter(state="delivered").exists() else "Nothing delivered yet"

    def get_fields(self, request: HttpRequest, obj: Endpoint | None = None) -> tuple[str, ...]:
        fields = ("description", "url", "kinds")
        return fields if obj is None else (*fields, "health", "created_at")

    def response_add(self, request: HttpRequest, obj: Endpoint, *_: Any, **__: Any) -> HttpResponse:
        return self._show_secret(request, obj, "The endpoint is made.")

    def _show_secret(self, request: HttpRequest, endpoint: Endpoint, sentence: str) -> HttpResponse:
        """Show the secret in this response, without a redirect: a message would store it in a cookie or a session."""
        context = {
            **self.admin_site.each_context(request),
            "title": "The secret, shown once",
            "endpoint": endpoint,
            "sentence": sentence,
            "opts": self.opts,
        }
        response = TemplateResponse(request, "notify/secret.html", context)
        response["Cache-Control"] = "no-store"
        return response

    @admin.action(description="Send test", permissions=["change"])
    def send_test(self, request: HttpRequest, queryset: QuerySet[Endpoint]) -> None:
        _each(request, queryset, outbox.put_test, "is on its way; see Deliveries")

    @admin.action(description="Rotate secret (the old one works for another day)", permissions=["change"])
    def rotate_secret(self, request: HttpRequest, queryset: QuerySet[Endpoint]) -> HttpResponse | None:
        endpoint = queryset.first()
        if endpoint is None or queryset.count() != 1:
            self.message_user(request, "Choose exactly one endpoint to rotate its secret.", messages.ERROR)
            return None
        deliver.rotate(endpoint, by=person(request))
        return self._show_secret(request, endpoint, "The secret is rotated; the old one works for another 24 hours.")

    @admin.action(description="Switch off", permissions=["change"])
    def switch_off(self, request: HttpRequest, queryset: QuerySet[Endpoint]) -> None:
        for endpoint in queryset:
            deliver.switch_off(endpoint, f"By {request.user}, {timezone.now():%d %B %Y}.", by=person(request))

    @admin.action(description="Switch on", permissions=["change"])
    def switch_on(self, request: HttpRequest, queryset: QuerySet[Endpoint]) -> None:
        for endpoint in queryset:
            deliver.switch_on(endpoint, by=person(request))


@admin.register(Delivery)
class DeliveryAdmin(AnyAdmin):
    """The log of deliveries: code, latency, attempt n of N, next attempt, both bodies."""

    list_display = ("created_at", "kind", "endpoint", "state", "code", "latency_ms", "attempt", "next_attempt_at")
    list_filter = ("state", "kind", "endpoint")
    list_select_related = ("endpoint",)
    search_fields = ("webhook_id", "body")
    date_hierarchy = "created_at"
    ordering = ("-id",)
    show_full_result_count = False
    actions = ("replay",)
    readonly_fields = ("message", "attempt")
    fieldsets = (
        (None, {"fields": ("endpoint", "event", "webhook_id", "state", "attempt", "next_attempt_at")}),
        ("Sent", {"fields": ("kind", "message", "created_at")}),
        (
            "Last answer",
            {"fields": ("code", "latency_ms", "problem", "response_start", "response_sha256", "updated_at")},
        ),
    )
    has_add_permission: Permission = never
    has_change_permission: Permission = never
    has_delete_permission: Permission = never

    @admin.display
    def message(self, delivery: Delivery) -> str:
        return json.dumps(json.loads(delivery.body), indent=2, ensure_ascii=False)

    @admin.display
    def attempt(self, delivery: Delivery) -> str:
        return f"{delivery.num_attempts} of {len(deliver.DELAYS_S)}"

    @admin.action(description="Replay", permissions=["replay"])
    def replay(self, request: HttpRequest, queryset: QuerySet[Delivery]) -> None:
        _each(request, queryset.select_related("endpoint"), deliver.replay, "is on its way again")

    def has_replay_permission(self, request: HttpRequest) -> bool:
        return rights.may(person(request), rights.keep_webhooks, None)


def _each(request: HttpRequest, rows: QuerySet[Any], act: Callable[..., object], done: str) -> None:
    """Do ``act`` to each row, and tell failures beside successes."""
    for row in rows:
        try:
            act(row, by=person(request))
        except ValueError as error:
            messages.error(request, str(error))
        else:
            messages.success(request, f"{row}: {done}.")
