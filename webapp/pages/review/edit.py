"""The page on which a person edits a proposal: the form of a proposal by hand, filled in with the newest revision."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from gpu_runner import contract
from research import lifecycle
from research.lifecycle import LostRace
from research.models import Proposal, Revision
from research.propose import briefing
from research.record import repository, rights
from research.review import edit as verbs
from webapp.pages.access import person, proposal_for, reader
from webapp.pages.campaigns.campaign_page import CampaignPage
from webapp.pages.errors import lost_race
from webapp.pages.forms import EditForm
from webapp.pages.review.changes import Changes


@require_http_methods(["GET", "HEAD", "POST"])
@reader
def edit(request: HttpRequest, pk: int) -> HttpResponse:
    """``/proposals/7/edit/``: saves a new revision by the reader, which goes through every gate again."""
    proposal = proposal_for(person(request), pk)
    rights.check(person(request), rights.edit, proposal)
    if request.method == "POST":
        return _save(request, proposal)
    if proposal.state not in lifecycle.PROPOSAL_EDITABLE:
        sentence = f"P-{pk} is {proposal.state.replace('_', ' ')}: only what waits for a decision can be edited"
        return lost_race(request, sentence, reverse("proposal", args=[pk]))
    return _page(request, proposal, _form(proposal, proposal.revision))


def _save(request: HttpRequest, proposal: Proposal) -> HttpResponse:
    """Save what was typed, on top of the revision that it was typed on. 409 when another one is newest by now."""
    form = _form(proposal, _shown(proposal, request), request.POST)
    if not form.is_valid():
        return _page(request, proposal, form, status=422)
    said = form.cleaned_data
    try:
        verbs.edit(proposal.pk, form.draft, number=said["number"], digest=said["digest"], by=person(request))
    except LostRace as race:
        return _page(request, proposal_for(person(request), proposal.pk), form, lost=str(race), status=409)
    except ValueError as error:
        form.take(error)
        return _page(request, proposal, form, status=422)
    messages.success(request, f"P-{proposal.pk} goes through the gates again, as edited by you")
    return redirect("proposal", proposal.pk)


def _shown(proposal: Proposal, request: HttpRequest) -> Revision:
    number = request.POST.get("number", "")
    found = proposal.revisions.filter(number=int(number)).first() if number.isdecimal() and len(number) < 6 else None
    return found or proposal.revision


def _form(proposal: Proposal, shown: Revision, data: Any = None) -> EditForm:
    campaign = proposal.campaign
    files = repository.files_at(campaign, campaign.incumbent.commit)
    return EditForm(
        data,
        shown=briefing.draft_of(shown),
        recipe=contract.parse_recipe(files["recipe.toml"]),
        source=files,
        initial={"number": shown.number, "digest": shown.digest},
    )


def _page(
    request: HttpRequest, proposal: Proposal, form: EditForm, *, lost: str = "", status: int = 200
) -> HttpResponse:
    """The form. ``lost``: somebody was first; then it starts from the newest revision, with what was typed on top."""
    newest, shown = proposal.revision, _shown(proposal, request)
    context = {
        "section": "review",
        "proposal": proposal,
        "campaign": proposal.campaign,
        "revision": newest,
        "form": form,
        "recipe": form.recipe,
        "clone_from": CampaignPage(proposal.campaign, person(request)).clone_from,
        "on": newest if lost else shown,
        "lost": lost,
        "changes": Changes(shown, newest) if lost and shown != newest else None,
        "can_save": (can_save := proposal.state in lifecycle.PROPOSAL_EDITABLE),
        "cannot_save": not can_save,
        "diff_is_lost": bool(form.shown.edits) and not form.initial["patch"],
        "num_others": rights.num_deciders(without={*rights.authors_of(proposal), person(request).pk}),
        "may_decide_now": rights.may(person(request), rights.decide, proposal),
    }
    return render(request, "review/edit.html", context, status=status)
