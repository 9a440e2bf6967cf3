"""Labels a weak model wrote: the table, and the filters that decide which of them are learnt."""

from pilotfish.labels.table import ABSTAINED, FAILED, FILTERED, OK, STATUSES, Labels

__all__ = ["ABSTAINED", "FAILED", "FILTERED", "OK", "STATUSES", "Labels"]

HELPERS = {"table"}
