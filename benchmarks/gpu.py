"""The engine on a CUDA GPU: `python -m benchmarks.gpu`; without one it says so and ends well.

A 124M GPT-2 shape against its peers, 52,000 rows of Alpaca's lengths through it, and a slice of a
million 400-token rows through a 0.5B Qwen2.5 shape. `--rehearse` walks the same steps in miniature
on a CPU, to try the script; its numbers mean nothing.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks.contenders import ONE, Stage
from benchmarks.engine import speed
from benchmarks.flops import peaks, useful
from benchmarks.machine import parser, settle, write
from benchmarks.ours import Ours, model_clock
from benchmarks.paired import race
from benchmarks.peers import work
from benchmarks.rank import agreement
from benchmarks.rows import ALPACA, Corpus, Row, corpus, log_normal
from benchmarks.rows import write as write_rows
from benchmarks.shapes import build, config
from pilotfish.flops import Shape

CONTENDERS = (ONE, "sorted_16", "ours_fp32", "ours_bf16")
LONG = (100, 300)  # prompt and response tokens of the million rows
MILLION = 1_000_000
MAX_LENGTH = 512


@dataclass(frozen=True)
class Sizes:
    """How much of everything is run."""

    small: str
    large: str
    raced: int
    repeats: int
    alpaca: int
    slice: int


FULL = Sizes("gpt2-124m", "qwen2.5-0.5b", raced=1000, repeats=2, alpaca=52_000, slice=4_000)
QUICK = Sizes("gpt2-124m", "qwen2.5-0.5b", raced=200, repeats=2, alpaca=5_200, slice=1_000)
REHEARSAL = Sizes("llama-400k", "llama-400k", raced=4, repeats=1, alpaca=20, slice=4)


@dataclass(frozen=True)
class Setting:
    """What every job needs to know."""

    sizes: Sizes
    source: Corpus
    device: str
    peak: dict[str, float]
    seed: int

    def build(self, name: str, folder: Path) -> Shape:
        """Write the model folder of a shape."""
        tokenizer = self.source.tokenizer(config(name).vocab_size)
        return build(name, folder, tokenizer, seed=self.seed)

    def rows(self, count: int) -> list[Row]:
        """Rows of Alpaca's lengths."""
        return self.source.of_lengths(*log_normal(count, ALPACA, self.seed), self.seed)


def main() -> None:
    made = parser(__doc__ or "")
    made.add_argument("--rehearse", action="store_true", help="in miniature, on a CPU")
    options = made.parse_args()
    if not torch.cuda.is_available() and not options.rehearse:
        print("no GPU: not run")
        return
    settle(options)
    sizes = REHEARSAL if options.rehearse else QUICK if options.quick else FULL
    device = "cpu" if options.rehearse else "cuda"
    setting = Setting(sizes, corpus(), device, peaks(device), options.seed)
    with tempfile.TemporaryDirectory() as folder:
        small, large = Path(folder, "small"), Path(folder, "large")
        shape = setting.build(sizes.small, small)
        results = {
            "raced": raced(setting, small),
            "alpaca": alpaca(setting, small, shape),
            "million": million(setting, large),
        }
    write("gpu", options, {
        "corpus": setting.source.name,
        "peak_gflops": {kind: round(value / 1e9, 1) for kind, value in setting.peak.items()},
        **results,
    })  # fmt: skip


def raced(setting: Setting, model: Path) -> dict[str, Any]:
    """The small model's contenders in turns; agreement is with ours in fp32."""
    rows = tuple(setting.rows(setting.sizes.raced))
    data = write_rows(rows, model.with_name("raced.jsonl"))
    stage = Stage(model, data, rows, model.with_name("raced"), MAX_LENGTH, setting.device)
    contenders = {name: stage.make(name) for name in CONTENDERS}
    times = race(contenders, setting.sizes.repeats)
    tokens, _ = work(rows, contenders["ours_fp32"].loaded.tokenizer, MAX_LENGTH)
    exact = contenders["ours_fp32"].numbers()
    return {
        "model": setting.sizes.small,
        "rows": len(rows),
        "tokens": tokens,
        "contenders": {
            name: {
                **speed(times[name], times[ONE], len(rows), tokens),
                "agreement": agreement(exact, contender.numbers()),
            }
            for name, contender in contenders.items()
        },
    }


def alpaca(setting: Setting, model: Path, shape: Shape) -> dict[str, Any]:
    """A whole data set of Alpaca's size and lengths, tokenising and committing included."""
    found = whole(setting, model, setting.rows(setting.sizes.alpaca), shape)
    return {"model": setting.sizes.small, **found}


def million(setting: Setting, model: Path) -> dict[str, Any]:
    """A slice of a million rows of 400 tokens, and how long all of them would take."""
    shape = setting.build(setting.sizes.large, model)
    prompts, responses = (np.full(setting.sizes.slice, tokens) for tokens in LONG)
    # The line feed between the two is a token of the prompt.
    rows = setting.source.of_lengths(prompts - 1, responses, setting.seed)
    found = whole(setting, model, rows, shape)
    minutes = found["seconds"] * MILLION / len(rows) / 60
    return {"model": setting.sizes.large, **found, "million_rows_minutes": round(minutes, 1)}


def whole(setting: Setting, model: Path, rows: list[Row], shape: Shape) -> dict[str, Any]:
    """Seconds, FLOP utilisation and what was not the model, of the engine in bf16.

    The clock of the model waits for the GPU after every batch, so it runs in a turn of its own;
    its seconds, taken from those of a free run, leave what the model did not hide.
    """
    data = write_rows(rows, model.with_name(f"{model.name}.jsonl"))
    run, cuda = model.with_name(f"{model.name}-run"), setting.device == "cuda"
    ours = Ours(model, data, run, precision="bf16", max_length=MAX_LENGTH, device=setting.device)
    times = race({"ours": ours}, 2)["ours"]
    ours.prepare()
    with model_clock(setting.device) as spent:
        ours.run()
    tokens, scored = work(rows, ours.loaded.tokenizer, MAX_LENGTH)
    usual = median(times.rounds)
    rate = useful(shape, tokens, scored) / usual
    return {
        "rows": len(rows),
        "tokens": tokens,
        "seconds": round(usual, 2),
        "start_up_seconds": round(times.start_up, 2),
        "tokens_per_second": round(tokens / usual),
        "share_of_peak_useful": round(rate / setting.peak["bf16"], 4),
        "not_model": round(max(1 - sum(spent) / usual, 0.0), 4),
        "peak_gpu_mib": torch.cuda.max_memory_allocated() // 2**20 if cuda else None,
    }


if __name__ == "__main__":
    main()
