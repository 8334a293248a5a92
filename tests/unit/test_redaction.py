"""Nothing that is secret comes out of a redactor."""

from __future__ import annotations

import asyncio
import base64
import contextvars
import html
import json
import re
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from types import FrameType
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner_provisioner._redaction import _RULES, MASK, MIN_SECRET, Redactor, hide, hiding, looks_secret

SECRET = "s3cr3t/with+odd chars\"'&%é"
SECRETS = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs"], exclude_characters="[]"), min_size=MIN_SECRET, max_size=60
).filter(lambda text: len(text.strip()) >= MIN_SECRET and text.strip() not in MASK)
AROUND = st.text(st.characters(codec="ascii", categories=["Lu", "Zs"], exclude_characters="MASKED"), max_size=20)

FORMS: dict[str, Callable[[str], str]] = {
    "plain": lambda text: text,
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 without padding": lambda text: base64.b64encode(text.encode()).decode().rstrip("="),
    "url-safe base64": lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
    "hex": lambda text: text.encode().hex(),
    "upper hex": lambda text: text.encode().hex().upper(),
    "json": lambda text: json.dumps(text)[1:-1],
    "json utf-8": lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    "url": quote,
    "url component": lambda text: quote(text, safe=""),
    "form": quote_plus,
    "html": html.escape,
    "repr": lambda text: repr(text)[1:-1],
    "bytes repr": lambda text: repr(text.encode())[2:-1],
}

PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA7\nq2Zk3v9yXw==\n-----END RSA PRIVATE KEY-----"
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiIxMjM0NSJ9.c2lnbmF0dXJlLXBhcnQ"


@settings(max_examples=150, deadline=None)
@given(secret=SECRETS, form=st.sampled_from(sorted(FORMS)), before=AROUND, after=AROUND)
def test_planted_secret_never_survives(secret: str, form: str, before: str, after: str) -> None:
    """Whatever the secret and whichever form it travels in, neither redact nor scrub lets it through."""
    secret = secret.strip()
    planted = FORMS[form](secret)
    redactor = Redactor([secret])
    text = before + planted + after
    assert planted not in redactor.redact(text)
    scrubbed = redactor.scrub({"a": [text, {"b": (text, text.encode())}], text: {text}})
    assert planted not in json.dumps(scrubbed, ensure_ascii=False)
    assert planted not in repr(scrubbed)


@settings(max_examples=100, deadline=None)
@given(secret=SECRETS, before=st.binary(max_size=7), after=st.binary(max_size=7))
def test_base64_of_something_longer_hides_the_secret_in_it(secret: str, before: bytes, after: bytes) -> None:
    """A secret inside a script that was encoded as a whole cannot be decoded from what is left."""
    raw = secret.strip().encode()
    encoded = base64.b64encode(before + raw + after).decode()
    left = Redactor([secret]).redact(encoded)
    assert MASK in left
    # What is left beside the mask holds at most the bits that neighbours share with the secret's ends.
    head, _, tail = left.partition(MASK)
    assert len(head) + len(tail) <= -(-len(before) * 8 // 6) + -(-len(after) * 8 // 6) + 4


def test_secret_of_several_lines_is_masked_line_by_line() -> None:
    """An exception group's margin between the lines of a key does not save them."""
    redactor = Redactor([PEM])
    text = "\n".join("  | " + line for line in PEM.splitlines()[1:-1])
    assert "MIIEpAIBAAKCAQEA7" not in redactor.redact(text)
    assert "q2Zk3v9yXw" not in redactor.redact(text)


def test_short_secret_is_masked_as_a_whole_word_only() -> None:
    """A mask of three letters must not eat the words that contain them."""
    redactor = Redactor(["abc", "xy"])
    assert redactor.redact("abc abcd dabc (abc) xy") == f"{MASK} abcd dabc ({MASK}) {MASK}"


def test_blank_secret_is_ignored_and_white_space_is_no_part_of_one() -> None:
    """A file's last line end is not part of the key; nothing at all masks nothing."""
    redactor = Redactor(["", "  \n", " sesame-open \n"])
    assert redactor.redact("a  b sesame-open") == f"a  b {MASK}"
    assert repr(redactor) == "Redactor(1 secrets)"


def test_new_secret_is_announced_once() -> None:
    """Whoever masks elsewhere is told each secret a single time, before add returns."""
    told: list[str] = []
    redactor = Redactor(on_secret=told.append)
    redactor.add("sesame-open")
    redactor.add(" sesame-open ")
    redactor.add("other-secret")
    assert told == ["sesame-open", "other-secret"]


@pytest.mark.parametrize(
    ("text", "leak"),
    [
        pytest.param("ghp_" + "a1B2" * 9, "a1B2a1B2", id="classic token"),
        pytest.param("gho_" + "a1B2" * 9, "a1B2a1B2", id="oauth token"),
        pytest.param("ghu_" + "a1B2" * 9, "a1B2a1B2", id="user token"),
        pytest.param("ghr_" + "a1B2" * 9, "a1B2a1B2", id="refresh token"),
        pytest.param("ghs_" + "a1B2" * 9, "a1B2a1B2", id="short installation token"),
        pytest.param(f"ghs_12345_{JWT}", "c2lnbmF0dXJl", id="long installation token"),
        pytest.param("github_pat_" + "a1B2_" * 12, "a1B2_a1B2", id="fine-grained token"),
        pytest.param("GHRT_1234567890abcdef", "1234567890", id="registration token of the guide"),
        pytest.param("rpa_" + "A1B2C3D4E5" * 4, "A1B2C3D4E5", id="RunPod key"),
        pytest.param("pit_" + "a1b2c3d4e5" * 4, "a1b2c3d4e5", id="Prime key"),
        pytest.param(f"jwt {JWT}", "c2lnbmF0dXJl", id="JWT"),
        pytest.param(PEM, "MIIEpAIBAAKCAQEA7", id="PEM"),
        pytest.param(PEM.replace("\n", "\\n"), "MIIEpAIBAAKCAQEA7", id="PEM with literal line ends"),
        pytest.param(PEM[:60], "MIIEpAIBAAKCAQEA7", id="PEM without its end"),
        pytest.param(base64.b64encode(PEM.encode()).decode(), base64.b64encode(PEM.encode()).decode()[30:], id="PEM64"),
        pytest.param("Authorization: Bearer opaque-value-1", "opaque-value-1", id="header"),
        pytest.param("authorization: token opaque-value-1", "opaque-value-1", id="header with token"),
        pytest.param("{'Authorization': 'Bearer opaque-value-1'}", "opaque-value-1", id="headers as a dict"),
        pytest.param("[(b'Authorization', b'Bearer opaque-value-1')]", "opaque-value-1", id="headers as bytes"),
        pytest.param("[(b'authorization', b'opaque-value-1')]", "opaque-value-1", id="header without scheme"),
        pytest.param("https://api.example/graphql?api_key=opaque-value-1&x=1", "opaque-value-1", id="query"),
        pytest.param("http://user:opaque-value-1@proxy:3128/", "opaque-value-1", id="userinfo"),
        pytest.param("export RUNPOD_API_KEY='opaque value 1'", "opaque value", id="assignment"),
        pytest.param("MY_SECRET=opaque-value-1;", "opaque-value-1", id="bare assignment"),
        pytest.param('{"token": "opaque-value-1", "a": 1}', "opaque-value-1", id="JSON"),
        pytest.param('{"dockerArgs": "bash -c \\"opaque-value-1\\""}', "opaque-value-1", id="JSON with quotes in it"),
        pytest.param('"{\\"encoded_jit_config\\": \\"opaque-value-1\\"}"', "opaque-value-1", id="JSON in JSON"),
        pytest.param('{"token": "opaque-value-1', "opaque-value-1", id="JSON that was cut"),
    ],
)
def test_what_looks_like_a_credential_is_masked_unasked(text: str, leak: str) -> None:
    """Nobody has to register a credential whose form or whose name gives it away."""
    redacted = Redactor().redact(f"before {text} after")
    assert leak not in redacted
    assert MASK in redacted
    assert redacted.startswith("before ")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("runner rp-0123abcd-x-1-default is online", id="names"),
        pytest.param("https://api.runpod.io/graphql?x=1 answered 200", id="address"),
        pytest.param("the token was refused; set GITHUB_TOKEN", id="talk about tokens"),
        pytest.param("PUBLIC_KEY=ssh-ed25519 AAAAC3Nza", id="public key"),
        pytest.param('{"gpuTypeId": "NVIDIA RTX A4000", "count": 1}', id="JSON"),
        pytest.param("GITHUB_TOKEN = unset", id="spaces"),
    ],
)
def test_ordinary_text_is_left_alone(text: str) -> None:
    """A redactor that masks everything would be no help to anybody."""
    assert Redactor().redact(text) == text


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("Authorization", True),
        ("registration_token", True),
        ("RUNPOD_API_KEY", True),
        ("apiKey", True),
        ("sshPrivateKey", True),
        ("HOST_KEY", True),
        ("password", True),
        ("client_secret", True),
        ("dockerArgs", True),
        ("docker_args", True),
        ("encoded_jit_config", True),
        ("Set-Cookie", True),
        ("PUBLIC_KEY", False),
        ("publicKey", False),
        ("key", False),
        ("credential_source", False),
        ("token_expires_at", False),
        ("private_key_path", False),
        ("monkey", False),
        ("gpuTypeId", False),
    ],
)
def test_names_tell_which_values_are_secret(name: str, secret: bool) -> None:  # noqa: FBT001 - what the table says
    """Words of a name decide, in any of the usual spellings."""
    assert looks_secret(name) is secret


def test_scrub_masks_under_secret_names_however_deep() -> None:
    """Variables of a create hold secrets in maps, in lists of pairs and in lists of assignments."""
    scrubbed = Redactor().scrub(
        {
            "input": OrderedDict(
                env=[
                    {"key": "RUNPOD_API_KEY", "value": "opaque-1"},
                    {"key": "PUBLIC_KEY", "value": "ssh-ed25519 AAAA"},
                    {"name": "A_TOKEN", "value": "opaque-2"},
                    "B_SECRET=opaque-3",
                ],
                dockerArgs={"cmd": ["opaque-4"]},
                gpuCount=1,
            ),
            "headers": {"Authorization": "Bearer opaque-5", "X-Token": "opaque-6", "Accept": "*/*"},
            "token": None,
            "has_token": True,
            "password": 1234567,
        }
    )
    assert "opaque" not in json.dumps(scrubbed)
    assert scrubbed == {
        "input": {
            "env": [
                {"key": "RUNPOD_API_KEY", "value": MASK},
                {"key": "PUBLIC_KEY", "value": "ssh-ed25519 AAAA"},
                {"name": "A_TOKEN", "value": MASK},
                f"B_SECRET={MASK}",
            ],
            "dockerArgs": MASK,
            "gpuCount": 1,
        },
        "headers": {"Authorization": f"Bearer {MASK}", "X-Token": MASK, "Accept": "*/*"},
        "token": None,
        "has_token": True,
        "password": MASK,
    }


def test_scrub_takes_whatever_it_is_given() -> None:
    """Numbers that are a secret, objects, exceptions, broken reprs and endless nesting."""

    class Broken:
        """Has no usable repr."""

        def __repr__(self) -> str:
            raise RuntimeError("sesame-open")

    endless: list[object] = []
    endless.append(endless)
    redactor = Redactor(["12345678", "sesame-open"])
    assert redactor.scrub(12345678) == MASK
    assert redactor.scrub(1.5) == 1.5
    assert redactor.scrub(ValueError("sesame-open")) == f"ValueError: {MASK}"
    assert redactor.scrub(datetime(2026, 11, 1, tzinfo=UTC)) == repr(datetime(2026, 11, 1, tzinfo=UTC))
    assert redactor.scrub(Broken()) == "<Broken without repr: RuntimeError>"
    assert redactor.scrub(bytearray(b"sesame-open\xff")) == f"{MASK}\ufffd"
    assert "…" in json.dumps(redactor.scrub(endless), ensure_ascii=False)


def test_text_is_cut_after_redacting() -> None:
    """Half a secret at the cut would be half a leak."""
    redactor = Redactor(["sesame-open-sesame"])
    assert redactor.one_line("a\n  sesame-open-sesame " + "b" * 50, 20) == f"a {MASK} bbbbbbbb…"
    assert redactor.one_line("short", 20) == "short"


def test_tracebacks_with_causes_and_groups_are_redacted() -> None:
    """The whole chain is shown and none of its secrets."""

    def fail() -> None:
        try:
            int(SECRET)
        except ValueError as error:
            raise ExceptionGroup("several", [KeyError(SECRET), RuntimeError(PEM)]) from error

    with pytest.raises(ExceptionGroup) as caught:
        fail()
    text = Redactor([SECRET, PEM]).redact_exception(caught.value)
    assert "ValueError" in text
    assert "RuntimeError" in text
    assert SECRET not in text
    assert "MIIEpAIBAAKCAQEA7" not in text


OF_EACH_RULE = (
    "-----BEGIN RSA PRIVATE KEY-----\nMIIE",
    "LS0tLS1CRUdJTiBSU0EgUFJJVkFURSBLRVktLS0tLQ",
    "ghs_0123456789abcdef",
    "rpa_0123456789abcdef",
    "rpk_0123456789ab_0123456789abcdef",
    "eyJhbGciOiJSUzI1NiJ9.e30.c2ln",
    "Authorization, swordfish",
    "BEARER swordfish",
    "x://u:swordfish@h",
    "?api_key=swordfish",
    "TOKEN=swordfish",
    '"token" : "swordfish"',
    "'token': b'swordfish'",
    '\\"token\\": \\"swordfish',
)


@pytest.mark.parametrize(("rule", "text"), list(zip(_RULES, OF_EACH_RULE, strict=True)), ids=OF_EACH_RULE)
def test_no_text_that_a_rule_knows_is_passed_by(rule: tuple[re.Pattern[str], str], text: str) -> None:
    """What makes a text worth searching is in the least that each rule finds."""
    found = rule[0].search(text)
    assert found is not None
    assert Redactor().redact(found.group()) != found.group()


@pytest.mark.parametrize(
    "unit",
    [
        "a",
        "eyJ",
        "\\",
        '\\"',
        "token",
        "token_",
        "a:",
        "x://a:",
        "://",
        '"token"',
        "authorization:",
        "-----BEGIN ",
        " ",
        "_eyJ",
    ],
)
def test_hostile_text_is_redacted_in_linear_time(unit: str) -> None:
    """An answer made to make the search slow costs a fraction of a second."""
    text = unit * (65_536 // len(unit))
    began = time.process_time()
    Redactor(["sesame-open"]).redact(text)
    assert time.process_time() - began < 1.5


def _opcodes(work: Callable[[], object]) -> int:
    """How much of this package's code runs for it: a measure that no other load changes."""
    count = 0

    def trace(frame: FrameType, event: str, _arg: Any) -> Callable[..., Any] | None:  # noqa: ANN401 - as sys has it
        nonlocal count
        if "_redaction" not in frame.f_code.co_filename:
            return None
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def _many(number: int, *, end: str = "-value") -> list[str]:
    return [f"{at:04}{end}" for at in range(number)]


@pytest.mark.parametrize("end", ["-value", ""], ids=["long", "short"])
def test_each_secret_more_costs_as_much_as_the_first(end: str) -> None:
    """Hundreds of variables of a pod, or of masks of a workflow, are learned in linear time."""
    few, many = (_opcodes(partial(Redactor, _many(number, end=end))) for number in (50, 200))
    assert few < many < 5 * few


def test_a_text_costs_little_more_with_many_secrets_than_with_few() -> None:
    """Every field of every record passes by all of them."""
    text = "podFindAndDeployOnDemand answered 200 after 0.4 s " * 4 + "0001-value"
    few, many = (_opcodes(partial(Redactor(_many(number)).redact, text)) for number in (200, 2000))
    assert many < 1.5 * few


def test_what_is_hidden_is_known_to_every_redactor_and_then_forgotten() -> None:
    """In all its forms, also to one made before, for as long as the request is served."""
    redactor = Redactor(["sesame-open"])
    with hiding():
        assert hide("  plain-foo-77\n")
        assert hide("abc")
        assert hide("")
        text = f"plain-foo-77 {base64.b64encode(b'plain-foo-77').decode()} abc sesame-open"
        assert redactor.redact(text) == f"{MASK} {MASK} abc {MASK}"
        assert redactor.scrub({"a": ["plain-foo-77", {"plain-foo-77": 1}]}) == {"a": [MASK, {MASK: 1}]}
        assert "plain-foo-77" not in redactor.redact_exception(ValueError("plain-foo-77"))
        assert redactor.redact_known("plain-foo-77 sesame-open") == f"plain-foo-77 {MASK}"
        assert redactor.scrub({"plain-foo-77": 1}) == {"plain-foo-77": 1}
    assert redactor.redact("plain-foo-77 sesame-open") == f"plain-foo-77 {MASK}"
    assert not hide("plain-foo-77")


def test_a_value_is_kept_for_the_request_or_for_ever() -> None:
    """Who serves nobody in particular has no other place for it."""
    redactor = Redactor()
    with hiding():
        redactor.keep("of-the-request")
        assert redactor.redact("of-the-request") == MASK
    redactor.keep("of-the-program")
    assert redactor.redact("of-the-request of-the-program") == f"of-the-request {MASK}"


def test_text_on_one_line_hides_what_had_several() -> None:
    """Services put what they quote on one line, whatever blanks it had."""
    assert Redactor(["a  long\n\tsecret"]).redact("it said: a long secret") == f"it said: {MASK}"


async def test_what_one_task_hides_is_hidden_in_its_own_tasks_alone() -> None:
    """Requests are served side by side, and each starts tasks of its own."""
    redactor = Redactor()
    told: dict[str, list[str]] = {}

    async def served(name: str, go: asyncio.Event) -> None:
        with hiding():
            begun = asyncio.create_task(inner(name, go))  # before anything is hidden
            hide(f"value-of-{name}")
            await begun

    async def inner(name: str, go: asyncio.Event) -> None:
        await go.wait()
        told[name] = redactor.redact("value-of-one value-of-two").split()

    go = asyncio.Event()
    both = asyncio.gather(served("one", go), served("two", go))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    go.set()
    await both
    assert told == {"one": [MASK, "value-of-two"], "two": ["value-of-one", MASK]}


def test_a_task_that_outlives_its_request_holds_nothing_of_it() -> None:
    """A connection that was opened meanwhile is kept, and its context with it."""
    with hiding():
        hide("plain-foo-77")
        kept = contextvars.copy_context()
    assert kept.run(Redactor().redact, "plain-foo-77") == "plain-foo-77"
