"""R3, R4: a training killed anywhere ends bit for bit as if never killed; damage is said."""

import functools
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from pilotfish.errors import DamagedRun
from pilotfish.training import loop
from tests.figures import Reached, size
from tests.torture.courses import ARM, STEPS, Course, Teach, bytes_below, kinds, where
from tests.torture.doubles import KILLED, count_into, die, forked, kill_at

pytestmark = pytest.mark.torture
NEWEST, BEFORE = "ckpt-00000006", "ckpt-00000004"


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Course]:
    """A training by its name, once done without a kill and without a checkpoint."""
    made = kinds(tmp_path_factory.mktemp("models"))

    @functools.cache
    def find(name: str) -> Course:
        folder = tmp_path_factory.mktemp("whole")
        facts = made[name](folder / "model", None)
        assert facts["dropout"] > 0
        told = folder / "steps"
        counted = forked(lambda: (count_into(told), made[name](folder / "m", where(folder))))
        assert counted == 0
        whole = bytes_below(folder / "model")
        assert bytes_below(folder / "m") == whole, "checkpoints change what is learnt"
        return Course(name, made[name], whole, len(told.read_text().splitlines()))

    return find


def stop_at_move(number: int) -> None:
    """Kill this process in optimizer step `number`, its gradients there, its weights not moved."""
    real, made = loop.optimizer_step, [0]

    def move(*args: object) -> None:
        made[0] += 1
        if made[0] == number:
            die()
        real(*args)  # type: ignore[arg-type]

    loop.optimizer_step = move  # type: ignore[assignment]


def cut_short(teach: Teach, run: Path, stop: Callable[[], None]) -> int:
    """The exit code of a training that is stopped somewhere."""

    def work() -> None:
        stop()
        torch.manual_seed(random.randrange(10**6))  # whatever the process has drawn before
        teach(run / "model", where(run))

    return forked(work)


def ends_alike(course: Course, run: Path) -> bool:
    """Whether the same training, begun again, leaves what one leaves that was never killed."""

    def again() -> None:
        torch.manual_seed(random.randrange(10**6))
        course.teach(run / "again", where(run))
        assert bytes_below(run / "again") == course.whole
        left = {path.name for path in (run / ARM).iterdir()}
        # a kill between the last save and what it prunes leaves a third one, until the arm is done
        assert len(left) in (2, 3) and all(name.startswith("ckpt-") for name in left), left

    return forked(again) == 0


def places(course: Course, moves: int, writes: int) -> list[tuple[str, Callable[[], None]]]:
    """Where to kill: so many optimizer steps and write steps, spread over all there are."""
    chosen = [1 + number * STEPS // moves for number in range(moves)]
    found: list[tuple[str, Callable[[], None]]] = [
        (f"move-{at}", functools.partial(stop_at_move, at)) for at in chosen
    ]
    count = min(writes, course.writes)
    steps = [1 + (2 * n + 1) * course.writes // (2 * count) for n in range(count)]
    return [*found, *((f"write-{at}", functools.partial(kill_at, at)) for at in steps)]


# name -> (moves, writes) in the default tests and in full, where "full" is killed at every write
KINDS = {
    "full": ((1, 1), (STEPS, 10**6)),
    "lora": ((0, 0), (3, 6)),
    "kd": ((0, 0), (2, 3)),
    "kd until surpassed": ((1, 0), (3, 3)),
    "kd stored": ((0, 0), (2, 3)),
    "kd sampled": ((0, 0), (2, 3)),
    "focus": ((0, 0), (2, 3)),
    "mixed": ((0, 0), (2, 3)),
    "warmed, stopping": ((0, 0), (3, 6)),
    "classifier": ((0, 1), (3, 6)),
    "classifier, soft": ((0, 0), (2, 3)),
}


def test_trainings_killed_at_steps_and_inside_saves(
    course: Callable[[str], Course], tmp_path: Path, reached: Reached
) -> None:
    kills = {"move": 0, "write": 0}
    for name, (short, full) in KINDS.items():
        moves, writes = size(short, full)
        if not moves + writes:
            continue
        one = course(name)
        for place, stop in places(one, moves, writes):
            run = tmp_path / name / place
            assert cut_short(one.teach, run, stop) == KILLED, (name, place)
            assert ends_alike(one, run), (name, place)
            kills[place.partition("-")[0]] += 1
            shutil.rmtree(run)
    trained = sum(any(size(short, full)) for short, full in KINDS.values())
    reached("R3", f"{kills['move']} kills at steps and {kills['write']} inside saves of {trained} "
            "kinds of training with dropout on: every file of the model bit-equal")  # fmt: skip


def test_trainings_killed_at_any_time(
    course: Callable[[str], Course], tmp_path: Path, reached: Reached
) -> None:
    one, draw, killed = course("full"), random.Random(3), 0
    start = time.monotonic()
    assert cut_short(one.teach, tmp_path / "timed", lambda: None) == 0
    lasts = time.monotonic() - start
    for number in range(size(1, 20)):
        run = tmp_path / str(number)
        child = os.fork()
        if not child:
            one.teach(run / "model", where(run))
            os._exit(0)
        time.sleep(draw.uniform(0, 1) * lasts)
        os.kill(child, signal.SIGKILL)
        killed += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == KILLED
        assert ends_alike(one, run), number
    assert killed or size(True, False)
    reached("R3", f"{killed} kills at random times: every file of the model bit-equal")


def test_a_resume_that_forgets_the_draws_is_found_out(
    course: Callable[[str], Course], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    reached: Reached,
) -> None:  # fmt: skip
    one = course("full")
    found = 0
    for at in size([6], [3, 4, 5, 6]):
        run = tmp_path / str(at)
        assert cut_short(one.teach, run, functools.partial(stop_at_move, at)) == KILLED
        with monkeypatch.context() as patch:
            patch.setattr(torch, "set_rng_state", lambda state: None)
            one.teach(run / "again", where(run))
        found += bytes_below(run / "again") != one.whole
    assert found == size(1, 4)
    reached("R3", f"negative control, random state not put back: {found} of {found} found out")


Damage = Callable[[Path, random.Random], object]


def flip(path: Path, draw: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    path.write_bytes(data)


def cut(path: Path, draw: random.Random) -> None:
    path.write_bytes(path.read_bytes()[: draw.randrange(path.stat().st_size)])


def swap(path: Path, draw: random.Random) -> None:
    """The file of that name of the older checkpoint: whole, but of another moment."""
    path.write_bytes((path.parents[1] / BEFORE / path.name).read_bytes())


def longer(path: Path, draw: random.Random) -> None:
    path.write_bytes(path.read_bytes() + draw.randbytes(9))


def zero(path: Path, draw: random.Random) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def gone(path: Path, draw: random.Random) -> None:
    path.unlink()


DAMAGES: list[Damage] = [flip, cut, swap, longer, zero, gone]


@pytest.fixture(scope="module")
def torn(course: Callable[[str], Course], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run killed in its last step, with the checkpoints of steps 4 and 6."""
    run = tmp_path_factory.mktemp("torn")
    stop = functools.partial(stop_at_move, STEPS)
    assert cut_short(course("full").teach, run, stop) == KILLED
    assert sorted(path.name for path in (run / ARM).iterdir()) == [BEFORE, NEWEST]
    return run


def mutations(torn: Path) -> list[tuple[str, Damage, int]]:
    """Every file of the newest checkpoint, damaged in every way; what makes no difference is not.

    A manifest that is gone is no damage: the save was never finished. One that was put in the place
    of another has a test of its own.
    """
    names = sorted(path.name for path in (torn / ARM / NEWEST).iterdir())
    some = [(name, do, 0) for name in names for do in DAMAGES]
    more = [(name, do, n) for n in (1, 2) for name in names for do in (flip, cut)]
    return [
        each
        for each in [*some, *more]
        if not (each[0] == "manifest.json" and each[1] in (gone, swap))
    ]


def test_a_manifest_of_another_checkpoint_is_passed_over(
    course: Callable[[str], Course], torn: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    assert damaged(torn, tmp_path, [NEWEST], ("manifest.json", swap, 0))
    course("full").teach(tmp_path / "again", where(tmp_path, warn=said.append))
    assert len(said) == 1 and f"{NEWEST} is damaged" in said[0]


def damaged(torn: Path, run: Path, names: list[str], how: tuple[str, Damage, int]) -> bool:
    """Copy a run and damage a file of some of its checkpoints; whether any byte differs."""
    shutil.copytree(torn / "train", run / "train")
    file, damage, seed = how
    changed = False
    for name in names:
        path = run / ARM / name / file
        before = path.read_bytes()
        damage(path, random.Random(seed))
        changed |= not path.exists() or path.read_bytes() != before
    return changed


def test_a_damaged_newest_checkpoint_is_passed_over_by_name(
    course: Callable[[str], Course], torn: Path, tmp_path: Path, reached: Reached
) -> None:
    one = course("full")
    every = mutations(torn)
    tried = named = 0
    for number, how in enumerate(every[:: size(19, 1)]):
        run = tmp_path / str(number)
        if not damaged(torn, run, [NEWEST], how):
            continue
        said: list[str] = []
        one.teach(run / "again", where(run, warn=said.append))
        assert bytes_below(run / "again") == one.whole, how
        tried += 1
        assert len(said) == 1 and f"{NEWEST} is damaged" in said[0] and BEFORE in said[0], how
        named += 1
        shutil.rmtree(run)
    assert named == tried >= size(2, 20)
    reached("R4", f"{named} of {tried} mutations of the files of a checkpoint: named, the one "
            "before gone on from, weights bit-equal")  # fmt: skip


def test_without_a_valid_checkpoint_it_ends_with_6(
    course: Callable[[str], Course], torn: Path, tmp_path: Path, reached: Reached
) -> None:
    teach = course("full").teach
    every = [each for each in mutations(torn) if each[1] is not swap]
    tried = refused = 0
    for number, how in enumerate(every[:: size(19, 1)]):
        run = tmp_path / str(number)
        assert damaged(torn, run, [NEWEST, BEFORE], how)
        tried += 1
        with pytest.raises(DamagedRun, match=f"{NEWEST}.*{BEFORE}") as caught:
            teach(run / "again", where(run))
        refused += caught.value.exit_code == 6 and not bytes_below(run / "again")
        shutil.rmtree(run)
    assert refused == tried >= size(2, 20)
    reached("R4", f"{refused} of {tried} with both checkpoints mutated: exit 6, both named")
