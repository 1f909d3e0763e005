"""In Chromium: whatever is answered in the server's place, bob's page stays as it is and a sentence tells him."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from django.test import Client
from playwright.sync_api import Page, Route

from research.models import Proposal
from tests.web.chromium import HOST, Answer, Site, in_browser, rendered
from webapp.pages.access import PART

pytestmark = pytest.mark.browser

NGINX = b"<html>\r\n<head><title>%d</title></head>\r\n<body>\r\n<center><h1>%d</h1></center><hr>nginx</body>\r\n</html>"
SIGN_IN = b"<!-- sso --><!DOCTYPE html><html><body><form><h1>Sign in to Corp Proxy</h1></form></body></html>"
HTML = {"Content-Type": "text/html"}
RELOAD = "Reload the page to see whether it was recorded."
OLD = "What you see may be old: reload the page."
ELSEWHERE = "Something between here and the server has answered in its place"


def nginx(code: int, **headers: str) -> Answer:
    return (
        code,
        {**HTML, **{name.replace("_", "-"): value for name, value in headers.items()}},
        NGINX.replace(b"%d", str(code).encode()),
    )


@dataclass
class Troubled(Site):
    """htmx's own questions get ``instead``; None is a network that is gone."""

    instead: Answer | None = None
    asked: list[str] = field(default_factory=list)

    def serve(self, route: Route) -> None:
        if not route.request.headers.get("hx-request"):
            return super().serve(route)
        self.asked.append(f"{route.request.method} {route.request.url.removeprefix(HOST)}")
        if self.instead is None:
            return route.abort()
        return route.fulfill(status=self.instead[0], headers=self.instead[1], body=self.instead[2])


@pytest.fixture
def troubled(bobs_browser: Client, pending: Proposal) -> Troubled:
    return Troubled(rendered(bobs_browser, f"/proposals/{pending.pk}/"))


ANSWERS = [
    (None, "No answer from the server.", True),
    (nginx(500), "The server could not answer (500).", True),
    (nginx(502), "The server could not answer (502).", True),
    (nginx(503), "The server could not answer (503).", True),
    ((503, {"Content-Type": "text/plain"}, b"upstream connect error"), "The server could not answer (503).", True),
    ((500, HTML | {"Error-Number": "0badc0de"}, b"<p>ours</p>"), "could not answer (error 0badc0de).", True),
    (nginx(413), "The server takes nothing as large as this (413), and has not recorded it.", False),
    (nginx(429, retry_after="43.323"), "(429): nothing was recorded. Wait 44 s and try again.", False),
    (nginx(429), "(429): nothing was recorded. Wait a minute and try again.", False),
    (nginx(400), "The server could not read what was sent (400): nothing was recorded. Send it again.", False),
    (nginx(408), "could not read what was sent (408): nothing was recorded.", False),
    (nginx(401), "You are signed out (401): nothing was recorded. Copy what you wrote,", False),
    ((401, HTML, b""), "You are signed out (401): nothing was recorded. Copy what you wrote,", False),
    (nginx(422), f"{ELSEWHERE} (422)", True),
    ((403, HTML, b"<h1>Blocked by the firewall</h1>"), f"{ELSEWHERE} (403)", True),
    ((200, HTML, b"<script>location = 'https://portal.example/'</script>"), f"{ELSEWHERE} (200)", True),
    ((200, HTML, b""), f"{ELSEWHERE} (200)", True),
    ((405, HTML, b""), f"{ELSEWHERE} (405)", True),
    (nginx(403), f"{ELSEWHERE} (403)", True),
    ((404, {"Content-Type": "text/plain"}, b"404 page not found"), f"{ELSEWHERE} (404)", True),
    ((200, HTML, SIGN_IN), f"{ELSEWHERE} (200); you may be signed out.", True),
    ((200, {"Content-Type": "application/json"}, b"{}"), f"{ELSEWHERE} (200)", True),
]  # fmt: skip


def test_a_decision_that_got_no_answer_of_ours_leaves_the_page_and_says_what_is_known(troubled: Troubled) -> None:
    (address,) = troubled.answers
    send = "#ask-request_changes [type=submit]"

    def decide(page: Page) -> list[tuple[str, str, str]]:
        seen = []
        page.goto(HOST + address)
        page.locator("#review[data-htmx-powered]").wait_for()
        page.keyboard.press("c")
        page.keyboard.type("half a sentence")
        page.locator(send).focus()
        for troubled.instead, sentence, _ in ANSWERS:
            page.keyboard.press("Enter")
            page.locator("#toasts .toast").filter(has_text=sentence).wait_for(timeout=10_000)
            page.locator(f"{send}:focus").wait_for(timeout=10_000)  # as bob left it
            seen.append((page.inner_text("#toasts"), page.input_value("#reason-request_changes"), review_of(page)))
        return seen

    seen = in_browser(troubled, decide)
    sent = [what for what in troubled.asked if what.startswith("POST")]
    assert sent == [f"POST {address}decision/"] * len(ANSWERS)
    for (told, written, review), (instead, sentence, is_unknown) in zip(seen, ANSWERS, strict=True):
        assert sentence in told, instead
        assert (RELOAD in told) == is_unknown, instead
        assert written == "half a sentence", "what bob wrote can be sent again"
        assert "Warm up for longer" in review
        assert not any(word in review for word in ("nginx", "Corp Proxy", "upstream", "not found", "firewall"))


def review_of(page: Page) -> str:
    assert page.is_visible("#review h1")
    return page.inner_text("#review")


def test_how_long_to_wait_is_said_however_it_was_asked_for(troubled: Troubled) -> None:
    (address,) = troubled.answers
    date = "Sun, 29 Nov 2026 02:07:00 GMT"
    words = {
        "0": "a minute",
        "5": "5 s",
        "43.323": "44 s",
        "120": "2 min",
        "5400": "90 min",
        "7201": "3 h",
        "99999999999": "24 h",
        "9" * 400: "24 h",
        "Sun, 29 Nov 2026 02:10:00 GMT": "3 min",
        "Sunday, 29-Nov-26 02:07:45 GMT": "45 s",
        "Wed, 21 Oct 2015 07:28:00 GMT": "a minute",
        "-5": "a minute",
        "1e999": "a minute",
        "Infinity": "a minute",
        "nan": "a minute",
        "soon": "a minute",
        "": "a minute",
    }

    def read(page: Page) -> list[str]:
        page.goto(HOST + address)
        asks = "said => asWait(askedFor(new Headers(said)))"
        return [page.evaluate(asks, {"Retry-After": said, "Date": date}) for said in words]

    assert dict(zip(words, in_browser(troubled, read), strict=True)) == words


@pytest.mark.parametrize("instead", [None, nginx(503), nginx(413), (200, HTML, SIGN_IN)])
def test_news_that_does_not_come_through_leaves_the_page_and_says_that_it_may_be_old(
    troubled: Troubled, bobs_browser: Client, pending: Proposal, instead: Answer | None
) -> None:
    (address,) = troubled.answers
    seen = f"{address}?seen={pending.revision.digest[:16]}.pending_review"
    (good,) = rendered(bobs_browser, seen, headers={"HX-Request": "true"}).values()
    troubled.instead = instead
    nudge = "document.getElementById('review').dispatchEvent(new CustomEvent('nudge'))"

    def wait(page: Page) -> tuple[str, int, str]:
        page.goto(HOST + address)
        page.locator("#review[data-htmx-powered]").wait_for()
        page.evaluate(nudge)
        page.locator("#toasts .toast").wait_for(timeout=10_000)
        told, review = page.inner_text("#toasts"), page.inner_text("#review")
        page.evaluate(nudge)
        page.locator("#review:not(.htmx-request)").wait_for()
        num_toasts = page.locator("#toasts .toast").count()
        troubled.instead = good
        page.evaluate(nudge)
        page.locator("#toasts .toast").wait_for(state="detached", timeout=10_000)
        return told, num_toasts, review

    told, num_toasts, review = in_browser(troubled, wait)
    assert OLD in told
    assert num_toasts == 1, "said once, however often it is asked for"
    assert "nginx" not in review
    assert "Corp Proxy" not in review


def test_news_that_did_not_come_through_is_asked_for_again_when_nothing_nudges(
    troubled: Troubled, bobs_browser: Client, pending: Proposal
) -> None:
    (address,) = troubled.answers
    seen = f"{address}?seen={pending.revision.digest[:16]}.pending_review"
    (good,) = rendered(bobs_browser, seen, headers={"HX-Request": "true"}).values()
    troubled.instead = nginx(502)

    def wait(page: Page) -> None:
        page.clock.install()
        page.goto(HOST + address)
        page.locator("#review[data-htmx-powered]").wait_for()
        page.evaluate("document.getElementById('review').dispatchEvent(new CustomEvent('nudge'))")
        page.locator("#toasts .toast[data-old]").wait_for(timeout=10_000)
        page.locator("#review:not(.htmx-request)").wait_for()
        troubled.instead = good
        page.clock.run_for(20_000)
        page.locator("#toasts .toast").wait_for(state="detached", timeout=10_000)

    in_browser(troubled, wait)
    assert [what for what in troubled.asked if "?seen=" in what] == [f"GET {seen}"] * 2


@pytest.mark.parametrize("said", [b"{}", b"[]", b"null", b'"signed out"', b'{"seq": "1"}', SIGN_IN])
def test_what_is_no_frame_clears_no_curve(troubled: Troubled, said: bytes) -> None:
    """A poll while the socket is down, answered by a network that wants a sign-in."""
    (address,) = troubled.answers
    troubled.answers = {**troubled.answers, "/points?since=7": (200, {"Content-Type": "application/json"}, said)}

    def poll(page: Page) -> list[object]:
        page.goto(HOST + address)
        return page.evaluate(
            """async () => {
                const heard = [], words = [];
                const line = new Line({
                    path: '/live/x/', poll: '/points', since: 7, heard: f => heard.push(f), told: w => words.push(w),
                });
                await line.fallBack();
                await line.chain;
                return [heard, words.includes('stale'), line.since];
            }"""
        )

    assert in_browser(troubled, poll) == [[], True, 7]


def test_who_was_signed_out_is_led_to_the_door(troubled: Troubled) -> None:
    (address,) = troubled.answers
    (login,) = rendered(Client(), "/login/").values()
    troubled.answers = {**troubled.answers, "/login/?next=" + address: login}
    troubled.instead = (401, {"HX-Redirect": "/login/?next=" + address}, b"")

    def decide(page: Page) -> None:
        page.goto(HOST + address)
        page.locator("#review[data-htmx-powered]").wait_for()
        page.keyboard.press("a")
        page.wait_for_url("**/login/**", timeout=10_000)

    in_browser(troubled, decide)


def test_a_card_of_ours_still_says_why_in_place(troubled: Troubled) -> None:
    """Somebody was first, a right is missing: the part that tells so is ours, and belongs where it was asked for."""
    (address,) = troubled.answers
    troubled.instead = (
        409,
        {"Content-Type": "text/html; charset=utf-8", PART: "1"},
        b'<div class="empty"><h1>Somebody was first</h1></div>',
    )

    def decide(page: Page) -> None:
        page.goto(HOST + address)
        page.locator("#review[data-htmx-powered]").wait_for()
        page.keyboard.press("a")
        page.get_by_text("Somebody was first").wait_for(timeout=10_000)

    in_browser(troubled, decide)


def test_a_part_that_breaks_on_our_side_is_a_part_and_names_its_number(
    bobs_browser: Client, pending: Proposal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise RuntimeError("oops")

    monkeypatch.setattr("webapp.pages.campaigns.campaigns.render", broken)
    bobs_browser.raise_request_exception = False
    whole = bobs_browser.get("/campaigns/")
    part = bobs_browser.get("/campaigns/", headers={"HX-Request": "true"})
    assert (whole.status_code, part.status_code) == (500, 500)
    assert b"<html" in whole.content
    assert b"<html" not in part.content
    for answer in (whole, part):
        assert f"error {answer['Error-Number']}".encode() in answer.content


@pytest.mark.parametrize("width", [1440, 390])
def test_what_is_said_can_be_put_away_and_never_lies_over_what_decides(troubled: Troubled, width: int) -> None:
    (address,) = troubled.answers
    troubled.instead = nginx(502)

    def decide(page: Page) -> tuple[bool, int]:
        page.goto(HOST + address)
        page.locator("#review[data-htmx-powered]").wait_for()
        page.keyboard.press("a")
        page.locator("#toasts .toast").wait_for()
        over = page.evaluate(
            "document.querySelector('.toast').getBoundingClientRect().bottom >"
            " document.querySelector('.decide').getBoundingClientRect().top"
            " && document.querySelector('.toast').getBoundingClientRect().top <"
            " document.querySelector('.decide').getBoundingClientRect().bottom"
        )
        page.get_by_role("button", name="Dismiss").click()
        return over, page.locator("#toasts .toast").count()

    assert in_browser(troubled, decide, width=width) == (False, 0)
