"""One file per trainer that rows are written for."""

TARGETS: dict[str, object] = {}
