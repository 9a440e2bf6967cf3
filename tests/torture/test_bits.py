"""R9: a flipped bit in any committed file is found before use, by the file's name."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilotfish.cli.main import run as run_command
from pilotfish.diagnostics.verify import verify, walk
from pilotfish.errors import DamagedRun
from pilotfish.store import Store
from tests.experiments.worlds import World
from tests.figures import Reached, size
from tests.torture.jobs import Jobs, copy, files

pytestmark = pytest.mark.torture


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, jobs: Jobs) -> World:
    """A whole run: read, scored, selected, trained, judged and reported."""
    found = World(tmp_path_factory.mktemp("world"), jobs.weak, jobs.strong)
    assert run_command(command(found, found.out)) == 0
    return found


def flipped(path: Path, draw: random.Random) -> bytes:
    """Flip one drawn bit of a file; what it held before."""
    before = path.read_bytes()
    data = bytearray(before)
    bit = draw.randrange(8 * len(data))
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)
    return before


def committed(run: Path) -> list[str]:
    return [name for name in files(run) if (run / name).stat().st_size]


def lasting(run: Path) -> dict[str, str]:
    """All but the report, whose ledger tells what was paid for a second time."""
    return {name: digest for name, digest in files(run).items() if not name.startswith("report.")}


def draws(count: int) -> Iterator[tuple[int, random.Random]]:
    for number in range(count):
        yield number, random.Random(number)


def test_any_flipped_bit_is_found_and_named(world: World, reached: Reached) -> None:
    run, names = world.out, committed(world.out)
    count, missed = size(150, 1000), list[str]()
    for number, draw in draws(count):
        name = names[number % len(names)]
        before = flipped(run / name, draw)
        if name not in walk(Store(run)).damaged:
            missed.append(name)
        (run / name).write_bytes(before)
    assert missed == []
    assert verify(str(run))["damaged"] == []
    told = (
        f"{count - len(missed):,} of {count:,} flipped bits in {len(names)} files named by verify"
    )
    reached("R9", told)


def test_a_flipped_bit_is_never_used(
    world: World, tmp_path: Path, capfd: pytest.CaptureFixture[str], reached: Reached
) -> None:
    """The same command again: it ends with 6 naming the file, or makes the file as it was."""
    whole, names = lasting(world.out), committed(world.out)
    refused = mended = 0
    for number, draw in draws(size(6, 60)):
        name = names[7 * number % len(names)]
        run = copy(world.out, tmp_path / "run")
        flipped(run / name, draw)
        capfd.readouterr()
        code = run_command(command(world, run))
        told = capfd.readouterr().err
        if code == 6:
            assert name in told, (name, told)
            refused += 1
        else:
            assert (code, lasting(run)) == (0, whole), (name, told)
            mended += 1
    reached("R9", f"{refused + mended} damaged runs gone on with: {refused} refused "
            f"by name, {mended} made good byte for byte")  # fmt: skip


def command(world: World, run: Path) -> list[str]:
    """The command that made the world's run, on another folder."""
    settings = world.settings()
    path = run.parent / "recipe.yaml"
    path.write_text("".join(f"{key}: {value!r}\n" for key, value in settings.items()))
    return ["run", str(path), "--out", str(run), "--quiet"]


def test_without_digests_most_are_missed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control."""
    monkeypatch.setattr(Store, "_intact", lambda self, rel, facts: self.path(rel).is_file())
    names = [name for name in committed(world.out) if not name.endswith(".json")]
    for number, draw in draws(5):
        before = flipped(world.out / names[number], draw)
        assert walk(Store(world.out)).damaged == []
        (world.out / names[number]).write_bytes(before)


def test_what_run_json_names_is_missed(world: World, tmp_path: Path, reached: Reached) -> None:
    found = 0
    for name in walk(Store(world.out)).manifests:
        if name.startswith(("train", "judge", "report")):
            continue  # models may be deleted to make room; run.json does not name them
        run = copy(world.out, tmp_path / "run")
        (run / name).unlink()
        with pytest.raises(DamagedRun, match=name):
            verify(str(run))
        found += 1
    reached("R9", f"{found} of {found} manifests that run.json names are missed when deleted")


def test_a_selection_that_the_scores_do_not_give_is_found(world: World, tmp_path: Path) -> None:
    """Whoever changes a selection and its digests too is found out by making it again."""
    run = copy(world.out, tmp_path / "run")
    store, name = Store(run), "selections/selected/manifest.json"
    path = run / "selections/selected/selected.jsonl"
    lines = path.read_text().splitlines()
    other = next(line for line in Path(world.pool).read_text().splitlines() if line not in lines)
    facts = store.require(name)
    with store.attempt(name) as attempt:
        for rel in facts.pop("files"):
            data = (run / rel).read_bytes()
            if rel.endswith("selected.jsonl"):
                data = "\n".join([*lines[:-1], other, ""]).encode()
            attempt.path(rel).write_bytes(data)
        attempt.meta = facts
    assert walk(store).damaged == []
    with pytest.raises(DamagedRun, match=r"selected\.jsonl differ"):
        verify(str(run))
