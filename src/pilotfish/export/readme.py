"""README.md of an exported folder: its files, how to train, how to bring the results back."""

from collections.abc import Sequence

from pilotfish.export.base import STRONG, Job, TrainSettings, Written


def readme(
    run: str, jobs: Sequence[Job], settings: TrainSettings, written: Written, *, with_test: bool
) -> str:
    """Return the text.

    Args:
        run: Path of the run, relative to the exported folder.
        jobs: The exported arms and seeds.
        settings: The settings that they share.
        written: The files, and how to train with them.
        with_test: Whether test.jsonl is in the folder.
    """
    files = ["| file | arm | seed | rows |", "|---|---|---|---|"]
    files += [f"| {job.name}.jsonl | {job.arm} | {job.seed} | {len(job.rows):,} |" for job in jobs]
    commands = "\n".join(written.train.format(name=job.name) for job in jobs)
    train = "The settings are in evidence.json under `settings`."
    if written.train:
        train = f"In this folder, one command per model:\n\n```\n{commands}\n```"
    first = jobs[0]
    evaluate = f"pilotfish evaluate {run} --model out/{first.name} --items {first.name}.items.jsonl"
    results = " ".join(f"{job.arm}:{job.seed}={job.name}.items.jsonl" for job in jobs)
    parts = [
        "# Rows for a trainer elsewhere",
        "\n".join(files),
        f"Every file is in the order of training. All arms take {settings.steps:,} steps and share "
        "every setting but rows and seed, so that they can be compared.",
    ]
    if settings.strong == STRONG:
        parts.append(f"Put the name of your model in the place of {STRONG}.")
    parts += [
        *(f"Note: {note}." for note in written.notes),
        "## Train",
        train,
        f"In a config of your own the one line to change is {written.line}.",
        "## Bring the results back",
        "Let every model answer the same questions, one line of JSON per answer: "
        '`{"id": ..., "metric": ..., "value": ..., "output": ..., "expected": ...}`. '
        "pilotfish itself evaluates models that transformers saved, on the test rows of the run:"
        f"\n\n```\n{evaluate}\n```",
    ]
    if with_test:
        parts.append(
            "Or let a program of your own put the questions of test.jsonl to the models, and copy "
            "`id` and `hash` into every line."
        )
    parts += [
        "Or evaluate with lm-evaluation-harness and `--log_samples`, and give its samples files "
        "instead. Then:",
        f"```\npilotfish compare --results {results} --out verdict\n```",
    ]
    return "\n\n".join(parts) + "\n"
