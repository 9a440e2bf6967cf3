"""Hub ids and saved datasets, with the network replaced."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from pilotfish.errors import DataError, MissingExtra, UsageError
from pilotfish.store import Store
from tests.data.conftest import rows
from tests.reading import read, read_rows

datasets = pytest.importorskip("datasets", reason="needs the extra 'hub'")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """load_dataset answers with two splits and records its arguments."""
    made: list[tuple[Any, ...]] = []

    def load(name: str, config: Any = None, *, split: Any = None, revision: Any = None) -> Any:
        made.append((name, config, split, revision))
        if name == "some/missing":
            raise FileNotFoundError("no such dataset")
        whole = datasets.DatasetDict(
            {
                "train": datasets.Dataset.from_list(rows(5)),
                "test": datasets.Dataset.from_list(rows(2)),
            }
        )
        return whole if split is None else whole[split]

    monkeypatch.setattr(datasets, "load_dataset", load)
    return made


def test_a_name_that_is_no_local_path_is_read_from_the_hub(
    calls: list[tuple[Any, ...]], store: Store
) -> None:
    pool = read("some/alpaca", store)
    assert len(pool) == 5
    assert calls == [("some/alpaca", None, None, None)]
    first = pool.take([0])[0]
    assert (first.source, first.row, first.turns[0].content) == ("train", 0, "say 0")
    assert list(pool.manifest["sources"]) == ["train"]


def test_config_split_and_revision_are_handed_on(calls: list[tuple[Any, ...]]) -> None:
    found = read_rows("alpaca", dataset_config="en", split="test", revision="v1")
    assert len(found.examples) == 2
    assert calls == [("alpaca", "en", "test", "v1")]
    assert found.examples[0].source == "test"


def test_hub_rows_are_the_same_rows_as_in_a_file(
    calls: list[tuple[Any, ...]], tmp_path: Path
) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(rows(5)))
    assert read_rows("some/alpaca").fingerprint == read_rows(path).fingerprint


def test_a_local_file_of_a_hub_like_name_wins(
    calls: list[tuple[Any, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "some" / "alpaca").mkdir(parents=True)
    (tmp_path / "some/alpaca/x.json").write_text(json.dumps(rows(3)))
    monkeypatch.chdir(tmp_path)
    assert len(read_rows("some/alpaca").examples) == 3
    with pytest.raises(UsageError, match="no file or folder"):
        read_rows("some/alpacca")  # `some` is a folder here, so this was meant as a path
    assert calls == []


def test_a_hub_error_is_reported_in_words(calls: list[tuple[Any, ...]]) -> None:
    with pytest.raises(UsageError, match="no such dataset"):
        read_rows("some/missing")


def test_without_the_extra_its_pip_line_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtra) as caught:
        read_rows("some/alpaca")
    assert caught.value.hint == "pip install 'pilotfish[hub]'"


def save(path: Path, *, splits: bool) -> None:
    train = datasets.Dataset.from_list(rows(5))
    whole = {"train": train, "dev": train.select([4])}
    (datasets.DatasetDict(whole) if splits else train.select([3, 1])).save_to_disk(str(path))


def test_a_saved_dataset_is_read_without_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path / "one", splits=False)
    save(tmp_path / "many", splits=True)
    monkeypatch.setitem(sys.modules, "datasets", None)
    one = read_rows(tmp_path / "one")
    assert [e.turns[0].content for e in one.examples] == ["say 3", "say 1"]
    assert one.examples[0].source == "data-00000-of-00001.arrow"
    assert len(read_rows(tmp_path / "many").examples) == 5
    dev = read_rows(tmp_path / "many", split="dev")
    assert [e.source for e in dev.examples] == ["dev/data-00000-of-00001.arrow"]
    with pytest.raises(UsageError, match=r"no split 'test'. Splits: train, dev"):
        read_rows(tmp_path / "many", split="test")
    with pytest.raises(UsageError, match="one split"):
        read_rows(tmp_path / "one", split="train")
    (tmp_path / "one" / "data-00000-of-00001.arrow").unlink()
    with pytest.raises(DataError, match="lacks data-00000"):
        read_rows(tmp_path / "one")
