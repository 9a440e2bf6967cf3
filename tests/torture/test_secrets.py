"""S3: planted secrets are in no file of a run and in nothing that is said, whole or crashed."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilotfish.cli.main import run as run_command
from pilotfish.experiments import run
from pilotfish.redaction import redact, redact_values
from tests.experiments.worlds import World
from tests.figures import Reached, size
from tests.torture.jobs import Jobs

pytestmark = pytest.mark.torture

# Each holds a word that stands nowhere else, to be looked for
MARK = "canary7Qz"
ENVIRONMENT = {
    "HF_TOKEN": f"hf_{MARK}AAAAbbbbCCCC",
    "HUGGING_FACE_HUB_TOKEN": f"hf_{MARK}DDDDeeeeFFFF",
    "OPENAI_API_KEY": f"sk-proj-{MARK}GGGGhhhh",
    "ANTHROPIC_API_KEY": f"sk-ant-{MARK}IIIIjjjj",
    "AWS_ACCESS_KEY_ID": f"AKIA{MARK}KKKKLLLL",
    "AWS_SECRET_ACCESS_KEY": f"wJalr/{MARK}+mmmmNNNN",
    "AWS_SESSION_TOKEN": f"FwoGZ//{MARK}ooooPPPP==",
    "WANDB_API_KEY": f"{MARK}0123456789abcdef",
    "GITHUB_TOKEN": f"ghp_{MARK}QQQQrrrr",
    "DB_PASSWORD": f"correct-{MARK}-horse",
    "SERVICE_CREDENTIALS": f"user:{MARK}:ssssTTTT",
}
URL = f"https://me:{MARK}@example.org/rows.jsonl"
# Secrets where settings belong, of a run that goes through
SETTINGS = {
    "pricing": {"per_hour": 1.0, "currency": ENVIRONMENT["OPENAI_API_KEY"]},
    "gates": {ENVIRONMENT["HF_TOKEN"]: {"against": "random", "margin": 9.0}},
}


@pytest.fixture(autouse=True)
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def world(tmp_path: Path, jobs: Jobs) -> World:
    return World(tmp_path, jobs.weak, jobs.strong)


def recipe(world: World) -> str:
    """Beside the run, as a person has it: the one file that holds secrets."""
    path = world.folder / "recipe.yaml"
    path.write_text(json.dumps(world.settings(**SETTINGS)))
    return str(path)


def holding(folder: Path) -> list[str]:
    """Files of a folder with the mark in them, or in their name."""
    return [
        str(path.relative_to(folder))
        for path in sorted(folder.rglob("*"))
        if MARK in path.name or (path.is_file() and MARK.encode() in path.read_bytes())
    ]


def said(capfd: pytest.CaptureFixture[str]) -> str:
    told = capfd.readouterr()
    return told.out + told.err


def test_nothing_of_a_whole_run_holds_a_secret(
    world: World, capfd: pytest.CaptureFixture[str], reached: Reached
) -> None:
    """Run, judged, reported, explained, verified and exported, with --json and without."""
    out = str(world.out)
    assert run_command(["run", recipe(world), "--out", out]) == 5  # four rows decide no gate
    targets = ("jsonl", "trl", "llamafactory", "axolotl")
    spoken = [
        ["verify", out], ["report", out, "--json"], ["explain", out, "--row", "0", "--json"],
        *(["export", out, "--to", to, "--json"] for to in targets),
    ]  # fmt: skip
    for command in spoken:
        assert run_command(command) == 0, command
    assert MARK not in said(capfd)
    assert holding(world.out) == []
    count = sum(path.is_file() for path in world.out.rglob("*"))
    planted = len(ENVIRONMENT) + len(SETTINGS)
    reached(
        "S3",
        f"0 of {planted} planted secrets in {count} files of a run and {len(spoken) + 1} outputs",
    )


def test_nothing_that_a_crash_leaves_or_says_holds_one(
    world: World, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    reached: Reached,
) -> None:  # fmt: skip
    """A fault of our own that quotes everything it can, at the start, in the middle and late."""

    def quote(*anything: object, **more: object) -> None:
        raise RuntimeError(f"{URL} {ENVIRONMENT} {SETTINGS}")

    for at, place in enumerate(size(("evaluate_arm",), ("prepare", "begin", "evaluate_arm"))):
        with monkeypatch.context() as patch:
            patch.setattr(run, place, quote)
            out = world.folder / f"run-{at}"
            assert run_command(["run", recipe(world), "--out", str(out)]) == 1
        told = said(capfd)
        assert "RuntimeError" in told and "Traceback" in told and "report it" in told
        assert MARK not in told
        assert holding(out) == []
    reached("S3", f"0 secrets after {at + 1} crashes that quoted all of them")


def failures(world: World) -> Iterator[list[str]]:
    """Commands that fail by themselves, a secret in each."""
    token = ENVIRONMENT["HF_TOKEN"]
    hub = f"https://me:{MARK}@hub.example/org/model"
    to = ["--out", str(world.out)]
    method = ["--method", "perplexity"]
    yield ["score", world.pool, "--weak", hub, *method, *to]
    yield ["score", world.pool, "--weak", f"tests/{token}", *method, *to]
    yield ["score", URL, "--weak", world.weak, *method, *to]
    yield ["score", world.pool, "--weak", world.weak, *method, "--trusted", URL, *to]
    yield ["score", world.pool, "--weak", world.weak, "--method", f"ifd(token={token})", *to]
    yield ["score", world.pool, "--weak", world.weak, *method, "--map", f"prompt={token}", *to]
    yield ["run", world.pool, "--weak", world.weak, "--strong", hub, *to]
    yield ["run", world.pool, "--weak", world.weak, "--strong", world.strong, "--test", URL, *to]
    for setting in (
        f"train.loss={token}",
        f"train.hub_token={token}",
        f"{token}=1",
        f"seeds={token}",
    ):
        yield [
            "run",
            world.pool,
            "--weak",
            world.weak,
            "--strong",
            world.strong,
            *to,
            "--set",
            setting,
        ]
    yield ["run", f"{token}.yaml", *to]
    yield ["inspect", URL]
    yield ["inspect", world.pool, "--weak", hub]
    yield ["plan", URL, "--weak", hub, "--strong", hub]
    yield ["evaluate", str(world.out), "--model", hub, "--items", "x.jsonl", "--test", world.test]
    yield [token]
    yield ["score", f"--{token}"]


def test_nothing_that_a_failure_leaves_or_says_holds_one(
    world: World, capfd: pytest.CaptureFixture[str], reached: Reached
) -> None:
    count = 0
    for command in failures(world):
        for asked in size(([*command, "--json"],), (command, [*command, "--json"])):
            assert run_command(asked) == 2, (asked, said(capfd))
            assert MARK not in said(capfd), asked
            assert holding(world.out) == [], asked
            count += 1
    reached("S3", f"0 secrets after {count} failures of commands that held one")


@pytest.mark.parametrize("name", ENVIRONMENT)
def test_each_secret_of_the_environment_is_known_by_its_value(name: str) -> None:
    assert MARK not in redact(f"before {ENVIRONMENT[name]} after")
    assert redact("before after") == "before after"


def test_without_redaction_they_are_found(
    world: World, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control."""
    monkeypatch.setattr("pilotfish.cli.console.redact", lambda text: text)
    monkeypatch.setattr("pilotfish.data.run_pool.redact_values", lambda value: value)
    assert (
        run_command(
            ["score", URL, "--weak", world.weak, "--method", "ifd", "--out", str(world.out)]
        )
        == 2
    )
    assert MARK in said(capfd)
    assert holding(world.out) == ["run.json"]


def test_paths_that_look_like_secrets_still_lead_somewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sk-learn-datasets").mkdir()
    for path in ("sk-learn-datasets", "sk-learn-datasets/*.csv", f"{tmp_path}/sk-learn-datasets"):
        assert redact_values({"data": [path]}) == {"data": [path]}
    assert redact_values("sk-elsewhere-datasets") == "sk-…"
