"""URLs without what only whoever fetches them may know.

A list of URLs may have passwords and signed tokens in it. They are needed to fetch, and
nowhere else: what is written down, and may be published one day, has the URL without.
"""

import re
from urllib.parse import unquote_plus

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
    r"AIza[\w-]{35}|AKIA[A-Z0-9]{16}|eyJ[\w-]+\.[\w-]+\.[\w-]*|gh[pousr]_\w{30,}|sk-\w{16,}"
)
"""Values that are keys or signed tokens by their form, whatever their name."""

_PARTS = re.compile(
    # with as many slashes as browsers and servers put up with, and blanks before
    r"(?P<scheme>\s*(?:https?:/*|[a-z][a-z0-9+.-]*://|//))(?P<user>[^/?#]*@)?(?P<place>[^?#]*)"
    r"(?P<query>\?[^#]*)?(?P<fragment>#.*)?",
    re.IGNORECASE | re.DOTALL,
)
_PATH_PARAMETER = re.compile(r";([^;/=]*)=[^;/]*")
_NO_PORT = re.compile(r"(\[[^]]*\]|[^/:[]*):(?!\d*(/|$))[^@]*@")
_IN_TEXT = re.compile(r"[a-z][a-z0-9+.-]*://[^\s'\"<>]+", re.IGNORECASE)


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
        lambda m: "" if _is_secret(m[1], "") else m[0], parts["place"]
    )
    if _NO_PORT.match(place):  # a password with a slash in it
        place = place.rpartition("@")[2]
    query, fragment = (_kept(parts[name] or "") for name in ("query", "fragment"))
    return f"{parts['scheme']}{place}{query}{fragment}"


def text_without_secrets(text: str) -> str:
    """Take the same out of all URLs in a text, such as an error's message."""
    return _IN_TEXT.sub(lambda found: without_secrets(found[0]), text)


def _kept(parameters: str) -> str:
    """Leave secret parameters out of ``?a=1&b=2``, or of a fragment like that."""
    mark, rest = parameters[:1], parameters[1:]
    pieces = re.split(r"([&;])", rest)
    kept = [
        (pieces[at - 1] if at else "") + piece
        for at, piece in enumerate(pieces)
        if at % 2 == 0 and not _is_secret(*_named(piece))
    ]
    if len(kept) == len(pieces) // 2 + 1:
        return parameters
    text = "".join(kept).lstrip("&;")
    return f"{mark}{text}" if text else ""


def _named(parameter: str) -> tuple[str, str]:
    name, _, value = parameter.partition("=")
    return unquote_plus(name), unquote_plus(value)


def _is_secret(name: str, value: str) -> bool:
    if _SECRET.fullmatch(name) or _SECRET_VALUE.search(value):
        return True
    return "://" in value and text_without_secrets(value) != value  # a URL in a URL
