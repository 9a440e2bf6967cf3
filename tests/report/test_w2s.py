"""The weak-to-strong panel: its numbers, its "undefined", its curves, hostile names, absence."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from pilotfish.report import build, page, w2s, write
from pilotfish.report.charts import Axis
from pilotfish.store import Run
from tests.report import fake
from tests.report.hostile import HOSTILE
from tests.report.parsing import active, parse
from tests.report.test_page import SHOWN, leaves, replaced


def arm(name: str, raw: float | None, **changes: Any) -> dict[str, Any]:
    pgr = {"raw": raw, "clamped": raw, "low": None, "high": None, "defined": False, "why": "covers"}
    if raw is not None:
        pgr |= {"low": raw - 0.2, "high": raw + 0.25, "defined": True, "why": ""}
    return {
        "name": name, "loss": "logconf(alpha=0.5)", "mean": 0.8123, "low": 0.79, "high": 0.83,
        "pgr": pgr, "agreement": {"weak_right": 0.91, "weak_wrong": 0.44},
        "wrong_given_weak_wrong_minus_ceiling": 0.217, "misfit": 0.1375, "ece": 0.0421,
        "confidence_when_wrong": 0.7733, "curve": [], **changes,
    }  # fmt: skip


def curve(*rows: tuple[int, float | None, float | None]) -> list[dict[str, Any]]:
    return [{"step": step, "weak_right": right, "weak_wrong": wrong} for step, right, wrong in rows]


FOUND = {
    "metric": "accuracy",
    "weak": {"mean": 0.7011, "low": 0.68, "high": 0.72},
    "ceiling": {"mean": 0.8922, "low": 0.87, "high": 0.91},
    "arms": [
        arm("naive", 0.582, curve=curve((0, 0.5, 0.5), (50, 0.9, 0.3), (100, 0.95, 0.6))),
        arm("logconf", 0.631),
        arm("hopeless", None, ece=None, misfit=None),
    ],
    "alarms": ["naive: student too close to weak: it repeats 80% of the weak model's mistakes"],
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return fake.complete(tmp_path_factory.mktemp("w2s"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    made = Run(tmp_path_factory.mktemp("w2s") / "run")
    made.update(status="complete", test={"rows": 300, "held_out": "data", "metric": "accuracy"})
    made.store.write_json("weak_to_strong.json", FOUND)
    return made


@pytest.fixture(scope="module")
def report(run: Run) -> dict[str, Any]:
    return build(run)


def text_of(html: str) -> str:
    return " ".join("".join(parse(html).text).split())


def test_another_run_has_no_panel_and_no_key(plain: Run) -> None:
    report = build(plain)
    assert "weak_to_strong" not in report
    html = page(report, plain)
    assert "weak-to-strong" not in html and "recovered" not in html


def test_report_holds_the_experiment_as_it_was_written(run: Run, report: dict[str, Any]) -> None:
    assert report["weak_to_strong"] == FOUND
    assert report["verdict"]["outcome"] == "not_tested"


def test_first_sentence_tells_gap_and_best_arm(report: dict[str, Any]) -> None:
    assert report["verdict"]["sentence"] == (
        "Label mode: the weak model wrote the labels, and no rows were selected. The arm logconf "
        "recovers 0.63 (95% interval 0.43 to 0.88) of the gap between the weak model (0.701) and "
        "the ceiling (0.892)."
    )


@pytest.mark.parametrize("more", [{"taught": "gold"}, {"oracle": True}])
def test_first_sentence_is_about_a_student_and_no_control(more: dict[str, Any]) -> None:
    student, control = copy.deepcopy(FOUND["arms"][0]), copy.deepcopy(FOUND["arms"][0])
    control |= {"name": "control", **more}
    control["pgr"] |= {"raw": 0.99}
    told = w2s.sentence({**FOUND, "arms": [student, control]})
    assert f"{student['name']} recovers" in told and "control" not in told


@pytest.mark.parametrize(
    ("arms", "said"),
    [
        ([arm("a", None)], "PGR is undefined: covers."),
        ([], "PGR is undefined: no arm was trained."),
    ],
)
def test_first_sentence_without_a_pgr(arms: list[dict[str, Any]], said: str) -> None:
    assert w2s.sentence({**FOUND, "arms": arms}).endswith(said)


def test_every_number_of_the_panel_stands_in_the_report(run: Run, report: dict[str, Any]) -> None:
    known = {str(leaf) for leaf in leaves(report) if isinstance(leaf, int | float)}
    shown = parse(page(report, run)).data
    for value, text in shown:
        assert value in known
        assert text in {form(json.loads(value)) for form in SHOWN}
    values = {value for value, _ in shown}
    for one in FOUND["arms"]:
        for number in (one["pgr"]["raw"], one["pgr"]["low"], one["mean"], one["misfit"]):
            assert number is None or str(number) in values


def test_undefined_is_spelt_with_its_reason_and_draws_nothing(
    run: Run, report: dict[str, Any]
) -> None:
    html = page(report, run)
    assert "undefined: covers" in text_of(html)
    marks = w2s.charts(report)["pgr"]["lines"]
    assert marks[2] == {"difference": None, "low": None, "high": None}
    assert html.count("<title>hopeless: PGR") == 0 and html.count("<title>naive: PGR") == 1
    row = html[html.index('<th scope="row"><bdi>hopeless') :].split("</tr>")[0]
    assert "<td>undefined</td>" in row


def test_alarms_come_before_the_chart(run: Run, report: dict[str, Any]) -> None:
    shown = text_of(page(report, run))
    assert shown.index(FOUND["alarms"][0]) < shown.index("The dot is the PGR")


def test_floor_and_ceiling_lie_on_the_axis_and_wild_intervals_do_not_stretch_it() -> None:
    tame = w2s.charts({"weak_to_strong": FOUND})["pgr"]
    wild = copy.deepcopy(FOUND)
    wild["arms"][0]["pgr"] |= {"low": -400.0, "high": 900.0}
    drawn = w2s.charts({"weak_to_strong": wild})["pgr"]
    for chart in (tame, drawn):
        assert 0 < chart["zero"] == chart["band"][0] < chart["band"][1] < 100
    assert drawn["lines"][0]["low"] == 0.0 and drawn["lines"][0]["high"] == 100.0
    assert drawn["lines"][1]["high"] - drawn["lines"][1]["low"] > 15


def test_curve_positions_by_hand() -> None:
    (line,) = w2s.charts({"weak_to_strong": FOUND})["curves"]
    assert line["right"] == [
        {"x1": 0.0, "y1": 60.0, "x2": 50.0, "y2": 12.0},
        {"x1": 50.0, "y1": 12.0, "x2": 100.0, "y2": 6.0},
    ]
    assert [piece["y2"] for piece in line["wrong"]] == [84.0, 48.0]


def test_curve_with_gaps_out_of_order_and_of_one_point() -> None:
    points = curve((30, 0.2, None), (0, 0.4, 0.1), (10, None, 0.1), (20, 0.6, None))
    found = {**FOUND, "arms": [arm("a", 0.5, curve=points)]}
    (line,) = w2s.charts({"weak_to_strong": found})["curves"]
    assert [(piece["x1"], piece["x2"]) for piece in line["right"]] == [(0.0, 0.0), (66.67, 100.0)]
    assert [(piece["x1"], piece["x2"]) for piece in line["wrong"]] == [(0.0, 33.33)]
    single = {**FOUND, "arms": [arm("a", 0.5, curve=curve((7, 0.5, None)))]}
    (line,) = w2s.charts({"weak_to_strong": single})["curves"]
    assert len(line["right"]) == 1 and line["wrong"] == []
    assert line["right"][0]["x1"] == Axis(7.0, 7.0).at(7.0)


def test_no_curve_no_figure(run: Run, report: dict[str, Any]) -> None:
    bare = copy.deepcopy(report)
    bare["weak_to_strong"]["arms"][0]["curve"] = []
    assert "Agreement during training" not in page(bare, run)
    assert "Agreement during training" in page(report, run)


@pytest.fixture(scope="module")
def tame(run: Run, report: dict[str, Any]) -> dict[bool, list[Any]]:
    """The nodes of the page with a harmless text everywhere, and with none."""
    return {bool(text): parse(page(replaced(report, text), run)).nodes for text in ("x", "")}


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_change_no_node(
    run: Run, report: dict[str, Any], tame: dict[bool, list[Any]], text: str
) -> None:
    hostile = parse(page(replaced(report, text), run))
    assert active(hostile) == []
    assert hostile.nodes == tame[bool(text)]


def test_hostile_names_in_the_file_come_through_clean(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    run.update(status="complete")
    names = [text for text in HOSTILE if text and "\ud800" not in text]
    arms = [arm(name, 0.5, loss=name, pgr={**arm("x", None)["pgr"], "why": name}) for name in names]
    run.store.write_json("weak_to_strong.json", {**FOUND, "arms": arms, "alarms": names})
    write(run)
    html = (run.root / "report.html").read_text(encoding="utf-8")
    assert active(parse(html)) == []
    assert "hf_abcdefgh" not in html and "\u202e" not in html


def test_panel_can_be_read_without_eyes(run: Run, report: dict[str, Any]) -> None:
    html = page(report, run)
    parsed = parse(html)
    tags = [tag for tag, _ in parsed.nodes]
    assert tags.count("caption") == tags.count("table") >= 2
    assert all("scope" in names for tag, names in parsed.nodes if tag == "th")
    pictures = [names for tag, names in parsed.nodes if tag == "svg" and "role" in names]
    assert len(pictures) == tags.count("title") - 1 >= 3
    assert all("role" in n or "aria-hidden" in n for tag, n in parsed.nodes if tag == "svg")
    assert 'href="#weak-to-strong"' in html and 'id="weak-to-strong"' in html


def test_an_experiment_without_arms_is_a_whole_page(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    run.update(status="complete")
    run.store.write_json("weak_to_strong.json", {**FOUND, "arms": [], "alarms": []})
    html = page(build(run), run)
    assert html.rstrip().endswith("</html>") and "no arm was trained" in text_of(html)
