"""Keeps credentials out of everything that is printed, logged or raised.

A `Redactor` knows two kinds of secrets: the values it was told (`add`), in every form they travel in, and whatever
*looks* like a credential: GitHub, RunPod and Prime tokens, JWTs, private keys, authorization headers, passwords in
addresses, `NAME=value` and `"name": "value"` where the name says that the value is secret.

What `hide` is told inside of `hiding` is known to every redactor there, and to nobody elsewhere or later.
"""

from __future__ import annotations

import base64
import contextlib
import html
import json
import re
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextvars import ContextVar
from urllib.parse import quote, quote_plus

MASK = "[MASKED]"
MIN_SECRET = 6
_MAX_DEPTH = 24
_FEW = 100  # beginnings: as many are sought in a text one by one sooner than all pieces of it are looked up

# Every repetition is bounded or anchored: the text may come from somebody who wants a slow search.
_LOUD_NAME = (
    r"[\w.-]{0,64}(?:token|secret|passw|authorization|credential|cookie|api[_-]?key|private[_-]?key|signature"
    r"|docker[_-]?args|jit[_-]?config)[\w.-]{0,64}"
)
_SCHEME = r"(?:(?:bearer|token|basic)\s+)?"
_LOUD = re.compile(_LOUD_NAME, re.IGNORECASE)
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
# Names that speak about a secret without holding it.
_ABOUT = re.compile(r"(?:source|expires|expires_at|expiry|path)$", re.IGNORECASE)

_RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL), MASK),
    (re.compile(r"LS0tLS1CRUdJT[\w+/=-]{20,}"), MASK),
    # GitHub's installation tokens may be `ghs_<app>_<JWT>`: longer than 40, with dots (GitHub docs, 2026-04-27).
    (re.compile(r"(?<![A-Za-z0-9])(?:gh[pousr]|github_pat|GHRT)_[A-Za-z0-9_.-]{10,}"), MASK),
    (re.compile(r"(?<![A-Za-z0-9])(?:rpa|rps|pit)_[A-Za-z0-9]{10,}"), MASK),
    (re.compile(r"(?<![A-Za-z0-9])rpk_[0-9a-f]{12}_[0-9a-f]{6,}"), MASK),  # the service's own
    (re.compile(r"(?<![A-Za-z0-9-])eyJ[\w-]{8,512}(?:\.[\w-]+){1,2}"), MASK),
    (
        re.compile(rf"(?i)(\bauthorization[\"']?\s*[:=,]\s*(?:b(?=[\"']))?[\"']?{_SCHEME})[^\s\"',;]+"),
        rf"\g<1>{MASK}",
    ),
    (re.compile(r"(?i)\b(bearer\s+)[A-Za-z0-9._~+/=-]{6,}"), rf"\g<1>{MASK}"),
    (re.compile(r"(\w://)[^\s/?#@\"']{0,256}:[^\s/?#@\"']{1,256}@"), rf"\g<1>{MASK}@"),
    (re.compile(rf"(?i)([?&]{_LOUD_NAME}=)[^&\s\"']+"), rf"\g<1>{MASK}"),
    (re.compile(rf"(?i)(?<![\w.?&-])({_LOUD_NAME}=)(?![\s=])(?:\"[^\"]*\"|'[^']*'|[^\s\"',;&]+)"), rf"\g<1>{MASK}"),
    (re.compile(rf'(?i)("{_LOUD_NAME}"\s*:\s*"{_SCHEME})(?:\\.|[^"\\])+'), rf"\g<1>{MASK}"),
    (re.compile(rf"(?i)('{_LOUD_NAME}'\s*:\s*b?'{_SCHEME})(?:\\.|[^'\\])+"), rf"\g<1>{MASK}"),
    (re.compile(rf'(?i)(\\{{1,8}}"{_LOUD_NAME}\\{{1,8}}"\s*:\s*\\{{1,8}}"{_SCHEME})[^"\\]+'), rf"\g<1>{MASK}"),
)

# What every match of a rule contains: most texts contain none of it, and need no further search.
_SUSPECT = re.compile(
    r"-----BEGIN|LS0tLS1CRUdJT|(?:gh[pousr]|github_pat|GHRT|rpa|rpk|rps|pit)_|eyJ|(?i:bearer|authorization)|://|="
    r"|[\"']\s*:"
)


def looks_secret(name: str) -> bool:
    """Whether a variable, field or header of this name holds a secret; `PUBLIC_KEY` and a bare `key` do not."""
    if _ABOUT.search(name):
        return False
    words = [word.lower() for word in _WORDS.findall(name)]
    if "public" in words or "pub" in words:
        return False
    return _LOUD.fullmatch(name) is not None or (len(words) > 1 and ("key" in words or "keys" in words))


class _Forms:
    """Secrets of at least 6 characters in every form they travel in.

    Forms are found by how they begin, so that a text takes about as long with many secrets as with few.
    """

    def __init__(self) -> None:
        self._begun: dict[str, list[str]] = {}

    def add(self, secret: str) -> None:
        """Know this one, too."""
        for form in {form for form in _forms(secret) if len(form) >= MIN_SECRET}:
            self._begun.setdefault(form[:MIN_SECRET], []).append(form)

    def clear(self) -> None:
        """Know none any more."""
        self._begun.clear()

    def masked(self, text: str) -> str:
        """`text` without them, the longest forms first."""
        if not self._begun:
            return text
        found = [form for begin in self._begins(text) for form in self._begun.get(begin, ())]
        for form in sorted(found, key=lambda form: (-len(form), form)):
            if form in text:
                text = text.replace(form, MASK)
        return text

    def _begins(self, text: str) -> Iterable[str]:
        """The beginnings of forms that are in the text."""
        if len(self._begun) <= _FEW:
            return [begin for begin in tuple(self._begun) if begin in text]
        pieces = {text[at : at + MIN_SECRET] for at in range(len(text) - MIN_SECRET + 1)}
        return [piece for piece in pieces if piece in self._begun]


_hidden: ContextVar[_Forms | None] = ContextVar("hidden", default=None)


@contextlib.contextmanager
def hiding() -> Iterator[None]:
    """Until its end keep out what `hide` is told in this task and in those that it starts; then forget it."""
    forms = _Forms()
    token = _hidden.set(forms)
    try:
        yield
    finally:
        _hidden.reset(token)
        forms.clear()  # a kept connection that was opened meanwhile holds on to its context


def hide(secret: str) -> bool:
    """Keep this value out for as long as the `hiding` around it lasts; False where nothing is being hidden.

    Surrounding white space is no part of it. One of fewer than 6 characters is let through: it is a common word.
    """
    forms = _hidden.get()
    if forms is None:
        return False
    secret = secret.strip()
    if len(secret) >= MIN_SECRET:
        forms.add(secret)
    return True


class Redactor:
    """Replaces every secret it knows or recognises by `[MASKED]`; safe to use from several threads.

    `on_secret` is called once for each new secret, before `add` returns, so before anybody can use it.
    """

    def __init__(self, secrets: Iterable[str] = (), *, on_secret: Callable[[str], None] | None = None) -> None:
        """Begin with `secrets`."""
        self.on_secret = on_secret
        self._lock = threading.Lock()
        self._known: set[str] = set()
        self._forms = _Forms()
        self._short: set[str] = set()
        self._words: re.Pattern[str] | None = None  # of the short ones; None until it is needed
        for secret in secrets:
            self.add(secret)

    def __repr__(self) -> str:
        return f"Redactor({len(self._known)} secrets)"

    def add(self, secret: str) -> None:
        """Never let this value through again, nor its base64, hex, JSON-, URL-, HTML- or Python-escaped forms.

        Surrounding white space is no part of it; an empty value is ignored; one of fewer than 6 characters is
        replaced only where it stands as a whole word, and only as it is.
        """
        secret = secret.strip()
        if not secret:
            return
        with self._lock:
            if secret in self._known:
                return
            self._known.add(secret)
            self._learn(secret)
        if self.on_secret is not None:
            self.on_secret(secret)

    def keep(self, secret: str) -> None:
        """Keep it out for as long as `hiding` lasts where that is under way, else for ever, like `add`."""
        if not hide(secret):
            self.add(secret)

    def redact(self, text: str) -> str:
        """`text` without secrets."""
        hidden = _hidden.get()
        return self.redact_known(text if hidden is None else hidden.masked(text))

    def redact_known(self, text: str) -> str:
        """`text` without any but those of `hide`: whoever chooses what is hidden must not choose what a line says."""
        text = self._forms.masked(text)
        if self._short:
            text = self._short_words().sub(MASK, text)
        if _SUSPECT.search(text) is None:
            return text
        for pattern, replacement in _RULES:
            text = pattern.sub(replacement, text)
        return text

    def one_line(self, text: str, limit: int) -> str:
        """`text` without secrets on one line of at most `limit` characters; cut after redacting, never before."""
        line = " ".join(self.redact(text).split())
        return line if len(line) <= limit else line[: limit - 1] + "…"

    def redact_exception(self, error: BaseException) -> str:
        """The whole traceback of `error`, with its causes and groups, without secrets."""
        return self.redact("".join(traceback.format_exception(error)))

    def scrub(self, value: object) -> object:
        """A copy of `value` made of JSON's types alone, without secrets in keys or values, however deep.

        The outermost keys are the program's own, and no value that is hidden for a while is sought in them. Values
        under names that look secret are masked whatever they are, also in lists of `{key, value}` pairs.
        """
        return self._scrub(value, 0)

    def _learn(self, secret: str) -> None:
        if len(secret) < MIN_SECRET:
            self._short.add(secret)
            self._words = None
        else:
            self._forms.add(secret)

    def _short_words(self) -> re.Pattern[str]:
        with self._lock:
            if self._words is None:
                short = sorted(map(re.escape, self._short), key=len, reverse=True)
                self._words = re.compile(rf"(?<!\w)(?:{'|'.join(short)})(?!\w)")
            return self._words

    def _scrub(self, value: object, depth: int) -> object:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return self.redact(value)
        if isinstance(value, int | float):
            text = str(value)
            redacted = self.redact(text)
            return value if redacted == text else redacted
        if isinstance(value, bytes | bytearray):
            return self.redact(bytes(value).decode("utf-8", "replace"))
        if depth > _MAX_DEPTH:
            return "…"
        if isinstance(value, Mapping):
            return self._scrub_mapping(value, depth)
        if isinstance(value, Sequence | AbstractSet):
            return [self._scrub(item, depth + 1) for item in value]
        return self.redact(_text(value))

    def _scrub_mapping(self, mapping: Mapping[object, object], depth: int) -> dict[str, object]:
        scrubbed: dict[str, object] = {}
        named = mapping.get("key", mapping.get("name"))
        for key, value in mapping.items():
            name = str(key)
            secret = looks_secret(name) or (name == "value" and isinstance(named, str) and looks_secret(named))
            clean = self.redact(name) if depth else self.redact_known(name)
            scrubbed[clean] = _masked(value) if secret else self._scrub(value, depth + 1)
        return scrubbed


def _masked(value: object) -> object:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        scheme, space, _ = value.partition(" ")
        if space and scheme.lower() in {"bearer", "token", "basic"}:
            return f"{scheme} {MASK}"
    return MASK


def _text(value: object) -> str:
    try:
        return f"{type(value).__name__}: {value}" if isinstance(value, BaseException) else repr(value)
    except Exception as error:  # noqa: BLE001 - a broken repr of somebody else must not break the log
        return f"<{type(value).__name__} without repr: {type(error).__name__}>"


def _forms(secret: str) -> Iterator[str]:
    raw = secret.encode("utf-8", "surrogatepass")
    yield secret
    yield " ".join(secret.split())  # what services say is told on one line
    # A traceback of an exception group puts a margin before each line of a message.
    yield from (line for line in map(str.strip, secret.splitlines()) if not line.startswith("-----"))
    yield from (raw.hex(), raw.hex().upper())
    yield from _base64_forms(raw)
    yield from (json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1])
    yield from (repr(secret)[1:-1], ascii(secret)[1:-1], repr(raw)[2:-1])
    for escaped in (quote(raw), quote(raw, safe=""), quote_plus(raw)):
        yield escaped
        yield re.sub(r"(?:%[0-9A-F]{2})+", lambda match: match.group().lower(), escaped)
    yield html.escape(secret)
    yield html.escape(secret, quote=False)


def _base64_forms(raw: bytes) -> Iterator[str]:
    """Both alphabets, alone and as part of something longer that was encoded as a whole (three alignments)."""
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        alone = encode(raw).decode()
        yield from (alone, alone.rstrip("="))
        for shift in range(3):
            text = encode(b"\0" * shift + raw).decode()
            yield text[-(-8 * shift // 6) : 8 * (shift + len(raw)) // 6]
