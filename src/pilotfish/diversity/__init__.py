"""Selection by geometry at size: spread, cover, cluster, drop near-duplicates. Numpy only.

All take vectors [n, d] (array or memmap; texts where named so), a rank `tie` [n] by content hash
and id that decides between equals, and a mask of eligible rows; shuffled rows get the same answer.
"""

from pilotfish.diversity.duplicates import Duplicates
from pilotfish.diversity.facility_location import facility_location
from pilotfish.diversity.k_center import k_centre
from pilotfish.diversity.kmeans import Clusters, k_means
from pilotfish.diversity.near_duplicates import near_duplicates
from pilotfish.diversity.result import DiverseRows

__all__ = [
    "Clusters",
    "DiverseRows",
    "Duplicates",
    "facility_location",
    "k_centre",
    "k_means",
    "near_duplicates",
]
