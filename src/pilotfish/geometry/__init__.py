"""Selection by geometry at size: spread, cover, cluster, drop near-duplicates. Numpy only.

All take vectors [n, d] (array or memmap; texts where named so), a rank `tie` [n] by content hash
and id that decides between equals, and a mask of eligible rows; shuffled rows get the same answer.
"""

from pilotfish.geometry.duplicates import Duplicates
from pilotfish.geometry.facility import facility_location
from pilotfish.geometry.kcentre import k_centre
from pilotfish.geometry.kmeans import Clusters, k_means
from pilotfish.geometry.minhash import near_duplicate_texts
from pilotfish.geometry.near import near_duplicates
from pilotfish.geometry.picks import Picks

__all__ = [
    "Clusters",
    "Duplicates",
    "Picks",
    "facility_location",
    "k_centre",
    "k_means",
    "near_duplicate_texts",
    "near_duplicates",
]
