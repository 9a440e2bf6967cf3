"""compare without training: items judged elsewhere, or finished runs, under one verdict."""

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from pilotfish.comparison.gates import parse_gate
from pilotfish.comparison.gates import reference_folder as reference_of
from pilotfish.config import Gate, parse_method
from pilotfish.data.held_out import stored_test_rows
from pilotfish.data.run_pool import warn
from pilotfish.errors import DataError, UsageError
from pilotfish.evaluation.import_results import (
    ArmSeed,
    Imported,
    check_alike,
    fingerprint_of,
    keep_imported,
    merged,
    read_imported,
)
from pilotfish.evaluation.items import item_hash
from pilotfish.experiments.evaluate import evaluated_models
from pilotfish.store import Run, run_lock

_ARM = re.compile(r"[A-Za-z0-9_][\w.@+-]*(/[A-Za-z0-9_][\w.@+-]*)?")
_RESULT = "write ARM:SEED=FILE, as selected:0=items.jsonl"
PAIR = ("selected", "random")


@dataclass(frozen=True)
class CompareOptions:
    """What a comparison is to say. gates: as typed. arm, against: the pair of the verdict."""

    metric: str | None = None
    lower_is_better: bool = False
    margin: float | None = None
    gates: Sequence[str] = field(default_factory=tuple)
    arm: str | None = None
    against: str | None = None


def compare_files(
    results: Sequence[str], out: str | None, asked: CompareOptions, *, force: bool = False
) -> dict[str, Any]:
    """The report of `arm:seed=file` results; with `out`, in that run folder.

    In a run that judged its own models the items join theirs, where they answer the same
    questions. UsageError and DataError name the model, how many items differ, and one of them.
    """
    gates = gates_of(asked.gates)
    found = _read(results, asked)
    check_alike(found)
    with folder_of(out) as run:
        return report_of(run, found, asked, gates, force=force)


def _read(results: Sequence[str], asked: CompareOptions) -> dict[ArmSeed, Imported]:
    """Every model's items; several files of one model are of several tasks."""
    parts: dict[ArmSeed, list[Imported]] = {}
    for text in results:
        model, path = parse_result(text)
        part = read_imported(path, metric=asked.metric, lower_is_better=asked.lower_is_better)
        parts.setdefault(model, []).append(part)
    return {model: merged(each, f"{model[0]}:{model[1]}") for model, each in sorted(parts.items())}


def parse_result(text: str) -> tuple[ArmSeed, str]:
    """`selected:0=items.jsonl` as ((arm, seed), path); UsageError for anything else."""
    name, equals, path = text.partition("=")
    arm, colon, seed = name.rpartition(":")
    if not (equals and colon and path and seed.isdecimal() and _ARM.fullmatch(arm)):
        raise UsageError(f"cannot read the result '{text}'", hint=_RESULT)
    return (arm, int(seed)), path


def gates_of(texts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Every gate by its name, as a recipe has them.

    `name(arm=selected, against=base, margin=0.02)`, or `selected>=base-0.02`, its own name.
    """
    found: dict[str, dict[str, Any]] = {}
    for text in texts:
        name, gate = _gate(text)
        if name in found:
            raise UsageError(f"two gates are called '{name}'")
        found[name] = gate.model_dump(mode="json")
    return found


def _gate(text: str) -> tuple[str, Gate]:
    if ">=" in text:
        return text.strip(), parse_gate(text)
    typed = parse_method(text)
    try:
        return typed.name, Gate(**typed.args)
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(
            f"the gate '{text}': {'.'.join(map(str, first['loc']))}: {first['msg']}",
            hint="write it as safe(arm=selected, against=base, task=NAME, margin=0.02)",
        ) from error


@contextmanager
def folder_of(out: str | None) -> Iterator[Run]:
    """The run to write to, locked; without `out` one that is gone when its report is told."""
    if out is not None:
        with run_lock(out) as store:
            yield Run(store.root)
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Run(folder)


def report_of(
    run: Run,
    found: Mapping[ArmSeed, Imported],
    asked: CompareOptions,
    gates: Mapping[str, Any],
    *,
    force: bool,
    paired: bool = True,
) -> dict[str, Any]:
    """Commit the items into the run and write its report, on the pair that was asked for.

    paired: refuse where there is neither of the two arms that a verdict is on.
    """
    from pilotfish.report import write

    own = bool(run.section("test")) and not run.section("imported")
    judged = {arm for arm, _ in evaluated_models(run)} if own else set[str]()
    arms = {arm for arm, _ in found} | judged
    pair = pair_of(asked, arms, paired=paired)
    check_gates(gates, arms)
    if own:
        fingerprint = _among_its_own(run, found, force=force)
    else:
        fingerprint = _describe(run, found, force=force)
    known = run.section("config") if own else {}
    config = {**known, "gates": {**known.get("gates", {}), **gates}}
    config |= {"margin": asked.margin} if asked.margin is not None else {}
    run.update(config=config, status="complete", **({"pair": pair} if pair or not own else {}))
    for model, imported in found.items():
        keep_imported(run.store, model, imported, test_fingerprint=fingerprint)
    limited = sorted({arm for (arm, _), each in found.items() if each.limited})
    if limited:
        warn(run, [
            f"{', '.join(limited)}: judged with lm-eval's --limit, on the first documents of each "
            "task alone; no such number is comparable with one of a whole task"
        ])  # fmt: skip
    return write(run)


def pair_of(asked: CompareOptions, arms: set[str], *, paired: bool = True) -> dict[str, str]:
    """The pair that the verdict is on, {} for selected and random; UsageError for unknown arms."""
    pair = (asked.arm or PAIR[0], asked.against or PAIR[1])
    if asked.arm or asked.against or (paired and not arms & {*pair}):
        for name in pair:
            _check_arm(name, arms, "name the pair of the verdict with --arm NAME --against NAME")
    if pair[0] == pair[1]:
        raise UsageError(f"the arm '{pair[0]}' cannot be compared with itself")
    return {} if pair == PAIR else {"arm": pair[0], "against": pair[1]}


def check_gates(gates: Mapping[str, Any], arms: set[str]) -> None:
    """UsageError for a gate on an arm that is not there, nor a run folder."""
    for name, gate in gates.items():
        hint = f"name arms that were judged in the gate '{name}'"
        if gate["arm"] == gate["against"]:
            raise UsageError(f"the gate '{name}' holds '{gate['arm']}' against itself", hint=hint)
        _check_arm(gate["arm"], arms, hint)
        if reference_of(list(arms), gate["against"]) is None:
            _check_arm(gate["against"], arms, hint)


def _check_arm(name: str, arms: set[str], hint: str) -> None:
    if name not in arms:
        raise UsageError(f"no arm is called '{name}' (arms: {', '.join(sorted(arms))})", hint=hint)


def _describe(run: Run, found: Mapping[ArmSeed, Imported], *, force: bool) -> str:
    """run.json of a folder that holds nothing but imported items; the test's fingerprint.

    UsageError where other items lie there already, unless `force`.
    """
    some = next(iter(found.values()))
    fingerprint = fingerprint_of(some)
    digests = {f"{arm}:{seed}": each.digest for (arm, seed), each in found.items()}
    run.fix("imported", digests, force=force)
    for arm, seed in evaluated_models(run):
        if (arm, seed) not in found:
            run.store.forget(f"judge/{arm}/seed-{seed}.json")
    test = {"rows": len(some.items), "metric": some.metric, "fingerprint": fingerprint}
    run.update(test={"held_out": "test", **test}, evidence={"level": "imported"}, warnings=[])
    return fingerprint


def _among_its_own(run: Run, found: Mapping[ArmSeed, Imported], *, force: bool) -> str:
    """The test fingerprint of a run whose own rows were answered; refusals say what differs."""
    test, metric = stored_test_rows(run), str(run.section("test")["metric"])
    mine = {row.id: item_hash(row) for row in test}
    for (arm, seed), imported in found.items():
        if imported.metric != metric:
            raise UsageError(
                f"{arm} seed {seed} was judged by {imported.metric}, {run.root} by {metric}",
                hint="write it into another --out",
            )
        unlike = sorted(
            key
            for key in {*mine, *imported.questions}
            if key not in mine or imported.questions.get(key, "none") not in ("", mine[key])
        )
        if unlike:
            raise DataError(
                f"{arm} seed {seed} does not answer the test rows of {run.root}: {len(unlike):,} "
                f"of {len({*mine, *imported.questions}):,} differ, '{unlike[0]}' among them",
                hint="judge it on test.jsonl of an export, or write it into another --out",
            )
    taken = [
        model for model in evaluated_models(run) if model in found and not _same(run, found, model)
    ]
    if taken and not force:
        arm, seed = taken[0]
        raise UsageError(
            f"{run.root} has judged its own {arm} seed {seed}",
            hint=f"call the other one by another name, as {arm}_elsewhere:{seed}=FILE",
        )
    return str(run.section("test")["fingerprint"])


def _same(run: Run, found: Mapping[ArmSeed, Imported], model: ArmSeed) -> bool:
    """Whether these very items were imported before."""
    known = run.store.manifest(f"judge/{model[0]}/seed-{model[1]}.json") or {}
    return known.get("imported") == found[model].digest
