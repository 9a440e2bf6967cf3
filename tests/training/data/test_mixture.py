"""Shares of gold and replay rows: of every step, of the run, and what stays as it was."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from pilotfish.config import TrainConfig
from pilotfish.data_order import batches
from pilotfish.training.data.mixture import draw_rows, mix_facts, mix_rows, shares_of
from pilotfish.training.data.row_weights import RowInfo
from pilotfish.training.data.rows import TokenizedRows
from pilotfish.training.trainer import train
from tests.training.data.test_collate import row
from tests.training.words import backwards

SIZE, STEPS = 16, 120


def rows_of(counts: dict[str, int], *, seed: int = 0) -> TokenizedRows:
    """Rows of very unequal length: `counts` of each source."""
    draw = np.random.default_rng(seed)
    sources = [source for source, count in counts.items() for _ in range(count)]
    tokens = [int(n) for n in np.exp(draw.uniform(0, 5, len(sources))).astype(int) + 1]
    encoded = [row([1] * (n + 1), [0] + [1] * n) for n in tokens]
    return TokenizedRows(
        encoded, [f"{s}{i}" for i, s in enumerate(sources)], tokens, sources=sources
    )


def parts(
    rows: TokenizedRows, steps: list[list[int]], source: str
) -> tuple[np.ndarray, np.ndarray]:
    """Tokens of a source, and of all, per step."""
    assert rows.sources is not None
    own = [sum(rows.tokens[i] for i in step if rows.sources[i] == source) for step in steps]
    return np.array(own), np.array([sum(rows.tokens[i] for i in step) for step in steps])


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5, 0.9])
def test_a_share_holds_in_every_step_within_a_row_and_over_the_run(share: float) -> None:
    rows = rows_of({"pool": 300, "gold": 20})
    steps = list(mix_rows(rows, {"gold": share}, SIZE, STEPS, seed=0))
    own, whole = parts(rows, steps, "gold")
    assert np.abs(own - share * whole).max() <= max(rows.tokens)
    assert own.sum() / whole.sum() == pytest.approx(share, abs=0.01)
    assert all(len(step) == SIZE for step in steps)


def test_two_sources_beside_the_pool_hold_theirs() -> None:
    rows = rows_of({"pool": 300, "gold": 20, "replay": 40})
    shares = {"gold": 0.2, "replay": 0.1}
    steps = list(mix_rows(rows, shares, SIZE, STEPS, seed=0))
    for source, share in shares.items():
        own, whole = parts(rows, steps, source)
        assert np.abs(own - share * whole).max() <= 2 * max(rows.tokens)
        assert own.sum() / whole.sum() == pytest.approx(share, abs=0.01)


def test_each_source_cycles_by_itself_in_the_order_it_has_alone() -> None:
    rows = rows_of({"pool": 30, "gold": 7})
    flat = [i for step in mix_rows(rows, {"gold": 0.3}, SIZE, STEPS, seed=3) for i in step]
    assert rows.sources is not None
    for source, places in (("pool", range(30)), ("gold", range(30, 37))):
        own = [i for i in flat if rows.sources[i] == source]
        alone = batches([rows.names[i] for i in places], 1, len(own), seed=3)
        assert own == [places[i] for (i,) in alone]
        epochs = [own[at : at + len(places)] for at in range(0, len(own), len(places))]
        assert all(sorted(epoch) == list(places) for epoch in epochs[:-1])


def test_order_does_not_hang_on_the_file_and_is_cut_anywhere() -> None:
    rows = rows_of({"pool": 50, "gold": 9})
    turned = rows.take(range(len(rows))[::-1])
    one = [[rows.names[i] for i in s] for s in mix_rows(rows, {"gold": 0.2}, 8, 20, seed=1)]
    other = [[turned.names[i] for i in s] for s in mix_rows(turned, {"gold": 0.2}, 8, 20, seed=1)]
    assert one == other
    late = islice(mix_rows(rows, {"gold": 0.2}, 8, 20, seed=1), 13, None)
    assert [[rows.names[i] for i in step] for step in late] == one[13:]


def test_without_a_share_nothing_changes() -> None:
    rows = rows_of({"pool": 20, "gold": 5})
    plain = list(batches(rows.names, 8, 10, seed=0))
    assert list(draw_rows(rows, shares_of(rows, TrainConfig()), 8, 10, seed=0)) == plain


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"pool": 3, "gold": 2}, {"gold": 0.2}),
        ({"pool": 3, "replay": 2}, {"replay": 0.1}),
        ({"pool": 3, "gold": 2, "replay": 2}, {"gold": 0.2, "replay": 0.1}),
        ({"gold": 2}, {}),
        ({"pool": 2}, {}),
        ({"gold": 2, "replay": 2}, {"replay": 0.1}),
        ({"replay": 2}, {}),
    ],
)
def test_who_has_a_share(counts: dict[str, int], expected: dict[str, float]) -> None:
    config = TrainConfig(gold_share=0.2, replay="old.jsonl")
    assert shares_of(rows_of(counts), config) == expected


def test_shares_must_leave_room() -> None:
    with pytest.raises(ValueError, match="leave nothing"):
        TrainConfig(gold_share=0.6, replay="old.jsonl", replay_share=0.4)


def test_facts_are_what_was_drawn() -> None:
    rows = rows_of({"pool": 30, "gold": 7})
    steps = list(mix_rows(rows, {"gold": 0.3}, SIZE, STEPS, seed=3))
    own, whole = parts(rows, steps, "gold")
    facts = mix_facts(rows, {"gold": 0.3}, SIZE, STEPS, seed=3)["mix"]["gold"]
    assert facts["asked"] == 0.3 and facts["rows"] == 7
    assert facts["share"] == pytest.approx(own.sum() / whole.sum())
    assert facts["passes"] == pytest.approx(sum(i >= 30 for s in steps for i in s) / 7)


def test_an_arm_is_trained_on_its_mix(llama: str, tmp_path: Path) -> None:
    config = TrainConfig(per_device_train_batch_size=4, max_steps=20, gold_share=0.4)
    known = RowInfo(sources=["pool"] * 30 + ["gold"] * 4)
    facts = train(backwards(34), llama, config, seed=0, folder=tmp_path, row_info=known)
    assert facts["mix"]["gold"]["share"] == pytest.approx(0.4, abs=0.03)
    assert facts["mix"]["gold"]["passes"] > 5
