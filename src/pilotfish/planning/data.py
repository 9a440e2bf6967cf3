"""What a run would read, learnt without starting one: rows counted, and some of them at hand."""

import gzip
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pyarrow.parquet as pq

from pilotfish.config import Recipe
from pilotfish.config.data import Source
from pilotfish.data import Pool, overlap_keys
from pilotfish.data.held_out import HeldOutData, load_eval_rows, source_of_recipe
from pilotfish.data.readers.files import FileSource
from pilotfish.data.readers.locate import locate
from pilotfish.data.run_pool import read_temporary
from pilotfish.store import Store

WHOLE = 64 * 2**20  # bytes of DATA up to which every record is read
SAMPLE = 4000  # records read of larger data


@dataclass(frozen=True)
class Holding:
    """The rows of a run that is only planned."""

    pool: Pool  # all of them, or a sample
    beside: HeldOutData
    rows: int  # of the whole pool
    counted: bool  # whether that is exact
    seconds: float  # to read all of them, and what stands beside

    @property
    def scale(self) -> float:
        """Rows of the pool for every row at hand."""
        return self.rows / len(self.pool)

    @property
    def words(self) -> str:
        """How the rows were counted."""
        if self.counted:
            return "every row was read and counted"
        return (
            f"estimated: the first {self.pool.manifest['rows_in']:,} records were read, and "
            "file sizes tell how many more there are"
        )


def hold(recipe: Recipe, store: Store) -> Holding:
    """Read the recipe's DATA, trusted and test rows, or of large DATA the first records.

    UsageError and DataError as a run would raise them.
    """
    source = source_of_recipe(recipe)
    records = _records(recipe, source)
    few = source if records is None else replace(source, limit=SAMPLE)
    start = time.monotonic()
    beside = load_eval_rows(recipe, few)
    asked = overlap_keys(beside.test)
    pool = read_temporary(few, store, exclude=asked)
    seconds = time.monotonic() - start
    if records is None:
        return Holding(pool, beside, len(pool), True, seconds)
    times = max(records / pool.manifest["rows_in"], 1.0)
    return Holding(pool, beside, round(times * len(pool)), False, times * seconds)


def _records(recipe: Recipe, source: Source) -> int | None:
    """Records there may be in DATA too large to be read for a plan; None where it is not."""
    found = locate(source)
    files = [each for each in found if isinstance(each, FileSource)]
    size = sum(file.path.stat().st_size for file in files)
    # a hub dataset is on this disk once it was opened, and holds no files to weigh
    if len(files) < len(found) or size <= WHOLE or (recipe.limit or SAMPLE + 1) <= SAMPLE:
        return None
    records = sum(_records_of(file) for file in files)
    return min(records, recipe.limit or records)


def _records_of(file: FileSource) -> int:
    """Records of one file: a parquet file knows, of others the first megabyte tells."""
    size = file.path.stat().st_size
    if file.path.suffix == ".parquet":
        return int(pq.read_metadata(file.path).num_rows)
    pieces, lengths = file.records(), list[bytes]()
    for piece, _ in zip(pieces, range(SAMPLE), strict=False):
        lengths.append(piece.data)
    return max(1, round(size / _bytes_each(file, lengths)))


def _bytes_each(file: FileSource, records: Sequence[bytes]) -> float:
    """What a record takes on disk, packed where the file is packed."""
    text = b"\n".join(records)
    packed = file.path.name.lower().endswith(".gz")
    return max(len(gzip.compress(text) if packed else text), 1) / max(len(records), 1)
