"""Captions and JSON as strangers write them: an odd value costs itself, never the rest.

Numbers stay as they are written, because their digits may be more than a float or an
integer of 64 bits has; NaN, Infinity and ``1e400``, which Python's own writer makes, hide
nothing beside them; what is nested too deep for any parser's stack is text.

Belongs here: bytes to text, JSON to values, values to text, text to a terminal. What a
field of JSON is in a filter belongs in ``filters/``, what it is in a table in
``dataset_columns.py``.
"""

import codecs
import json
import re
from typing import Any

MAX_DEPTH = 100
"""Levels of arrays and objects that are parsed. Python's parser, and the schema of a table,
give up at some hundreds, depending on who calls."""

_BYTE_ORDER_MARKS = (  # UTF-32's begins with UTF-16's
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_STRUCTURE = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', re.DOTALL)


class Whole(str):
    """A number without fraction and exponent, as it is written."""

    __slots__ = ()


class Real(str):
    """Any other number, as it is written; ``NaN``, ``Infinity`` and ``-Infinity`` too."""

    __slots__ = ()


def decode_text(data: bytes) -> str:
    """Read a text: in the encoding that its byte order mark names, without one in UTF-8.

    Returns:
        The text without the mark; U+FFFD stands for what can't be read.
    """
    for mark, encoding in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, errors="replace")
    return data.decode("utf-8", errors="replace")


def load_json(data: str | bytes) -> Any:
    """Read JSON as Python's ``json`` does, of bytes that anybody may have written.

    Raises:
        ValueError: It is no JSON, or is nested too deeply to be read.
    """
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("JSON that is nested too deeply") from None


def parse_json(text: str) -> Any:
    """Read JSON, and all that Python's ``json`` writes.

    Returns:
        None, booleans, texts, :class:`Whole`, :class:`Real`, lists, dicts. Of members of
        one name the last counts. What is nested deeper than ``MAX_DEPTH`` is the text of
        its JSON.

    Raises:
        ValueError: It is no JSON.
    """
    text = text.removeprefix("\ufeff")
    if text.count("[") + text.count("{") > MAX_DEPTH:
        text = _shallow(text)
    return _DECODER.decode(text)


_DECODER = json.JSONDecoder(parse_int=Whole, parse_float=Real, parse_constant=Real)


def parse_members(text: str) -> dict[str, Any]:
    """Read a JSON object as :func:`parse_json` does.

    Raises:
        ValueError: It is no JSON object; the message says what it is.
    """
    value = parse_json(text)
    if isinstance(value, dict):
        return value
    kind = "a list" if isinstance(value, list) else "a single value"
    raise ValueError(f"expected an object {{…}}, found {kind}")


def format_json(value: Any) -> str:
    """Write what :func:`parse_json` gives, numbers as they were written."""
    if isinstance(value, dict):
        members = (f"{_quoted(name)}:{format_json(v)}" for name, v in value.items())
        return "{" + ",".join(members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(format_json, value)) + "]"
    return value if isinstance(value, Whole | Real) else _quoted(value)


def plain_text(value: Any) -> str | None:
    r"""Give a value of JSON as a text: a text itself, anything else as JSON writes it.

    Half a surrogate pair, which no UTF-8 holds, stays the escape ``\ud83d`` that it was.

    Returns:
        None for null.
    """
    if value is None:
        return None
    return encodable(value if type(value) is str else format_json(value))


def encodable(text: str) -> str:
    """Write halves of surrogate pairs as escapes, so that the text can be UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()


_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 but tab and line feed, DEL, C1
    "\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f"  # order of writing, line separators
    "\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)


def printable(text: str) -> str:
    r"""Write what would steer a terminal, or change how text beside it reads, as escapes.

    Those are control characters but tabs and line feeds, bidirectional marks, and halves
    of surrogate pairs: ``\x1b[2J`` is shown as it stands here.
    """
    return _UNSEEN.sub(lambda found: _escape(ord(found[0])), text)


def _escape(code: int) -> str:
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def _quoted(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _shallow(text: str) -> str:
    """Put quoted texts in the place of what is nested too deep."""
    parts, taken, depth = [], 0, 0
    for found in _STRUCTURE.finditer(text):
        mark = found.group()
        if mark in "[{":
            depth += 1
            if depth == MAX_DEPTH + 1:
                parts.append(text[taken : found.start()])
                taken = found.start()
        elif mark in "]}":
            depth -= 1
            if depth == MAX_DEPTH:
                parts.append(_quoted(text[taken : found.end()]))
                taken = found.end()
    if depth > MAX_DEPTH:
        raise ValueError("its brackets are not closed")
    return "".join([*parts, text[taken:]])
