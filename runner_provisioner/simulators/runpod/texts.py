"""What RunPod says when it refuses: the texts of real answers, gathered from clients and issue threads."""

from __future__ import annotations

from typing import Any

NO_STOCK = (
    "There are no longer any instances available with the requested specifications. Please refresh and try again."
)
NO_STOCK_SPOT = "There are no longer any instances available with the request specifications. Please try again later."
NO_STOCK_RIGHT_NOW = "There are no instances available with the request specifications. Please try again later."
NO_INSTANCES = "There are no instances currently available."
NO_DISK = "There are no longer any instances available with enough disk space."
HOST_TOO_SMALL = "This machine does not have the resources to deploy your pod. Please try a different machine"
OVER_CONSTRAINED = "could not find any pods with required specifications"
HOST_FULL = "There are not enough free GPUs on the host machine to start this pod."
SPOT_GONE = "Spot pods are no longer offered"
WRONG_RESUME = "Cannot resume a spot pod as an on demand pod."
NOT_FOUND_TO_TERMINATE = "pod not found to terminate"
NOT_FOUND = "pod not found"
INTERNAL = "Something went wrong. Please try again later or contact support."
TOO_MANY = "Too many requests, please try again later."
# No transcript of the next ones is public; only their words "balance", "funds" and "spend limit" are relied on.
LOW_BALANCE = "Your account balance is too low to rent this pod: one hour of its price is required. Please add funds."
SPEND_LIMIT = "This pod would exceed your account's spend limit."
WRONG_BID_RESUME = "Cannot resume an on demand pod as a spot pod."
TOO_MUCH_ENV = "A pod can have at most 50 environment variables."
NO_MIG = "GPU type {} cannot be rented."
UNAUTHORIZED = "Unauthorized"
NO_PERMISSION = "This API key does not have permission to perform this action."
# No transcript is public; only the status is relied on.
RETIRED = "The GraphQL API has been retired. Please use the REST API at https://api.runpod.io/v2."

RUNPOD_CODE = "RUNPOD"
INTERNAL_CODE = "INTERNAL_SERVER_ERROR"


class Refused(Exception):
    """A business error: HTTP 200 with `errors[]`."""

    def __init__(self, message: str, code: str = RUNPOD_CODE) -> None:
        super().__init__(message)
        self.extensions: dict[str, Any] = {"code": code}


class HttpRefused(Exception):
    """An error that shows in the HTTP status of the whole answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
