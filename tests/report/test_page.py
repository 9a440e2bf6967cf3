"""The page runs nothing, loads nothing, shows every text as text, and agrees with report.json."""

import base64
import copy
import hashlib
import json
import re
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pilotfish.report import build, formatting, page, write
from pilotfish.store import Run
from tests.report import fake
from tests.report.hostile import HOSTILE
from tests.report.parsing import active, parse

SHOWN = (
    *(
        formatting.whole,
        formatting.count,
        formatting.decimal,
        formatting.signed,
        formatting.percent,
        formatting.points,
    ),
    *(
        formatting.measure,
        formatting.power,
        formatting.seconds,
        lambda value: formatting.signed(value, 2),
    ),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return fake.complete(tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def report(run: Run) -> dict[str, Any]:
    return build(run)


def leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for inner in value.values() for leaf in leaves(inner)]
    if isinstance(value, list):
        return [leaf for inner in value for leaf in leaves(inner)]
    return [value]


def replaced(value: Any, text: str, key: str = "") -> Any:
    """The same report with every free text in it replaced."""
    if isinstance(value, dict):
        return {name: replaced(inner, text, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [replaced(inner, text, key) for inner in value]
    return text if isinstance(value, str) and key not in ("outcome", "scale") else value


def test_nothing_runs_and_nothing_is_loaded(run: Run, report: dict[str, Any]) -> None:
    text = page(report, run)
    parsed = parse(text)
    assert "<script" not in text.lower()
    assert active(parsed) == []
    assert parsed.loaded
    assert all(target.startswith("#") for target in parsed.loaded)
    assert "url(" not in parsed.style
    assert "@import" not in parsed.style


def test_the_policy_forbids_everything_but_the_one_style(run: Run, report: dict[str, Any]) -> None:
    parsed = parse(page(report, run))
    (policy,) = [
        m["content"] for m in parsed.metas if m.get("http-equiv") == "Content-Security-Policy"
    ]
    digest = base64.b64encode(hashlib.sha256(parsed.style.encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    assert parsed.nodes.index(("meta", ("http-equiv", "content"))) < parsed.nodes.index(
        ("style", ())
    )


@pytest.mark.parametrize("text", HOSTILE[::4])  # all of them: tests/torture/test_injection.py
def test_hostile_text_in_every_field_changes_no_node(
    run: Run, report: dict[str, Any], text: str
) -> None:
    plain = parse(page(replaced(report, "x" if text else ""), run))
    hostile = parse(page(replaced(report, text), run))
    assert active(hostile) == []
    assert hostile.nodes == plain.nodes
    assert hostile.metas[1:] == plain.metas[1:]


def test_hostile_rows_come_through_as_visible_text(tmp_path: Path) -> None:
    texts = [text for text in HOSTILE if text]
    run = fake.pooled(
        tmp_path,
        len(texts) * 6,
        lambda row: (f"{row} {texts[row % len(texts)]}", texts[(row + 1) % len(texts)]),
        sources=("a<img src=x onerror=alert(1)>.jsonl", "b\u202e.jsonl", 'c" onload="x.jsonl'),
    )
    fake.selected(fake.scored(run))
    # run.json holds UTF-8, which has no lone surrogates.
    run.update(
        warnings=[text for text in HOSTILE if "\ud800" not in text],
        data={"data": "https://me:pa55word@example.org/rows"},
    )
    written = write(run)
    html = (run.root / "report.html").read_text(encoding="utf-8")
    both = html + (run.root / "report.json").read_text(encoding="utf-8")
    assert active(parse(html)) == []
    assert not {"\u202e", "\x1b", "\x00", "\u2066", "\x9b", "\U000e0041"} & set(both)
    assert "pa55word" not in both
    assert "hf_abcdefgh" not in both
    shown = "".join(parse(html).text)
    assert all(warning in shown for warning in written["warnings"])


def test_every_number_on_the_page_stands_in_the_report(run: Run, report: dict[str, Any]) -> None:
    known = {str(leaf) for leaf in leaves(report) if isinstance(leaf, int | float)}
    shown = parse(page(report, run)).data
    assert len(shown) > 150
    for value, text in shown:
        number = json.loads(value)
        assert value in known
        assert text in {form(number) for form in SHOWN}


def test_every_arm_shows_its_own_mean_and_interval(run: Run, report: dict[str, Any]) -> None:
    shown = {value for value, _ in parse(page(report, run)).data}
    for arm in report["arms"]:
        assert {str(arm["mean"]), str(arm["low"]), str(arm["high"])} <= shown


def test_the_verdict_comes_first_in_full(run: Run, report: dict[str, Any]) -> None:
    text = "".join(parse(page(report, run)).text)
    assert text.index(report["verdict"]["sentence"]) < text.index("Results of each arm")


@pytest.mark.parametrize("outcome", ["better", "equivalent", "worse", "undecided", "not_tested"])
def test_each_outcome_has_a_word_and_an_icon(
    run: Run, report: dict[str, Any], outcome: str
) -> None:
    changed = copy.deepcopy(report)
    changed["verdict"]["outcome"] = outcome
    text = page(changed, run)
    badge = text[text.index('class="badge') : text.index("<h1")]
    assert formatting.OUTCOMES[outcome] in badge
    assert "<path" in badge or "<circle" in badge


def test_landmarks_captions_scopes_and_titles(run: Run, report: dict[str, Any]) -> None:
    text = page(report, run)
    tags = [tag for tag, _ in parse(text).nodes]
    assert '<html lang="en">' in text
    assert all(tags.count(tag) == 1 for tag in ("main", "h1", "nav", "footer"))
    assert tags.count("caption") == tags.count("table")
    assert all("scope" in names for tag, names in parse(text).nodes if tag == "th")
    pictures = [names for tag, names in parse(text).nodes if tag == "svg" and "role" in names]
    assert len(pictures) == tags.count("title") - 1
    assert all("role" in n or "aria-hidden" in n for tag, n in parse(text).nodes if tag == "svg")


def test_headings_go_down_one_at_a_time_and_names_lead_somewhere(
    run: Run, report: dict[str, Any]
) -> None:
    text = page(report, run)
    heads = [int(level) for level in re.findall(r"<h([1-6])", text)]
    assert heads[0] == 1 and heads.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(heads))
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert {*re.findall(r'aria-labelledby="([^"]+)"', text)} <= {*ids}
    assert {*re.findall(r'href="#([^"]+)"', text)} <= {*ids}


def test_no_name_of_a_table_a_picture_or_a_region_is_empty(
    run: Run, report: dict[str, Any]
) -> None:
    text = page(report, run)
    captions = re.findall(r"<caption>(.*?)</caption>", text, re.S)
    titles = re.findall(r"<title>(.*?)</title>", text, re.S)
    labels = re.findall(r'aria-label="([^"]*)"', text)
    assert len(captions) > 5 and len(titles) > 20 and len(labels) > 8
    assert all(found.strip() for found in (*captions, *titles, *labels))
    regions = re.findall(r'<div class="scroll"([^>]*)>', text)
    assert all('tabindex="0" role="region" aria-label="' in names for names in regions)


def test_a_headline_ends_without_its_colon_and_still_reads_in_full(
    run: Run, report: dict[str, Any]
) -> None:
    head = re.search(r'<h1 id="verdict">(.*?)</h1>', page(report, run), re.S)
    assert head is not None
    assert '<i class="mute">: </i>' in head[1]
    assert "".join(parse(head[1]).text) == report["verdict"]["sentence"]


def test_the_first_screen_tells_what_everything_cost(run: Run, report: dict[str, Any]) -> None:
    text = page(report, run)
    keys = text[text.index('<dl class="keys">') : text.index('id="arms"')]
    ledger = report["ledger"]
    assert formatting.seconds(ledger["total"]["seconds"]) in keys
    assert f'selecting <data value="{ledger["charged"]["seconds"]}">' in keys


def test_a_long_path_shows_its_end_and_stands_whole_in_the_provenance(
    run: Run, report: dict[str, Any]
) -> None:
    path = f"/home/{'deep/' * 20}weights/weak"
    changed = copy.deepcopy(report)
    changed["models"]["weak"] = changed["provenance"]["weak"]["name"] = path
    text = page(changed, run)
    assert "<bdi>…/weights/weak</bdi>" in text
    assert text.count(path) == 1


def test_the_same_run_gives_the_same_bytes_whenever_it_ran(run: Run, tmp_path: Path) -> None:
    write(run)
    again = tmp_path / "run"
    shutil.copytree(run.root, again)
    log = again / "events.jsonl"
    lines = [{**json.loads(line), "at": 1.0} for line in log.read_text().splitlines()]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    write(Run(again))
    for name in ("report.json", "report.html"):
        assert (again / name).read_bytes() == (run.root / name).read_bytes()


@pytest.mark.parametrize("steps", [0, 1, 2], ids=["read", "scored", "selected"])
def test_pages_of_unfinished_runs_are_whole(tmp_path: Path, steps: int) -> None:
    run = fake.pooled(tmp_path, 40)
    for step in (fake.scored, fake.selected)[:steps]:
        step(run)
    text = page(build(run), run)
    assert text.rstrip().endswith("</html>")
    assert "Not tested" in text
    assert "nan" not in "".join(parse(text).text).lower().split()


@pytest.mark.slow
def test_the_page_of_100_000_rows_stays_below_a_megabyte(tmp_path: Path) -> None:
    run = fake.complete(tmp_path, count=100_000)
    write(run)
    assert (run.root / "report.html").stat().st_size < 1_000_000
