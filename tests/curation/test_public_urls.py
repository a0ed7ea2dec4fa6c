"""What is written of a URL has no secret in it, and is else what it was."""

from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.public_urls import text_without_secrets, without_secrets

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


def test_of_a_text_all_urls_are_cleaned() -> None:
    text = "400, url=URL('http://u:p@x/a?token=T&w=1'), then https://y/b?sig=S."
    assert text_without_secrets(text) == "400, url=URL('http://x/a?w=1'), then https://y/b"
