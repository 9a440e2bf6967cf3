"""What a real browser makes of the page: no complaint, nothing too wide, legible, prints whole."""

import base64
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pilotfish.report import build, page, write
from tests.report import fake
from tests.report.browser import Browser, browser
from tests.report.hostile import HOSTILE
from tests.report.test_optional_sections import grid
from tests.report.test_page import replaced

pytestmark = pytest.mark.slow
WIDTHS = (375, 768, 1440)  # a phone, a tablet, a desk
NAME = "<script>alert(1)</script>" + "n" * 200
SOURCES = (
    "s" * 200 + ".jsonl",
    "a<img src=x onerror=alert(1)>.jsonl",
    "\u05d0\u05d1 \U0001f525.jsonl",
)

# Elements that reach beyond the window, those aside that scroll inside their own region.
WIDE = """[document.documentElement.scrollWidth - innerWidth,
  [...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll > *, svg, .skip'))
    .filter(e => e.getBoundingClientRect().right > innerWidth + 1)
    .map(e => e.outerHTML.slice(0, 99))]"""
ACTIVE = """[...document.querySelectorAll('script,iframe,object,embed,img,link,base,form,input')]
  .concat([...document.querySelectorAll('button,video,audio,dialog,a[href]:not([href^="#"])')])
  .map(e => e.outerHTML)
  .concat([...document.querySelectorAll('*')].filter(e => [...e.attributes].some(
    a => a.name.startsWith('on') || a.name === 'style')).map(e => e.outerHTML))"""
LOADED = "performance.getEntriesByType('resource').map(e => e.name)"
# Texts whose WCAG contrast against the nearest painted ground is below 4.5.
FAINT = """(() => {
  const rgba = t => (t.match(/[\\d.]+/g) || []).map(Number);
  const light = c => [.2126, .7152, .0722].reduce((sum, k, i) => {
    const p = c[i] / 255;
    return sum + k * (p <= .03928 ? p / 12.92 : ((p + .055) / 1.055) ** 2.4); }, 0);
  const ground = e => { for (; e; e = e.parentElement) {
    const c = rgba(getComputedStyle(e).backgroundColor);
    if (c.length && (c.length < 4 || c[3] === 1)) return c; } return [255, 255, 255]; };
  const found = new Set(); let seen = 0;
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || e.closest('title, .mute, .skip')) continue;
    const style = getComputedStyle(e);
    if (style.display === 'none') continue;
    seen += 1;
    const [a, b] = [light(rgba(e.closest('svg') ? style.fill : style.color)), light(ground(e))];
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < 4.5) found.add(e.className + ' ' + e.tagName + ' ' + ratio.toFixed(2)); }
  return [seen, [...found]]; })()"""


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("home")) as made:
        yield made


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A finished run; one full of hostile rows and names; one where every text is one long word."""
    plain = fake.complete(tmp_path_factory.mktemp("plain"))
    texts = [text for text in HOSTILE if text]
    hostile = fake.complete(
        tmp_path_factory.mktemp("hostile"), {**fake.ARMS, NAME.replace("/", "|"): 0.7},
        count=len(texts) * 6, sources=SOURCES,
        texts=lambda row: (f"{row} {texts[row % len(texts)]}", texts[(row + 1) % len(texts)]),
    )  # fmt: skip
    hostile.update(warnings=[text for text in texts if "\ud800" not in text])
    for run in (plain, hostile):
        write(run)
    every = grid(tmp_path_factory.mktemp("grid"))
    write(every)
    found = {
        "plain": plain.root / "report.html",
        "hostile": hostile.root / "report.html",
        "grid": every.root / "report.html",
    }
    report = build(every)
    for name, changed in (("long", replaced(report, "w" * 5000)), ("huge", huge(report))):
        found[name] = plain.root.parent / f"{name}.html"
        found[name].write_text(page(changed, every), encoding="utf-8")
    return found


def huge(report: dict[str, Any]) -> dict[str, Any]:
    """The same with numbers far from 0 and 1, as rewards and costs have them."""
    changed = copy.deepcopy(report)
    for row in (*changed["arms"], *changed["comparisons"], changed["verdict"]):
        for key in ("mean", "low", "high", "difference"):
            if row.get(key) is not None:
                row[key] = -1_234_567.891 * (1 + row[key])
        row["seed_means"] = [-1_234_567.891 * (1 + value) for value in row.get("seed_means", ())]
    return changed


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["plain", "grid", "hostile", "long", "huge"])
def test_a_browser_has_nothing_to_complain_of(
    tab: Browser, pages: dict[str, Path], name: str, width: int, scheme: str
) -> None:
    tab.complaints.clear()
    tab.show(pages[name], width=width, scheme=scheme)
    assert tab.ask("innerWidth") == width
    assert tab.ask(WIDE) == [0, []]
    assert tab.ask(ACTIVE) == []
    assert tab.ask(LOADED) == []
    seen, faint = tab.ask(FAINT)
    assert seen > 300 and faint == []
    assert tab.complaints == []


def test_the_checks_see_what_they_look_for(tab: Browser, tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text(
        "<!doctype html><body style='background:#fff'><p style='width:3000px;color:#aaa'>pale</p>"
        "<img src=x><script>console.error(1)</script>"
    )
    tab.complaints.clear()
    tab.show(bad, width=375, scheme="light")
    over, wide = tab.ask(WIDE)
    assert over > 0 or wide
    assert len(tab.ask(ACTIVE)) >= 3
    assert len(tab.ask(FAINT)[1]) == 1
    assert tab.complaints


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_two_schemes_differ_on_screen_and_not_on_paper(
    tab: Browser, pages: dict[str, Path], scheme: str
) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    tab.show(pages["plain"], width=1440, scheme=scheme)
    assert (tab.ask(ground) == "rgb(255, 255, 255)") == (scheme == "light")
    tab.show(pages["plain"], width=1440, scheme=scheme, media="print")
    assert tab.ask(ground) == "rgb(255, 255, 255)"
    assert tab.ask(FAINT)[1] == []


@pytest.mark.parametrize("name", ["plain", "grid", "hostile", "huge"])
def test_paper_holds_every_table_whole(tab: Browser, pages: dict[str, Path], name: str) -> None:
    # A4 less the page's margins, at 96 dots an inch.
    tab.show(pages[name], width=688, scheme="dark", media="print")
    cut = (
        "[...document.querySelectorAll('table')].filter(t => t.getBoundingClientRect().right > 689)"
    )
    assert tab.ask(f"{cut}.map(t => t.caption.innerText)") == []
    printed = base64.b64decode(tab.call("Page.printToPDF", preferCSSPageSize=True)["data"])
    assert printed.startswith(b"%PDF") and len(printed) > 50_000


@pytest.mark.parametrize("name", ["plain", "grid", "hostile"])
def test_a_screen_reader_finds_names_for_all_that_it_stops_at(
    tab: Browser, pages: dict[str, Path], name: str
) -> None:
    tab.show(pages[name], width=1440, scheme="light")
    tab.call("Accessibility.enable")
    nodes = [n for n in tab.call("Accessibility.getFullAXTree")["nodes"] if not n.get("ignored")]
    roles = [str(node["role"]["value"]) for node in nodes]
    assert {"main", "navigation", "banner", "contentinfo", "table", "figure"} <= set(roles)
    named = {"figure", "image", "img", "table", "region", "heading", "link", "navigation"}
    bare = [n for n in nodes if n["role"]["value"] in named and not n.get("name", {}).get("value")]
    assert bare == []
