"""Diversity for large pools: k-centre, facility location, k-means, near-duplicates. Numpy only.

All functions take vectors [n, d] (array or memmap), a rank `tie` [n] by content hash and id that
decides between equal rows, and a mask of eligible rows. The order of the rows has no effect.
"""

from pilotfish.diversity.facility_location import facility_location
from pilotfish.diversity.k_center import k_centre
from pilotfish.diversity.kmeans import Clusters, k_means
from pilotfish.diversity.near_duplicates import near_duplicates
from pilotfish.diversity.results import DiverseRows, Duplicates

__all__ = [
    "Clusters",
    "DiverseRows",
    "Duplicates",
    "facility_location",
    "k_centre",
    "k_means",
    "near_duplicates",
]
