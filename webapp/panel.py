"""The admin panel, without a sign-in page of its own, so that all password tries go through one turnstile.

The person who saves something in it is the actor of its event.
"""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any, cast

from django.contrib.admin import AdminSite
from django.contrib.admin.forms import AdminPasswordChangeForm
from django.contrib.auth.forms import PasswordChangeForm
from django.contrib.auth.models import User
from django.contrib.auth.views import PasswordChangeView, redirect_to_login
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import resolve_url
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache

from research.record import events
from webapp.pages.accounts import turnstile

if TYPE_CHECKING:
    from django.contrib.admin.sites import _ViewType as View


class ChangeForm(AdminPasswordChangeForm):
    """The password form; its old password counts as a try as well, since it can be guessed."""

    def __init__(self, *args: Any, request: HttpRequest, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.request = request

    def clean_old_password(self) -> str:
        if (rest := turnstile.enter(self.request, self.user.get_username())) is not None:
            raise ValidationError(f"Too many wrong passwords: wait {rest.wait_min} minutes.")
        old = super().clean_old_password()
        turnstile.forgive(self.request)
        return str(old)


class ChangePassword(PasswordChangeView):
    form_class = ChangeForm

    def get_form_kwargs(self) -> dict[str, Any]:
        return super().get_form_kwargs() | {"request": self.request}

    def form_valid(self, form: PasswordChangeForm) -> HttpResponse:
        response = super().form_valid(form)
        assert isinstance(self.request.user, User)
        turnstile.remember(self.request, response, self.request.user)
        return response


class Panel(AdminSite):
    def admin_view(self, view: View, cacheable: bool = False) -> View:
        """Makes the person the actor of events on every page of the panel, also on those of Django's own models."""

        @wraps(view)
        def named(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            with events.acting(f"user:{request.user}"):
                return view(request, *args, **kwargs)

        return super().admin_view(cast("View", named), cacheable)

    @method_decorator(never_cache)
    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Redirect to the sign-in page; 403 for a signed-in person who may not enter, to avoid a circle."""
        there = request.GET.get("next") or reverse("admin:index")
        if request.user.is_authenticated and not self.has_permission(request):
            raise PermissionDenied("Your account is not a member of this workspace. An administrator can add you.")
        return redirect_to_login(there, resolve_url("login"))

    def password_change(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        request.current_app = self.name
        view = ChangePassword.as_view(
            success_url=reverse("admin:password_change_done", current_app=self.name),
            extra_context=self.each_context(request) | (extra_context or {}),
        )
        return cast(TemplateResponse, view(request))  # or a redirect, of which Django's own signature does not speak
