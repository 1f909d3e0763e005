"""Views of review: the queue with one proposal beside it, and the decision."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from research.lifecycle import LostRace
from research.models import Decision
from research.record import rights
from research.review import decisions as verbs
from webapp.pages.access import is_fragment, person, proposal_for, reader
from webapp.pages.forms import DecisionForm, Fields
from webapp.pages.review import queue
from webapp.pages.review.proposal_page import ProposalPage

PAST = {"approve": "approved", "reject": "rejected", "request_changes": "sent back"}


@require_safe
@reader
def review(request: HttpRequest) -> HttpResponse:
    """The queue, and the proposal that has waited longest; ``?queue=1`` shows the queue alone, as on a phone."""
    first = queue.next_waiting(person(request))
    if first is not None and not is_fragment(request) and "queue" not in request.GET:
        return redirect("proposal", first)
    return respond(request, None)


@require_safe
@reader
def proposal(request: HttpRequest, pk: int) -> HttpResponse:
    page = ProposalPage(proposal_for(person(request), pk))
    seen = request.GET.get("seen", page.seen)
    if is_fragment(request) and seen != page.seen and seen.endswith((".pending_review", ".blocked")):
        return _changed(request, page)
    return respond(request, page)


@require_POST
@reader
def decide(request: HttpRequest, pk: int) -> HttpResponse:
    """``POST /proposals/7/decision/``: a Decision on the digest that was on the screen."""
    page = ProposalPage(proposal_for(person(request), pk))
    form = DecisionForm(request.POST)
    if not form.is_valid():
        return respond(request, page, form=form, status=422)
    try:
        decision = verbs.decide(pk, by=person(request), **form.cleaned_data)
    except LostRace as race:
        return respond(request, ProposalPage(proposal_for(person(request), pk)), form=form, lost=str(race), status=409)
    except ValueError as error:
        form.take(error)
        return respond(request, page, form=form, status=422)
    return _go_on(request, decision)


def _go_on(request: HttpRequest, decision: Decision) -> HttpResponse:
    """Redirect to the next waiting proposal, or else to the queue."""
    number = decision.revision.proposal_id
    messages.success(request, f"P-{number} {PAST[decision.choice]}")
    following = queue.next_waiting(person(request), after=number)
    there = reverse("review") if following is None else reverse("proposal", args=[following])
    if not is_fragment(request):
        return redirect(there)
    page = None if following is None else ProposalPage(proposal_for(person(request), following))
    response = respond(request, page, arrived=True)
    response["HX-Push-Url"] = there
    return response


def _changed(request: HttpRequest, page: ProposalPage) -> HttpResponse:
    """A page that carries a decision form never changes under the reader's hand: it only says that it is old."""
    response = render(request, "review/_changed.html", {"page": page})
    response["HX-Retarget"], response["HX-Reswap"] = "#news", "innerHTML"
    return response


def respond(
    request: HttpRequest,
    page: ProposalPage | None,
    *,
    form: Fields | None = None,
    lost: str = "",
    arrived: bool = False,
    status: int = 200,
) -> HttpResponse:
    """The queue and what lies beside it; ``form`` is one that was refused, with what was typed into it."""
    authors = set() if page is None else page.objection.authors
    context: dict[str, Any] = {
        "section": "review",
        "is_author": person(request).pk in authors,
        "num_others": rights.num_deciders(without=authors),
        "sections": queue.sections(person(request)),
        "page": page,
        "form": form or DecisionForm(),
        "categories": Decision.CATEGORIES,
        "may_sign": page is not None and page.objection.may_sign(person(request)),
        "may_withdraw": page is not None and page.may_withdraw(person(request)),
        "lost": lost,
        "arrived": arrived,
        "following": queue.next_waiting(person(request), after=page.proposal.pk if page else None),
    }
    template = "review/_review.html" if is_fragment(request) else "review/review.html"
    return render(request, template, context, status=status)
