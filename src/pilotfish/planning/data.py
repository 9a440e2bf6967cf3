"""Read the rows for a plan: small data whole, a sample of large data."""

import gzip
import time
from dataclasses import replace

import pyarrow.parquet as pq

from pilotfish.arms.workload import DatasetSize
from pilotfish.config import Recipe
from pilotfish.config.data import Source
from pilotfish.data import overlap_keys
from pilotfish.data.held_out import load_eval_rows, source_of_recipe
from pilotfish.data.readers.files import FileSource, locate
from pilotfish.data.run_pool import read_temporary
from pilotfish.store import Store

WHOLE_BYTES = 64 * 2**20  # data up to this size are read to the last record
SAMPLED_RECORDS = 4000  # read of larger data


def read_dataset(recipe: Recipe, store: Store) -> DatasetSize:
    """Read the data, the trusted rows and the test rows of a recipe.

    Of data above 64 MiB the first records are read; the rest is estimated from file sizes.

    Args:
        recipe: The settings of the run.
        store: A folder for the pool, which need not stay.

    Raises:
        UsageError: As a run would raise it, for a missing file for example.
        DataError: As a run would raise it, for too many bad records.
    """
    source = source_of_recipe(recipe)
    records = _estimated_records(recipe, source)
    if records is not None:
        source = replace(source, limit=SAMPLED_RECORDS)
    start = time.monotonic()
    held_out = load_eval_rows(recipe, source)
    pool = read_temporary(source, store, exclude=overlap_keys(held_out.test))
    seconds = time.monotonic() - start
    if records is None:
        return DatasetSize(pool, held_out, len(pool), True, seconds)
    scale = max(records / pool.manifest["rows_in"], 1.0)
    return DatasetSize(pool, held_out, round(scale * len(pool)), False, scale * seconds)


def counting_note(data: DatasetSize) -> str:
    """Return a sentence on how the rows were counted."""
    if data.exact:
        return "every row was read and counted"
    return (
        f"estimated: the first {data.pool.manifest['rows_in']:,} records were read, and "
        "the number of all rows follows from file sizes"
    )


def _estimated_records(recipe: Recipe, source: Source) -> int | None:
    """Return the records of data too large to be read for a plan; None for smaller data."""
    found = locate(source)
    files = [each for each in found if isinstance(each, FileSource)]
    size = sum(file.path.stat().st_size for file in files)
    # a hub dataset is on this disk once it was opened, and has no files to measure
    small = size <= WHOLE_BYTES or (recipe.limit or SAMPLED_RECORDS + 1) <= SAMPLED_RECORDS
    if small or len(files) < len(found):
        return None
    records = sum(_records_in_file(file) for file in files)
    return min(records, recipe.limit or records)


def _records_in_file(file: FileSource) -> int:
    """Count the records of a file: exactly for parquet, else by the size of its first records."""
    path = file.path
    if path.suffix == ".parquet":
        return int(pq.read_metadata(path).num_rows)
    first = [piece.data for piece, _ in zip(file.records(), range(SAMPLED_RECORDS), strict=False)]
    text = b"\n".join(first)
    packed = gzip.compress(text) if path.name.lower().endswith(".gz") else text
    return max(1, round(path.stat().st_size * max(len(first), 1) / max(len(packed), 1)))
