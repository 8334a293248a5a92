"""The one door to PyGithub: it reads and pages, our own HTTP session carries every request it makes.

So its requests have the same deadlines, pins, proxies, records, retries and errors as all others, and none of the
retries, throttle sleeps and unbounded rate-limit waits that PyGithub would add by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar, cast
from urllib.parse import urlsplit

import anyio.from_thread
import anyio.to_thread

from runner_provisioner.errors import ProtocolViolation
from runner_provisioner.github.errors import SERVICE
from runner_provisioner.github.wire import API_VERSION, PER_PAGE

if TYPE_CHECKING:
    from collections.abc import Callable, ItemsView

    from github.Requester import HTTPRequestsConnectionClass, Requester

    from runner_provisioner._http import Answer, Retry
    from runner_provisioner.github.wire import Bearer, GitHubApi

T = TypeVar("T")
_STILL_WORKING = 202


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """One piece of work for PyGithub, done in a worker thread as `operation`."""

    operation: str
    api: GitHubApi
    bearer: Bearer
    retry: Retry

    async def run(self, work: Callable[[Requester], T]) -> T:
        """Do the work; every failure is a RemoteError. Cancelling it cancels the request under way."""
        return await anyio.to_thread.run_sync(partial(self._run, work), abandon_on_cancel=True)

    def _run(self, work: Callable[[Requester], T]) -> T:
        import github  # noqa: PLC0415 - costs 0.7 s: only who asks about runs pays for it

        try:
            return work(self._requester())
        except (
            github.GithubException,
            github.BadAttributeException,
            AssertionError,  # how PyGithub refuses an address of another host, and a field of another type
            RuntimeError,
            LookupError,
            TypeError,
            ValueError,
        ) as error:
            why = self.api.say(f"{type(error).__name__}: {error}")
            message = f"GitHub's answer to {self.operation} is not what its documentation says ({why})"
            raise ProtocolViolation(message, service=SERVICE, operation=self.operation) from None

    def _requester(self) -> Requester:
        from github.Requester import Requester  # noqa: PLC0415 - see above

        # A class of its own for each errand: the connection is an attribute of the class.
        own = type("ErrandRequester", (Requester,), {})
        connection = cast("type[HTTPRequestsConnectionClass]", partial(Carrier, self))
        own.injectConnectionClasses(connection, connection)  # type: ignore[attr-defined]
        made = own(
            auth=None,
            base_url=self.api.url,
            timeout=1,
            user_agent="",
            per_page=PER_PAGE,
            verify=True,
            retry=None,
            pool_size=None,
            seconds_between_requests=None,
            seconds_between_writes=None,
            lazy=True,
            api_version=API_VERSION,
        )
        return cast("Requester", made)


class Carrier:
    """What PyGithub takes for a connection: it hands each request to the event loop and waits for the answer."""

    def __init__(self, errand: Errand, host: str, port: int | None = None, **_settings: object) -> None:
        """`host` and `port` are PyGithub's wish; requests go to the one address of the errand in any case."""
        self.host = host
        self.port = port
        self._errand = errand
        self._order = ("", "")

    def request(
        self,
        verb: str,
        url: str,
        _input: object,
        _headers: object,
        stream: bool = False,  # noqa: FBT001, FBT002, ARG002 - PyGithub's signature
    ) -> None:
        """Remember what to send; none of the orders used here has a body."""
        self._order = (verb, url)

    def getresponse(self) -> Carried:
        """Send it; a refusal is raised as our own error, straight through PyGithub."""
        verb, url = self._order
        errand = self._errand
        parts = urlsplit(errand.api.url)
        send = partial(
            errand.api.call,
            errand.operation,
            verb,
            f"{parts.scheme}://{parts.netloc}{url}",
            bearer=errand.bearer,
            retry=errand.retry,
        )
        answer = anyio.from_thread.run(send)
        if verb == "GET" and answer.status == _STILL_WORKING:
            # PyGithub would sleep and ask again, without end.
            raise ValueError("202 where an answer was expected")
        return Carried(answer)

    def close(self) -> None:
        """Nothing is held."""


class Carried:
    """An answer in the shape that PyGithub reads."""

    def __init__(self, answer: Answer) -> None:
        """The whole answer, read already."""
        self.status = answer.status
        self._answer = answer

    def getheaders(self) -> ItemsView[str, str]:
        """Names and values."""
        return dict(self._answer.headers).items()

    def read(self) -> str:
        """The body."""
        return self._answer.body.decode("utf-8", "replace")
