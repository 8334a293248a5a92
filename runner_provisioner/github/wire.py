"""GitHub's REST API on our own HTTP session: headers, errors, pages."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runner_provisioner._http import HttpSession, Retry
from runner_provisioner.errors import REMOTE_TEXT_LIMIT, ProtocolViolation, RemoteError, ServiceUnavailable
from runner_provisioner.github.errors import SERVICE, Reply, Speaker, error_of
from runner_provisioner.github.fields import Fields

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from runner_provisioner._http import Answer, Plumbing

API_VERSION = "2022-11-28"
PER_PAGE = 100  # GitHub's maximum
_MOST_PAGES = 500
_READINGS = 3  # of a list that changes while it is read
_NEXT = re.compile(r'<[^>]*[?&]page=(\d+)[^>]*>\s*;\s*rel="next"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Bearer:
    """A token to call with, and whose it is.

    Until `settled_at` (monotonic seconds) a refusal may only mean that the token has not reached every server of
    GitHub yet.
    """

    token: str = field(repr=False)
    speaker: Speaker
    settled_at: float = 0.0


class GitHubApi:
    """One GitHub: every call carries the API version and ends as an answer or as a typed error."""

    def __init__(self, *, api_url: str, plumbing: Plumbing) -> None:
        """InvalidRequest unless `api_url` is https (http to loopback alone)."""
        self._session = HttpSession(service=SERVICE, base_url=api_url, plumbing=plumbing)
        self.url = self._session.base_url
        self.clock = plumbing.clock
        self.redactor = plumbing.redactor

    async def call(
        self,
        operation: str,
        method: str,
        path: str,
        *,
        bearer: Bearer,
        json: object | None = None,
        params: Mapping[str, str | int] | None = None,
        accepted: Collection[int] = (),
        retry: Retry = Retry.IDEMPOTENT,
    ) -> Answer:
        """Send it; statuses in `accepted` are returned like a success.

        By default a call may be repeated without harm: a second token is as good as the first.
        """

        def classify(answer: Answer) -> RemoteError | None:
            return None if answer.status in accepted else self._error(operation, answer, bearer)

        return await self._session.send(
            operation,
            method,
            path,
            json=json,
            params=params,
            headers={
                "Accept": "application/vnd.github+json",
                "Authorization": f"Bearer {bearer.token}",
                "X-GitHub-Api-Version": API_VERSION,
            },
            retry=retry,
            classify=classify,
            variables={"path": path, **(params or {})},
        )

    async def pages(
        self, operation: str, path: str, key: str, *, bearer: Bearer, params: Mapping[str, str | int] | None = None
    ) -> list[Fields]:
        """All elements of the list called `key`, over all pages.

        When one goes while the pages are read, the next page begins one later and skips one that is there. So a list
        whose count has changed is read again; one that never holds still gives all that any reading showed.
        """
        shown: dict[int, Fields] = {}
        for _ in range(_READINGS):
            found, steady = await self._read_pages(operation, path, key, bearer=bearer, params=params)
            if steady:
                return found
            shown |= {element.number("id"): element for element in found}
        return list(shown.values())

    async def _read_pages(
        self, operation: str, path: str, key: str, *, bearer: Bearer, params: Mapping[str, str | int] | None
    ) -> tuple[list[Fields], bool]:
        """One reading of all pages, and whether the count was the same on all of them."""
        found: list[Fields] = []
        counts: set[int] = set()
        page = 1
        while page <= _MOST_PAGES:
            asked = {**(params or {}), "per_page": PER_PAGE, "page": page}
            answer = await self.call(operation, "GET", path, bearer=bearer, params=asked)
            body = read(operation, answer)
            elements = body.objects(key)
            found += elements
            counts |= {body.number("total_count")} if elements or page > 1 else set()
            following = _next_page(answer, page, more=bool(elements) and len(found) < max(counts))
            if following is None:
                return found, len(counts) <= 1
            page = following
        raise ProtocolViolation(
            f"GitHub's list did not end after {_MOST_PAGES} pages: report this", service=SERVICE, operation=operation
        )

    def say(self, text: str) -> str:
        """Make remote text fit for a message: redacted, one line, cut."""
        return self.redactor.one_line(text, REMOTE_TEXT_LIMIT)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._session.aclose()

    def _error(self, operation: str, answer: Answer, bearer: Bearer) -> RemoteError | None:
        # octokit/auth-app.js: a token a few seconds old is at times refused by a server that does not know it yet.
        if answer.status == 401 and self.clock.monotonic() < bearer.settled_at:  # noqa: PLR2004 - HTTP's own number
            message = "GitHub does not know its own new token yet: try again"
            return ServiceUnavailable(message, service=SERVICE, operation=operation, request_id=answer.request_id)
        reply = Reply(
            operation=operation,
            status=answer.status,
            headers=answer.headers,
            message=self._message(answer),
            request_id=answer.request_id,
        )
        return error_of(reply, speaker=bearer.speaker, now=self.clock.now())

    def _message(self, answer: Answer) -> str:
        try:
            body = answer.json()
        except ProtocolViolation:
            return self.say(answer.excerpt())
        message = body.get("message") if isinstance(body, dict) else None
        return self.say(message if isinstance(message, str) else answer.excerpt())


def read(operation: str, answer: Answer) -> Fields:
    """The object in the answer; ProtocolViolation when there is none."""
    return Fields(answer.json(), operation=operation, request_id=answer.request_id)


def _next_page(answer: Answer, page: int, *, more: bool) -> int | None:
    # Only the page's number is taken from Link: behind a proxy its host may not be the one we may send a token to.
    link = answer.headers.get("link")
    if link is None:
        return page + 1 if more else None
    found = _NEXT.search(link)
    return max(int(found[1]), page + 1) if found else None
