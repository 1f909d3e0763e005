"""Signing in with a password or a one-time link, and out."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth import login
from django.contrib.auth.views import LoginView, LogoutView
from django.core.cache import cache
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from webapp import accounts
from webapp.forms import SignIn

MAX_TRIES = 8
WAIT_S = 15 * 60
BACKEND = "django.contrib.auth.backends.ModelBackend"


class SignInView(LoginView):
    """Password sign-in. After ``MAX_TRIES`` failures a name rests for a while, counted in each web process."""

    template_name = "accounts/login.html"
    authentication_form = SignIn
    redirect_authenticated_user = True

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if cache.get(self._counter(), 0) >= MAX_TRIES:
            form = SignIn(request)
            context = self.get_context_data(form=form, resting_min=WAIT_S // 60)
            return self.render_to_response(context, status=429)
        return super().post(request, *args, **kwargs)

    def form_invalid(self, form: Any) -> HttpResponse:
        cache.add(self._counter(), 0, WAIT_S)
        cache.incr(self._counter())
        return self.render_to_response(self.get_context_data(form=form), status=422)

    def form_valid(self, form: Any) -> HttpResponse:
        cache.delete(self._counter())
        response = super().form_valid(form)
        self.request.session.set_expiry(settings.SESSION_COOKIE_AGE if form.cleaned_data["keep"] else 0)
        return response

    def _counter(self) -> str:
        name = self.request.POST.get("username", "").strip().lower()
        return "sign-in:" + name.encode().hex()[:180]


class SignOutView(LogoutView):
    http_method_names = ["post", "options"]


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def login_link(request: HttpRequest, token: str) -> HttpResponse:
    """Sign in by a one-time link. Only its button spends it: whatever merely opens addresses (previews of chats,
    scanners of mail, prefetching browsers) presses none. A used or expired one says how to get another.
    """
    user = accounts.redeem(token) if request.method == "POST" else accounts.holder(token)
    if user is None:
        return render(request, "accounts/link_used.html", status=410)
    if request.method != "POST":
        return render(request, "accounts/link.html", {"holder": user})
    login(request, user, backend=BACKEND)
    return redirect("home")
