"""compare without training: imported item files, or finished runs, under one verdict."""

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from pilotfish.comparison.gates import parse_gate
from pilotfish.comparison.gates import reference_folder as reference_of
from pilotfish.config import Gate, parse_method
from pilotfish.data.held_out import stored_test_rows
from pilotfish.data.run_pool import open_run, warn
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
from pilotfish.experiments.evaluate import evaluated_models, withdraw_results
from pilotfish.run_context import RunContext
from pilotfish.store import Run, run_lock

_ARM = re.compile(r"[A-Za-z0-9_][\w.@+-]*(/[A-Za-z0-9_][\w.@+-]*)?")
PAIR = ("selected", "random")
_DIFFERENCES = {"metric": "by different metrics", "fingerprint": "on different test rows"}
_SHOWN = 12  # characters of a fingerprint


@dataclass(frozen=True)
class CompareOptions:
    """Options of a comparison.

    Attributes:
        metric: Name of the metric of files that hold several or name none.
        lower_is_better: Whether a lower value of the metric is better.
        margin: Margin of equivalence of the verdict; None: the default of the metric.
        gates: Gates as typed.
        arm: The arm of the verdict; None: selected.
        against: The arm that it is compared with; None: random.
    """

    metric: str | None = None
    lower_is_better: bool = False
    margin: float | None = None
    gates: Sequence[str] = field(default_factory=tuple)
    arm: str | None = None
    against: str | None = None


def compare_files(
    results: Sequence[str], out: str | None, options: CompareOptions, *, force: bool = False
) -> dict[str, Any]:
    """Compare models by files of items that were evaluated elsewhere.

    In a run that evaluated its own models the items are added to theirs, if they answer the same
    test rows.

    Args:
        results: ARM:SEED=FILE each; several files of one model hold different tasks.
        out: Run folder for the items and the report; None: a temporary one.
        options: Options of the comparison.
        force: Replace other imported items in `out`.

    Returns:
        The report.

    Raises:
        UsageError: A result cannot be parsed, arms are unknown, or `out` holds other results.
        DataError: Models answer different items; the error counts them and names one.
    """
    gates = parse_gates(options.gates)
    parts: dict[ArmSeed, list[Imported]] = {}
    for text in results:
        model, path = parse_result(text)
        part = read_imported(path, metric=options.metric, lower_is_better=options.lower_is_better)
        parts.setdefault(model, []).append(part)
    found = {
        (arm, seed): merged(files, f"{arm}:{seed}") for (arm, seed), files in sorted(parts.items())
    }
    check_alike(found)
    with folder_of(out) as run:
        return report_imported(RunContext(run, force=force), found, options, gates)


def compare_runs(
    runs: Sequence[str], out: str | None, options: CompareOptions, *, force: bool = False
) -> dict[str, Any]:
    """Compare finished runs that were evaluated on the same rows by the same metric.

    Arms of run N are called `<run>/<arm>`; an arm with the same items in all runs keeps its name.
    The verdict is on the selected arms of the first two runs, unless `options` names a pair.

    Args:
        runs: The run folders.
        out: Run folder for the items and the report; None: a temporary one.
        options: Options of the comparison, without a metric.
        force: Replace other imported items in `out`.

    Returns:
        The report.

    Raises:
        UsageError: The runs differ in metric or test rows, or `out` is a run of its own.
    """
    gates = parse_gates(options.gates)
    if options.metric or options.lower_is_better:
        raise UsageError(
            "the metric of finished runs, and its direction, were settled when they judged",
            hint="leave out --metric and --lower-is-better, or type pilotfish evaluate RUN",
        )
    found = joined([open_run(path) for path in runs])
    if not (options.arm or options.against):
        pair = list(dict.fromkeys(arm for arm, _ in found if arm.endswith("/selected")))
        if len(pair) > 1:
            options = replace(options, arm=pair[0], against=pair[1])
    with folder_of(out) as run:
        if out is not None and run.section("test") and not run.section("imported"):
            raise UsageError(f"{out} is a run of its own", hint="choose another --out")
        return report_imported(RunContext(run, force=force), found, options, gates)


def joined(runs: Sequence[Run]) -> dict[ArmSeed, Imported]:
    """Collect the items of all models of some runs, as `<run>/<arm>` where arms differ.

    Raises:
        UsageError: The runs differ in metric or test rows, or share a name.
    """
    names = _names(runs)
    parts = {name: _items_of(run) for name, run in zip(names, runs, strict=True)}
    (first, base), *others = parts.items()
    tests = {name: _test_of(run) for name, run in zip(names, runs, strict=True)}
    for name, _ in others:
        if tests[name] != tests[first]:
            key = next(key for key in _DIFFERENCES if tests[name][key] != tests[first][key])
            raise UsageError(
                f"{first} and {name} were judged {_DIFFERENCES[key]}: "
                f"{tests[first][key][:_SHOWN]} and {tests[name][key][:_SHOWN]}",
                hint="judge both on one file: pilotfish evaluate RUN --test DATA --metric NAME",
            )

    def digests(arm: str, part: Mapping[ArmSeed, Imported]) -> dict[int, str]:
        return {seed: items.digest for (name, seed), items in part.items() if name == arm}

    # arms with the same seeds and items in every run, such as one base model
    same = {
        arm
        for arm, _ in base
        if all(digests(arm, part) == digests(arm, base) for _, part in others)
    }
    found = {(arm, seed): items for (arm, seed), items in base.items() if arm in same}
    for name, part in parts.items():
        found |= {
            (f"{name}/{arm}", s): items for (arm, s), items in part.items() if arm not in same
        }
    return found


def _names(runs: Sequence[Run]) -> list[str]:
    """Name the runs by their folders, or by more of the path if two are alike."""
    names = [run.root.resolve().name for run in runs]
    if len({*names}) < len(names):
        names = ["-".join(run.root.resolve().parts[-2:]) for run in runs]
    if len({*names}) < len(names):
        raise UsageError(
            f"two of the runs are one folder, or have one name: {', '.join(names)}",
            hint="name every run once, and rename one of two folders with the same name",
        )
    return names


def _test_of(run: Run) -> dict[str, str]:
    from pilotfish.evaluation import load_evaluated

    evaluated = load_evaluated(run.store)
    if evaluated is None:
        raise UsageError(
            f"{run.root} holds no evaluated model yet",
            hint=f"pilotfish evaluate {run.root} --test DATA",
        )
    return {"metric": evaluated.metric, "fingerprint": evaluated.test_fingerprint}


def _items_of(run: Run) -> dict[ArmSeed, Imported]:
    """Read all items of a run; direction of the metric and --limit are in the manifests alone."""
    found = dict[ArmSeed, Imported]()
    for arm, seed in evaluated_models(run):
        facts = run.store.require(f"judge/{arm}/seed-{seed}.json")
        items = read_imported(run.store.path(f"judge/{arm}/seed-{seed}.jsonl"))
        better, limited = bool(facts["higher_is_better"]), bool(facts.get("limited"))
        found[arm, seed] = replace(items, higher_is_better=better, limited=limited)
    return found


def parse_result(text: str) -> tuple[ArmSeed, str]:
    """Parse `selected:0=items.jsonl` as ((arm, seed), path).

    Raises:
        UsageError: The text has another form.
    """
    name, equals, path = text.partition("=")
    arm, colon, seed = name.rpartition(":")
    if not (equals and colon and path and seed.isdecimal() and _ARM.fullmatch(arm)):
        raise UsageError(
            f"cannot read the result '{text}'",
            hint="write ARM:SEED=FILE, as selected:0=items.jsonl",
        )
    return (arm, int(seed)), path


def parse_gates(texts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Parse gates as typed, and return their settings by name, as a recipe has them.

    A gate is `name(arm=selected, against=base, margin=0.02)`, or `selected>=base-0.02`, which is
    its own name.

    Raises:
        UsageError: A gate cannot be parsed, or two have one name.
    """
    found: dict[str, dict[str, Any]] = {}
    for text in texts:
        if ">=" in text:
            name, gate = text.strip(), parse_gate(text)
        else:
            typed = parse_method(text)
            try:
                name, gate = typed.name, Gate(**typed.args)
            except ValidationError as error:
                first = error.errors()[0]
                raise UsageError(
                    f"the gate '{text}': {'.'.join(map(str, first['loc']))}: {first['msg']}",
                    hint="write it as safe(arm=selected, against=base, task=NAME, margin=0.02)",
                ) from error
        if name in found:
            raise UsageError(f"two gates are called '{name}'", hint="give one another name")
        found[name] = gate.model_dump(mode="json")
    return found


@contextmanager
def folder_of(out: str | None) -> Iterator[Run]:
    """Lock the run folder to write to; without `out` it is temporary."""
    if out is not None:
        with run_lock(out) as store:
            yield Run(store.root)
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Run(folder)


def report_imported(
    ctx: RunContext,
    found: Mapping[ArmSeed, Imported],
    options: CompareOptions,
    gates: Mapping[str, Any],
    *,
    paired: bool = True,
) -> dict[str, Any]:
    """Commit imported items into a run, and write its report.

    Args:
        ctx: The run, whose lock is held.
        found: The items of each model.
        options: Options of the comparison.
        gates: Settings of the gates by name.
        paired: Refuse models that include neither arm of the verdict.

    Returns:
        The report.

    Raises:
        UsageError: An arm is unknown, or the run holds other results.
        DataError: The items do not answer the test rows of the run.
    """
    from pilotfish.report import write

    run = ctx.run
    own = bool(run.section("test")) and not run.section("imported")
    evaluated = {arm for arm, _ in evaluated_models(run)} if own else set[str]()
    arms = {arm for arm, _ in found} | evaluated
    pair = pair_of(options, arms, paired=paired)
    check_gates(gates, arms)
    fingerprint = _match_own_rows(ctx, found) if own else _write_test_section(ctx, found)
    known = run.section("config") if own else {}
    config = {**known, "gates": {**known.get("gates", {}), **gates}}
    config |= {"margin": options.margin} if options.margin is not None else {}
    run.update(config=config, status="complete", **({"pair": pair} if pair or not own else {}))
    for model, imported in found.items():
        keep_imported(run.store, model, imported, test_fingerprint=fingerprint)
    limited = sorted({arm for (arm, _), items in found.items() if items.limited})
    if limited:
        text = (
            f"{', '.join(limited)}: judged with lm-eval's --limit, on the first documents of each "
            "task alone; no such number is comparable with one of a whole task"
        )
        warn(run, [text])
    return write(run)


def pair_of(options: CompareOptions, arms: set[str], *, paired: bool = True) -> dict[str, str]:
    """Return the pair of the verdict, {} for selected and random.

    Raises:
        UsageError: An arm is unknown, or both are one arm.
    """
    pair = (options.arm or PAIR[0], options.against or PAIR[1])
    if options.arm or options.against or (paired and not arms & {*pair}):
        for name in pair:
            _check_arm(name, arms, "name the pair of the verdict with --arm NAME --against NAME")
    if pair[0] == pair[1]:
        raise UsageError(
            f"the arm '{pair[0]}' cannot be compared with itself", hint="name another --against"
        )
    return {} if pair == PAIR else {"arm": pair[0], "against": pair[1]}


def check_gates(gates: Mapping[str, Any], arms: set[str]) -> None:
    """Check that gates compare two arms, or an arm with a run folder.

    Raises:
        UsageError: A gate names something else.
    """
    for name, gate in gates.items():
        hint = f"name arms that were judged in the gate '{name}'"
        if gate["arm"] == gate["against"]:
            raise UsageError(f"the gate '{name}' compares '{gate['arm']}' with itself", hint=hint)
        _check_arm(gate["arm"], arms, hint)
        if reference_of(list(arms), gate["against"]) is None:
            _check_arm(gate["against"], arms, hint)


def _check_arm(name: str, arms: set[str], hint: str) -> None:
    if name not in arms:
        raise UsageError(f"no arm is called '{name}' (arms: {', '.join(sorted(arms))})", hint=hint)


def _write_test_section(ctx: RunContext, found: Mapping[ArmSeed, Imported]) -> str:
    """Describe the test of imported items in run.json, and return its fingerprint.

    Raises:
        UsageError: The folder holds other items, and `force` is off.
    """
    run, some = ctx.run, next(iter(found.values()))
    fingerprint = fingerprint_of(some)
    digests = {f"{arm}:{seed}": items.digest for (arm, seed), items in found.items()}
    run.fix("imported", digests, force=ctx.force)
    withdraw_results(run, [model for model in evaluated_models(run) if model not in found])
    test = {"rows": len(some.items), "metric": some.metric, "fingerprint": fingerprint}
    run.update(test={"held_out": "test", **test}, evidence={"level": "imported"}, warnings=[])
    return fingerprint


def _match_own_rows(ctx: RunContext, found: Mapping[ArmSeed, Imported]) -> str:
    """Check that imported items answer the test rows of a run, and return their fingerprint.

    Raises:
        UsageError: The metric differs, or a model of that name was evaluated here.
        DataError: The items answer other rows.
    """
    run, metric = ctx.run, str(ctx.run.section("test")["metric"])
    own = {row.id: item_hash(row) for row in stored_test_rows(run)}
    for (arm, seed), imported in found.items():
        if imported.metric != metric:
            raise UsageError(
                f"{arm} seed {seed} was judged by {imported.metric}, {run.root} by {metric}",
                hint="write it into another --out",
            )
        unlike = sorted(
            key
            for key in {*own, *imported.questions}
            if key not in own or imported.questions.get(key, "none") not in ("", own[key])
        )
        if unlike:
            raise DataError(
                f"{arm} seed {seed} does not answer the test rows of {run.root}: {len(unlike):,} "
                f"of {len({*own, *imported.questions}):,} differ, '{unlike[0]}' among them",
                hint="judge it on test.jsonl of an export, or write it into another --out",
            )
    for arm, seed in evaluated_models(run) if not ctx.force else ():
        if (arm, seed) not in found:
            continue
        known = run.store.manifest(f"judge/{arm}/seed-{seed}.json") or {}
        if known.get("imported") != found[arm, seed].digest:
            raise UsageError(
                f"{run.root} has judged its own {arm} seed {seed}",
                hint=f"give the other one another name, as {arm}_elsewhere:{seed}=FILE",
            )
    return str(run.section("test")["fingerprint"])
