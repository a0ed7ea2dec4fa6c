"""URLs without what only whoever fetches them may know.

A list of URLs may have passwords and signed tokens in it. They are needed to fetch, and
nowhere else: what is written down, and may be published one day, has the URL without.
"""

import os
import re
import traceback
from base64 import b64encode
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote, unquote_plus

_SECRET = re.compile(
    # of the clouds' signed URLs: all of it
    r"x-(amz|goog|oss|cos|obs|ms|bce|tos|jd)-.*|policy|key-pair-id|hdn(ts|ea|tl)|exp_?sig"
    # words that say so, in whatever name they are
    r"|.*(token|secret|passw|signature|credential|api.?key|access.?key|session|private.?key"
    r"|authoriz|bearer|subscription.?key).*"
    r"|sig|sign|auth|jwt|pwd|pass|pw|user|username|login|hmac|ticket|sid|oauth.*|sas",
    re.IGNORECASE,
)
"""Whole names of parameters."""

_SECRET_VALUE = re.compile(
    r"AIza[\w-]{35}|A[KS]IA[A-Z0-9]{16}|eyJ[\w-]+\.eyJ[\w-]+\.[\w-]*|gh[pousr]_\w{30,}"
    r"|(?<![\w-])sk-(?=[\w-]*\d)[\w-]{16,}|hf_[A-Za-z0-9]{30,}"
)
"""Values that are keys or signed tokens by their form, whatever their name."""

_DRAWN = r"(?=.*\d)(?=.*[A-Za-z])(?:[\w+=~-]{20,}|[\w+/~-]{20,}={1,2})"
_IF_DRAWN = re.compile(
    rf"(?:key|code)={_DRAWN}|(?:s|oh)=(?:[0-9a-f]{{32,}}|{_DRAWN})", re.IGNORECASE
)
"""Names that are also those of pages, places and sizes: by their values, which a machine
drew: an Azure function's ``code``, imgix's and Reddit's ``s``, Facebook's ``oh``."""
_IF_IT_ENDS = re.compile(
    r"(?:hash|hm|h|md5|mac|st|digest|verify|validate|check)=(?=.*\d)[\w+/=~-]{16,}",
    re.IGNORECASE,
)
"""Names that are also those of what a file has in it: where a parameter says until when,
they sign that, as nginx's ``md5`` does and Discord's ``hm``."""
_UNTIL = re.compile(
    r"(?:e|ex|exp|expir\w*|oe|se|ttl|until|deadline|valid_?(?:to|until))=.+", re.IGNORECASE
)

_PARTS = re.compile(
    # with as many slashes as browsers and servers put up with, and blanks before
    r"(?P<scheme>\s*(?:https?:/*|[a-z][a-z0-9+.-]*://|//))(?P<user>[^/?#]*@)?(?P<place>[^?#]*)"
    r"(?P<query>\?[^#]*)?(?P<fragment>#.*)?",
    re.IGNORECASE | re.DOTALL,
)
_PATH_PARAMETER = re.compile(r";([^;/=]*)=[^;/]*")
_NO_PORT = re.compile(r"(\[[^]]*\]|[^/:[]*):(?!\d*(/|$))[^@]*@")
_IN_TEXT = re.compile(r"(?:https?:|[a-z][a-z0-9+.-]*://)[^\s'\"<>]+", re.IGNORECASE)
_PARAMETER_IN_TEXT = re.compile(r"([?&;])([^\s?&;=/'\"<>]+)=([^\s&;'\"<>]+)")
_LEFT_OUT = "…"
_SHORT = 4
"""Characters of a text that stands in others by chance."""
_ENVIRONMENT = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "HF_TOKEN",
)
"""What is sent to servers, which may repeat it."""


def without_secrets(url: str) -> str:
    """Take user names, passwords, tokens and signatures out of a URL.

    Args:
        url: As it is fetched. What is no URL comes back as it is.

    Returns:
        The rest of it, to the character: the same where there is nothing to take out.
    """
    parts = _PARTS.fullmatch(url)
    if parts is None:
        return url
    place = _PATH_PARAMETER.sub(
        lambda m: "" if _is_secret(m[1], "") else m[0], _user_and_place(parts)[1]
    )
    query, fragment = (_kept(parts[name] or "") for name in ("query", "fragment"))
    return f"{parts['scheme']}{place}{query}{fragment}"


def text_without_secrets(text: str, of: str = "") -> str:
    """Take the same out of all URLs in a text, such as an error's message.

    Keys and tokens go too, wherever they are: by their form, and those of the environment.

    Args:
        text: It, or one URL.
        of: A URL that was fetched, whose secrets a server may have repeated, in whatever
            form it liked.
    """
    if len(text.split(None, 1)) == 1 and _PARTS.fullmatch(text):
        text = without_secrets(text)  # of which quotes may be a part
    else:
        text = _IN_TEXT.sub(lambda found: without_secrets(found[0]), text)
    if "=" in text:
        text = _PARAMETER_IN_TEXT.sub(_named_alone, text)
    text = _SECRET_VALUE.sub(_LEFT_OUT, text)
    for secret in sorted(_secrets(of) | _environment(), key=len, reverse=True):
        text = text.replace(secret, _LEFT_OUT)
    return text


def values_without_secrets(value: Any) -> Any:
    """Take the same out of all texts in JSON's values."""
    if isinstance(value, str):
        return text_without_secrets(value)
    if isinstance(value, Mapping):
        return {n: values_without_secrets(item) for n, item in value.items()}
    if isinstance(value, list | tuple):
        return [values_without_secrets(item) for item in value]
    return value


def cause_to_show(error: Exception, of: str = "") -> Exception | None:
    """Give an error as the cause of another one; None if it tells a secret.

    Wherever an error goes on record, all its causes do.

    Args:
        error: It.
        of: As for :func:`text_without_secrets`.
    """
    told = "".join(traceback.format_exception(error))
    return error if text_without_secrets(told, of) == told else None


def _user_and_place(parts: re.Match[str]) -> tuple[str, str]:
    user, place = parts["user"] or "", parts["place"]
    if _NO_PORT.match(place):  # a password with a slash in it
        more, _, place = place.rpartition("@")
        user += more
    return user.removesuffix("@"), place


def _kept(parameters: str) -> str:
    """Leave secret parameters out of ``?a=1&b=2``, or of a fragment like that."""
    mark, pieces, secret = _pieces(parameters)
    if not any(secret):
        return parameters
    kept = [piece for piece, left_out in zip(pieces, secret, strict=True) if not left_out]
    text = "".join(kept).lstrip("&;")
    return f"{mark}{text}" if text else ""


def _pieces(parameters: str) -> tuple[str, list[str], list[bool]]:
    """Give the mark before parameters, each with what parts it, and which are secret."""
    pieces = re.findall(r"[&;]?[^&;]*", parameters[1:])[:-1]
    bare = [piece.lstrip("&;") for piece in pieces]
    ends = any(_UNTIL.fullmatch(piece) for piece in bare)
    return parameters[:1], pieces, [_is_secret(*_named(one), ends=ends) for one in bare]


def _named(parameter: str) -> tuple[str, str]:
    name, _, value = parameter.partition("=")
    return unquote_plus(name), unquote_plus(value)


def _is_secret(name: str, value: str, *, ends: bool = False) -> bool:
    """Tell whether a parameter is secret, of a URL that says until when it can be used."""
    whole = f"{name}={value}"
    if _SECRET.fullmatch(name) or _SECRET_VALUE.search(whole) or _IF_DRAWN.fullmatch(whole):
        return True
    if ends and _IF_IT_ENDS.fullmatch(whole):
        return True
    return "://" in value and text_without_secrets(value) != value  # a URL in a URL


def _named_alone(parameter: re.Match[str]) -> str:
    mark, name, value = parameter.groups()
    is_secret = _is_secret(unquote_plus(name), unquote_plus(value))
    return f"{mark}{name}={_LEFT_OUT}" if is_secret else parameter[0]


def _secrets(url: str) -> set[str]:
    """Give what :func:`without_secrets` takes out of a URL, as a server may repeat it."""
    parts = _PARTS.fullmatch(url)
    return {one for one in _told_to(parts) if len(one) >= _SHORT} if parts else set()


def _environment() -> set[str]:
    values = (os.environ.get(name, "") for name in _ENVIRONMENT)
    return {value for value in values if len(value) >= 2 * _SHORT}


def _told_to(parts: re.Match[str]) -> Iterator[str]:
    user, _ = _user_and_place(parts)
    for told in (user, unquote(user)):
        yield from (told, *told.split(":", 1))
        for encoding in ("utf-8", "latin-1"):  # as clients differ
            yield b64encode(told.encode(encoding, "replace")).decode()
    for name in ("query", "fragment"):
        _, pieces, secret = _pieces(parts[name] or "")
        for piece in (one for one, is_one in zip(pieces, secret, strict=True) if is_one):
            value = piece.partition("=")[2] or piece.lstrip("&;")
            yield from (value, unquote_plus(value))
