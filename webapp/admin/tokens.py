"""Ways in: login links of people and tokens of agents."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone

from webapp.admin.read_only import AnyAdmin, AnyForm, Permission, RecordAdmin
from webapp.api import tokens
from webapp.models import AgentToken, LoginLink
from webapp.pages.access import person

SHOWN = "countersign.agent_token"  # from its making to the page that shows it, within one request


@admin.register(LoginLink)
class LoginLinkAdmin(RecordAdmin):
    """A link that was sent to the wrong person can be deleted. Only its token's hash is stored."""

    list_display = ("user", "created_at", "expires_at", "used_at")
    list_select_related = ("user",)
    exclude = ("token_sha256",)

    has_delete_permission: Permission = AnyAdmin.has_delete_permission


class AgentTokenForm(AnyForm):
    days = forms.IntegerField(
        min_value=1, max_value=tokens.MAX_DAYS, initial=tokens.DAYS, help_text="Until it expires."
    )

    class Meta:
        model = AgentToken
        fields = ("name", "scope", "campaign")

    def clean(self) -> dict[str, Any]:
        said: dict[str, Any] = super().clean() or {}
        if said.get("scope") == "begin" and said.get("campaign"):
            self.add_error("campaign", "Leave it empty: whoever begins campaigns sees every one.")
        return said

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"]
        try:
            tokens.check_name(name)
        except ValueError as error:
            raise ValidationError(str(error)) from error
        return name


@admin.register(AgentToken)
class AgentTokenAdmin(RecordAdmin):
    """The token is shown once, on the page after it is made."""

    form = AgentTokenForm
    list_display = ("name", "scope", "campaign", "standing", "last_used_at", "expires_at", "created_at")
    list_filter = ("scope", "campaign")
    list_select_related = ("campaign",)
    search_fields = ("name",)
    actions = ("replace", "revoke")
    has_add_permission: Permission = AnyAdmin.has_add_permission

    @admin.display
    def standing(self, token: AgentToken) -> str:
        if token.revoked_at:
            return f"Revoked {token.revoked_at:%d %b %Y}"
        return "Works" if token.expires_at > timezone.now() else "Expired"

    def get_fields(self, request: HttpRequest, obj: AgentToken | None = None) -> tuple[str, ...]:
        if obj is None:
            return ("name", "scope", "campaign", "days")
        return ("name", "scope", "campaign", "standing", "expires_at", "last_used_at", "created_at")

    def get_readonly_fields(self, request: HttpRequest, obj: AgentToken | None = None) -> tuple[str, ...]:
        return () if obj is None else self.get_fields(request, obj)

    def save_model(self, request: HttpRequest, obj: AgentToken, form: ModelForm[AgentToken], change: bool) -> None:
        assert not change, "a token is replaced or revoked, not changed"
        said = form.cleaned_data
        request.META[SHOWN] = tokens.make(
            said["name"], campaign=said["campaign"], by=person(request), scope=said["scope"], days=said["days"]
        )
        obj.pk = AgentToken.objects.get(name=said["name"]).pk

    def response_add(self, request: HttpRequest, obj: AgentToken, *_: Any, **__: Any) -> HttpResponse:
        return self._show(request, obj, request.META[SHOWN])

    def _show(self, request: HttpRequest, row: AgentToken, token: str) -> HttpResponse:
        """Show the token in this response, without a redirect: a message would store it in a cookie or a session."""
        context = {
            **self.admin_site.each_context(request),
            "title": "The token, shown once",
            "row": row,
            "token": token,
        }
        response = TemplateResponse(request, "admin/agent_token.html", context)
        response["Cache-Control"] = "no-store"
        return response

    @admin.action(description="Replace (the old token stops working)", permissions=["add"])
    def replace(self, request: HttpRequest, queryset: QuerySet[AgentToken]) -> HttpResponse | None:
        row = queryset.first()
        if row is None or queryset.count() != 1:
            self.message_user(request, "Choose exactly one token to replace.", messages.ERROR)
            return None
        token = tokens.make(row.name, campaign=row.campaign, by=person(request), scope=row.scope)
        return self._show(request, row, token)

    @admin.action(description="Revoke", permissions=["add"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[AgentToken]) -> None:
        for row in queryset:
            try:
                tokens.revoke(row, by=person(request))
            except ValueError as error:
                self.message_user(request, str(error), messages.ERROR)
            else:
                self.message_user(request, f"The token of {row} is revoked.", messages.SUCCESS)
