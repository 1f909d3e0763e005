"""scout, an agent from outside, proposes over HTTP; people decide, and it can do nothing else."""

from __future__ import annotations

import json
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from research.gates import process
from research.models import Campaign, Event, Proposal
from research.propose import drafting, turns
from research.record import learn
from research.record.rights import COMMAND_LINE
from research.review import decisions
from tests import builders
from tests.research.answers import make_answer
from webapp.api import tokens, v1
from webapp.models import AgentToken, Submission

pytestmark = pytest.mark.django_db(transaction=True)
DOCS = Path(__file__).resolve().parents[2] / "docs" / "api.md"


@pytest.fixture
def token(campaign: Campaign) -> str:
    return tokens.make("scout", campaign=campaign, by=COMMAND_LINE)


def make_body(**over: Any) -> dict[str, Any]:
    """The fields in which Claude answers."""
    draft: dict[str, Any] = make_answer(0.1)["drafts"][0]
    return draft | over


def with_warmup(value: float) -> dict[str, Any]:
    return make_body(overrides=[{"key": "warmup_fraction", "value": value, "reason": "a ramp"}])


class Scout:
    """Its side of the wire."""

    def __init__(self, client: Client, token: str) -> None:
        self.client, self.headers = client, {"authorization": f"Bearer {token}"}

    def get(self, path: str) -> Any:
        return self.client.get(f"/api/v1/{path}", headers=self.headers)

    def post(self, path: str, body: object, **headers: str) -> Any:
        text = body if isinstance(body, str | bytes) else json.dumps(body)
        told = self.headers | {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.post(f"/api/v1/{path}", text, content_type="application/json", headers=told)

    def propose(self, body: object, **headers: str) -> Any:
        return self.post("campaigns/first/proposals", body, **headers)


@pytest.fixture
def scout(client: Client, token: str) -> Scout:
    return Scout(client, token)


# --- the happy way --------------------------------------------------------------------------------


def test_scout_reads_the_brief_proposes_and_follows_what_becomes_of_it(scout: Scout, bob: User) -> None:
    brief = scout.get("campaigns/first/brief").json()
    assert "warmup_fraction" in [knob["key"] for knob in brief["knobs"]]
    assert "train.py" in brief["files"]
    answer = scout.propose(make_body())
    said = answer.json()
    proposal = Proposal.objects.get()
    assert answer.status_code == 201
    assert said == {
        "number": proposal.pk,
        "revision": 1,
        "digest": proposal.revision.digest,
        "state": "drafted",
        "url": f"http://127.0.0.1:8321/proposals/{proposal.pk}/",
    }
    assert (proposal.arm, proposal.author, proposal.source) == ("agent", None, "agent scout")
    assert Event.objects.get(kind="proposal.drafted").by == "agent:scout"
    builders.pass_gates(proposal)
    waiting = scout.get(f"proposals/{proposal.pk}").json()
    assert (waiting["state"], waiting["decision"], waiting["verdict"]) == ("pending_review", None, None)
    assert {gate["outcome"] for gate in waiting["gates"]} <= {"passed", "warned"}, waiting["gates"]
    reject = {"choice": "reject", "category": "not_worth_it", "reason": "Too small to see."}
    decisions.decide(proposal.pk, digest=proposal.revision.digest, by=bob, **reject)
    over = scout.get(f"proposals/{proposal.pk}").json()
    assert (over["state"], over["decision"]["reason"]) == ("rejected", "Too small to see.")
    assert "bob" not in json.dumps(over)
    assert scout.get("campaigns/first/brief").json()["ledger"][0]["reason"].endswith("Too small to see.")


def test_an_edit_of_code_arrives_as_a_diff(scout: Scout) -> None:
    lines = scout.get("campaigns/first/brief").json()["files"]["train.py"].splitlines()
    line = next(line for line in lines if "return F.linear(rms_norm(x)" in line)
    edit = {"path": "train.py", "search": line, "replace": f"{line}  # as before"}
    assert scout.propose(make_body(overrides=[], edits=[edit])).status_code == 201
    assert f"+{line}  # as before" in Proposal.objects.get().revision.patch


def test_a_retry_gets_the_first_answer_and_makes_nothing_new(scout: Scout) -> None:
    first = scout.propose(make_body(), idempotency_key="a1")
    builders.pass_gates(Proposal.objects.get())
    again = scout.propose(make_body(), idempotency_key="a1")
    assert (again.status_code, again.json()) == (201, first.json())
    assert Proposal.objects.count() == 1
    other = scout.propose(with_warmup(0.2), idempotency_key="a1")
    assert (other.status_code, other.json()["error"]) == (
        409, "Idempotency-Key: 'a1' was used for another body; take a fresh key",
    )  # fmt: skip
    assert scout.propose(with_warmup(0.2), idempotency_key="").status_code == 422


def test_scout_answers_a_reviewer_with_a_revision(scout: Scout, bob: User) -> None:
    number = scout.propose(make_body()).json()["number"]
    proposal = builders.pass_gates(Proposal.objects.get())
    address, digest = f"proposals/{number}/revisions", proposal.revision.digest
    asked_early = scout.post(address, with_warmup(0.08), if_match=f'"{digest}"')
    assert (asked_early.status_code, "no reviewer asks" in asked_early.json()["error"]) == (409, True)
    decisions.decide(number, digest=digest, choice="request_changes", by=bob, reason="Less of it.")
    proposal.refresh_from_db()
    drafting.revise(proposal)  # the house's own proposer leaves it alone
    assert scout.get(f"proposals/{number}").json()["decision"]["reason"] == "Less of it."
    assert scout.post(address, with_warmup(0.08)).status_code == 422
    assert scout.post(address, with_warmup(0.08), if_match="0" * 64).status_code == 409
    assert "nothing differs" in scout.post(address, make_body(), if_match=digest).json()["error"]
    answer = scout.post(address, with_warmup(0.08), if_match=f'"{digest}"')
    assert (answer.status_code, answer.json()["revision"], answer.json()["state"]) == (201, 2, "drafted")
    revision = Proposal.objects.get().revision
    assert (revision.origin, revision.answers, revision.author) == ("answered", "Less of it.", None)
    assert Event.objects.filter(kind="proposal.drafted").latest("pk").by == "agent:scout"


def test_what_scout_proposes_says_so_on_the_page(scout: Scout, bobs_browser: Client) -> None:
    number = scout.propose(make_body()).json()["number"]
    builders.pass_gates(Proposal.objects.get())
    page = bobs_browser.get(f"/proposals/{number}/").content.decode()
    assert "Proposed by an agent" in page and "agent scout" in page


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("{", "Invalid JSON"),
        ("[]", "body: Input should be an object"),
        (make_body(title=""), "title: String should have at least 1 character"),
        (make_body(arm="claude"), "arm: Extra inputs are not permitted"),
        (make_body(prediction={"effect_bpb": -99}), "prediction.effect_bpb: Input should be greater"),
        (make_body(overrides=[]), "it changes nothing"),
        (make_body(overrides=[{"key": "depth", "value": 2, "reason": "r"}]), "depth: 2 is already the incumbent's"),
        (make_body(overrides=[{"key": "depth", "value": 2.0, "reason": "r"}]), "depth: 2 is already the incumbent's"),
        (make_body(edits=[{"path": "train.py", "search": "import math\n", "replace": "import\0math\n"}]), "NUL"),
        (make_body(precedents=[77]), "precedents: this campaign has no proposal 77"),
        (with_warmup(7), "warmup_fraction"),
        (make_body(edits=[{"path": "../x", "search": "a", "replace": "b"}]), "not editable"),
        (make_body(edits=[{"path": "train.py", "search": "zzz", "replace": "b"}]), "occurs 0 times"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_written(scout: Scout, body: object, sentence: str) -> None:
    answer = scout.propose(body)
    assert answer.status_code == 422
    assert sentence in answer.json()["error"]
    assert not Proposal.objects.exists() and not Submission.objects.exists()


def test_the_same_change_is_refused_with_a_link_to_the_first(scout: Scout) -> None:
    first = scout.propose(make_body()).json()
    answer = scout.propose(make_body(title="Another name"))
    assert answer.status_code == 409
    assert (answer.json()["proposal"], answer.json()["url"]) == (first["number"], first["url"])
    assert Proposal.objects.count() == 1


def test_the_queue_cannot_be_flooded_and_claude_is_still_asked(scout: Scout, campaign: Campaign) -> None:
    Campaign.objects.update(max_agent_open=2)
    assert [scout.propose(with_warmup(v)).status_code for v in (0.1, 0.2)] == [201, 201]
    full = scout.propose(with_warmup(0.3))
    assert (full.status_code, full["Retry-After"]) == (429, "600")
    assert "takes 2" in full.json()["error"]
    campaign.refresh_from_db()
    assert drafting.num_missing(turns.of(campaign)) == campaign.num_waiting


def test_a_token_sends_sixty_proposals_an_hour_refused_ones_included(
    scout: Scout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "PROPOSALS_AN_HOUR", 3)
    assert [scout.propose("{").status_code for _ in range(4)] == [422, 422, 422, 429]
    again = scout.propose(make_body())
    assert again.status_code == 429 and 0 < int(again["Retry-After"]) <= 3600
    AgentToken.objects.update(hour_began_at=timezone.now() - timedelta(minutes=61))
    assert scout.propose(make_body()).status_code == 201


def test_blocked_proposals_of_an_agent_do_not_stop_a_campaign(scout: Scout, campaign: Campaign) -> None:
    for _ in range(process.BLOCKED_IN_A_ROW):
        proposal = builders.make_proposal(campaign, arm="agent")
        Proposal.objects.filter(pk=proposal.pk).update(state="blocked")
    process._pause_after_many(Proposal.objects.latest("pk"))
    campaign.refresh_from_db()
    assert campaign.state == "active"


def test_a_paused_campaign_takes_nothing(scout: Scout) -> None:
    Campaign.objects.update(state="paused")
    answer = scout.propose(make_body())
    assert (answer.status_code, "until a person resumes it" in answer.json()["error"]) == (409, True)


def test_only_json_of_a_bounded_size_is_read(scout: Scout, client: Client) -> None:
    address = "/api/v1/campaigns/first/proposals"
    form = client.post(address, {"title": "x"}, headers=scout.headers)
    assert (form.status_code, "application/json" in form.json()["error"]) == (415, True)
    assert scout.propose(b" " * (v1.MAX_BODY + 1)).status_code == 413
    assert scout.get("campaigns/first/proposals")["Allow"] == "POST"


def _edits(scout: Scout, *pairs: tuple[str, str]) -> dict[str, Any]:
    edits = [{"path": "train.py", "search": search, "replace": replace} for search, replace in pairs]
    return make_body(overrides=[], edits=edits)


def test_what_a_gate_would_block_for_certain_is_refused_at_once(scout: Scout, campaign: Campaign) -> None:
    lines = scout.get("campaigns/first/brief").json()["files"]["train.py"].split("\n")
    line = next(line for line in lines if "return F.linear(rms_norm(x)" in line)
    cases = [
        (((line, f"{line}  # a"), (f"{line}  # a", line)), "edits: 1 and 2 cancel each other out in train.py"),
        (
            ((line, f"{line}  # a"), ("import math\n", "import  math\n"), (f"{line}  # a", line)),
            "edits: 1 and 3 cancel each other out in train.py",
        ),
        (((line, f"{line}  # \u202ea"),), "edits: line 9 of the diff: It holds characters that a reader cannot see"),
        (((line, f"{line}  # {'a' * 300}"),), "The line has 3"),
        (((f"\t{line.strip()}", line),), "is the same but for white space"),
        (((f"{line} ", line),), "an end of line where the text sought has a blank"),
    ]
    for pairs, sentence in cases:
        answer = scout.propose(_edits(scout, *pairs))
        assert (answer.status_code, sentence in answer.json()["error"]) == (422, True), answer.json()
    Campaign.objects.update(sandbox_level="none")
    answer = scout.propose(_edits(scout, (line, f"{line}  # a")))
    assert (answer.status_code, "without a sandbox" in answer.json()["error"]) == (422, True), answer.json()
    assert scout.propose(make_body()).status_code == 201  # no code of its own
    assert Proposal.objects.count() == 1


# --- strangers ------------------------------------------------------------------------------------


def test_without_a_token_that_works_nothing_opens(scout: Scout, client: Client, token: str, bob: User) -> None:
    client.force_login(bob)  # a person's session is no token
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": f"Basic {token}"}):
        assert client.get("/api/v1/campaigns/first/brief", headers=headers).status_code == 401
    AgentToken.objects.update(expires_at=timezone.now())
    assert scout.get("campaigns/first/brief").status_code == 401
    AgentToken.objects.update(expires_at=timezone.now() + timedelta(days=1))
    assert scout.get("campaigns/first/brief").status_code == 200
    tokens.revoke(AgentToken.objects.get(), by=COMMAND_LINE)
    assert "revoked" in scout.propose(make_body()).json()["error"]
    assert not Proposal.objects.exists()


def test_a_reader_may_not_propose(client: Client, campaign: Campaign) -> None:
    reader = Scout(client, tokens.make("eye", campaign=None, by=COMMAND_LINE, scope="read"))
    assert reader.get("campaigns/first/brief").status_code == 200
    answer = reader.propose(make_body())
    assert (answer.status_code, "may only read" in answer.json()["error"]) == (403, True)


def test_another_campaign_does_not_exist_for_it_nor_is_anothers_proposal_its_own(
    scout: Scout, campaign: Campaign
) -> None:
    other = builders.make_campaign(slug="second", name="Second")
    theirs = builders.make_proposal(other)
    assert scout.get("campaigns/second/brief").status_code == 404
    assert scout.post("campaigns/second/proposals", make_body()).status_code == 404
    assert scout.get(f"proposals/{theirs.pk}").status_code == 404
    house = builders.make_proposal(campaign)
    assert scout.get(f"proposals/{house.pk}").status_code == 200
    refused = scout.post(f"proposals/{house.pk}/revisions", make_body(), if_match=house.revision.digest)
    assert refused.status_code == 403


def test_a_row_that_mallory_adds_by_hand_makes_no_proposal_scouts_own(scout: Scout, campaign: Campaign) -> None:
    house = builders.make_proposal(campaign)
    Submission.objects.create(token=AgentToken.objects.get(), body_sha256="0" * 64, proposal=house, answer={})
    refused = scout.post(f"proposals/{house.pk}/revisions", make_body(), if_match=house.revision.digest)
    assert refused.status_code == 403


def test_a_token_decides_nothing_anywhere(scout: Scout, client: Client, token: str) -> None:
    number = scout.propose(make_body()).json()["number"]
    proposal = builders.pass_gates(Proposal.objects.get())
    form = {"digest": proposal.revision.digest, "number": 1, "choice": "approve", "reason": "mine"}
    for verb in ("decision", "override", "withdraw", "again", "edit"):
        assert client.post(f"/proposals/{number}/{verb}/", form, headers=scout.headers).status_code in (302, 401)
        answer = scout.post(f"proposals/{number}/{verb}", form)
        assert (answer.status_code, "there is nothing" in answer.json()["error"]) == (404, True)
    for address in ("/admin/", "/campaigns/first/state/", "/api/worker/hello"):
        assert client.post(address, form, headers=scout.headers).status_code in (302, 401, 404)
    proposal.refresh_from_db()
    assert proposal.state == "pending_review" and not proposal.revision.decisions.exists()


def test_the_brief_says_what_a_proposer_may_know_and_not_a_field_more(scout: Scout, campaign: Campaign) -> None:
    builders.make_pending(campaign)
    brief = scout.get("campaigns/first/brief").json()
    assert set(brief) == {
        "campaign", "name", "state", "goal", "program", "incumbent", "noise_sd_bpb", "min_effect_bpb", "run_budget",
        "budget_left", "hardware", "files", "editable", "knobs", "ledger", "dynamics", "log_tails", "notes",
        "open_of_agents", "self_reported",
    }  # fmt: skip
    assert set(brief["ledger"][0]) == {
        "number", "title", "state", "outcome", "reason", "effect_bpb", "low_bpb", "high_bpb",
        "interval_percent", "overrides", "patch",
        "on_incumbent", "self_reported",
    }  # fmt: skip
    assert not {"sealed", "token", "seed"} & {key for row in (brief, *brief["ledger"]) for key in row}
    assert learn.precedents(campaign)[0].number == brief["ledger"][0]["number"]


# --- tokens ---------------------------------------------------------------------------------------


def test_the_command_prints_a_token_once_and_replaces_and_revokes_it(
    campaign: Campaign, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    def made(*options: str) -> str:
        call_command("token", "scout", *options)
        return capsys.readouterr().out.split("COUNTERSIGN_AGENT_TOKEN=")[-1].strip()

    first, second = made("--campaign", "first"), made("--all", "--days", "1", "--scope", "read")
    assert Scout(client, first).get("campaigns/first/brief").status_code == 401
    assert Scout(client, second).get("campaigns/first/brief").status_code == 200
    row = AgentToken.objects.get()
    assert second not in str(vars(row)) and row.last_used_at is not None
    made("--revoke")
    assert Scout(client, second).get("campaigns/first/brief").status_code == 401
    told = list(Event.objects.filter(kind__startswith="agent.").order_by("pk").values_list("kind", flat=True))
    assert told == ["agent.token_made", "agent.token_made", "agent.token_revoked"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("a b", "--all"), "name:"),
        (("scout", "--campaign", "nowhere"), "there are: first"),
        (("scout", "--all", "--days", "366"), "days: must be 1 to 365"),
        (("scout", "--revoke"), "no token of an agent"),
    ],
)
def test_a_token_that_cannot_be_is_refused_by_its_field(
    campaign: Campaign, options: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises(CommandError, match=sentence):
        call_command("token", *options)


# --- the documentation ----------------------------------------------------------------------------


def test_the_example_in_the_documentation_works_as_it_stands(live_server: Any, token: str) -> None:
    block = DOCS.read_text().split("## Asking and proposing")[1].split("\n| request")[0]
    env = {"COUNTERSIGN_URL": live_server.url, "COUNTERSIGN_AGENT_TOKEN": token, "PATH": "/usr/bin:/bin:/usr/local/bin"}
    script = "set -e\n" + block.replace('proposals/1"', f'proposals/{_next()}"')
    done = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    assert '"state": "drafted"' in done.stdout and '"verdict": null' in done.stdout
    assert Proposal.objects.get().title == "Warm up for longer"


def _next() -> int:
    """SQLite counts on after a flush; PostgreSQL, too."""
    newest = Proposal.objects.create(campaign=Campaign.objects.get(), arm="human", title="a row that goes again")
    number = newest.pk
    newest.delete()
    return number + 1


# --- what hides --------------------------------------------------------------------------------------

TAGS = "\u202e\u200b\x1b\u2028\u3164\U000e0041\U000e0101"


def test_what_hides_in_scouts_words_is_written_out(scout: Scout, bobs_browser: Client) -> None:
    words = dict.fromkeys(("title", "hypothesis", "mechanism", "refuted_if"), f"fine{TAGS}")
    override = {"key": "warmup_fraction", "value": 0.2, "reason": f"a ramp{TAGS}"}
    said = scout.propose(make_body(**words, overrides=[override])).json()
    page = bobs_browser.get(f"/proposals/{said['number']}/").content.decode()
    assert "fine&lt;U+202E&gt;&lt;U+200B&gt;&lt;U+001B&gt;" in page
    told = " ".join(Event.objects.values_list("sentence", flat=True))
    assert not set(TAGS) & set(page + told)


@pytest.mark.parametrize("text", [rb"\ud800", rb"\udc00", b"\xed\xa0\x80", b"\xff"])
@pytest.mark.parametrize("field", ["title", "hypothesis", "key", "path"])
def test_half_a_character_is_refused_in_a_sentence(scout: Scout, field: str, text: bytes) -> None:
    edit = {"path": "train.py", "search": "a", "replace": "b"}
    override = {"key": "warmup_fraction", "value": 0.2, "reason": "a ramp"}
    body = make_body(overrides=[override], edits=[edit])
    for part in (body, override, edit):
        if field in part:
            part[field] = "HALF"
    answer = scout.propose(
        json.dumps(body | {"overrides": [override], "edits": [edit]}).encode().replace(b"HALF", text)
    )
    assert answer.status_code == 422
    assert "JSON" in answer.json()["error"]
    assert not Proposal.objects.exists()


@pytest.mark.parametrize(
    ("field", "value"), [("key", f"warm{TAGS}up"), ("value", f"a{TAGS}"), ("path", f"tr{TAGS}ain.py")]
)
def test_what_hides_in_a_name_reaches_no_page(scout: Scout, field: str, value: str, bobs_browser: Client) -> None:
    override, edit = (
        {"key": "warmup_fraction", "value": 0.2, "reason": "a ramp"},
        {"path": "t", "search": "a", "replace": "b"},
    )
    body = make_body(overrides=[override | ({field: value} if field in override else {})])
    body |= {"edits": [edit | {field: value}], "why_together": "both"} if field == "path" else {}
    assert scout.propose(body).status_code == 422
    assert not Proposal.objects.exists()
