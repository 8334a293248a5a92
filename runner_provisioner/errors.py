"""Every error this package raises, by what its reader does about it.

```
RunnerProvisionerError
  ConfigurationError      MissingCredential UnknownProvider InvalidRequest UnknownGpu UntrustedEvent
  RemoteError(service, operation, request_id, code)
      TransientError      ServiceUnavailable(ServerError Timeout Unreachable) RateLimited(retry_after)
      AuthenticationFailed PermissionDenied ProtocolViolation ApiRetired
      ProviderError       CapacityUnavailable OfferGone OfferUnfit BidTooLow InsufficientFunds SpotDiscontinued
                          CreateOutcomeUnknown NotFound
      GitHubError         RunnerNameTaken RunnerBusy JobStillRunning RunnerGroupInvisible
      SshFailed           HostKeyChanged LoginRefused
  OutOfTime               what was waited for, or a remote command, did not end in time
  ProvisioningFailed      AllOffersFailed(attempts) BootTimeout BudgetExceeded KeyInUse Cancelled(Stopped)
  PodInterrupted          the provider took a pod back before its job was done
  LeftBehind              something that was to be ended is still there
  StoreError              StaleWrite LeadershipLost
  JobFailed               a job that `demo` played failed
  OutsideSchema           `demo` saw a call that GitHub's schema does not know
  WorkflowFaults          the workflow check found what breaks or leaks
  OutputLost              the result could not be written to standard output
```

A message is one line that names what was wrong and what to do next. Text that came from a remote service is
cut to `REMOTE_TEXT_LIMIT` characters and redacted by whoever builds the error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

REMOTE_TEXT_LIMIT = 256


class RunnerProvisionerError(Exception):
    """Base of everything raised on purpose; `exit_code` is what the command line ends with.

    `about` is what of the caller's is at fault, by the name of its option without the dashes; "" where nobody can tell.
    """

    exit_code: ClassVar[int] = 1
    about: str = ""


ErrorT = TypeVar("ErrorT", bound=RunnerProvisionerError)


def about(option: str, error: ErrorT) -> ErrorT:
    """The error, and what of the caller's it is about."""
    error.about = option
    return error


class ConfigurationError(RunnerProvisionerError):
    """The caller can fix it by changing an option, a variable or a file."""

    exit_code = 2


class MissingCredential(ConfigurationError):
    """No credential was found in any of the places that are looked at."""

    exit_code = 3


class UnknownProvider(ConfigurationError):
    """The provider's name is not one of ours."""


class InvalidRequest(ConfigurationError):
    """The request can never succeed as it stands."""


class UnknownGpu(InvalidRequest):
    """No provider lists this GPU model; the message names the nearest."""

    exit_code = 7
    about = "gpu"


class UntrustedEvent(ConfigurationError):
    """The workflow run belongs to an event that strangers can shape, and nobody allowed that."""

    exit_code = 8


class RemoteError(RunnerProvisionerError):
    """A remote service answered, or failed to answer, in a way that ends the operation."""

    exit_code = 10

    def __init__(
        self,
        message: str,
        *,
        service: str = "",
        operation: str = "",
        request_id: str | None = None,
        code: str | None = None,
    ) -> None:
        """Keep where it happened: `service`, `operation`, the service's `request_id` and its own error `code`."""
        super().__init__(message)
        self.service = service
        self.operation = operation
        self.request_id = request_id
        self.code = code


class TransientError(RemoteError):
    """The same call may succeed later; the next pass is the retry.

    `retry_after` is how many seconds the service asks to wait, None when it did not say.
    """

    exit_code = 11
    retry_after: float | None = None


class ServiceUnavailable(TransientError):
    """The service could not be used at all."""


class ServerError(ServiceUnavailable):
    """The service answered that it failed (5xx, or an internal error in a 200)."""


class Timeout(ServiceUnavailable):
    """No answer in time (code NETWORK_TIMEOUT)."""


class Unreachable(ServiceUnavailable):
    """No connection.

    `arrived` is False when the request provably never left (DNS, refused connection, TLS handshake), so that even
    a *create* may be sent again; True when a connection that had carried the request broke.
    """

    def __init__(
        self,
        message: str,
        *,
        service: str = "",
        operation: str = "",
        request_id: str | None = None,
        code: str | None = None,
        arrived: bool = False,
    ) -> None:
        """Like `RemoteError`, plus whether the request may have arrived."""
        super().__init__(message, service=service, operation=operation, request_id=request_id, code=code)
        self.arrived = arrived


class RateLimited(TransientError):
    """Too many requests; `retry_after` is in seconds, None when the service did not say."""

    def __init__(
        self,
        message: str,
        *,
        service: str = "",
        operation: str = "",
        request_id: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        """Like `RemoteError`, plus how long the service asks to wait."""
        super().__init__(message, service=service, operation=operation, request_id=request_id, code=code)
        self.retry_after = retry_after


class AuthenticationFailed(RemoteError):
    """The credential was refused."""

    exit_code = 4


class PermissionDenied(RemoteError):
    """The credential is valid and lacks a permission; the message names it where the service does."""

    exit_code = 5


class ProtocolViolation(RemoteError):
    """The service answered something that its documentation does not allow."""

    exit_code = 12


class ApiRetired(RemoteError):
    """This generation of the service's API has been switched off (410)."""

    exit_code = 12


class ProviderError(RemoteError):
    """A provider of machines said no, and the same request will not succeed by waiting."""


class CapacityUnavailable(ProviderError):
    """Nothing that fits is for rent right now; the next offer may be."""

    exit_code = 20


class OfferGone(CapacityUnavailable):
    """This very offer was taken by somebody else."""


class OfferUnfit(CapacityUnavailable):
    """The offer does not meet what was asked for, or there is none; nothing was sent.

    `option` is the one that keeps it out, as it would be written; empty where there is no offer.
    """

    def __init__(
        self, message: str, *, option: str = "", service: str = "", operation: str = "", code: str | None = None
    ) -> None:
        """Keep the option, and where it happened."""
        super().__init__(message, service=service, operation=operation, code=code)
        self.option = option


class NoKillTime(OfferUnfit):
    """The provider ends no forgotten pod by itself, and nobody has accepted that; nothing was sent."""


class BidTooLow(ProviderError):
    """The bid is under the market's minimum."""

    exit_code = 21


class InsufficientFunds(ProviderError):
    """The account's balance or spend limit does not allow the pod."""

    exit_code = 22


class SpotDiscontinued(ProviderError):
    """The provider no longer sells interruptible pods."""

    exit_code = 23


class CreateOutcomeUnknown(ProviderError):
    """A pod may or may not have been rented: look it up by name before anything else."""


class NotFound(ProviderError):
    """No such thing at the provider."""

    exit_code = 6


class GitHubError(RemoteError):
    """GitHub said no."""


class RunnerNameTaken(GitHubError):
    """A runner of that name is registered already."""


class RunnerBusy(GitHubError):
    """The runner is running a job, or GitHub still believes so (422)."""


class JobStillRunning(GitHubError):
    """A rerun was asked for while the attempt still runs (403)."""


class RunnerGroupInvisible(GitHubError):
    """The organisation's runner group does not exist or the repository may not use it."""

    exit_code = 2


class SshFailed(RemoteError):
    """No SSH connection to the pod, or it broke; as OpenSSH ends, so that a remote command's own codes stay apart."""

    exit_code = 255


class HostKeyChanged(SshFailed):
    """Whoever answers at the pod's address has not the host key that the pod was given."""


class LoginRefused(SshFailed):
    """The pod's SSH server accepts none of the keys there are."""


class OutOfTime(RunnerProvisionerError):
    """What was waited for did not come within --timeout; a remote command was ended (the code of timeout(1))."""

    exit_code = 124


class ProvisioningFailed(RunnerProvisionerError):
    """No runner came of it; nothing is left running."""

    exit_code = 24


class AllOffersFailed(ProvisioningFailed):
    """Every offer was refused; `attempts` says which and why, in the order they were tried."""

    exit_code = 20

    def __init__(self, message: str, *, attempts: Sequence[tuple[str, str]] = ()) -> None:
        """`attempts` holds (offer, reason) pairs."""
        super().__init__(message)
        self.attempts = tuple(attempts)


class BootTimeout(ProvisioningFailed):
    """A pod was rented and its runner did not come online in time; the pod was taken down."""

    exit_code = 24


class BudgetExceeded(ProvisioningFailed):
    """Every offer costs more than the caller allows; the message names the cheapest."""

    exit_code = 25


class KeyInUse(ProvisioningFailed):
    """This run already has a pod with this key, made by another start; nothing was ended."""

    exit_code = 26


class Cancelled(ProvisioningFailed):
    """A signal, or a stop from elsewhere, ended the start; what was rented has been given back."""

    exit_code = 130


class Stopped(Cancelled):
    """A `stop` elsewhere ended a start that was under way; what was rented has been given back."""


class PodInterrupted(RunnerProvisionerError):
    """The provider took the pod back before its job was done; `watch` fails with it, so that a re-run repeats it."""


class LeftBehind(RunnerProvisionerError):
    """A pod or a runner that was to be ended is still there; `what` names each."""

    exit_code = 30

    def __init__(self, message: str, *, what: Sequence[str] = ()) -> None:
        """`what` holds one line for each thing that is left."""
        super().__init__(message)
        self.what = tuple(what)


class StoreError(RunnerProvisionerError):
    """The state on disk could not be read or written."""

    exit_code = 40


class StaleWrite(StoreError):
    """Somebody else wrote in between."""


class LeadershipLost(StoreError):
    """Another replica leads now."""


class JobFailed(RunnerProvisionerError):
    """A job that `demo` played failed, or was not played to its end; nothing is left of it."""

    exit_code = 50


class OutsideSchema(RunnerProvisionerError):
    """The simulated GitHub saw a request, or gave an answer, that GitHub's published schema does not know."""

    exit_code = 51


class WorkflowFaults(RunnerProvisionerError):
    """The workflow check found what breaks or leaks; the findings have been shown."""

    exit_code = 60


class OutputLost(RunnerProvisionerError):
    """The result could not be written to standard output: its reader has gone, or its disk is full."""

    exit_code = 74
