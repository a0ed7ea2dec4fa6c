"""Step: filtered shards to a release, immutable and renumbered, with a manifest.

A release is what training reads, and what is handed on: tars of equal size under keys of
their own, with an index, a table and checksums. It is never written twice; what comes
later is the next release, which shares with the one before every tar that did not change.
"""

from curation.release.manifest import Manifest, list_releases, read_manifest
from curation.release.plan import Plan, plan_release
from curation.release.publish import ReleaseOptions, publish_release
from curation.release.takedown import Takedown, take_down

__all__ = [
    "Manifest",
    "Plan",
    "ReleaseOptions",
    "Takedown",
    "list_releases",
    "plan_release",
    "publish_release",
    "read_manifest",
    "take_down",
]
