"""Whatever arrives, the adapter answers with a typed error or a reading, never with a crash."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from runner_provisioner._http import Answer
from runner_provisioner.errors import ProtocolViolation, RunnerProvisionerError
from runner_provisioner.providers.runpod.failures import Reader
from runner_provisioner.providers.runpod.moments import moment
from runner_provisioner.providers.runpod.states import to_pod
from runner_provisioner.providers.runpod.wire import WirePod, parse
from runner_provisioner.testing.clock import FakeClock

READER = Reader(redact=lambda text: text, now=FakeClock().now)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12)
NAMES = st.sampled_from(["errors", "message", "extensions", "code", "resetAt", "data", "error", "detail", "title", "x"])
BODIES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4))
FIELDS = st.sampled_from([field.alias or name for name, field in WirePod.model_fields.items()])
PARTS = st.sampled_from(["ip", "privatePort", "publicPort", "ports", "gpus", "time", "state", "container"])
PODS = st.dictionaries(
    FIELDS,
    st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(PARTS, inner, max_size=3)),
    max_size=6,
)


@given(status=st.integers(100, 599), body=BODIES)
def test_any_answer_is_an_error_of_ours_or_none(status: int, body: object) -> None:
    """One line each; a good status without complaints is none."""
    error = READER.error(Answer(status=status, body=json.dumps(body).encode()), "op")
    assert error is None or isinstance(error, RunnerProvisionerError)
    assert error is None or len(str(error).splitlines()) == 1
    assert error is not None or 200 <= status < 300


@given(status=st.integers(200, 599), body=st.binary(max_size=40))
def test_any_bytes_are_an_error_of_ours_or_none(status: int, body: bytes) -> None:
    """Proxies answer anything."""
    error = READER.error(Answer(status=status, body=body), "op")
    assert error is None or isinstance(error, RunnerProvisionerError)


@given(raw=PODS)
def test_any_pod_is_read_or_refused(raw: dict[str, object]) -> None:
    """A wrong shape is a violation, nothing else; a right one has a state or is gone."""
    try:
        pod = to_pod(parse(WirePod, {"id": "p", **raw}, "pod"))
    except ProtocolViolation:
        return
    assert pod is None or pod.state


@given(text=st.text(max_size=40) | st.datetimes(timezones=st.timezones()).map(lambda when: when.isoformat()))
def test_any_text_is_a_moment_in_utc_or_none(text: str) -> None:
    """Never a naive one."""
    found = moment(text)
    assert found is None or found.utcoffset() is not None
