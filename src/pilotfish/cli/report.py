"""`pilotfish report`: the run's files as report.json and one self-contained page."""

from pilotfish.cli.console import emit, out
from pilotfish.cli.options import Json, RunFolder


def report(run: RunFolder, as_json: Json = False) -> None:
    """Write report.json and report.html from a run's files.

    Nothing is measured or trained again. Works at any stage of a run and says what is missing.
    """
    from pilotfish.experiments.evaluate import write_report

    content = write_report(run)
    if as_json:
        emit(content)
        return
    out(content["verdict"]["sentence"])
    for sentence in (content["scoring"] or {}).get("sentences", ()):
        out(sentence)
    out(f"report: {run}/report.html")
