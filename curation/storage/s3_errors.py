"""What an S3 server refuses or fails at, as this package's errors."""

from datetime import UTC, datetime, timedelta
from email.utils import mktime_tz, parsedate_tz

from curation.errors import (
    CurationError,
    InputError,
    NotFoundError,
    PathError,
    StaleError,
    StorageError,
)

MOST_SKEW = timedelta(minutes=15)
"""Between the times of a request and of the server.

Source: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html,
RequestTimeTooSkewed.
"""

ENDS_BEFORE = ("InvalidRange", "416")
"""Codes that a range is answered with that starts behind the end of its file."""

CAN_NOT_LIST = ("NotImplemented", "MethodNotAllowed", "AccessDenied", "NoSuchUpload")
"""Codes of servers that don't tell which uploads are under way, or not to us."""

TAKES_NO_CONDITIONS = ("NotImplemented", "501")
"""Codes of servers that write no file on a condition."""

CONDITION_FAILED = ("PreconditionFailed", "412")
"""Codes of refusals: a file is there that must not be, or is not the one that was meant."""

_REFUSALS = ("InvalidToken", "TokenRefreshRequired", "AuthorizationHeaderMalformed", "400")
"""Codes of refusals that s3fs takes for errors of the call. To a HEAD request with a token
that has expired AWS answers by a bare 400."""

_NO_CONNECTION = ("EndpointConnectionError", "ConnectTimeoutError", "ProxyConnectionError")

_OF_ONE_OBJECT = ("AccessDenied", "InvalidObjectState")
"""Codes of refusals that other objects need not meet: by a policy, of what is archived."""


def translated(where: str, error: Exception) -> CurationError:
    """Give this package's error for one of s3fs about a place, ``s3://…``."""
    name, code = type(error).__name__, code_of(error)
    if code == "NoSuchBucket":
        return NotFoundError(
            f"{where}: there is no bucket {where.split('/')[2]!r} at this "
            "endpoint; correct its name, or `s3.endpoint_url`, or create it"
        )
    if isinstance(error, FileNotFoundError):
        return NotFoundError(f"{where}: there is no such object")
    if code in CONDITION_FAILED:
        return StaleError(
            f"{where}: what was to be copied there was replaced; run again what copies it, "
            "for what is there now"
        )
    if code in _OF_ONE_OBJECT:
        return PathError(f"{where}: {_refusal(error)}")
    if isinstance(error, PermissionError) or code in _REFUSALS:
        return InputError(f"{where}: {_refusal(error)}")
    if name in ("NoCredentialsError", "ProfileNotFound", "PartialCredentialsError"):
        return InputError(
            f"{where}: {error}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "name a profile, or use anonymous access for a public bucket"
        )
    said = f"{name}: {error}" if str(error) else f"{name}: no whole answer in time"
    failed = StorageError(f"{where}: {said}; the same call may work later")
    failed.reached = name not in _NO_CONNECTION
    return failed


def code_of(error: Exception) -> str:
    """Give S3's name of an error of s3fs; of an answer to a HEAD request, the status."""
    answer = getattr(error.__cause__, "response", {})
    return str(answer.get("Error", {}).get("Code", ""))


def _refusal(error: Exception) -> str:
    """Say why a server refuses a request: in its own words, or by its clock.

    The clocks are compared here since the answer to a HEAD request has no words.
    """
    answer = getattr(error.__cause__, "response", {}).get("ResponseMetadata", {})
    said = parsedate_tz(answer.get("HTTPHeaders", {}).get("date", ""))
    if said is not None:
        theirs, ours = datetime.fromtimestamp(mktime_tz(said), UTC), datetime.now(UTC)
        if abs(ours - theirs) > MOST_SKEW:
            return (
                f"this machine's clock says {ours:%Y-%m-%d %H:%M:%S} UTC and the server's "
                f"{theirs:%Y-%m-%d %H:%M:%S}; S3 refuses requests whose times are more "
                "than 15 minutes apart: set this machine's clock, and have it kept by NTP"
            )
    return (
        f"access denied ({error}); check the credentials, which may have expired, the "
        "region, the profile and the bucket's policy"
    )
