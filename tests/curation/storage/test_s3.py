"""S3 does what every storage does, on a real server with signed requests."""

import boto3
import pytest
from botocore.exceptions import ClientError

from curation.errors import InputError, NotFoundError, StorageError
from curation.storage import S3Settings, S3Storage, Storage
from curation.testing.storage_contract import StorageContract


class TestS3Storage(StorageContract):
    @pytest.fixture
    def storage(self, s3_storage: S3Storage) -> S3Storage:
        return s3_storage

    def put(self, storage: Storage, path: str, data: bytes) -> None:
        client, bucket, key = _address(storage, path)
        client.put_object(Bucket=bucket, Key=key, Body=data)

    def get(self, storage: Storage, path: str) -> bytes | None:
        client, bucket, key = _address(storage, path)
        try:
            return bytes(client.get_object(Bucket=bucket, Key=key)["Body"].read())
        except ClientError:
            return None


def _address(storage: Storage, path: str):  # type: ignore[no-untyped-def]
    assert isinstance(storage, S3Storage)
    client = boto3.client(
        "s3", endpoint_url=storage.settings.endpoint_url, region_name="us-east-1"
    )
    return client, storage.bucket, f"{storage.prefix}/{path}"


def test_wrong_credentials_say_what_to_check(
    s3_storage: S3Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    other = S3Storage(s3_storage.bucket, "p", s3_storage.settings)
    with pytest.raises(InputError, match="check the credentials"):
        other.list_files()


def test_an_unknown_profile_is_a_wrong_setting(s3_server: S3Settings) -> None:
    settings = S3Settings(endpoint_url=s3_server.endpoint_url, profile="no-such-profile")
    with pytest.raises(InputError, match="no-such-profile"):
        S3Storage("bucket", "p", settings).list_files()


def test_a_server_out_of_reach_may_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    nobody = S3Settings(endpoint_url="http://127.0.0.1:9", anonymous=True)
    with pytest.raises(StorageError, match="may work later"):
        S3Storage("bucket", "p", nobody).list_files()


def test_a_missing_bucket_is_not_found_when_written_to(s3_server: S3Settings) -> None:
    with pytest.raises(NotFoundError, match="no-such-bucket"):
        S3Storage("no-such-bucket", "p", s3_server).write("a", b"1")
