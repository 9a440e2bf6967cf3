"""label over a pool: what is written, reused, refused and redone, and that nothing leaks."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from pilotfish.config import LabelConfig, Recipe, TrainConfig, WeakTrainConfig
from pilotfish.data import Pool, overlap_key
from pilotfish.demo.models import shipped
from pilotfish.errors import DataError, UsageError
from pilotfish.labeling import shards
from pilotfish.labeling.files import read_labels
from pilotfish.labeling.filtering import label_rows
from pilotfish.labeling.label import Labelled, label
from pilotfish.labeling.labellers import fold_of
from pilotfish.labeling.table import FAILED, FILTERED, OK
from pilotfish.models import identify, load
from pilotfish.store import Run, Store
from tests.reading import read

WEAK, STRONG = str(shipped("weak")), str(shipped("strong"))
WORDS = ("abc", "river", "ab", "lemon", "stone", "zz", "tiger", "cloud", "piano", "apple")
ROOM = LabelConfig(max_new_tokens=8)
QUICK: dict[str, Any] = {
    "weak": WEAK,
    "weak_train": WeakTrainConfig(
        learning_rate=1e-3, use_peft=False, per_device_train_batch_size=64
    ),
    "train": TrainConfig(learning_rate=1e-3, use_peft=False, max_steps=2),
}


def rows(*words: str, start: int = 0) -> list[dict[str, Any]]:
    return [
        {"id": f"r{i}", "prompt": f"reverse: {word}", "completion": word[::-1], "tag": i}
        for i, word in enumerate(words, start)
    ]


def write(path: Path, records: list[Any]) -> str:
    lines = (one if isinstance(one, str) else json.dumps(one) for one in records)
    path.write_text("".join(f"{line}\n" for line in lines))
    return str(path)


@pytest.fixture
def data(tmp_path: Path) -> str:
    return write(tmp_path / "pool.jsonl", rows(*WORDS))


def done(
    data: str,
    out: Path,
    how: LabelConfig = ROOM,
    *,
    name: str | None = None,
    force: bool = False,
    **recipe: Any,
) -> Labelled:
    settings = QUICK | recipe
    return label(Recipe(data=data, strong="", **settings), how, str(out), name=name, force=force)


def lines(found: Labelled) -> list[dict[str, Any]]:
    path = found.run.root / f"labels/{found.name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_rows_come_back_as_they_came_with_the_weak_answer_and_its_provenance(
    data: str, tmp_path: Path
) -> None:
    expected = label_rows(list(read(data, Store(tmp_path / "pool")).examples()), load(WEAK), ROOM)
    middle = float(np.median(expected.confidence))
    found = done(data, tmp_path / "run", LabelConfig(max_new_tokens=8, abstain_below=middle))
    labels = found.labels
    assert list(labels.label) == list(expected.label)
    assert found.facts["counts"] == labels.counts and labels.counts[OK] == 5
    written, source = lines(found), rows(*WORDS)
    for line, place in zip(written, np.flatnonzero(labels.ok), strict=True):
        assert line == {
            **source[place], "completion": labels.label[place], "label_by": load(WEAK).digest,
            "label_confidence": labels.confidence[place], "label_status": "ok", "label_round": 0,
        }  # fmt: skip
    table = pq.read_table(found.run.root / "labels/hard.parquet")
    assert table.column_names[:4] == ["id", "source", "row", "label"]
    assert table["reason"].null_count == labels.counts[OK]
    agree = [line["completion"] == source[int(line["id"][1:])]["completion"] for line in written]
    assert found.facts["agreement"] == pytest.approx(sum(agree) / len(agree))
    assert found.facts["agreement_rows"] == len(agree)


def test_shards_change_no_label_and_a_killed_run_redoes_only_what_is_missing(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = done(data, tmp_path / "whole").labels
    run = Run(tmp_path / "run")
    small = read(data, run.store, shard_rows=3)
    assert small.shards == 4
    run.update(pool={"rows": 10}, data={"data": data})
    counts: list[int] = []

    def dies(examples: Any, *rest: Any, **how: Any) -> Any:
        if len(counts) == 2:
            raise KeyboardInterrupt
        counts.append(len(examples))
        return predict(examples, *rest, **how)

    predict = shards.predict_labels
    monkeypatch.setattr(shards, "predict_labels", dies)
    with pytest.raises(KeyboardInterrupt):
        done(str(run.root), run.root)
    assert counts == [3, 3]
    monkeypatch.setattr(
        shards,
        "predict_labels",
        lambda rows, *a, **k: counts.append(len(rows)) or predict(rows, *a, **k),
    )
    found = done(str(run.root), run.root)
    assert counts == [3, 3, 3, 1]
    done(str(run.root), run.root)
    # another threshold needs no model; nor does another name
    done(str(run.root), run.root, LabelConfig(max_new_tokens=8, abstain_below=0.5), name="sure")
    assert counts == [3, 3, 3, 1]
    assert list(found.labels.label) == list(whole.label)
    assert found.labels.confidence == pytest.approx(whole.confidence, abs=1e-5)
    part = next(run.root.glob("labels/raw/*/part-00001.parquet"))
    part.write_bytes(b"damaged")
    done(str(run.root), run.root, force=True, name="again")
    assert counts == [3, 3, 3, 1, 3]


def test_reuse_is_refused_by_name_of_what_changed(data: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    first = done(data, out)
    before = (out / "labels/hard.json").read_bytes()
    assert done(data, out).facts == first.facts
    with pytest.raises(UsageError, match="another abstain, max_new_tokens") as caught:
        done(data, out, LabelConfig(max_new_tokens=9, abstain_below=0.5))
    assert "--as" in str(caught.value.hint)
    with pytest.raises(UsageError, match="another weak model"):
        done(data, out, weak=STRONG)
    assert (out / "labels/hard.json").read_bytes() == before
    done(data, out, LabelConfig(max_new_tokens=9), force=True)
    done(data, out, LabelConfig(kind="consistency", samples=2, max_new_tokens=8))
    with pytest.raises(UsageError, match="another samples"):
        done(data, out, LabelConfig(kind="consistency", samples=3, max_new_tokens=8))
    assert sorted(Run(out).section("labels")) == ["consistency", "hard"]
    for name in ("seed-0", "raw", "a/b", ""):
        if name:
            with pytest.raises(UsageError, match="cannot name"):
                done(data, out, name=name)


def test_soft_labels_survive_the_disk(tmp_path: Path) -> None:
    records = [{"text": word, "label": i % 2} for i, word in enumerate(WORDS)]
    found = done(
        write(tmp_path / "texts.jsonl", records), tmp_path / "run", LabelConfig(kind="soft")
    )
    labels = found.labels
    assert labels.classes == ("0", "1") and labels.probs is not None
    assert labels.probs.sum(axis=1) == pytest.approx(1)
    for line, probs in zip(lines(found), labels.probs, strict=True):
        assert line["label_probs"] == {"0": probs[0], "1": probs[1]}
        assert line["label"] == int(probs.argmax())  # a number, as it was


def folder_rows(found: Labelled) -> dict[str, set[str]]:
    """Digest of every model that was made -> what its training rows ask, as recorded."""
    found_keys = {}
    for path in found.run.root.glob("labels/models/*/rows.jsonl"):
        keys = {json.loads(line)["asks"] for line in path.read_text().splitlines()}
        found_keys[load(str(path.parent)).digest] = keys
    return found_keys


def assert_nothing_leaks(found: Labelled) -> None:
    labels, learnt = found.labels, folder_rows(found)
    keys = [overlap_key(row) for row in Pool.open(found.run.store).examples()]
    for by, key in zip(labels.by, keys, strict=True):
        assert not by or key not in learnt.get(by, set())


def test_folds_never_let_a_model_label_what_it_learnt(tmp_path: Path) -> None:
    twice = [*rows(*WORDS), {**rows("river")[0], "id": "again", "completion": "else"}]
    data = write(tmp_path / "pool.jsonl", twice)
    found = done(data, tmp_path / "run", LabelConfig(folds=3, max_new_tokens=8, seed=1))
    labels = found.labels
    keys = [overlap_key(row) for row in Pool.open(found.run.store).examples()]
    assert list(labels.fold) == [fold_of(key, 3, 1) for key in keys]
    assert labels.fold[1] == labels.fold[10]  # the same question, whatever the answer
    learnt = folder_rows(found)
    assert len(learnt) == len({*labels.fold}) == 3 and {*labels.by} == {*learnt}
    for by, fold in zip(labels.by, labels.fold, strict=True):
        assert learnt[by] == {key for key, f in zip(keys, labels.fold, strict=True) if f != fold}
    assert_nothing_leaks(found)
    assert "cross-fitted in 3 folds" in found.facts["words"][0]


def test_rows_that_ask_what_was_tuned_on_are_not_labelled_or_are_cross_fitted(
    data: str, tmp_path: Path
) -> None:
    trusted = write(
        tmp_path / "trusted.jsonl", rows(*WORDS[:3], "eagle", "mouse", "house", start=50)
    )
    found = done(data, tmp_path / "run", trusted=trusted)
    assert list(found.labels.reason[:3]) == ["asked_in_tuning"] * 3
    assert found.labels.counts == {OK: 7, "abstained": 0, FILTERED: 3, FAILED: 0}
    assert "3 of the 10" in found.facts["words"][0] and "--folds" in found.facts["words"][0]
    assert [line["id"] for line in lines(found)] == [f"r{i}" for i in range(3, 10)]
    assert_nothing_leaks(found)
    fitted = done(
        data, tmp_path / "run", LabelConfig(folds=2, max_new_tokens=8), trusted=trusted, name="fit"
    )
    assert fitted.labels.counts[OK] == 10 and {*fitted.labels.fold} == {0, 1}
    assert_nothing_leaks(fitted)


def test_disjoint_trusted_rows_need_no_folds_and_that_is_proved(data: str, tmp_path: Path) -> None:
    trusted = write(tmp_path / "trusted.jsonl", rows("eagle", "mouse", "house", "table", start=50))
    found = done(data, tmp_path / "run", LabelConfig(folds=4, max_new_tokens=8), trusted=trusted)
    assert "none of the 10 pool rows has the prompt" in found.facts["words"][0]
    assert {*found.labels.fold} == {-1} and len(folder_rows(found)) == 1
    assert_nothing_leaks(found)


def test_a_chain_trains_each_model_on_the_labels_of_the_one_before(
    data: str, tmp_path: Path
) -> None:
    found = done(data, tmp_path / "run", LabelConfig(max_new_tokens=8, then=[STRONG]))
    learnt = folder_rows(found)
    assert {*found.labels.by} == {*learnt} and load(WEAK).digest not in learnt
    assert len(learnt) == len({*found.labels.fold}) == 2
    assert_nothing_leaks(found)
    assert len(found.facts["words"]) == 2


def test_a_second_round_lets_hard_rows_back_where_the_second_model_agrees(
    data: str, tmp_path: Path
) -> None:
    how = LabelConfig(max_new_tokens=8, filter="confidence(keep=0.5)")
    first = done(data, tmp_path / "run", how, name="first")
    # trained for no step worth the name, the second model is the first one
    still = TrainConfig(learning_rate=1e-12, use_peft=False, max_steps=1)
    rule = {"refill": WEAK, "refill_rule": "refill(quota=0.4,floor=0.0)"}
    found = done(data, tmp_path / "run", how.model_copy(update=rule), train=still)
    assert first.labels.counts[OK] == 5 and found.labels.counts[OK] == 7
    back = found.labels.round == 1
    assert back.sum() == 2 and (found.labels.status[back] == OK).all()
    assert not (back & first.labels.ok).any()
    hardest = np.argsort(found.labels.confidence)[:2]
    assert {*hardest} == {*np.flatnonzero(back)}


def test_bad_rows_are_quarantined_counted_and_refused_beyond_the_rate(tmp_path: Path) -> None:
    data = write(tmp_path / "pool.jsonl", [*rows(*WORDS), "{broken", '{"prompt": 3}'])
    with pytest.raises(DataError, match="2 of 12"):
        done(data, tmp_path / "run")
    found = done(data, tmp_path / "run", max_bad_rate=0.2)
    assert len(found.labels) == 10
    quarantined = (tmp_path / "run/pool/quarantine.jsonl").read_text().splitlines()
    assert [json.loads(line)["row"] for line in quarantined] == [10, 11]


def test_a_pool_without_labels_is_an_error_that_names_the_reason(data: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none of the 10 rows .* answer_cut_off 10"):
        done(data, tmp_path / "run", LabelConfig(max_new_tokens=1))
    assert read_labels(Run(tmp_path / "run"), "hard").counts[FAILED] == 10


def test_trust_needs_gold_rows_and_holds_them_out_of_tuning(data: str, tmp_path: Path) -> None:
    how = LabelConfig(max_new_tokens=8, filter="trust")
    with pytest.raises(UsageError, match="trust"):
        done(data, tmp_path / "run", how)
    words = [f"{a}{b}" for a in "abcdefg" for b in ("", "xyzq", "op")]
    trusted = write(tmp_path / "trusted.jsonl", rows(*words, start=50))
    few = LabelConfig(max_new_tokens=8, filter="trust(gold=5)")
    with pytest.raises(UsageError, match="10 right and 10 wrong"):  # the gold third alone counts
        done(data, tmp_path / "run", few, trusted=trusted)
    [learnt] = folder_rows(Labelled(Run(tmp_path / "run"), "hard", {})).values()
    assert len(learnt) == 14  # of 21


def texts(*words: str, start: int = 0) -> list[dict[str, Any]]:
    return [
        {"id": f"t{i}", "text": word, "label": "long" if len(word) > 4 else "short"}
        for i, word in enumerate(words, start)
    ]


HEAD = LabelConfig(max_new_tokens=8, head=True)
FOUR_STEPS = TrainConfig(learning_rate=1e-3, use_peft=False, max_steps=4)


def test_heads_are_tuned_in_folds_label_softly_and_teach_the_next_one(tmp_path: Path) -> None:
    data = write(tmp_path / "pool.jsonl", texts(*WORDS))
    how = LabelConfig(kind="soft", folds=2, head=True)
    found = done(data, tmp_path / "run", how, train=FOUR_STEPS)
    labels = found.labels
    assert labels.classes == ("long", "short") and labels.probs is not None
    assert labels.probs.sum(axis=1) == pytest.approx(1, abs=1e-9)
    assert [labels.classes[k] for k in labels.probs.argmax(axis=1)] == list(labels.label)
    assert labels.confidence == pytest.approx(labels.probs.max(axis=1))
    learnt = learnt_by_heads(found)
    assert {*labels.by} == {*learnt} and len(learnt) == 2
    keys = [overlap_key(row) for row in Pool.open(found.run.store).examples()]
    assert not any(key in learnt[by] for by, key in zip(labels.by, keys, strict=True))

    chain = how.model_copy(update={"then": [STRONG]})
    chained = done(data, tmp_path / "run", chain, train=FOUR_STEPS, name="chain").labels
    learnt = learnt_by_heads(found)
    assert len(learnt) == 4 and not {*chained.by} & {*labels.by}
    assert not any(key in learnt[by] for by, key in zip(chained.by, keys, strict=True))


def learnt_by_heads(found: Labelled) -> dict[str, set[str]]:
    found_keys = {}
    for path in found.run.root.glob("labels/models/*/rows.jsonl"):
        lines = path.read_text().splitlines()
        found_keys[identify(str(path.parent))] = {json.loads(line)["asks"] for line in lines}
    return found_keys


def test_a_trained_head_has_its_own_classes_of_texts_without_labels(tmp_path: Path) -> None:
    trusted = write(tmp_path / "trusted.jsonl", texts(*WORDS))
    bare = write(tmp_path / "bare.jsonl", [{"text": f"{word}s"} for word in WORDS])
    first = done(bare, tmp_path / "run", HEAD, trusted=trusted)
    [folder] = first.run.root.glob("labels/models/*")
    again = done(bare, tmp_path / "again", weak=str(folder))
    assert again.labels.classes == ("long", "short")
    assert list(again.labels.label) == list(first.labels.label)
    assert again.labels.confidence == pytest.approx(first.labels.confidence, abs=1e-6)
    assert {line["label"] for line in lines(again)} <= {"long", "short"}
    assert again.facts["agreement"] is None and again.facts["agreement_rows"] == 0
    knn = LabelConfig(filter="knn(k=3,keep=0.5)")
    assert done(bare, tmp_path / "again", knn, weak=str(folder), name="knn").labels.counts[OK] == 5


def test_a_head_that_was_not_trained_and_votes_of_heads_are_refused(tmp_path: Path) -> None:
    data = write(tmp_path / "pool.jsonl", texts(*WORDS))
    with pytest.raises(UsageError, match="no trained classification head"):
        done(data, tmp_path / "run", HEAD)
    with pytest.raises(UsageError, match="classification head"):
        how = LabelConfig(kind="consistency", folds=2, head=True)
        done(data, tmp_path / "run", how)
    wrong = write(tmp_path / "trusted.jsonl", [{"text": "x", "label": "other"}, *texts("zebra")])
    with pytest.raises(UsageError, match="labelled other"):
        how = LabelConfig(classes=["long", "short"], head=True)
        done(data, tmp_path / "run", how, trusted=wrong)
