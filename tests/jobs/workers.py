"""Workers that make nothing: they record what runs would record, and fail as they are told.

So a test sees hundreds of runs of the sensor's in a second or two. What real runs record is
tested beside each asset, and by ``tests/jobs/test_new_shards.py``.
"""

import os
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg
from dagster._core.definitions.run_request import RunRequest
from dagster._core.events import AssetMaterializationPlannedData
from dagster._core.test_utils import create_run_for_test

from curation.recipe import Recipe
from curation.storage import LocalStorage
from curation_assets.global_asset import MADE_OF, current_inputs, made_of
from curation_assets.lineage import DECISION_ASSETS, GLOBAL_ASSETS, Lineage, raw_version
from curation_assets.partitions import list_shards
from curation_assets.shard_asset import DATA_VERSION, recorded_version, recorded_versions
from jobs.attempts import partitions_of
from jobs.new_shards import tick

Status = dg.DagsterRunStatus


@dataclass
class World:
    """A source, an output and records, with the sensor's tick and workers for its runs."""

    folder: Path
    instance: dg.DagsterInstance
    shards_per_run: int = 4
    filter: str = "true"
    fails: set[str] = field(default_factory=set)
    """Shards, or assets over all, that fail; the others of their run are made."""
    kills: set[str] = field(default_factory=set)
    """Shards that kill the process of their run, when it comes to them."""
    cursor: str | None = None
    keys: set[str] = field(default_factory=set)
    """Of all runs: Dagster passes over a key that it knows."""
    made: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """How often each version of a shard of an asset was made."""
    told: list[str] = field(default_factory=list)
    """What ticks that started runs said."""

    @property
    def recipe(self) -> Recipe:
        return Recipe(
            name="world",
            source=str(self.folder / "raw"),
            output=str(self.folder / "curated"),
            filter=self.filter,
            machine={"shards_per_run": self.shards_per_run},  # type: ignore[arg-type]
        )

    @property
    def lineage(self) -> Lineage:
        return Lineage(self.recipe)

    @property
    def order(self) -> Sequence[str]:
        return self.instance.get_dynamic_partitions("shards")

    def put(self, *shards: str) -> None:
        """Add tars to the source, or replace them."""
        for shard in shards:
            tar = self.folder / "raw" / f"{shard}.tar"
            tar.parent.mkdir(parents=True, exist_ok=True)
            before = tar.stat().st_mtime_ns if tar.exists() else 0
            tar.touch()
            os.utime(tar, ns=(0, before + 1))

    def tick(self) -> tuple[list[RunRequest], str]:
        """Evaluate the sensor: its new runs, and its message."""
        result = tick(self.instance, self.recipe, self.cursor, self.told.append)
        self.cursor = result.cursor or self.cursor
        for change in result.dynamic_partitions_requests or []:
            name, keys = change.partitions_def_name, list(change.partition_keys)
            if isinstance(change, dg.AddDynamicPartitionsRequest):
                self.instance.add_dynamic_partitions(name, keys)
            else:
                for key in keys:
                    self.instance.delete_dynamic_partition(name, key)
        asked = list(result.run_requests or [])
        new = [r for r in asked if r.run_key not in self.keys]
        self.keys.update(r.run_key or "" for r in new)
        return new, str(result.skip_reason or "")

    def work(self, *, cancel: bool = False) -> list[dg.DagsterRun]:
        """Tick, and do what it asks for; or cancel each run before it comes to embeddings.

        A run key that was used holds up all others: it must not be asked for again.
        """
        return [self.execute(request, cancel=cancel) for request in self.tick()[0]]

    def work_off(self, most_ticks: int = 60) -> str:
        """Work until two ticks in a row ask for nothing; give the last one's message."""
        idle = 0
        for _ in range(most_ticks):
            requests, message = self.tick()
            for request in requests:
                self.execute(request)
            idle = 0 if requests else idle + 1
            if idle == 2:
                return message
        raise AssertionError("the sensor asks for runs without end")

    def start(self, request: RunRequest, status: Status = Status.STARTED) -> dg.DagsterRun:
        """Put a run on record with what it is to make, as Dagster does."""
        selection = list(request.asset_selection or [])
        run = create_run_for_test(
            self.instance,
            asset_selection=frozenset(selection),
            tags={**request.tags, "dagster/run_key": request.run_key or ""},
            status=status,
        )
        for asset in selection:
            for shard in partitions_of(run, self.order) or [None]:
                event = dg.DagsterEvent.build_asset_materialization_planned_event(
                    run.job_name,
                    asset.to_user_string(),
                    AssetMaterializationPlannedData(asset, partition=shard),
                )
                self.instance.report_dagster_event(event, run.run_id)
        return run

    def execute(self, request: RunRequest, *, cancel: bool = False) -> dg.DagsterRun:
        """Do a run's work, as far as its shards allow."""
        run = self.start(request)
        assets = [key.to_user_string() for key in request.asset_selection or []]
        shards = partitions_of(run, self.order)
        end = Status.CANCELED if cancel else self._make(assets, shards)
        if end == Status.CANCELED:
            self.instance.report_run_canceled(run)
        elif end == Status.FAILURE:
            self.instance.report_run_failed(run)
        else:
            event = dg.DagsterEvent("PIPELINE_SUCCESS", run.job_name)
            self.instance.report_dagster_event(event, run.run_id)
        return run

    def _make(self, assets: Sequence[str], shards: Sequence[str]) -> Status:
        for asset in assets:
            if asset in GLOBAL_ASSETS:
                if asset in self.fails:
                    return Status.FAILURE
                self._compare(asset)
                continue
            failed = False
            for shard in shards:
                if asset not in ("raw_shard", "shard_index"):
                    if shard in self.kills:
                        return Status.FAILURE
                    if shard in self.fails:
                        failed = True
                        continue
                self._record(asset, shard)
            if failed:
                return Status.FAILURE
        return Status.SUCCESS

    def _record(self, asset: str, shard: str) -> None:
        tars = list_shards(LocalStorage(self.folder / "raw"))
        inputs = {
            name: recorded_versions(self.instance, name, [shard]).get(shard, "")
            for name in self.lineage.inputs(asset)
            if name not in GLOBAL_ASSETS
        }
        if asset == "raw_shard":
            version = raw_version(tars[shard])
        elif asset == "duplicates":
            version = f"of {inputs['embeddings']}"
        else:
            cuts = recorded_version(self.instance, "filter_cuts") or ""
            version = self.lineage.expected(asset, {"filter_cuts": cuts} | inputs)
        self.made[asset, shard, version] += 1
        for path in self.lineage.artifacts.of(asset, shard):
            file = self.folder / "curated" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"made")  # a file of no bytes counts as none
        event = dg.AssetMaterialization(
            asset, partition=shard, tags={DATA_VERSION: version}
        )
        self.instance.report_runless_asset_event(event)

    def _compare(self, asset: str) -> None:
        inputs = current_inputs(self.instance, self.lineage, asset)
        for shard, embedded in inputs["embeddings"].items():
            before = recorded_versions(self.instance, "duplicates", [shard]).get(shard)
            if before != f"of {embedded}":
                self._record("duplicates", shard)
        about = {MADE_OF: made_of(self.lineage, asset, inputs)}
        self.instance.report_runless_asset_event(
            dg.AssetMaterialization(asset, metadata=about)
        )

    def done(self) -> Collection[str]:
        """Name the shards of which every decision is what it should be now."""
        lineage = self.lineage
        recorded = {a: recorded_versions(self.instance, a) for a in VERSIONS_OF_SHARDS}
        tars = list_shards(LocalStorage(self.folder / "raw"), may_be_empty=True)
        done = set()
        for shard, tar in tars.items():
            versions = {"raw_shard": raw_version(tar)}
            for asset in VERSIONS_OF_SHARDS[1:]:
                inputs = {
                    name: versions[name]
                    for name in lineage.inputs(asset)
                    if name not in GLOBAL_ASSETS
                }
                versions[asset] = (
                    f"of {versions['embeddings']}"
                    if asset == "duplicates"
                    else lineage.expected(asset, inputs)
                )
            if all(recorded[a].get(shard) == v for a, v in versions.items()):
                done.add(shard)
        return done


VERSIONS_OF_SHARDS = ("raw_shard", "shard_index", "embeddings", "scores", *DECISION_ASSETS)
