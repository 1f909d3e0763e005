"""The API for agents: read what a proposer may know, propose, answer a reviewer. Bearer tokens only, JSON only.

No address here decides, overrides, withdraws, starts or changes a campaign; a person's session opens none of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import wraps
from typing import Any

import pydantic
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.http import HttpRequest, JsonResponse
from django.urls import path, re_path
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt

from gpu_runner import contract
from research.arms.claude import reply
from research.change.drafts import Draft
from research.lifecycle import LostRace
from research.models import Campaign, Proposal
from research.propose import briefing
from research.record import recipe_source, rights
from research.record.git import GitError
from research.review import outside
from webapp.api import serializers, tokens
from webapp.api.bearer import Refused, bearer, sentence_of, wrong_token
from webapp.beginning import shown
from webapp.beginning.form import BeginForm, filled, refuse_unknown
from webapp.models import AgentToken, Submission

MAX_BODY = 2**20
WAIT_S = 600  # before asking again for room: people decide in minutes, not in seconds
View = Callable[..., JsonResponse]


def endpoint(*methods: str) -> Callable[[View], View]:
    """An address that answers these methods; every refusal a code and a sentence."""
    answered = " and ".join(methods) + (" is" if len(methods) == 1 else " are")

    def around(view: View) -> View:
        @csrf_exempt  # no cookie is looked at
        @never_cache
        @wraps(view)
        def answer(request: HttpRequest, *args: Any, **kwargs: Any) -> JsonResponse:
            try:
                if request.method not in methods:
                    allow = {"Allow": ", ".join(methods)}
                    raise Refused(405, f"{request.method} is not answered here; {answered}", headers=allow)
                return view(request, *args, **kwargs)
            except Refused as refused:
                body = {"error": str(refused)} | refused.also
                return JsonResponse(body, status=refused.code, headers=refused.headers)
            except pydantic.ValidationError as error:
                return JsonResponse({"error": sentence_of(error)}, status=422)
            except LostRace as race:
                return JsonResponse({"error": str(race)}, status=409)
            except PermissionDenied as denied:
                return JsonResponse({"error": str(denied)}, status=403)
            except GitError:
                raise  # ours, and nothing for a stranger to read
            except ValueError as error:
                return JsonResponse({"error": str(error)}, status=422)

        return answer

    return around


# --- who asks, and for what --------------------------------------------------------------------


def _token(request: HttpRequest, *, to_propose: bool = False) -> AgentToken:
    token = tokens.find(bearer(request))
    if token is None:
        raise wrong_token(
            request, "no such token, or it has expired or was revoked; `manage.py token NAME` makes another"
        )
    if to_propose:
        rights.check(tokens.agent_of(token), rights.propose, None)
    return token


def _campaign(token: AgentToken, slug: str) -> Campaign:
    """The campaign, if the token is for it; 404 otherwise."""
    seen = Campaign.objects.filter(slug=slug)
    campaign = (seen if token.campaign is None else seen.filter(pk=token.campaign.pk)).first()
    if campaign is None:
        raise Refused(404, f"campaign: this token sees none that is called {slug!r}")
    return campaign


def _proposal(token: AgentToken, number: int) -> Proposal:
    seen = Proposal.objects.select_related("campaign")
    proposal = (seen if token.campaign is None else seen.filter(campaign=token.campaign)).filter(pk=number).first()
    if proposal is None:
        raise Refused(404, f"proposal: this token sees no P-{number}")
    return proposal


def _body(request: HttpRequest) -> bytes:
    if request.content_type != "application/json":
        raise Refused(415, f"Content-Type: must be application/json, not {request.content_type or 'nothing'}")
    if not request.headers.get("Content-Length", "").isdecimal():
        raise Refused(411, "Content-Length: is missing; chunked bodies are not read")
    if int(request.headers["Content-Length"]) > MAX_BODY:
        raise Refused(413, f"body: {int(request.headers['Content-Length']):,} bytes; at most {MAX_BODY:,}")
    return request.body


def _count(token: AgentToken) -> None:
    try:
        tokens.count(token)
    except tokens.TooMany as many:
        raise Refused(429, f"{many}; wait {many.wait_s} s", headers={"Retry-After": str(many.wait_s)}) from many


def _draft(body: bytes, campaign: Campaign, token: AgentToken) -> Draft:
    return reply.one(body, briefing.brief(campaign, 1), f"agent {token.name}")


# --- campaigns ----------------------------------------------------------------------------------


@endpoint("GET", "POST")
def campaigns(request: HttpRequest) -> JsonResponse:
    """``GET campaigns``: those that the token sees. ``POST campaigns``: begin one, planned."""
    token = _token(request)
    if request.method == "POST":
        return _begun(request, token)
    seen = Campaign.objects.order_by("-pk")
    seen = seen if token.campaign is None else seen.filter(pk=token.campaign.pk)
    return JsonResponse({"campaigns": [shown.listed(one) for one in seen]})


@endpoint("GET")
def campaign(request: HttpRequest, slug: str) -> JsonResponse:
    """``GET campaigns/SLUG``: every setting, where it stands, what it spent."""
    return JsonResponse(shown.whole(_campaign(_token(request), slug)))


def _begun(request: HttpRequest, token: AgentToken) -> JsonResponse:
    agent, body = tokens.agent_of(token), _body(request)
    rights.check(agent, rights.begin, None)
    _count(token)
    form = BeginForm(filled(_plain_fields(body)))
    made = form.begin(by=agent, starts=False) if form.is_valid() else None
    if made is None:
        raise Refused(422, form.in_one_sentence, fields=form.sentences)
    return JsonResponse(shown.whole(made), status=201)


def _plain_fields(body: bytes) -> dict[str, Any]:
    """The body as a flat object. Only a shipped recipe's defaults are read: a path is refused before it is opened."""
    try:
        given = json.loads(body)
    except ValueError as error:
        raise Refused(422, f"body: is not JSON: {error}") from error
    if not isinstance(given, dict):
        raise Refused(422, "body: must be one object of fields")
    try:
        refuse_unknown(given)
    except ValidationError as error:
        raise Refused(422, "; ".join(error.messages)) from error
    if (recipe := given.get("recipe", "gpt")) not in recipe_source.names():
        known = ", ".join(recipe_source.names())
        sentence = f"an agent takes a shipped one ({known}), not {str(recipe)[:60]!r}; people name folders"
        raise Refused(422, f"recipe: {sentence}", fields={"recipe": [sentence]})
    return given


# --- reading ------------------------------------------------------------------------------------


@endpoint("GET")
def brief(request: HttpRequest, slug: str) -> JsonResponse:
    """``GET campaigns/SLUG/brief``: what a proposer may know."""
    campaign = _campaign(_token(request), slug)
    return JsonResponse(serializers.brief_of(campaign, briefing.brief(campaign, 1)))


@endpoint("GET")
def proposal(request: HttpRequest, number: int) -> JsonResponse:
    """``GET proposals/7``: state, gates, decision, verdict."""
    return JsonResponse(serializers.proposal_of(_proposal(_token(request), number)))


# --- proposing ----------------------------------------------------------------------------------


@endpoint("POST")
def submit(request: HttpRequest, slug: str) -> JsonResponse:
    """``POST campaigns/SLUG/proposals``: one experiment, in the fields of Claude's answers."""
    token = _token(request, to_propose=True)
    campaign, body, key = _campaign(token, slug), _body(request), _key(request)
    if (earlier := _answered(token, key, body)) is not None:
        return earlier
    _count(token)
    draft = _draft(body, campaign, token)
    with transaction.atomic():
        AgentToken.objects.select_for_update().get(pk=token.pk)  # a retry waits for what it repeats
        if (earlier := _answered(token, key, body)) is not None:
            return earlier
        written = _taken(campaign, draft, token)
        said = serializers.received(written)
        sha256 = contract.sha256(body)
        Submission.objects.create(token=token, key=key, body_sha256=sha256, proposal=written, answer=said)
    return _created(said)


def _taken(campaign: Campaign, draft: Draft, token: AgentToken) -> Proposal:
    try:
        return outside.submit(campaign, draft, by=tokens.agent_of(token))
    except outside.Full as full:
        raise Refused(429, str(full), headers={"Retry-After": str(WAIT_S)}) from full
    except outside.Repeated as repeated:
        url = serializers.page_of(repeated.number)
        raise Refused(409, str(repeated), proposal=repeated.number, url=url) from repeated


def _key(request: HttpRequest) -> str | None:
    key = request.headers.get("Idempotency-Key")
    if key is not None and not (0 < len(key) <= 100 and key.isprintable()):
        raise Refused(422, "Idempotency-Key: must be 1 to 100 printable characters")
    return key


def _answered(token: AgentToken, key: str | None, body: bytes) -> JsonResponse | None:
    """The answer that the same request got before."""
    earlier = None if key is None else token.submissions.filter(key=key).first()
    if earlier is None:
        return None
    if earlier.body_sha256 != contract.sha256(body):
        raise Refused(409, f"Idempotency-Key: {key!r} was used for another body; take a fresh key")
    return _created(earlier.answer)


def _created(said: dict[str, Any]) -> JsonResponse:
    return JsonResponse(said, status=201, headers={"Location": f"/api/v1/proposals/{said['number']}"})


@endpoint("POST")
def revise(request: HttpRequest, number: int) -> JsonResponse:
    """``POST proposals/7/revisions``: answers a reviewer; ``If-Match`` carries the digest that was read."""
    token = _token(request, to_propose=True)
    agent = tokens.agent_of(token)
    proposal, body = _proposal(token, number), _body(request)
    rights.check(agent, rights.edit, proposal)
    digest = request.headers.get("If-Match", "").strip('"')
    if not digest:
        raise Refused(422, 'If-Match: send the digest of the revision that you read, as If-Match: "DIGEST"')
    _count(token)
    revision = outside.answer(number, _draft(body, proposal.campaign, token), digest=digest, by=agent)
    return JsonResponse(serializers.received(revision.proposal), status=201)


@csrf_exempt
@never_cache
def unknown(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"error": f"there is nothing at {request.path}; see docs/api.md"}, status=404)


urlpatterns = [
    path("campaigns", campaigns, name="campaigns"),
    path("campaigns/<slug:slug>", campaign, name="campaign"),
    path("campaigns/<slug:slug>/brief", brief, name="brief"),
    path("campaigns/<slug:slug>/proposals", submit, name="submit"),
    path("proposals/<int:number>", proposal, name="proposal"),
    path("proposals/<int:number>/revisions", revise, name="revise"),
    re_path("", unknown),
]
