"""judge --model: a model trained elsewhere answers the test rows of a run."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilotfish.data.held_out import test_rows
from pilotfish.data.run_pool import open_run
from pilotfish.errors import UsageError, unknown_name
from pilotfish.evaluation.items import Item
from pilotfish.experiments.evaluate import add_test_rows, open_model
from pilotfish.extras import need_torch
from pilotfish.records import Example
from pilotfish.store import Run, run_lock

if TYPE_CHECKING:
    from pilotfish.models import Loaded

ADAPTER = "adapter_model.safetensors"


def evaluate_model_folder(
    out: str,
    model: str,
    items: str,
    *,
    test: str | None = None,
    metric: str | None = None,
    mapping: Mapping[str, str] | None = None,
    limit: int | None = None,
    max_bad_rate: float = 0.01,
    force: bool = False,
) -> dict[str, Any]:
    """Write the item lines of a model (a folder, adapters too, or a hub id) to the file `items`.

    test: rows to ask; the run keeps them, and asks them of the next model too. Nothing else is
    written into the run. UsageError where it has no test rows and none are given, the file is
    there already (unless `force`), or the folder holds no model.
    """
    from pilotfish.evaluation import METRICS
    from pilotfish.evaluation.results import hashed

    need_torch("judging")
    run = open_run(out)
    if test:
        with run_lock(run.root):
            add_test_rows(
                run, test, metric=metric, mapping=mapping, limit=limit, max_bad_rate=max_bad_rate
            )
    examples = _asked(run, f"--model {model} --items {items}")
    name = metric or str(run.section("test")["metric"])
    if name not in METRICS:
        raise unknown_name("metric", name, METRICS)
    target = Path(items)
    if target.exists() and not force:
        raise UsageError(f"{items} is there already", hint="name another file, or pass --force")
    found = hashed(METRICS[name].items(_open(model), examples), examples)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("".join(item.line() + "\n" for item in found), encoding="utf-8")
    return {"model": model, "items": items, "metric": name, **_counts(found)}


def _asked(run: Run, what: str) -> list[Example]:
    """The run's test rows; UsageError, with the command that gives some, where it has none."""
    if not run.section("test"):
        raise UsageError(
            f"{run.root} holds no test rows yet",
            hint=f"pilotfish evaluate {run.root} {what} --test DATA",
        )
    return test_rows(run)


def _counts(found: Sequence[Item]) -> dict[str, Any]:
    values = [item.value for item in found if item.value is not None]
    mean = sum(values) / len(values) if values else None
    return {"rows": len(found), "unscorable": len(found) - len(values), "mean": mean}


def _open(model: str) -> "Loaded":
    """A model as it was saved, or the base model that an adapter names with the adapter merged."""
    folder = Path(model)
    if not (folder / "adapter_config.json").is_file():
        return open_model(model)
    if not (folder / ADAPTER).is_file():
        raise UsageError(
            f"{model} is an adapter without {ADAPTER}",
            hint="save it as safetensors; files that need pickle are not opened",
        )
    need_torch("judging an adapter", extra="train")
    from peft import PeftConfig, PeftModel

    base = open_model(str(PeftConfig.from_pretrained(model).base_model_name_or_path))
    whole = PeftModel.from_pretrained(base.model, model).merge_and_unload()
    return replace(base, model=whole.eval(), name=model, digest=f"{base.digest}+{model}")
