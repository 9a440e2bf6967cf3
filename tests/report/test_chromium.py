"""What a real browser makes of the page: no complaint, nothing wider than a phone."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pilotfish.report import write
from tests.report import fake

pytestmark = pytest.mark.slow
QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--hide-scrollbars",
)
MEASURE = (
    "<script>parent.postMessage(innerWidth + ' ' + document.documentElement.scrollWidth"
    " + ' ' + getComputedStyle(document.querySelector('.badge')).borderTopStyle, '*')</script>"
)


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = fake.complete(tmp_path_factory.mktemp("chromium"))
    write(run)
    return run.root / "report.html"


def chromium(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    binary = shutil.which("chromium") or shutil.which("chromium-browser")
    if binary is None:
        pytest.skip("needs a chromium binary on the path")
    command = [binary, *QUIET, f"--user-data-dir={home}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


@pytest.mark.parametrize("width", [360, 1280])
def test_it_renders_without_a_complaint(html: Path, tmp_path: Path, width: int) -> None:
    picture = tmp_path / "page.png"
    ran = chromium(
        "--enable-logging=stderr", f"--window-size={width},1600", f"--screenshot={picture}",
        f"file://{html}", home=tmp_path / "home",
    )  # fmt: skip
    assert "CONSOLE" not in ran.stderr
    assert picture.stat().st_size > 20_000


def test_nothing_is_wider_than_a_phone_and_the_style_applies(html: Path, tmp_path: Path) -> None:
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", html.read_text())
    (tmp_path / "page.html").write_text(text.replace("</body>", MEASURE + "</body>"))
    (tmp_path / "phone.html").write_text(
        "<script>onmessage = event => document.title = event.data</script>"
        "<iframe src=page.html width=360 height=800 style=border:0></iframe>"
    )
    ran = chromium("--dump-dom", f"file://{tmp_path}/phone.html", home=tmp_path / "home")
    assert "<title>360 360 solid</title>" in ran.stdout
