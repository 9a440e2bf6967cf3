"""report.html from report.json: one page without scripts, which loads nothing."""

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pilotfish.report import charts, formatting, w2s
from pilotfish.report.record import provenance_lines
from pilotfish.report.scoring import scoring_lines
from pilotfish.store import Run

_HERE = Path(__file__).parent


def page(report: Mapping[str, Any], run: Run) -> str:
    """Render the page.

    Args:
        report: The content of report.json; every number on the page comes from it.
        run: The run, of which only the folder's name is used.
    """
    css = (_HERE / "page.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    distributions = report["distributions"]
    return (
        _environment()
        .get_template("page.html")
        .render(
            report=report,
            name=run.root.resolve().name,
            css=Markup(css),  # our own file without data: the only text that is not escaped
            # Nothing may load or run; of styles only this text, named by its digest.
            policy=f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; "
            "form-action 'none'",
            charts={
                "arms": charts.arms(report),
                "differences": charts.differences(report),
                "scores": charts.histogram(distributions["scores"]) if distributions else None,
                "lengths": charts.histogram(distributions["lengths"]) if distributions else None,
                "w2s": w2s.charts(report),
                "curves": charts.curves(report),
            },
            curve_height=charts.CURVE_HEIGHT,
            agreement_height=w2s.CURVE_HEIGHT,
        )
    )


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
    environment.filters |= {"provenance_lines": provenance_lines, "scoring_lines": scoring_lines}
    environment.globals |= {"OUTCOMES": formatting.OUTCOMES, "fmt": formatting}
    return environment
