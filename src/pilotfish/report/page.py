"""report.html from report.json: one page, no script, nothing loaded from anywhere."""

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pilotfish.report import charts, curve, formatting, w2s
from pilotfish.report.provenance import listed
from pilotfish.report.scoring import scoring_lines
from pilotfish.store import Run

_HERE = Path(__file__).parent


def page(report: Mapping[str, Any], run: Run) -> str:
    """The page as text. Every number comes from `report`; of `run` only the folder's name."""
    css = (_HERE / "page.css").read_text(encoding="utf-8")
    return (
        _environment()
        .get_template("page.html")
        .render(
            report=report,
            name=run.root.resolve().name,
            # Our own file and no data in it: the one text that is not escaped.
            css=Markup(css),
            policy=policy(css),
            charts=_charts(report),
            curve_height=w2s.CURVE_HEIGHT,
            curve_tall=curve.HEIGHT,
        )
    )


def policy(css: str) -> str:
    """Nothing may load or run; of styles only this text, named by its digest."""
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def _charts(report: Mapping[str, Any]) -> dict[str, Any]:
    spread = report["distributions"]
    return {
        "arms": charts.arms(report),
        "differences": charts.differences(report),
        "scores": charts.histogram(spread["scores"]) if spread else None,
        "lengths": charts.histogram(spread["lengths"]) if spread else None,
        "w2s": w2s.charts(report),
        "curve": curve.charts(report),
    }


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {shown.__name__: shown for shown in formatting.FILTERS}
    environment.filters |= {"listed": listed, "scoring_lines": scoring_lines}
    environment.globals |= {"OUTCOMES": formatting.OUTCOMES, "fmt": formatting}
    return environment
