"""README.md of an exported folder: what is in it, how to train, how to bring the results back."""

from collections.abc import Sequence

from pilotfish.export.base import STRONG, Job, TrainSettings, Written


def readme(
    run: str, jobs: Sequence[Job], how: TrainSettings, written: Written, *, judged: bool
) -> str:
    """The text; judged: whether test.jsonl lies beside it."""
    parts = [
        "# Rows for a trainer elsewhere",
        _table(jobs),
        f"Every file is in the order of training. All arms take {how.steps:,} steps and share "
        "every setting but rows and seed, so that they can be compared.",
        *(
            [f"Put the name of your model in the place of {STRONG}."]
            if how.strong == STRONG
            else ()
        ),
        *(f"Note: {note}." for note in written.notes),
        "## Train",
        *_train(jobs, written),
        f"In a config of your own the one line to change is {written.line}.",
        "## Bring the results back",
        *_back(run, jobs, judged=judged),
    ]
    return "\n\n".join(parts) + "\n"


def _table(jobs: Sequence[Job]) -> str:
    lines = ["| file | arm | seed | rows |", "|---|---|---|---|"]
    lines += [f"| {job.name}.jsonl | {job.arm} | {job.seed} | {len(job.rows):,} |" for job in jobs]
    return "\n".join(lines)


def _train(jobs: Sequence[Job], written: Written) -> list[str]:
    if not written.train:
        return ["The settings stand in evidence.json under `settings`."]
    commands = "\n".join(written.train.format(name=job.name) for job in jobs)
    return [f"In this folder, one command per model:\n\n```\n{commands}\n```"]


def _back(run: str, jobs: Sequence[Job], *, judged: bool) -> list[str]:
    first = jobs[0]
    given = " ".join(f"{job.arm}:{job.seed}={job.name}.items.jsonl" for job in jobs)
    parts = [
        "Let every model answer the same questions, one line of JSON per answer: "
        '`{"id": ..., "metric": ..., "value": ..., "output": ..., "expected": ...}`. '
        "Models saved as transformers saves them are judged by pilotfish itself, on the test rows "
        f"of the run:\n\n```\npilotfish evaluate {run} --model out/{first.name} "
        f"--items {first.name}.items.jsonl\n```"
    ]
    if judged:
        parts.append(
            "Or ask the questions of test.jsonl in a program of your own, and copy `id` and `hash` "
            "into every line."
        )
    parts.append(
        "Or judge with lm-evaluation-harness and `--log_samples`, and give its samples files "
        "instead. Then:"
    )
    parts.append(f"```\npilotfish compare --results {given} --out verdict\n```")
    return parts
