"""Pieces of markdown that several tables share."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

Found = Mapping[str, Any]

NAMES = {
    "one_row": "one row at a time, full logits",
    "padded_8": "transformers, padded batches of 8",
    "sorted_8": "transformers, batches of 8 by length",
    "sorted_16": "transformers, batches of 16 by length",
    "ours_fp32": "pilotfish, fp32",
    "ours_bf16": "pilotfish, bf16",
    "ours_int8": "pilotfish, int8",
}


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """Lines of one markdown table, and an empty one."""
    yield f"| {' | '.join(head)} |"
    yield "|" + "---|" * len(head)
    yield from (f"| {' | '.join(row)} |" for row in rows)
    yield ""


def provenance(found: Found) -> Iterator[str]:
    """The command, and on what its numbers were made."""
    machine = found["machine"]
    where = machine["gpu"] or f"{machine['cpu']} ({', '.join(machine['flags'])})"
    commit = found["commit"]
    yield from ("```bash", found["command"], "```", "")
    yield (
        f"Commit {commit[:12]}{' with changes' * commit.endswith('+')}, seed {found['seed']}; "
        f"{where}, {machine['threads']} of {machine['cores']} cores, torch {machine['torch']}, "
        f"transformers {machine['transformers']}."
    )
    yield ""


def peaks(found: Found) -> Iterator[str]:
    """What the machine can do at most."""
    words = [f"{kind} {speed:,.0f}" for kind, speed in found["peak_gflops"].items()]
    yield f"Matrix-product peaks measured in the same run: {', '.join(words)} GFLOP/s."
    yield ""


def ratio(spread: Found) -> str:
    """`1.52 (1.49 to 1.56)`."""
    return f"{spread['median']:.2f} ({spread['low']:.2f} to {spread['high']:.2f})"


def speeds(one: Found) -> tuple[str, ...]:
    """Tokens and rows per second, and the ratio."""
    return (
        f"{one['tokens_per_second']:,.0f}",
        f"{one['examples_per_second']:,.2f}",
        ratio(one["ratio"]),
    )


def agrees(one: Found) -> tuple[str, ...]:
    """Largest difference, rank correlation, overlap."""
    rank = one["spearman"]
    return (
        f"{one['max_difference']:.1e}",
        "-" if rank is None else f"{rank:.5f}",
        f"{one['overlap_top_10']:.0%}",
    )
