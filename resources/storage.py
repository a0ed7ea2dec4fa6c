"""Storages as Dagster resources: where the raw shards are, and where everything goes."""

import dagster as dg

from curation.storage import S3Settings, Storage, open_storage


class StorageResource(dg.ConfigurableResource[Storage]):
    """A folder or an ``s3://`` prefix; assets get the core's ``Storage``."""

    url: str
    endpoint_url: str | None = None
    region: str | None = None
    profile: str | None = None
    anonymous: bool = False

    def create_resource(self, context: dg.InitResourceContext) -> Storage:
        """Open the storage; nothing is connected to yet."""
        settings = S3Settings(
            endpoint_url=self.endpoint_url,
            region=self.region,
            profile=self.profile,
            anonymous=self.anonymous,
        )
        return open_storage(self.url, settings)
