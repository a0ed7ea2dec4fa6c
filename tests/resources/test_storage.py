"""Storages as resources."""

import dagster as dg

from curation.storage import LocalStorage, S3Settings, S3Storage
from resources.storage import StorageResource


def test_a_folder_is_a_local_storage() -> None:
    made = StorageResource(url="/data/raw").create_resource(
        dg.build_init_resource_context()
    )
    assert made == LocalStorage("/data/raw")  # type: ignore[arg-type]


def test_a_bucket_is_reached_as_the_settings_say(s3_server: S3Settings) -> None:
    resource = StorageResource(url="s3://bucket/some/prefix", **vars(s3_server))
    made = resource.create_resource(dg.build_init_resource_context())
    assert made == S3Storage("bucket", "some/prefix", s3_server)
