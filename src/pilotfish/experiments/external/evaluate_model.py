"""evaluate --model: evaluate a model trained elsewhere on the test rows of a run."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilotfish.config.data import Source
from pilotfish.data.held_out import test_rows
from pilotfish.data.run_pool import open_run
from pilotfish.errors import UsageError, need_torch, unknown_name
from pilotfish.experiments.evaluate import add_test_rows, open_model
from pilotfish.run_context import RunContext
from pilotfish.store import run_lock

if TYPE_CHECKING:
    from pilotfish.models import Loaded

ADAPTER = "adapter_model.safetensors"


def evaluate_model_folder(
    out: str,
    model: str,
    items: str,
    *,
    test: Source | None = None,
    metric: str | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Evaluate a model on the test rows of a run, and write one line per item.

    Apart from new test rows nothing is written into the run.

    Args:
        out: The run folder.
        model: A folder with a model or an adapter, or a hub id.
        items: The file to write.
        test: Test rows, which the run stores for the next model too; None: those of the run.
        metric: Name of the metric; None: that of the run.
        force: Overwrite `items`.

    Returns:
        The model, the file, the metric, numbers of rows, and the mean of the metric.

    Raises:
        UsageError: The run has no test rows, the file exists, or there is no such model or metric.
    """
    from pilotfish.evaluation import METRICS
    from pilotfish.evaluation.results import hashed

    need_torch("judging")
    run = open_run(out)
    if test:
        with run_lock(run.root):
            add_test_rows(RunContext(run), test, metric)
    if not run.section("test"):
        raise UsageError(
            f"{run.root} holds no test rows yet",
            hint=f"pilotfish evaluate {run.root} --model {model} --items {items} --test DATA",
        )
    examples = test_rows(run)
    name = metric or str(run.section("test")["metric"])
    if name not in METRICS:
        raise unknown_name("metric", name, METRICS)
    target = Path(items)
    if target.exists() and not force:
        raise UsageError(f"{items} is there already", hint="name another file, or pass --force")
    found = hashed(METRICS[name].items(open_folder(model), examples), examples)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("".join(item.line() + "\n" for item in found), encoding="utf-8")
    values = [item.value for item in found if item.value is not None]
    mean = sum(values) / len(values) if values else None
    counts = {"rows": len(found), "unscorable": len(found) - len(values), "mean": mean}
    return {"model": model, "items": items, "metric": name, **counts}


def open_folder(model: str) -> "Loaded":
    """Load a model, or an adapter merged into the base model that it names.

    Raises:
        UsageError: There is no such model, or the adapter is not saved as safetensors.
    """
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
    merged = PeftModel.from_pretrained(base.model, model).merge_and_unload()
    return replace(base, model=merged.eval(), name=model, digest=f"{base.digest}+{model}")
