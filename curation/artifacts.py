"""Where every artifact lies under the output root.

The one place that spells paths, so that assets, the command and reports agree. A path
holds whatever tells two artifacts of one shard apart: the settings of what makes it, as a
label, or the recipe's name for what is decided by it. So recipes with one output share
what they agree on, and none overwrites what another has.
"""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Artifacts:
    """Paths of what one recipe makes; ``shard`` is a tar's path without ``.tar``."""

    indexes: str
    """The folder of indexes, which has a name of its own for salvaged tars."""
    encoder: str
    """The encoder's label: its model and eight digits of its fingerprint."""
    captions: str
    """The text encoder's label."""
    classifiers: str
    """The classifiers' label."""
    recipe: str
    """The recipe's name."""

    def index(self, shard: str) -> str:
        """DALI's index of the raw shard."""
        return f"{self.indexes}/{shard}.idx"

    def catalog(self, shard: str) -> str:
        """Every member of the raw shard by byte range."""
        return f"{self.indexes}/{shard}.parquet"

    def embeddings(self, shard: str) -> str:
        """Vectors, image facts, captions and the quarantine's reasons."""
        return f"embeddings/{self.encoder}/{shard}.parquet"

    def caption_embeddings(self, shard: str) -> str:
        """Vectors of the captions."""
        return f"caption_embeddings/{self.encoder}/{self.captions}/{shard}.parquet"

    def scores(self, shard: str) -> str:
        """One column per classifier."""
        return f"scores/{self.encoder}/{self.classifiers}/{shard}.parquet"

    def compared(self, similarity_floor: float) -> str:
        """Folder of what is known of which embeddings are similar."""
        return f"compared/{self.encoder}/{similarity_floor:g}"

    def duplicates(self, shard: str) -> str:
        """The shard's removed copies, each with its survivor."""
        return f"duplicates/{self.recipe}/{shard}.parquet"

    @property
    def filter_cuts(self) -> str:
        """What the filter's fractions and percentiles come to, as JSON."""
        return f"selection/{self.recipe}.json"

    def selection(self, shard: str) -> str:
        """Kept or not, and why not."""
        return f"selection/{self.recipe}/{shard}.parquet"

    @property
    def report(self) -> str:
        """The page that shows what the recipe selects."""
        return f"reports/{self.recipe}.html"

    @property
    def calibration(self) -> str:
        """The page that shows what thresholds of duplicates catch."""
        return f"reports/{self.recipe}.calibration.html"

    def of(self, asset: str, shard: str) -> tuple[str, ...]:
        """Every file that an asset has for a shard; the last one written comes last."""
        paths: dict[str, tuple[Callable[[str], str], ...]] = {
            "shard_index": (self.index, self.catalog),
            "embeddings": (self.embeddings,),
            "caption_embeddings": (self.caption_embeddings,),
            "scores": (self.scores,),
            "duplicates": (self.duplicates,),
            "selection": (self.selection,),
            "filtered_shard": (self.filtered_tar, self.filtered_index, self.filtered_table),
        }
        return tuple(path(shard) for path in paths.get(asset, ()))

    @property
    def filtered_folder(self) -> str:
        """Where all filtered shards are."""
        return f"filtered/{self.recipe}"

    @property
    def release_plan(self) -> str:
        """What the next release is to hold, for those who write its tars."""
        return f"release_plans/{self.recipe}.parquet"

    def filtered_tar(self, shard: str) -> str:
        """The kept samples, byte for byte."""
        return f"{self.filtered_folder}/{shard}.tar"

    def filtered_index(self, shard: str) -> str:
        """DALI's index of the filtered shard."""
        return f"{self.filtered_folder}/{shard}.idx"

    def filtered_table(self, shard: str) -> str:
        """One row per kept sample: where it is from and all that is known of it."""
        return f"{self.filtered_folder}/{shard}.parquet"


RELEASES = "releases"
"""The folder of all releases of all recipes of an output."""
TAKEDOWNS = "takedowns"
"""The folder of what may be in no release again."""
CLAIMS = "release_claims"
"""The folder of who is making a release at this moment."""
