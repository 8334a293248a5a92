"""What Prime Intellect says when it refuses.

Of these, `MAX_PRICE_MISSING` was seen (prime#141); of the others only words that clients look for are relied on:
"not available" is a lack of capacity (SkyPilot 0.14.1), statuses 401, 402 and 422 have meanings of their own.
"""

from __future__ import annotations

from runner_provisioner.simulators.market.rest import Refusal

NO_CAPACITY = "No capacity: the requested GPU configuration is not available. Please try another one."
TOO_DEAR = "The requested configuration is not available at max price {}."
MAX_PRICE_MISSING = "Missing field: max_price not specified"
UNAUTHORIZED = "Invalid or missing API key"
NO_PERMISSION = "API key does not have the permission {}"
NO_FUNDS = "Insufficient funds in wallet. Please add funds to continue."
NOT_FOUND = "Pod not found"
TOO_MANY = "Rate limit exceeded. Please try again later."
INTERNAL = "Internal server error"


def refuse(status: int, detail: object) -> Refusal:
    """In the only envelope there is."""
    return Refusal(status, {"detail": detail})


def invalid(where: str, message: str, kind: str = "value_error") -> Refusal:
    """As FastAPI says that a field is wrong; `where` has dots."""
    return refuse(422, [{"loc": where.split("."), "msg": message, "type": kind}])
