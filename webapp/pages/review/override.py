"""Views of a blocked proposal: two people override its gates, one has it checked again, or it is withdrawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST

from research.lifecycle import LostRace
from research.review import override as verbs
from webapp.pages.access import is_fragment, person, proposal_for, reader
from webapp.pages.forms import Fields, OverrideForm, WithdrawForm
from webapp.pages.review.proposal_page import ProposalPage
from webapp.pages.review.review import respond


@require_POST
@reader
def override(request: HttpRequest, pk: int) -> HttpResponse:
    """``POST /proposals/7/override/``: signs the override of what the gates found."""
    return _ask(request, pk, OverrideForm(request.POST), verbs.sign, "P-{} carries your signature")


@require_POST
@reader
def withdraw(request: HttpRequest, pk: int) -> HttpResponse:
    """``POST /proposals/7/withdraw/``: withdraws the proposal and stops its runs."""
    return _ask(request, pk, WithdrawForm(request.POST), verbs.withdraw, "P-{} is withdrawn")


@require_POST
@reader
def again(request: HttpRequest, pk: int) -> HttpResponse:
    """``POST /proposals/7/again/``: through the gates again, as a new revision on today's incumbent."""
    return _ask(request, pk, Fields(request.POST), verbs.check_again, "P-{} goes through the gates again")


def _ask(request: HttpRequest, pk: int, form: Fields, verb: Callable[..., Any], said: str) -> HttpResponse:
    page = ProposalPage(proposal_for(person(request), pk))
    if not form.is_valid():
        return respond(request, page, form=form, status=422)
    try:
        verb(pk, by=person(request), **form.cleaned_data)
    except LostRace as race:
        return respond(request, ProposalPage(proposal_for(person(request), pk)), form=form, lost=str(race), status=409)
    except ValueError as error:
        form.take(error)
        return respond(request, page, form=form, status=422)
    messages.success(request, said.format(pk))
    if not is_fragment(request):
        return redirect("proposal", pk)
    return respond(request, ProposalPage(proposal_for(person(request), pk)), arrived=True)
