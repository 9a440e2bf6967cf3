"""The cascade end to end: what a cheaper model spares, what is found, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

import pilotfish as pf
from pilotfish.budget import parse_budget
from pilotfish.cli.app import app
from pilotfish.config import parse_methods
from pilotfish.config.data import Source
from pilotfish.config.scoring import ScoreConfig
from pilotfish.diagnostics.explain import explain
from pilotfish.engine.executors import launch
from pilotfish.engine.executors.launch import ExecutorConfig
from pilotfish.engine.in_memory import InMemoryScorer
from pilotfish.errors import UsageError
from pilotfish.number_formats import int8_supported
from pilotfish.report import build
from pilotfish.scoring.cascade_rows import CascadeConfig
from pilotfish.scoring.score import score
from pilotfish.selection import cascade as flow
from pilotfish.selection.cascade import score_cascade
from pilotfish.selection.select import SelectConfig, select
from pilotfish.store import Run
from tests.scoring.shards import hashes
from tests.tiny.models import tiny_llama

METHOD = "perplexity(direction=low)"
ROWS = 2_400


def near(folder: Path, model: str, noise: float) -> str:
    """A model whose scores are those of another, blurred: every weight moved by a share of it."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    loaded = AutoModelForCausalLM.from_pretrained(model)
    torch.manual_seed(5)
    with torch.no_grad():
        for weight in loaded.parameters():
            weight += noise * weight.std().nan_to_num() * torch.randn_like(weight)
    loaded.save_pretrained(folder)
    AutoTokenizer.from_pretrained(model).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def intended(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_llama(tmp_path_factory.mktemp("models") / "intended", hidden=16, layers=1))


@pytest.fixture(scope="module")
def cheap(tmp_path_factory: pytest.TempPathFactory, intended: str) -> str:
    return near(tmp_path_factory.mktemp("models") / "cheap", intended, 0.1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    draw, path = np.random.default_rng(0), tmp_path_factory.mktemp("data") / "rows.jsonl"
    words = ["".join(draw.choice(list("abcdefgh"), 4)) for _ in range(ROWS)]
    rows = [{"prompt": f"{i % 7}", "completion": word} for i, word in enumerate(words)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def cascaded(out: Path, data: str, models: tuple[str, str], **how: Any) -> Run:
    """By (cheap, intended)."""
    cheaper = CascadeConfig(
        models[0], parse_budget(how.pop("budget", "10%")), how.pop("recall", 0.95)
    )
    executor = how.pop("executor", ExecutorConfig())
    config = ScoreConfig(models[1], parse_methods(how.pop("method", METHOD)), **how)
    return score_cascade(str(out), Source(data), config, cheaper, executor=executor)


def column(run: Run, name: str = METHOD) -> np.ndarray:
    return pq.read_table(run.root / "scores.parquet")[name].to_numpy()


def kept(run: Run, name: str = "selected") -> set[str]:
    table = pq.read_table(run.root / f"selections/{name}/decisions.parquet")
    return set(table.filter(table["kept"])["id"].to_pylist())


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, data: str, cheap: str, intended: str) -> Run:
    return cascaded(tmp_path_factory.mktemp("runs") / "cascade", data, (cheap, intended))


def test_the_picks_are_those_of_the_intended_model_as_far_as_promised(
    tmp_path: Path, done: Run, data: str, intended: str
) -> None:
    whole = score(
        str(tmp_path / "whole"), Source(data), ScoreConfig(intended, parse_methods(METHOD))
    )
    for run in (whole, done):
        select(run.root, SelectConfig(METHOD, "10%", name="tenth"), force=True)
    found = len(kept(whole, "tenth") & kept(done, "tenth")) / (ROWS // 10)
    facts = done.section("scores")[METHOD]["cascade"]
    # names in run.json are a contract: runs made before rankers had that name still open
    assert facts["picker"] == "Top(direction='low', gate=Gate(below=None, above=None, strict=True))"
    low, high = facts["recall"][1:]
    assert found >= 0.95
    assert low <= found <= high
    scored = np.isfinite(column(done))
    assert facts["scored"] == scored.sum() == done.section("scores")[METHOD]["scorable"]
    assert facts["passed"] + facts["audited"] == facts["scored"] < 0.9 * ROWS
    # where both read a row they agree, up to the batches it stood in
    np.testing.assert_allclose(column(done)[scored], column(whole)[scored], rtol=1e-4)
    assert 0.5 < facts["agreement"] < 0.9999


def test_a_model_as_its_own_cheap_one_passes_little_more_than_the_picks(
    tmp_path: Path, data: str, intended: str
) -> None:
    run = cascaded(tmp_path / "run", data, (intended, intended))
    facts = run.section("scores")[METHOD]["cascade"]
    calibration, picks = ROWS // 3, ROWS // 10
    assert facts["calibration"] == calibration
    assert facts["passed"] < calibration + 1.2 * picks
    assert facts["recall"][0] == 1.0
    assert not run.manifest.get("warnings")


def test_rows_that_were_skipped_have_a_reason_and_are_never_picked(done: Run) -> None:
    table = pq.read_table(done.root / "scores.parquet")
    reasons = np.array(table[f"{METHOD}_reason"].to_pylist(), dtype=object)
    skipped = np.isnan(table[METHOD].to_numpy())
    assert skipped.any() and set(reasons[skipped]) == {"cascade_skipped"}
    assert np.isfinite(table[f"{METHOD}@cheap"].to_numpy()).all()
    assert (table["n_response_tokens"].to_numpy() > 0).all()  # tokens of every row are counted
    select(done.root, SelectConfig(METHOD, "10%", name="never"), force=True)
    ids = np.array(table["id"].to_pylist(), dtype=object)
    assert not kept(done, "never") & set(ids[skipped])
    facts = explain(done.root, row=int(np.flatnonzero(skipped)[0]), selection="never")
    assert "cascade" in str(facts)


def test_the_intended_model_reads_only_what_is_passed_on(
    tmp_path: Path, data: str, cheap: str, intended: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pilotfish.engine.forward import Forward

    read = 0
    real = Forward.run

    def counting(self: Forward, passages: Any, *more: Any) -> Any:
        nonlocal read
        read += len(passages)
        return real(self, passages, *more)

    monkeypatch.setattr(Forward, "run", counting)
    run = cascaded(tmp_path / "run", data, (cheap, intended))
    facts = run.section("scores")[METHOD]["cascade"]
    # at most: rows of equal text are read once, and both models are probed with a few more
    assert 0.8 * ROWS < read <= ROWS + facts["scored"] + facts["calibration"] < 1.9 * ROWS


def test_a_second_command_measures_nothing_and_changes_nothing(
    done: Run, data: str, cheap: str, intended: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = hashes(done.root)
    monkeypatch.setattr(InMemoryScorer, "__call__", _never)
    receipts = receipts_of(monkeypatch)
    cascaded(done.root, data, (cheap, intended))
    assert receipts and not any(receipt.measured for receipt in receipts)
    assert hashes(done.root) == before


@pytest.mark.parametrize("broken", ["cheap", "calibration", "shard", "recall"])
def test_where_it_is_interrupted_changes_nothing(
    tmp_path: Path, data: str, cheap: str, intended: str, broken: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    straight = cascaded(tmp_path / "a", data, (cheap, intended))
    with monkeypatch.context() as patch:
        _break(patch, broken)
        with pytest.raises(KeyboardInterrupt):
            cascaded(tmp_path / "b", data, (cheap, intended))
    if broken == "recall":
        with pytest.raises(UsageError, match="is not finished"):
            select(tmp_path / "b", SelectConfig(METHOD, "10%"))
    if broken in ("shard", "recall"):
        # other memory is free when the command is given again: the plan's batches are kept
        monkeypatch.setattr("pilotfish.engine.batches.find_budget", lambda loaded: 512)
    again = cascaded(tmp_path / "b", data, (cheap, intended))
    assert hashes(straight.root) == hashes(again.root)


@pytest.mark.slow
def test_several_processes_leave_the_same_bytes(
    tmp_path: Path, done: Run, data: str, cheap: str, intended: str
) -> None:
    run = cascaded(tmp_path / "run", data, (cheap, intended), executor=ExecutorConfig(workers=2))
    scores = "scores.parquet"
    assert (run.root / scores).read_bytes() == (done.root / scores).read_bytes()


def test_a_smaller_budget_is_told_its_bound_and_a_larger_one_refused(done: Run) -> None:
    picked, low = ROWS // 10, done.section("scores")[METHOD]["cascade"]["recall"][1]
    half = select(done.root, SelectConfig(METHOD, "5%", name="half"), force=True)
    assert len(half) == picked // 2
    said = done.section("selections")["half"]["cascade"]["sentences"]
    assert f"at least {max(0.0, 1 - 2 * (1 - low)):.0%}" in said[0]
    for budget in ("10.1%", "241rows", "1000tokens"):
        with pytest.raises(UsageError, match="scored by a cascade"):
            select(done.root, SelectConfig(METHOD, budget, name="more"))
    with pytest.raises(UsageError, match="scored by a cascade"):
        select(done.root, SelectConfig("perplexity(direction=high)", "10%", score=METHOD, name="x"))
    # the cheap model's own column is like any other
    select(done.root, SelectConfig(f"{METHOD}@cheap", "40%", name="cheap"), force=True)


def test_the_report_and_the_commands_say_it_and_never_say_identical(done: Run) -> None:
    select(done.root, SelectConfig(METHOD, "10%", name="selected"), force=True)
    (first, second) = build(done)["scoring"]["sentences"]
    assert first.startswith("Cascade: recall ") and first.endswith("not identical.")
    assert "scored every row and" in second
    told = CliRunner().invoke(
        app, ["select", str(done.root), "--method", METHOD, "--budget", "10%", "--force"]
    )
    assert first in told.output


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"budget": "2Mtokens"}, "token budget"),
        ({"method": "perplexity(direction=middle)"}, "one cut at one end"),
        ({"method": "perplexity", "direction": "middle"}, "one cut at one end"),
        ({"method": "random"}, "needs no model"),
        ({"recall": 1.0}, "between 0 and 1"),
        ({"executor": ExecutorConfig("ranks", rank=0, world=1)}, "ranks cannot agree"),
    ],
)
def test_what_cannot_be_promised_is_refused_before_anything_is_read(
    tmp_path: Path, cheap: str, intended: str, change: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said) as error:
        cascaded(tmp_path / "run", "no such file", (cheap, intended), **change)
    assert error.value.exit_code == 2
    assert not (tmp_path / "run").exists()


def test_the_same_name_by_another_cascade_or_none_is_refused(
    done: Run, data: str, cheap: str, intended: str
) -> None:
    for change in ({"budget": "12%"}, {"recall": 0.9}):
        with pytest.raises(UsageError, match=r"made with another cascade"):
            cascaded(done.root, data, (cheap, intended), **change)
    with pytest.raises(UsageError, match=r"made with another cascade"):
        cascaded(done.root, data, (intended, intended))
    with pytest.raises(UsageError, match=r"made with another cascade"):
        score(str(done.root), Source(data), ScoreConfig(intended, parse_methods(METHOD)))


def test_a_pool_too_small_to_promise_anything_is_scored_whole(
    tmp_path: Path, data: str, cheap: str, intended: str
) -> None:
    run = cascaded(tmp_path / "run", str(data), (cheap, intended), budget="2%")
    facts = run.section("scores")[METHOD]["cascade"]
    assert facts["passed"] == ROWS and facts["recall"] == [1.0, 1.0, 1.0]
    assert any("pool is too small" in text for text in run.manifest["warnings"])


def test_tokenizers_may_differ_and_the_intended_one_counts(
    tmp_path: Path, data: str, intended: str
) -> None:
    other = str(tiny_llama(tmp_path / "other", hidden=32, layers=2, bos=True, chat=True))
    whole = score(
        str(tmp_path / "whole"), Source(data), ScoreConfig(intended, parse_methods(METHOD))
    )
    run = cascaded(tmp_path / "run", data, (other, intended))
    counts = ["n_prompt_tokens", "n_response_tokens", "truncated"]
    a, b = (pq.read_table(each.root / "scores.parquet", columns=counts) for each in (run, whole))
    assert a.equals(b)
    assert any("has more parameters" in text for text in run.manifest["warnings"])
    assert run.section("weak")["name"] == intended
    assert run.section("cheap")["name"] == other


@pytest.mark.skipif(not int8_supported(), reason="this CPU has no int8 dot products")
def test_int8_is_put_right_in_fp32_among_the_rows_passed_on(
    tmp_path: Path, data: str, cheap: str, intended: str
) -> None:
    run = cascaded(tmp_path / "run", data, (cheap, intended), precision="int8")
    select(run.root, SelectConfig(METHOD, "10%"))
    facts = run.section("selections")["selected"]
    skipped = run.section("scores")[METHOD]["unscorable"]["cascade_skipped"]
    assert facts["audit"]["walked"] + facts["audit"]["audited"] <= ROWS - skipped
    assert facts["cascade"]["recall"][0] >= 0.9
    select(run.root, SelectConfig(f"{METHOD}@cheap", "10%", name="cheap"))


def test_the_python_face_and_the_command_line_agree(
    tmp_path: Path, done: Run, data: str, cheap: str, intended: str
) -> None:
    pool = pf.read(data, out=tmp_path / "api")
    scores = pf.score(pool, weak=intended, method=METHOD, cascade=cheap, budget="10%")
    np.testing.assert_array_equal(scores.values, column(done))
    with pytest.raises(UsageError, match="go together"):
        pf.score(pool, weak=intended, method=METHOD, cascade=cheap)
    words = ["score", data, "--weak", intended, "--method", METHOD, "--cascade", cheap, "--quiet"]
    out = ["--out", str(tmp_path / "cli")]
    told = CliRunner().invoke(app, [*words, *out, "--budget", "10%", "--recall", "0.95"])
    assert told.exit_code == 0, told.output
    assert "Cascade: recall" in told.output and "not identical" in told.output
    np.testing.assert_array_equal(column(Run(tmp_path / "cli")), column(done))
    for wrong in (words, ["score", data, "--weak", intended, "--budget", "10%"]):
        error = CliRunner().invoke(app, [*wrong, "--method", METHOD, *out]).exception
        assert isinstance(error, UsageError) and "budget" in str(error)


def _never(*_: Any) -> None:
    raise AssertionError("nothing is to be measured")


def receipts_of(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is measured from now on."""
    found: list[Any] = []
    real = launch.ShardProgress.shard_done

    def listening(self: launch.ShardProgress, receipt: Any) -> Any:
        found.append(receipt)
        return real(self, receipt)

    monkeypatch.setattr(launch.ShardProgress, "shard_done", listening)
    return found


def _break(patch: pytest.MonkeyPatch, where: str) -> None:
    """Ctrl-C at one place of the way."""

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    if where == "cheap":
        patch.setattr(launch.ShardProgress, "shard_done", stop)
    elif where == "calibration":
        patch.setattr(flow, "_intended_scores", stop)
    elif where == "shard":
        patch.setattr(flow, "measure", stop)
    else:
        patch.setattr(flow, "_record_recall", stop)
