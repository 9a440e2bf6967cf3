"""R6: a row with a score or a measurement that is no finite number is never selected, by nobody."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotfish.budget import parse_budget, take
from pilotfish.config import parse_methods
from pilotfish.config.data import Source
from pilotfish.config.scoring import ScoreConfig
from pilotfish.methods import METHODS
from pilotfish.methods.rankers import Gate, LengthMatched, Middle, Random, Ranking, Top
from pilotfish.methods.rankers.length_matched import length_bins
from pilotfish.number_formats import int8_supported
from pilotfish.records import Floats, Need
from pilotfish.scoring.cascade_rows import CascadeConfig
from pilotfish.scoring.score import score
from pilotfish.selection.cascade import score_cascade
from pilotfish.selection.select import SelectConfig, select
from pilotfish.store import Run
from tests.experiments.runs import score_run, scored_run
from tests.figures import Reached, size
from tests.methods.world import METHOD_TEXTS, planted, seen_of, selector_of
from tests.tiny.models import tiny_llama

pytestmark = pytest.mark.torture
N = 60
VALUES = (np.nan, np.inf, -np.inf)
VALUE = st.sampled_from(VALUES)
PLANTED = st.dictionaries(st.integers(0, N - 1), VALUE, min_size=1, max_size=N - 20)
BUDGETS = ("1row", "10%", "40%", "100%", "30rows", "100tokens", "100ktokens")
TIE = np.arange(N)
LENGTHS = np.arange(N) * 7 % 23 + 1


def taken(ranking: Ranking) -> set[int]:
    """Every row that any budget buys."""
    budgets = [parse_budget(text) for text in BUDGETS]
    bought = [
        take(ranking.order, budget, N, tokens=LENGTHS, allow_short=True)
        for budget in budgets if len(ranking.order)
    ]  # fmt: skip
    return {int(row) for rows in bought for row in rows}


def signals() -> list[tuple[str, Need]]:
    """Every method beside every measurement it asks for."""
    return [(method, need) for method in METHOD_TEXTS for need in selector_of(method).needs]


def test_every_selector_and_every_signal(reached: Reached) -> None:
    rows = 0

    @given(bad=PLANTED, seed=st.integers(0, 3))
    @settings(max_examples=size(3, 60), deadline=None)
    def never(method: str, need: Need, bad: dict[int, float], seed: int) -> None:
        nonlocal rows
        seen = seen_of(N, seed=seed)
        for row, value in bad.items():
            seen = planted(seen, need, row, value)
        selector = selector_of(method)
        scores = selector.score(seen)
        assert not np.isfinite(scores[list(bad)]).any()
        assert not taken(selector.ranker().rank(scores, TIE)) & set(bad)
        rows += len(bad)

    pairs = signals()
    assert {type(selector_of(method)) for method, _ in pairs} <= set(METHODS.values())
    for method, need in pairs:
        never(method, need)
    reached("R6", f"0 of {rows:,} rows with nan or infinity in {len(pairs)} pairs of "
            f"method and signal selected, {len(BUDGETS)} budgets of every unit")  # fmt: skip


def rankers(scores: Floats) -> list[Ranking]:
    """What every ranker makes of scores [n], through open, half-open and closed gates."""
    gates = [Gate(), Gate(below=1.0), Gate(above=-1.0), Gate(-np.inf, np.inf, strict=False)]
    gates += [Gate(below=np.inf, strict=False), Gate(above=-np.inf, strict=False)]
    ids = np.array([f"r{i}" for i in range(N)], dtype=object)
    source = np.arange(N) % 3
    matched = LengthMatched(np.arange(0, N, 5), source, length_bins(LENGTHS))
    picked = [
        *(Top(direction, gate) for direction in ("high", "low") for gate in gates),
        *(Middle(gate) for gate in gates),
        Random(ids), matched,
    ]  # fmt: skip
    return [ranker.rank(scores, TIE) for ranker in picked]


def test_every_picker_and_every_gate(reached: Reached) -> None:
    rankings = 0

    @given(bad=PLANTED, seed=st.integers(0, 9))
    @settings(max_examples=size(15, 400), deadline=None)
    def never(bad: dict[int, float], seed: int) -> None:
        nonlocal rankings
        scores = np.random.default_rng(seed).normal(size=N)
        scores[list(bad)] = list(bad.values())
        for ranking in rankers(scores):
            assert not taken(ranking) & set(bad)
            rankings += 1

    never()
    reached("R6", f"0 of {rankings:,} rankings by every ranker and gate hold a planted row")


def test_a_picker_that_sorts_them_in_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: nothing but the sort stands between nan and the first place."""
    monkeypatch.setattr(
        Gate, "reasons", lambda gate, scores: np.full(len(scores), "", dtype=object)
    )
    scores = np.random.default_rng(0).normal(size=N)
    scores[7], scores[9] = np.inf, np.nan
    assert 7 in taken(Top("high").rank(scores, TIE))
    assert 9 in taken(Middle().rank(scores, TIE))


def lie(run: Run, values: dict[int, float]) -> None:
    """Plant values in every score column of a run; their status stays "ok"."""
    path = run.root / "scores.parquet"
    table, facts = pq.read_table(path), run.store.require("scores.json")
    for name in run.section("scores"):
        column = table[name].to_numpy().copy()
        column[list(values)] = list(values.values())
        table = table.set_column(table.schema.get_field_index(name), name, [column])
    with run.store.attempt("scores.json") as attempt:
        pq.write_table(table, attempt.path("scores.parquet"))
        attempt.meta = {key: facts[key] for key in ("pool", "rows")}


def kept(run: Run, name: str) -> set[int]:
    table = pq.read_table(run.root / f"selections/{name}/decisions.parquet")
    return set(np.flatnonzero(table["kept"].to_numpy()).tolist())


def test_every_score_column_through_the_flow(tmp_path: Path, reached: Reached) -> None:
    scored = [text for text in METHOD_TEXTS if selector_of(text).needs]
    done = 0
    for seed in range(size(1, 8)):
        run = scored_run(tmp_path / str(seed), 120)
        score_run(run, {f"c{i}": text for i, text in enumerate(scored)})
        rng = np.random.default_rng(seed)
        rows = rng.choice(120, 30, replace=False).tolist()
        bad = dict(zip(rows, rng.choice(VALUES, 30).tolist(), strict=True))
        lie(run, bad)
        for i, method in enumerate(scored):
            for budget in ("10%", "100%", "200tokens"):
                select(
                    run.root,
                    SelectConfig(method, budget, score=f"c{i}", allow_short=True),
                    force=True,
                )
                assert not kept(run, "selected") & set(bad), (method, budget)
                done += 1
    reached("R6", f"0 planted rows in {done} selections from columns that say 'ok' beside them")


def broken(folder: Path, source: str, letter: str, seed: int) -> str:
    """A model whose embedding of one letter is nan: what reads it measures nothing finite."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = (
        kind.from_pretrained(source) for kind in (AutoModelForCausalLM, AutoTokenizer)
    )
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    torch.manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.05 * weight.std().nan_to_num() * torch.randn_like(weight)
        model.get_input_embeddings().weight[tokenizer.convert_tokens_to_ids(letter)] = torch.nan
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """(a model that fails on z, a cheaper one that fails on y)."""
    folder = tmp_path_factory.mktemp("models")
    whole = str(tiny_llama(folder / "whole", hidden=64, layers=1, bos=True))
    yield broken(folder / "z", whole, "z", 0), broken(folder / "y", whole, "y", 1)


def data_of(path: Path, count: int) -> tuple[str, set[int]]:
    """Rows of which some hold a z or a y; the places of those with a z."""
    draw = np.random.default_rng(0)
    words = ["".join(draw.choice(list("abcdefgh"), 5)) for _ in range(count)]
    for i in range(0, count, 7):
        words[i] = words[i][:2] + "zy"[i % 14 == 7] + words[i][2:]
    rows = [{"prompt": f"{i % 9}", "completion": word} for i, word in enumerate(words)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path), {i for i, word in enumerate(words) if "z" in word}


METHOD = "perplexity(direction=low)"
Scored = Callable[[str, str, tuple[str, str]], Run]


def at(precision: str) -> Scored:
    def scored(out: str, data: str, models: tuple[str, str]) -> Run:
        config = ScoreConfig(models[0], parse_methods(METHOD), precision=precision)
        return score(out, Source(data), config)

    return scored


def cascaded(out: str, data: str, models: tuple[str, str]) -> Run:
    cheaper = CascadeConfig(models[1], parse_budget("10%"), 0.9)
    return score_cascade(out, Source(data), ScoreConfig(models[0], parse_methods(METHOD)), cheaper)


WAYS: dict[str, Scored] = {"fp32": at("fp32"), "int8": at("int8"), "cascade": cascaded}


@pytest.mark.parametrize("way", WAYS)
def test_a_model_that_fails_on_some_rows(
    way: str, models: tuple[str, str], tmp_path: Path, reached: Reached
) -> None:
    if way == "int8" and not int8_supported():
        pytest.skip("this CPU has no int8 dot products")
    data, bad = data_of(tmp_path / "rows.jsonl", size(700, 2_000))
    run = WAYS[way](str(tmp_path / "run"), data, models)
    table = pq.read_table(run.root / "scores.parquet")
    finite = np.isfinite(table[METHOD].to_numpy())
    assert not finite[sorted(bad)].any() and finite.any()
    reasons = np.array(table[f"{METHOD}_reason"].to_pylist(), dtype=object)
    assert set(reasons[sorted(bad)]) <= {"nonfinite", "cascade_skipped"}
    done = 0
    for budget in ("10%",) if way == "cascade" else ("5%", "10%", "60%", "300tokens"):
        select(run.root, SelectConfig(METHOD, budget), force=True)
        assert not kept(run, "selected") & bad, (way, budget)
        done += 1
    reached("R6", f"{way}: 0 of {len(bad)} rows on which the model gives nan in {done} selections")
