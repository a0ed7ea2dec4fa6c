"""What is written of a URL has no secret in it, and is else what it was."""

from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.public_urls import (
    cause_to_show,
    text_without_secrets,
    values_without_secrets,
    without_secrets,
)

PLAIN = [
    "https://example.org/a.jpg",
    "http://example.org:8080/a%20b/ü.jpg?width=300&id=%41;x=1#top",
    "https://example.org/?q=a@b.org",
    "https://example.org/path;v=1/a.jpg?",
    "https://example.org/?a&b=&&c=1",
    "https://example.org:8080/@user/a.jpg",
    "https://[::1]:80/a@b.jpg",
    "http://x/a?next=https%3A%2F%2Fy%2Fb&w=1",
    "photo by a@b.org",
    "s3://bucket/key",
    "not a url",
    "",
    "/etc/hostname",
    "http://x/a?key=photos/2020/summer-1.jpg&code=en&s=300&hash=8f14e45f&oh=2&h=240",
    "http://x/a?key=550-summer-1&hash=8f14e45fceea167a5a36dedd4bea2543",
    "http://x/a?expires=1700000000&h=480&hash=summer&e=1",
    "https://example.org/tokens/password.jpg?author=x&design=2&passage=3#section",
]

SECRET = [
    ("https://user:pass@example.org/a", "https://example.org/a"),
    ("https://user@example.org/a", "https://example.org/a"),
    ("https://a@b:c@example.org/a", "https://example.org/a"),
    ("http://x/a?token=T", "http://x/a"),
    ("http://x/a?w=1&token=T&h=2", "http://x/a?w=1&h=2"),
    ("http://x/a?token=T&w=1", "http://x/a?w=1"),
    ("http://x/a?%74oken=T&w=1", "http://x/a?w=1"),
    ("http://x/a?ACCESS_TOKEN=T#top", "http://x/a#top"),
    ("http://x/a#access_token=T&state=1", "http://x/a#state=1"),
    (" https://u:T@x/a", " https://x/a"),
    ("https:/u:T@x/a", "https:/x/a"),
    ("https:u:T@x/a", "https:x/a"),
    ("//u:T@x/a", "//x/a"),
    ("https://u:p/T@x/a", "https://x/a"),
    ("http://x/a?next=https%3A%2F%2Fu%3AT%40y%2Fb&w=1", "http://x/a?w=1"),
    ("http://x/a;jsessionid=T?w=1", "http://x/a?w=1"),
    ("http://x/a?eyJhbGciOi.eyJzdWIiOi.c2ln&w=1", "http://x/a?w=1"),
    ("http://x/f?code=aB3_dEf9hIjKlMnOpQrStU==&w=1", "http://x/f?w=1"),
    ("http://x/f?code=aB3/dEf9h/jKlMnOpQrStU%3D%3D", "http://x/f"),
    ("http://x/a?key=0123456789abcdef0123&w=1", "http://x/a?w=1"),
    (
        "https://i.redd.it/a?width=640&s=8f14e45fceea167a5a36dedd4bea2543",
        "https://i.redd.it/a?width=640",
    ),
    (
        "https://fbcdn.net/a?oh=00_AfBx9KqZ3mNpQrStUvWx&oe=65B0C0D0",
        "https://fbcdn.net/a?oe=65B0C0D0",
    ),
    ("http://x/a?md5=8f14e45fceea167a5a36de&expires=17", "http://x/a?expires=17"),
    (
        "https://cdn/a?ex=65b0&is=65a0&hm=8f14e45fceea167a5a36dedd4bea2543&",
        "https://cdn/a?ex=65b0&is=65a0&",
    ),
    ("http://x/a?st=Xy9zAbCdEfGhIjKlMn&e=1700000000", "http://x/a?e=1700000000"),
    ("http://x/a?key=AIzaSyA1234567890abcdefghijklmnopqrstuv", "http://x/a"),
    ("http://x/a?q=eyJhbGciOi.eyJzdWIiOi.c2ln&w=1", "http://x/a?w=1"),
    (
        "https://b.s3.amazonaws.com/k?X-Amz-Algorithm=A&X-Amz-Credential=C&X-Amz-Date=D"
        "&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature=S&versionId=7",
        "https://b.s3.amazonaws.com/k?versionId=7",
    ),
    (
        "https://b.s3.amazonaws.com/k?AWSAccessKeyId=K&Signature=S&Expires=1",
        "https://b.s3.amazonaws.com/k?Expires=1",
    ),
    (
        "https://storage.googleapis.com/b/k?X-Goog-Credential=C&x-goog-signature=S",
        "https://storage.googleapis.com/b/k",
    ),
    (
        "https://a.blob.core.windows.net/c/b?sv=2020&sp=r&sig=S%3D",
        "https://a.blob.core.windows.net/c/b?sv=2020&sp=r",
    ),
    (
        "https://d.cloudfront.net/a?Policy=P&Signature=S&Key-Pair-Id=K",
        "https://d.cloudfront.net/a",
    ),
    *(
        (f"http://x/a?{name}=T&w=1", "http://x/a?w=1")
        for name in (
            *("api_key", "apikey", "api-key", "password", "passwd", "auth", "jwt", "sig"),
            *("client_secret", "id_token", "session", "PHPSESSIONID", "authorization"),
            *("X-Amz-Security-Token", "oauth_signature", "subscription-key", "hdnea"),
        )
    ),
]


@pytest.mark.parametrize("url", PLAIN)
def test_what_has_no_secret_is_as_it_was(url: str) -> None:
    assert without_secrets(url) == url


@pytest.mark.parametrize(("url", "expected"), SECRET)
def test_secrets_are_taken_out_and_nothing_else(url: str, expected: str) -> None:
    assert without_secrets(url) == expected
    assert without_secrets(expected) == expected


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["w", "h", "id", "token", "sig", "X-Amz-Signature"]),
            st.text("abc123", max_size=5),
        )
    )
)
def test_urllib_finds_all_other_parameters_in_order(pairs: list[tuple[str, str]]) -> None:
    query = "&".join(f"{name}={value}" for name, value in pairs)
    found = without_secrets(f"https://u:p@example.org/a?{query}")
    expected = [pair for pair in pairs if pair[0] in ("w", "h", "id")]
    assert parse_qsl(urlsplit(found).query, keep_blank_values=True) == expected
    assert urlsplit(found).netloc == "example.org"


TEXTS = [
    (
        "400, url=URL('http://u:p@x/a?token=T&w=1'), then https://y/b?sig=S.",
        "400, url=URL('http://x/a?w=1'), then https://y/b",
    ),
    ("bad: 'GET /a?w=1&token=T HTTP/1.1'", "bad: 'GET /a?w=1&token=… HTTP/1.1'"),
    ("https://x/a?q='b'&token=T", "https://x/a?q='b'"),
    ("see https:/u:p@x/a", "see https:/x/a"),
    (
        "a caption; password: none & https://x/?w=1",
        "a caption; password: none & https://x/?w=1",
    ),
]


@pytest.mark.parametrize(("text", "expected"), TEXTS)
def test_of_a_text_all_urls_are_cleaned(text: str, expected: str) -> None:
    assert text_without_secrets(text) == expected
    assert text_without_secrets(expected) == expected
    assert values_without_secrets({"a": [text, 1, None]}) == {"a": [expected, 1, None]}


@pytest.mark.parametrize(
    "echo",
    [
        "p@ss/word",
        "p%40ss%2Fword",
        "Basic dXNlcjpwQHNzL3dvcmQ=",
        "/a T0ken",
        "user:p@ss/word",
    ],
)
def test_what_a_server_repeats_of_a_url_is_left_out(echo: str) -> None:
    url = "https://user:p%40ss%2Fword@x/a?token=T0ken&w=1"
    told = text_without_secrets(f"no: {echo}", of=url)
    assert not any(secret in told for secret in ("p@ss", "p%40ss", "dXNl", "T0ken"))
    assert "…" in told


def test_an_error_that_tells_a_secret_is_shown_as_no_cause() -> None:
    plain = ValueError("no https://x/a?w=1")
    assert cause_to_show(plain) is plain
    assert cause_to_show(ValueError("no https://x/a?token=T")) is None
    assert cause_to_show(ValueError("no T0ken"), of="https://x/a?token=T0ken") is None
    plain.__cause__ = OSError("https://u:p@x")
    assert cause_to_show(plain) is None
