"""The new key of a sample, written into its ``.json`` component.

What stands there is kept character by character: values are never written again, which
would change numbers and escapes. Only a member of the same name gives way, and its text
goes along under ``replaced``.
"""

import json
import re
from typing import Any

from curation.texts import parse_members

KEY = "key"
SOURCE = "release_source"
MOST_BYTES = 16 << 20
"""Of a component that is given its key; longer ones are copied as they are."""

_DECODER = json.JSONDecoder(parse_int=str)  # whose digits have no limit
_MARK = "\ufeff"
_JSON_SPACE = " \t\n\r"
_WHITE_SPACE = re.compile(r"[ \t\n\r]*")


def with_new_key(data: bytes, key: str, source: dict[str, Any]) -> bytes:
    """Write a sample's key and source into its metadata.

    Args:
        data: A ``.json`` component.
        key: The new key, written as ``key``.
        source: JSON values, written as ``release_source``.

    Returns:
        The component with both as its last members; ``data`` itself if that is no JSON
        object in UTF-8, or longer than ``MOST_BYTES``, or has such a member already beside
        what is nested too deep for Python.
    """
    if len(data) > MOST_BYTES:
        return data
    told = json.dumps(source, ensure_ascii=False)
    try:
        text = data.decode()
        values = parse_members(text)
        end = text.rindex("}")
        body = text[:end].rstrip(_JSON_SPACE)
        if KEY in values or SOURCE in values:
            body, told = _without_ours(text, told)
    except (ValueError, RecursionError):  # hostile or broken: it goes along as it is
        return data
    comma = ", " if body[-1:] != "{" else ""
    added = f'"{KEY}": {json.dumps(key)}, "{SOURCE}": {told}'
    return f"{body}{comma}{added}{text[end:]}".encode()


def _without_ours(text: str, told: str) -> tuple[str, str]:
    """Take the members out that give way, and tell of them what they were."""
    mark = _MARK if text.startswith(_MARK) else ""
    members = _members(text.removeprefix(_MARK))
    kept = [member for name, member, _ in members if name not in (KEY, SOURCE)]
    replaced = {name: value for name, _, value in members if name in (KEY, SOURCE)}
    values = ", ".join(f"{json.dumps(name)}: {value}" for name, value in replaced.items())
    return mark + "{" + ", ".join(kept), f'{told[:-1]}, "replaced": {{{values}}}}}'


def _members(text: str) -> list[tuple[str, str, str]]:
    """Cut an object into its members: name, text of the member, text of its value.

    Raises:
        ValueError: It is no JSON object.
    """
    at = _space(text, 0)
    if text[at : at + 1] != "{":
        raise ValueError("no object")
    members = []
    at = _space(text, at + 1)
    while text[at : at + 1] != "}":
        start = at
        if text[at : at + 1] != '"':
            raise ValueError("no name")
        name, at = _DECODER.raw_decode(text, at)
        at = _expect(text, at, ":")
        value_start = at
        _, at = _DECODER.raw_decode(text, at)
        members.append((name, text[start:at], text[value_start:at]))
        at = _space(text, at)
        if text[at : at + 1] == ",":
            at = _space(text, at + 1)
            if text[at : at + 1] == "}":
                raise ValueError("a comma before the end")
        elif text[at : at + 1] != "}":
            raise ValueError("no comma")
    if _space(text, at + 1) != len(text):
        raise ValueError("more than one object")
    return members


def _expect(text: str, at: int, mark: str) -> int:
    at = _space(text, at)
    if text[at : at + 1] != mark:
        raise ValueError(f"no {mark}")
    return _space(text, at + 1)


def _space(text: str, at: int) -> int:
    found = _WHITE_SPACE.match(text, at)
    return found.end() if found else at
