"""select --dedup and --quota: copies kept once, rows shared among groups, all of it told."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pilotfish.cli.main import run as command
from pilotfish.data import Pool
from pilotfish.diagnostics.explain import explain
from pilotfish.diagnostics.verify import verify
from pilotfish.errors import UsageError
from pilotfish.methods.rankers import Top, tie_rank
from pilotfish.selection.constraints import Constraints, sentences_of
from pilotfish.selection.select import SelectConfig, select
from pilotfish.store import Run
from tests.experiments.runs import decisions, pool_run, score_run, selected, write

TOPICS = ("web", "books", "code")


def topics(count: int = 90) -> list[dict[str, Any]]:
    """Rows of three topics, 1 : 2 : 3, a few of them without one."""
    drawn = np.random.default_rng(5).choice(3, count, p=(1 / 6, 2 / 6, 3 / 6))
    rows = [
        {"instruction": f"Say {i}", "input": "", "output": f"word {i}", "topic": TOPICS[t]}
        for i, t in enumerate(drawn)
    ]
    for row in rows[::30]:
        del row["topic"]
    return rows


def topic_run(root: Path, rows: list[dict[str, Any]] | None = None, **how: Any) -> Run:
    data = write(root.parent / f"{root.name}-data" / "rows.jsonl", rows or topics())
    return score_run(pool_run(root, data), **how)


def pick(run: Run, budget: str, *, dedup: str | None = None, quota: str | None = None,
         **how: Any) -> list[dict[str, Any]]:  # fmt: skip
    select(
        run.root,
        SelectConfig(
            how.pop("method", "superfiltering"),
            budget,
            constraints=Constraints.parse(dedup, quota),
            **how,
        ),
    )
    return selected(run, how.get("name", "selected"))


def count_of(rows: list[dict[str, Any]]) -> Counter[str]:
    return Counter(row.get("topic", "(none)") for row in rows)


def by_sorting(run: Run, quotas: dict[str, int], rows: list[dict[str, Any]]) -> set[int]:
    """The slow obvious way: sort every group, take its first rows."""
    told = decisions(run)
    scores = np.array([np.nan if s is None else s for s in told["score"]])
    columns = Pool.open(run.store).columns("digest", "id")
    order = Top("high").rank(
        np.where(scores < 1, scores, np.nan), tie_rank(columns["digest"], columns["id"])
    )
    kept, left = set[int](), dict(quotas)
    for i in order.order.tolist():
        topic = rows[i].get("topic", "(none)")
        if left.get(topic, 0):
            left[topic] -= 1
            kept.add(i)
    return kept


def test_shares_are_those_of_the_pool_and_the_best_of_each_group(tmp_path: Path) -> None:
    rows = topics()
    run = topic_run(tmp_path / "run", rows)
    kept = pick(run, "30rows", quota="topic")
    sizes, got = count_of(rows), count_of(kept)
    assert all(abs(got[topic] - sizes[topic] / 3) < 1 for topic in sizes)
    told = decisions(run)
    assert {i for i, k in enumerate(told["kept"]) if k} == by_sorting(run, dict(got), rows)
    scores = [told["score"][i] for i in np.argsort([r if r is not None else 999
                                                    for r in told["rank"]])[:30]]  # fmt: skip
    assert scores == sorted(scores, reverse=True)
    facts = run.section("selections")["selected"]["quota"]
    assert {name: g["kept"] for name, g in facts["groups"].items()} == dict(got)
    assert {name: g["pool"] for name, g in facts["groups"].items()} == dict(sizes)


def test_balanced_and_weighted_shares(tmp_path: Path) -> None:
    run = topic_run(tmp_path / "run")
    assert count_of(pick(run, "9rows", quota="topic:web=1,books=2")) == {"web": 3, "books": 6}
    got = count_of(pick(run, "40rows", quota="topic:balanced", name="b", allow_short=True))
    room = run.section("selections")["b"]["quota"]["groups"]
    assert sum(got.values()) == 40
    for name, told in room.items():  # who has fewer gives all, the others are level
        assert got[name] == told["eligible"] or got[name] >= max(got.values()) - 1


def test_sources_are_groups_too(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    write(folder / "a.jsonl", topics(60))
    write(folder / "b.jsonl", [{**row, "output": row["output"] + " more"} for row in topics(20)])
    run = score_run(pool_run(tmp_path / "run", folder))
    pick(run, "8rows", quota="source")
    told = decisions(run)
    kept = Counter(s for s, k in zip(told["source"], told["kept"], strict=True) if k)
    assert kept == {"a.jsonl": 6, "b.jsonl": 2}


def test_whatever_the_order_and_the_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = topics()
    turned = [rows[i] for i in np.random.default_rng(1).permutation(len(rows))]
    found = []
    for name, each, shard in (("a", rows, 10_000), ("b", turned, 10_000), ("c", rows, 7)):
        data = write(tmp_path / f"{name}-data" / "rows.jsonl", each)
        run = score_run(pool_run(tmp_path / name, data, shard_rows=shard))
        found.append(pick(run, "30%", quota="topic:balanced", dedup="near"))
    assert found[0] == found[1] == found[2]


def test_the_middle_of_every_group(tmp_path: Path) -> None:
    run = topic_run(tmp_path / "run", columns={"perplexity": "perplexity(direction=middle)"})
    kept = pick(run, "3rows", method="perplexity", quota="topic:web=1,books=1,code=1")
    assert count_of(kept) == {topic: 1 for topic in TOPICS}
    told, rows = decisions(run), topics()
    for topic in TOPICS:
        mine = [i for i, row in enumerate(rows) if row.get("topic") == topic]
        scores = sorted(told["score"][i] for i in mine)
        [score] = [told["score"][i] for i in mine if told["kept"][i]]
        assert score in (scores[(len(scores) - 1) // 2], scores[len(scores) // 2])


def copies(count: int = 30) -> list[dict[str, Any]]:
    """Rows of which every third is said twice, and every fifth nearly so."""
    rows = []
    for i in range(count):
        text = " ".join(f"w{i}x{j}" for j in range(40))
        rows.append({"instruction": f"Say {i}", "input": "", "output": text, "tag": i})
        if i % 3 == 0:
            rows.append({**rows[-1], "tag": 1000 + i})
        if i % 5 == 0:
            rows.append({**rows[-1], "output": text + " end", "tag": 2000 + i})
    return rows


@pytest.mark.parametrize("kind", ["exact", "near"])
def test_the_best_ranked_copy_stays(tmp_path: Path, kind: str) -> None:
    rows = copies()
    values = np.random.default_rng(2).permutation(len(rows)) / len(rows)
    run = topic_run(tmp_path / "run", rows, values=values)
    kept = pick(run, "30rows", dedup=kind, allow_short=True)
    said = [row["output"].removesuffix(" end") if kind == "near" else row["output"]
            for row in kept]  # fmt: skip
    assert len(said) == len(set(said)) == 30
    told, at = decisions(run), {row["tag"]: i for i, row in enumerate(rows)}
    position = {told["id"][at[row["tag"]]]: row for row in kept}
    for i, reason in enumerate(told["reason"]):
        if reason == "duplicate_of" and told["nearest_kept_id"][i] is not None:
            other = position[told["nearest_kept_id"][i]]
            assert told["score"][i] < told["score"][at[other["tag"]]]
            assert other["instruction"] == rows[i]["instruction"]
        elif reason != "duplicate_of":
            assert told["nearest_kept_id"][i] is None
    dropped = told["reason"].count("duplicate_of")
    assert run.section("selections")["selected"]["dedup"] == {"kind": kind, "dropped": dropped}
    assert dropped == (len(rows) - 30 if kind == "near" else 10)


def test_a_budget_beyond_the_copies_is_refused_or_taken_short(tmp_path: Path) -> None:
    run = topic_run(tmp_path / "run", copies(), values=np.linspace(0.1, 0.9, len(copies())))
    with pytest.raises(UsageError, match=r"budget is 46 rows but of 46 pool rows 30 may be picked"):
        pick(run, "100%", dedup="near")
    assert len(pick(run, "100%", dedup="near", allow_short=True)) == 30


def test_a_budget_of_tokens_heeds_copies_but_no_quota(tmp_path: Path) -> None:
    run = topic_run(tmp_path / "run", copies(), values=np.linspace(0.1, 0.9, len(copies())))
    said = [row["output"] for row in pick(run, "1500tokens", dedup="exact")]
    assert len(said) == len(set(said)) and said
    with pytest.raises(UsageError, match="quotas share out rows"):
        pick(run, "1500tokens", quota="source", name="other")


@pytest.mark.parametrize(("quota", "said"), [
    ("topc", "no row has a value in a column 'topc'"), ("output", "more than"),
    ("topic:wbe=1", "did you mean 'web'"),
])  # fmt: skip
def test_columns_and_groups_that_are_none(tmp_path: Path, quota: str, said: str,
                                          monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setattr("pilotfish.selection.constraints.MAX_GROUPS", 20)
    run = topic_run(tmp_path / "run")
    with pytest.raises(UsageError, match=said) as caught:
        pick(run, "9rows", quota=quota)
    assert caught.value.hint or "Known" in str(caught.value)
    assert not (run.root / "selections").exists()


def test_another_kind_of_copies_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'near'"):
        Constraints.parse("neer", None)


def test_the_name_knows_its_limits_and_verify_heeds_them(tmp_path: Path) -> None:
    run = topic_run(tmp_path / "run", copies())
    plain = pick(run, "20rows", name="plain", allow_short=True)
    assert pick(run, "20rows", dedup="near", quota="source", allow_short=True) != plain
    with pytest.raises(UsageError, match="dedup"):
        pick(run, "20rows", quota="source", allow_short=True)
    assert verify(str(run.root))["selections"] == 2
    facts = run.section("selections")["selected"]
    wrong = {**facts, "dedup": {**facts["dedup"], "kind": "exact"}}
    run.update(selections={**run.section("selections"), "selected": wrong})
    with pytest.raises(Exception, match="selections/selected"):
        verify(str(run.root))


def test_explain_says_which_copy_and_which_quota(tmp_path: Path) -> None:
    run = topic_run(tmp_path / "run", copies(), values=np.linspace(0.9, 0.1, len(copies())))
    pick(run, "9rows", dedup="exact", quota="source")
    told = decisions(run)
    copy = told["reason"].index("duplicate_of")
    sentence = explain(run.root, row=copy)["sentence"]
    assert f"it is a copy of the kept row {told['nearest_kept_id'][copy]}" in sentence
    last = len(told["reason"]) - 1 - told["reason"][::-1].index("duplicate_of")
    assert (
        "a better-ranked row, which was not kept either" in explain(run.root, row=last)["sentence"]
    )
    over = told["reason"].index("over_quota")
    assert "had reached its quota (source)" in explain(run.root, row=over)["sentence"]


def test_the_command_says_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = topic_run(tmp_path / "run", copies())
    words = ["select", str(run.root), "--method", "superfiltering", "--budget", "9rows", "--dedup",
             "near", "--quota", "source"]  # fmt: skip
    assert command(words) == 0
    said = capsys.readouterr().out
    assert "near copies of a better-ranked one" in said and "source: rows.jsonl 9 of 46" in said
    assert command([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["dedup"]["kind"] == "near" and told["quota"]["as"] == "source"
    assert sentences_of({}) == []
    assert command([*words[:-1], "nowhere", "--as", "x"]) == 2
