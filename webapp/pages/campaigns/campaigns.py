"""Views of campaigns: the list, one campaign, its state, a proposal by hand, steering notes."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from gpu_runner import contract
from research.lifecycle import LostRace
from research.propose import drafting, notes
from research.record import repository, rights
from webapp.beginning.steering import PAST, steer
from webapp.pages.access import campaign_for, is_fragment, person, reader
from webapp.pages.campaigns import campaign_list, campaign_page
from webapp.pages.errors import lost_race
from webapp.pages.forms import NoteForm, ProposalForm, StateForm


@require_safe
@reader
def campaigns(request: HttpRequest) -> HttpResponse:
    spent = campaign_list.spent_by_campaign()
    rows = [(campaign, *spent[campaign.pk]) for campaign in campaign_list.campaigns()]
    open_ones = [row for row in rows if row[0].state != "archived"]
    archived = [row for row in rows if row[0].state == "archived"]
    can_begin = rights.may(person(request), rights.begin, None)
    context = {"section": "campaigns", "rows": open_ones, "archived": archived, "can_begin": can_begin}
    template = "campaigns/_campaigns.html" if is_fragment(request) else "campaigns/campaigns.html"
    return render(request, template, context)


@require_safe
@reader
def campaign(request: HttpRequest, slug: str) -> HttpResponse:
    chosen = campaign_for(person(request), slug)
    context = {
        "section": "campaigns",
        "campaign": chosen,
        "page": campaign_page.CampaignPage(chosen, person(request)),
    }
    template = "campaigns/_campaign.html" if is_fragment(request) else "campaigns/campaign.html"
    return render(request, template, context)


@require_POST
@reader
def state(request: HttpRequest, slug: str) -> HttpResponse:
    """``POST /campaigns/SLUG/state/``: pause, resume, halt or archive."""
    chosen = campaign_for(person(request), slug)
    form = StateForm(request.POST)
    if not form.is_valid():
        sentence = "The reason is too long" if "reason" in form.errors else "Choose Resume, Pause, Halt or Archive"
        return lost_race(request, sentence, reverse("campaign", args=[slug]))
    try:
        by = person(request)
        reason = form.cleaned_data["reason"] or f"asked for by {by.get_username()}"
        steer(chosen, form.cleaned_data["state"], by=by, reason=reason)
    except (LostRace, ValueError) as race:
        return lost_race(request, str(race), reverse("campaign", args=[slug]))
    messages.success(request, f"{chosen.name} {PAST[form.cleaned_data['state']]}")
    return redirect("campaign", slug)


@require_http_methods(["GET", "HEAD", "POST"])
@reader
def propose(request: HttpRequest, slug: str) -> HttpResponse:
    """``/campaigns/SLUG/propose/``: a person's own experiment, for the same gates as any other."""
    chosen = campaign_for(person(request), slug)
    rights.check(person(request), rights.propose, chosen)
    files = repository.files_at(chosen, chosen.incumbent.commit)
    recipe = contract.parse_recipe(files["recipe.toml"])
    form = ProposalForm(request.POST or None, recipe=recipe, source=files)
    if request.method == "POST" and form.is_valid():
        try:
            written = drafting.by_hand(chosen, form.draft, by=person(request))
        except ValueError as error:
            form.take(error)
        else:
            messages.success(request, f"P-{written.pk} is in the gates")
            return redirect("proposal", written.pk)
    context = {
        "section": "campaigns", "campaign": chosen, "form": form, "recipe": recipe,
        "clone_from": campaign_page.CampaignPage(chosen, person(request)).clone_from,
        "num_others": rights.num_deciders({person(request).pk}),
    }  # fmt: skip
    return render(request, "campaigns/propose.html", context, status=422 if form.errors else 200)


@require_POST
@reader
def add_note(request: HttpRequest, slug: str) -> HttpResponse:
    """``POST /campaigns/SLUG/notes/``: adds a steering note."""
    chosen, form = campaign_for(person(request), slug), NoteForm(request.POST)
    if form.is_valid():
        try:
            notes.note(chosen, form.cleaned_data["note"], by=person(request))
        except ValueError as error:
            form.add_error("note", str(error).removeprefix("note: "))
        else:
            messages.success(request, "The proposer reads it with its next request")
            return redirect(f"{reverse('campaign', args=[slug])}#notes")
    context = {
        "section": "campaigns",
        "campaign": chosen,
        "page": campaign_page.CampaignPage(chosen, person(request)),
        "note_form": form,
    }
    return render(request, "campaigns/campaign.html", context, status=422)


@require_POST
@reader
def retire_note(request: HttpRequest, slug: str, pk: int) -> HttpResponse:
    """``POST /campaigns/SLUG/notes/7/retire/``: retires a steering note."""
    chosen = campaign_for(person(request), slug)
    try:
        notes.retire(chosen, pk, by=person(request))
    except LostRace as race:
        return lost_race(request, str(race), reverse("campaign", args=[slug]))
    messages.success(request, "Note retired")
    return redirect(f"{reverse('campaign', args=[slug])}#notes")
