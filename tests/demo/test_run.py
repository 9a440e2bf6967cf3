"""The demo's story: the reports, and the figures that only a generated world can give."""

from pathlib import Path

import pytest

from pilotfish.demo import run
from pilotfish.demo.run import Story, run_demo
from pilotfish.demo.world import Chapter


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same story with few rows and steps."""
    chapters = (
        Chapter(
            "dirty", seeds=1, arms=("base", "weak", "random", "selected"),
            losses={"selected_kd": "mix(lm=0.7, kd=0.3)"},
            pool_rows=120, trusted_rows=24, test_rows=12,
        ),
        Chapter("clean", seeds=1, arms=("selected",), pool_rows=60, trusted_rows=24, test_rows=8),
    )  # fmt: skip
    monkeypatch.setattr("pilotfish.demo.world.CHAPTERS", chapters)
    monkeypatch.setattr(
        "pilotfish.demo.world.DEMO",
        type(demo_settings())(steps=2, method="perplexity(direction=low)"),
    )


def demo_settings() -> object:
    from pilotfish.demo.world import DEMO

    return DEMO


def test_the_story_names_rates_arms_precision_and_the_page(short: None, tmp_path: Path) -> None:
    story: Story = run_demo(str(tmp_path), seed=3)
    dirty, clean = story.chapters
    assert dirty.right_in_pool < 0.5 < clean.right_in_pool == 1.0
    assert dirty.right_in_selected > dirty.right_in_pool
    text = "\n".join(story.lines())
    for words in ("systematic 25%", "no noise", "selected_kd", "weak", "not", "report.html"):
        assert words in text
    for part in story.chapters:
        assert Path(part.folder, "report.html").is_file()
    assert run.Story(story.chapters, 1.0).as_dict()["chapters"][0]["name"] == "dirty"
