"""Real files: what is known about them must come out of reading them."""

from collections import Counter
from pathlib import Path

import pytest

from pilotfish.data import overlap_keys
from pilotfish.errors import UsageError
from pilotfish.store import Store
from tests.reading import inspect, read, read_rows

QA = {"prompt": "question", "completion": "answer"}


def test_dolly_is_distinct_and_whole(data_dir: Path, store: Store) -> None:
    pool = read(data_dir / "instruct/dolly.jsonl.gz", store, shard_rows=5000)
    assert (len(pool), pool.schema, pool.shards) == (14_989, "alpaca", 3)
    assert pool.manifest["quarantined"] == {}
    columns = pool.columns("id", "digest")
    assert len(set(columns["digest"])) == 14_989
    assert all(name == f"{digest[:16]}-0" for name, digest in zip(*columns.values(), strict=True))


def test_gsm8k_needs_a_mapping_and_shares_no_question_with_its_test_set(data_dir: Path) -> None:
    train = data_dir / "instruct/gsm8k_train.jsonl"
    with pytest.raises(UsageError, match="answer, question"):
        inspect(train)
    test = read_rows(
        data_dir / "w2s/gsm8k_model_solutions.jsonl",
        mapping={"prompt": "question", "completion": "ground_truth"},
    )
    assert len(test.examples) == 791
    found = read_rows(train, mapping=QA, exclude=overlap_keys(test.examples))
    assert (len(found.examples), found.dropped) == (7_473, 0)
    assert len(test.examples[0].meta) == 4


def test_llamafactory_alpaca_has_fourteen_exact_duplicates(data_dir: Path) -> None:
    found = read_rows(data_dir / "instruct/llamafactory_alpaca_en_demo.jsonl")
    seen = Counter(example.digest for example in found.examples)
    assert sum(n - 1 for n in seen.values()) == 14
    assert sum(not example.id.endswith("-0") for example in found.examples) == 14
    assert len({example.id for example in found.examples}) == 999


@pytest.mark.parametrize("name", ["llamafactory_dpo_en_demo", "llamafactory_kto_en_demo"])
def test_preference_files_are_refused(data_dir: Path, name: str) -> None:
    with pytest.raises(UsageError, match="preference data"):
        inspect(data_dir / f"instruct/{name}.jsonl")


def test_seed_tasks_have_no_known_shape(data_dir: Path) -> None:
    with pytest.raises(UsageError, match="instances, instruction"):
        inspect(data_dir / "instruct/self_instruct_seed_tasks.jsonl")


def test_t0_keeps_its_families_in_meta(data_dir: Path) -> None:
    found = read_rows(data_dir / "instruct/t0_mini_20.jsonl.gz", limit=500)
    assert found.schema == "prompt_completion"
    assert set(found.examples[0].meta) == {"family", "template", "idx"}


def test_sst2_sentences_shared_by_train_and_dev_are_dropped(data_dir: Path) -> None:
    mapping = {"text": "sentence"}
    dev = read_rows(data_dir / "classify/sst2_dev.tsv", mapping=mapping)
    assert (len(dev.examples), dev.schema) == (6_735, "text_label")
    assert {example.label for example in dev.examples} == {"0", "1"}
    train = data_dir / "classify/sst2_train.tsv"
    keys = overlap_keys(dev.examples)
    found = read_rows(train, mapping=mapping, exclude=keys, limit=12_000)
    lines = train.read_text().split("\n")[1:12_001]
    tested = {" ".join((example.text or "").lower().split()) for example in dev.examples}
    shared = [" ".join(line.split("\t")[0].lower().split()) in tested for line in lines]
    assert found.dropped == sum(shared) > 0
    assert [e.row for e in found.examples] == [i for i, both in enumerate(shared) if not both]


def test_rated_tweets_are_plain_text_with_their_own_ids(data_dir: Path) -> None:
    found = read_rows(data_dir / "w2s/human_ratings_tweets.jsonl", limit=100)
    assert (found.schema, found.examples[0].id) == ("plain_text", "1")


def test_latin1_read_as_utf8_is_named(data_dir: Path, tmp_path: Path) -> None:
    # The file has no header: give it one, as a person would
    body = (data_dir / "classify/rt-polarity.pos").read_bytes()
    (tmp_path / "a.tsv").write_bytes(b"text\n" + body)
    found = inspect(tmp_path / "a.tsv")
    assert set(found.quarantined) == {"invalid_utf8"}
    assert found.rows + found.quarantined["invalid_utf8"] == 5_331
