"""The panels that only some runs have: curve, what is held equal, gates, tasks, what to do."""

import json
import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pilotfish.report import build, charts, formatting, page, write
from pilotfish.store import Run
from tests.report import fake
from tests.report.hostile import HOSTILE
from tests.report.parsing import active, parse
from tests.report.test_page import SHOWN, leaves, replaced

LEVELS = {"selected": 0.8, "random": 0.55, "length_matched": 0.5, "selected@10pct": 0.7,
          "random@10pct": 0.45, "easy": 0.6, "easy@10pct": 0.5, "selected@10pct@epochs": 0.6,
          "random@10pct@epochs": 0.4, "random_tokens": 0.5, "random_compute": 0.58,
          "full@epochs": 0.65}  # fmt: skip
GATES = {
    "kept": {"against": "base", "margin": 0.05},
    "beaten": {"arm": "random", "against": "selected"},
    "close": {"against": "full@epochs", "arm": "easy", "margin": 0.045},
}


def grid(folder: Path) -> Run:
    """A made-up run that has every panel of a comparison."""
    made = fake.complete(folder)
    for arm, level in LEVELS.items():
        for seed in fake.SEEDS:
            if not (made.root / f"train/{arm}/seed-{seed}").exists():
                fake.trained(made, arm, seed, rows=100 if "10pct" in arm else 300)
            fake.judged(made, arm, seed, level)
    plan = {"budgets": {"": "30%", "10pct": "10%"}, "methods": {"easy": "perplexity"},
            "matched_on": ["steps", "epochs", "tokens", "compute"],
            "method_selection": "fixed"}  # fmt: skip
    made.update(
        evidence={**made.section("evidence"), **plan},
        config={**made.section("config"), "gates": GATES,
                "pricing": {"per_hour": 2.5, "currency": "EUR"}},
    )  # fmt: skip
    for path in made.root.glob("judge/*/seed-*.jsonl"):
        named = [{**json.loads(line), "task": "ab"[at % 2]} for at, line in lines(path)]
        _recommit(made, path, named)
    return made


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return grid(tmp_path_factory.mktemp("beyond"))


def lines(path: Path) -> list[tuple[int, str]]:
    return list(enumerate(path.read_text().splitlines()))


def _recommit(run: Run, path: Path, items: list[dict[str, Any]]) -> None:
    rel = str(path.relative_to(run.root))
    meta = run.store.require(rel.replace(".jsonl", ".json"))
    with run.store.attempt(rel.replace(".jsonl", ".json")) as attempt:
        attempt.path(rel).write_text("".join(json.dumps(item) + "\n" for item in items))
        attempt.meta = {key: value for key, value in meta.items() if key != "files"}


@pytest.fixture(scope="module")
def report(run: Run) -> dict[str, Any]:
    return build(run)


@pytest.fixture(scope="module")
def html(run: Run, report: dict[str, Any]) -> str:
    return page(report, run)


def test_every_panel_is_there_and_nothing_of_it_where_there_is_nothing(
    report: dict[str, Any], html: str, run: Run
) -> None:
    ids = ("curve", "equal", "gates", "tasks")
    assert set(ids) <= set(report)
    assert all(f'id="{name}"' in html for name in ids)
    bare = {key: value for key, value in report.items() if key not in (*ids, "recommendation")}
    left = page(bare, run)
    assert not any(f'id="{name}"' in left for name in ids)
    assert "<b>Recommendation</b>" in html and "<b>Recommendation</b>" not in left


def test_a_gate_says_its_outcome_in_a_word_and_a_mark(report: dict[str, Any], html: str) -> None:
    outcomes = {gate["name"]: gate["outcome"] for gate in report["gates"]}
    assert (outcomes["kept"], outcomes["beaten"]) == ("pass", "fail")
    found = re.findall(r'<span class="gate (\w+)"><svg.*?</svg>(\w+)</span><div>', html, re.S)
    assert found == [(outcome, outcome) for outcome in outcomes.values()]


def test_nothing_runs_whatever_the_texts_say(run: Run, report: dict[str, Any]) -> None:
    plain = parse(page(replaced(report, "x"), run))
    for text in HOSTILE[::5]:  # the page's own tests try them all
        hostile = parse(page(replaced(report, text), run))
        assert active(hostile) == []
        assert hostile.nodes == plain.nodes or not text


def test_every_number_stands_in_the_report(report: dict[str, Any], html: str) -> None:
    known = {str(leaf) for leaf in leaves(report) if isinstance(leaf, int | float)}
    hours = {str(seconds / 3600 * 2.5) for seconds in _seconds(report)}
    for value, text in parse(html).data:
        assert value in known | hours
        forms = (*SHOWN, lambda number: formatting.decimal(number, 2))
        assert text in {form(json.loads(value)) for form in forms}


def _seconds(report: Mapping[str, Any]) -> list[float]:
    told = report["ledger"]
    stages = [*told["stages"], told["total"], told["charged"], *told["as_charged"]]
    return [stage["seconds"] for stage in stages if stage["seconds"] is not None]


def test_the_chart_of_arms_leaves_other_budgets_to_the_curve(
    report: dict[str, Any], html: str
) -> None:
    shown = re.findall(r"<title>(\S+): mean", html)
    names = [arm["name"] for arm in report["arms"]]
    assert shown == [name for name in names if "@" not in name]
    assert f"{len(names) - len(shown)} arms at other budgets" in html
    assert all(f'<th scope="row"><bdi>{name}</bdi></th>' in html for name in names)


def test_cost_and_gates_come_in_the_order_of_the_questions(html: str) -> None:
    parts = ("verdict", "arms", "curve", "cost", "gates", "selection", "rows", "provenance")
    places = [html.index(f'id="{name}"') for name in parts]
    assert places == sorted(places)


def test_money_stands_beside_the_time(html: str) -> None:
    assert '<th scope="col">EUR</th>' in html and "money at 2.5 EUR an hour" in html


def test_every_figure_is_named_and_every_table_has_its_caption(html: str) -> None:
    for svg in re.findall(r"<svg[^>]*>\s*(?:<\w+)?", html):
        assert 'role="img"' in svg or 'aria-hidden="true"' in svg or "viewBox" in svg
    assert html.count("<table>") == html.count("<caption>")
    assert "<th>" not in html
    heads = [int(level) for level in re.findall(r"<h([1-6])", html)]
    assert all(after - before <= 1 for before, after in pairwise(heads))


def test_one_point_one_seed_no_full_and_no_floor_are_drawn(
    report: dict[str, Any], run: Run
) -> None:
    bare = {"arm": "selected", "budget": "5%", "rows": 5, "tokens": None, "steps": None,
            "mean": 0.5, "low": None, "high": None, "seeds": [0]}  # fmt: skip
    found = {**report["curve"], "floor": None, "full": None, "efficiency": [], "recovery": [],
             "series": [{"name": "selected", "equal": "steps", "points": [bare]}]}  # fmt: skip
    (chart,) = charts.curves({"curve": found})
    (series,) = chart["series"]
    assert series["band"] == "" and series["marks"] == [{"x": 50.0, "y": charts.CURVE_HEIGHT / 2}]
    assert 'id="curve"' in page({**report, "curve": found}, run)


def test_row_counts_that_would_collide_are_left_out() -> None:
    point = {"mean": 0.5, "low": 0.4, "high": 0.6}
    points = [{**point, "rows": rows} for rows in (100, 101, 102, 1000)]
    made = {
        "floor": None,
        "full": None,
        "series": [{"name": "s", "equal": "steps", "points": points}],
    }
    (chart,) = charts.curves({"curve": made})
    assert [tick["label"] for tick in chart["rows"]] == ["100", "1,000"]
    places = [mark["x"] for mark in chart["series"][0]["marks"]]
    assert places == sorted(places) and places[0] > 0 and places[-1] < 100


LIGHT = re.compile(r":root \{(.*?)\}", re.S)


def test_texts_stand_out_from_their_ground_in_both_schemes() -> None:
    css = (Path(charts.__file__).parent / "page.css").read_text()
    light, dark = LIGHT.findall(css)[:2]
    for scheme in (light, dark):
        colours = dict(re.findall(r"--([\w-]+): (#\w{6})\b", scheme))
        for text in ("ink", "soft", "faint", "accent", "kept", "better", "equivalent", "worse",
                     "undecided", "not_tested", "random"):  # fmt: skip
            for ground in ("paper", "sheet"):
                assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)


def contrast(one: str, other: str) -> float:
    """The ratio of WCAG 2."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_the_written_page_is_the_same(run: Run) -> None:
    write(run)
    assert "What selected rows are worth" in (run.root / "report.html").read_text()


def test_each_pair_of_one_seed_stands_with_what_it_does_not_say(
    report: dict[str, Any], html: str
) -> None:
    verdict = report["verdict"]
    table = html[html.index('id="seed-pairs"') :].partition("</table>")[0]
    assert "is about these two models only" in table
    shown = re.findall(r'<tr><th scope="row">(\d+)</th>(.*?)</tr>', table)
    pairs = verdict["seed_pairs"]
    assert [int(seed) for seed, _ in shown] == [pair["seed"] for pair in pairs] == [0, 1, 2]
    for (_, cells), pair in zip(shown, pairs, strict=True):
        found = re.findall(r"<td>(?:<[^>]*>)*([^<]*)", cells)
        assert found == [
            formatting.whole(pair["only_selected"]), formatting.whole(pair["only_random"]),
            formatting.decimal(pair["p"]),
        ]  # fmt: skip
