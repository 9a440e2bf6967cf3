"""Matrix products of many rows with some, a tile at a time: the n x n matrix never exists."""

from collections.abc import Iterator

import numpy as np

from pilotfish.geometry.rows import Vectors, blocks


def products(values: Vectors, other: Vectors) -> Iterator[tuple[int, int, Vectors]]:
    """(start, stop, values[start:stop] @ other.T) for rows [m, d] and others [c, d].

    The tile of about 32 MB is written over by the next one: use it at once.
    """
    turned = np.ascontiguousarray(other.T)
    room: Vectors | None = None  # one for all tiles: fresh memory costs as much as the product
    for start, stop in blocks(len(values), len(other)):
        if room is None:
            room = np.empty((stop - start, len(other)), dtype=np.float32)
        tile = room[: stop - start]
        np.matmul(values[start:stop], turned, out=tile)
        yield start, stop, tile
