"""Fast formats: checked against fp32 before they score, put right around the cut afterwards."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pilotfish.config import parse_methods
from pilotfish.config.data import Source
from pilotfish.config.scoring import ScoreConfig
from pilotfish.diagnostics.explain import explain
from pilotfish.errors import UsageError
from pilotfish.methods.rankers import Gate, Top
from pilotfish.number_formats import int8_supported
from pilotfish.scoring import weak_model as flow
from pilotfish.scoring.score import score
from pilotfish.selection import precision_audit
from pilotfish.selection.select import SelectConfig, select
from pilotfish.store import Run
from tests.tiny.models import tiny_llama

int8_only = pytest.mark.skipif(not int8_supported(), reason="this CPU has no int8 dot products")
ROWS = 900


@pytest.fixture(scope="module")
def weak(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_llama(tmp_path_factory.mktemp("models") / "weak", hidden=64, bos=True))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    draw, path = np.random.default_rng(0), tmp_path_factory.mktemp("data") / "rows.jsonl"

    def words(most: int) -> str:
        letters = ("".join(draw.choice(list("abcdefgh"), 4)) for _ in range(draw.integers(1, most)))
        return " ".join(letters)

    rows = [{"instruction": words(4), "input": "", "output": words(8)} for _ in range(ROWS)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def scored(out: Path, data: str, weak: str, word: str, method: str = "ifd") -> Run:
    config = ScoreConfig(weak, parse_methods(method), max_length=96, precision=word)
    return score(str(out), Source(data), config)


def kept(run: Run, name: str = "selected") -> set[str]:
    table = pq.read_table(run.root / f"selections/{name}/decisions.parquet")
    return set(table.filter(table["kept"])["id"].to_pylist())


def values(run: Run, column: str) -> np.ndarray:
    return pq.read_table(run.root / "scores.parquet")[column].to_numpy()


def own(path: Path, more: str = "pass", **formulas: str) -> None:
    """Write a module of methods that read the response's nats, by class name."""
    lines = ["from pilotfish.records import Need"]
    for name, formula in formulas.items():
        lines += [f"class {name}:", f"    {more}", "    needs = (Need('nll'),)"]
        lines += ["    def score(self, seen):", f"        return {formula}"]
    path.write_text("\n".join(lines))


@int8_only
@pytest.mark.parametrize("method", ["ifd", "perplexity(direction=low)", "ifd(direction=middle)"])
def test_int8_selects_what_fp32_selects(tmp_path: Path, data: str, weak: str, method: str) -> None:
    exact = scored(tmp_path / "fp32", data, weak, "fp32", method)
    fast = scored(tmp_path / "int8", data, weak, "int8", method)
    a, b = (values(run, method) for run in (exact, fast))
    both = np.isfinite(a) & np.isfinite(b)
    assert (a[both] != b[both]).mean() > 0.9  # two formats indeed
    for run in (exact, fast):
        select(run.root, SelectConfig(method, "10%"))
    assert kept(exact) == kept(fast)
    audit = fast.section("selections")["selected"]["audit"]
    assert audit["walked"] + audit["audited"] + audit["left"] == ROWS
    assert 0 <= audit["bound"] <= 0.02
    assert "audit" not in exact.section("selections")["selected"]


@int8_only
def test_a_selection_says_the_fp32_score_of_what_was_measured_again(
    tmp_path: Path, data: str, weak: str
) -> None:
    fast = scored(tmp_path / "int8", data, weak, "int8")
    exact = scored(tmp_path / "fp32", data, weak, "fp32")
    select(fast.root, SelectConfig("ifd", "10%"))
    table = pq.read_table(fast.root / "selections/selected/decisions.parquet")
    said = table["score"].to_numpy()
    true, rough = (
        pq.read_table(r.root / "scores.parquet")["ifd"].to_numpy() for r in (exact, fast)
    )
    again = said != rough
    assert again.sum() >= 300
    np.testing.assert_allclose(said[again], true[again], rtol=1e-5)
    assert (said[~again] == rough[~again]).all()
    one, other = (int(np.flatnonzero(mask & np.isfinite(said))[0]) for mask in (again, ~again))
    sentence = explain(fast.root, row=one)["sentence"]
    assert f"that score is of fp32, it was {rough[one]:.6g} in int8." in sentence
    assert "int8" not in explain(fast.root, row=other)["sentence"]


@int8_only
@pytest.mark.parametrize("budget", ["900rows", "9Mtokens"])
def test_a_budget_that_cannot_be_met_is_refused_before_rows_are_measured_again(
    tmp_path: Path, data: str, weak: str, budget: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = scored(tmp_path / "run", data, weak, "int8")
    inside = int((values(run, "ifd") < 1).sum())
    assert 0 < inside < ROWS - 100  # the gate leaves far too few
    with monkeypatch.context() as patch:
        patch.setattr(precision_audit, "weak_by_digest", raises(AssertionError))
        with pytest.raises(UsageError, match=r"may be picked|eligible rows hold"):
            select(run.root, SelectConfig("ifd", budget))
    assert not (run.root / "audits").exists()
    taken = select(run.root, SelectConfig("ifd", budget, allow_short=True))
    assert abs(len(taken) - inside) < 100


def test_rows_near_the_gate_count_as_eligible_before_they_are_measured_again() -> None:
    found = precision_audit._widened_gate(
        Top("high", Gate(below=1.0)), {"largest": 0.05, "space": "log"}
    )
    assert found.reasons(np.array([1.0, 1.1, 1.11, np.nan])).tolist() == [
        "", "", "over_ceiling", "unscorable",
    ]  # fmt: skip
    assert precision_audit._widened_gate(Top("high", Gate(below=1.0)), None) == Gate()


@int8_only
def test_a_second_selection_measures_only_what_is_new(
    tmp_path: Path, data: str, weak: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = scored(tmp_path / "run", data, weak, "int8")
    select(run.root, SelectConfig("ifd", "10%"))
    monkeypatch.setattr(
        "pilotfish.selection.precision_audit.weak_by_digest", lambda *_, **__: pytest.fail()
    )
    select(run.root, SelectConfig("ifd", "10%"))


@int8_only
def test_two_methods_that_read_the_same_numbers_share_no_audit(
    tmp_path: Path, data: str, weak: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mean = "seen.measured[self.needs[0]].total / seen.measured[self.needs[0]].count"
    own(tmp_path / "own_pair.py", "pool_relative = False", Up=mean, Higher=f"100 * {mean}")
    monkeypatch.chdir(tmp_path)
    sets = []
    for word in ("fp32", "int8"):
        run = scored(tmp_path / word, data, weak, word, "own_pair:Up,own_pair:Higher")
        for method in ("Up", "Higher"):
            select(run.root, SelectConfig(f"own_pair:{method}", "10%", name=method))
        sets.append([kept(run, "Up"), kept(run, "Higher")])
    assert sets[0] == sets[1]


@int8_only
def test_scores_that_depend_on_other_rows_are_not_made_of_a_few(
    tmp_path: Path, data: str, weak: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    own(tmp_path / "own_rank.py", Rank="seen.measured[self.needs[0]].total.argsort().argsort()")
    monkeypatch.chdir(tmp_path)
    run = scored(tmp_path / "run", data, weak, "int8", "own_rank:Rank")
    select(run.root, SelectConfig("own_rank:Rank", "10%"))
    best = np.argsort(-values(run, "own_rank:Rank"))[: ROWS // 10]
    ids = np.array(pq.read_table(run.root / "scores.parquet")["id"].to_pylist())
    assert kept(run) == set(ids[best])
    assert any("pool_relative" in told for told in run.manifest["warnings"])


@int8_only
def test_the_agreement_is_measured_and_written_down(tmp_path: Path, data: str, weak: str) -> None:
    run = scored(tmp_path / "run", data, weak, "int8", "ifd,perplexity(direction=low)")
    facts = run.section("precision")
    assert (facts["asked"], facts["used"]) == ("int8", "int8")
    for column in ("ifd", "perplexity(direction=low)"):
        assert facts["columns"][column]["rows"] == flow.SAMPLE
        assert 0.99 < facts["columns"][column]["spearman"] <= 1
        assert run.section("scores")[column]["precision"] == "int8"
    assert json.loads((run.root / "run.json").read_text())["weak"]["precision"] == "int8"


@int8_only
@pytest.mark.parametrize(("agrees", "used"), [(True, "int8"), (False, "fp32")])
def test_auto_takes_int8_only_where_the_check_passes(
    tmp_path: Path,
    data: str,
    weak: str,
    monkeypatch: pytest.MonkeyPatch,
    agrees: bool,
    used: str,
) -> None:
    monkeypatch.setattr(flow, "WORTH_ROWS", 100)
    monkeypatch.setattr(flow, "WORTH_PARAMETERS", 1_000)
    monkeypatch.setattr(flow, "good_enough", lambda _: agrees)
    run = scored(tmp_path / "run", data, weak, "auto")
    assert run.section("precision")["used"] == used
    assert run.section("scores")["ifd"]["precision"] == used
    monkeypatch.setattr(flow, "good_enough", lambda _: not agrees)
    again = scored(tmp_path / "run", data, weak, "auto")  # a run keeps to what it settled
    assert again.section("precision")["used"] == used


def test_auto_leaves_small_work_in_fp32(tmp_path: Path, data: str, weak: str) -> None:
    run = scored(tmp_path / "run", data, weak, "auto")
    assert run.section("precision")["used"] == "fp32"
    assert "too small" in run.section("precision")["why"]


def test_a_method_without_a_model_compares_nothing(tmp_path: Path, data: str, weak: str) -> None:
    run = scored(tmp_path / "run", data, weak, "auto", "longest")
    assert run.section("precision")["columns"] == {"longest": None}


@int8_only
def test_a_weak_model_that_is_gone_is_named(tmp_path: Path, data: str) -> None:
    folder = tiny_llama(tmp_path / "weak", hidden=64, bos=True)
    run = scored(tmp_path / "run", data, str(folder), "int8")
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="not there any more"):
        select(run.root, SelectConfig("ifd", "10%"))


def test_the_sample_is_the_same_whatever_the_order(tmp_path: Path, data: str, weak: str) -> None:
    lines = Path(data).read_text().splitlines()
    turned = tmp_path / "turned.jsonl"
    turned.write_text("\n".join(reversed(lines)) + "\n")
    found = []
    for name, source in (("a", data), ("b", str(turned))):
        from pilotfish.data.run_pool import pool_of

        run = scored(tmp_path / name, source, weak, "fp32", "longest")
        found.append({row.digest for row in flow.sample_rows(pool_of(run))})
    assert found[0] == found[1]
    assert len(found[0]) == flow.SAMPLE


def test_a_killed_score_goes_on_with_the_token_budget_it_began_with(
    tmp_path: Path, data: str, weak: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured() -> set[str]:
        return {path.name for path in (tmp_path / "run/signals").iterdir()}

    monkeypatch.setattr("pilotfish.engine.batches.find_budget", lambda _: 2048)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("pilotfish.scoring.score.write_scores", raises(KeyboardInterrupt))
        scored(tmp_path / "run", data, weak, "fp32")
    before = measured()
    monkeypatch.setattr(
        "pilotfish.engine.batches.find_budget", lambda _: 512
    )  # less memory is free now
    assert scored(tmp_path / "run", data, weak, "fp32").section("weak")["token_budget"] == 2048
    assert measured() == before


def raises(error: type[BaseException]) -> Callable[..., None]:
    def always(*_: object, **__: object) -> None:
        raise error

    return always
