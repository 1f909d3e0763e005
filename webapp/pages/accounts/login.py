"""Signing in, with a password or a one-time link, and signing out."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth import login
from django.contrib.auth.models import User
from django.contrib.auth.views import LoginView, LogoutView
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from webapp.pages.accounts import links, turnstile
from webapp.pages.forms import SignIn

BACKEND = "django.contrib.auth.backends.ModelBackend"


class SignInView(LoginView):
    """Password sign-in. The turnstile counts the try before the password is checked."""

    template_name = "accounts/login.html"
    authentication_form = SignIn
    redirect_authenticated_user = True

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.method != "POST":
            return super().dispatch(request, *args, **kwargs)
        try:
            with turnstile.room():
                return super().dispatch(request, *args, **kwargs)
        except turnstile.Crowded:
            context = {"form": SignIn(request), "next": request.POST.get("next", ""), "crowded": True}
            response = render(request, self.template_name, context, status=503)
            response["Retry-After"] = str(round(turnstile.WAITS_S))
            return response

    def form_invalid(self, form: Any) -> HttpResponse:
        rest = turnstile.rest_of(self.request)
        if rest is None:
            return self.render_to_response(self.get_context_data(form=form), status=422)
        context = self.get_context_data(form=SignIn(self.request), rest=rest)
        return self.render_to_response(context, status=429, headers={"Retry-After": str(rest.wait_s)})

    def form_valid(self, form: Any) -> HttpResponse:
        response = super().form_valid(form)
        self.request.session.set_expiry(settings.SESSION_COOKIE_AGE if form.cleaned_data["keep"] else 0)
        assert isinstance(self.request.user, User)
        turnstile.remember(self.request, response, self.request.user)
        return response


class SignOutView(LogoutView):
    http_method_names = ["post", "options"]


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def login_link(request: HttpRequest, token: str) -> HttpResponse:
    """Sign in by a one-time link. Only its button uses it up, since programs that merely open addresses press none.

    Such are previews of chats, scanners of mail and prefetching browsers. A used or expired link says how to get
    another.
    """
    user = links.redeem(token) if request.method == "POST" else links.holder(token)
    if user is None:
        return render(request, "accounts/link_used.html", status=410)
    if request.method != "POST":
        return render(request, "accounts/link.html", {"holder": user})
    login(request, user, backend=BACKEND)
    response = redirect("home")
    turnstile.remember(request, response, user)
    return response
