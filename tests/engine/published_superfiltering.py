"""The published Superfiltering signals, one row at a time, slow and plain: what we must equal.

Written from the description of the method (arXiv:2402.00530 and its released scorer): no batching,
no sorting, full logits, the loss a model itself returns.
"""

import math
from typing import Any

import torch


def losses(
    model: Any, tokenizer: Any, prompt: str, response: str, max_length: int
) -> tuple[float, float]:
    """(mean nats given the prompt, mean nats alone); nan where the model has nothing to average."""
    prefix = prompt + "\n"
    window = len(tokenizer.encode(prefix, truncation=True, max_length=max_length))
    alone = tokenizer.encode(response, truncation=True, max_length=max_length - window + 1)
    joint = tokenizer.encode(prefix + response, truncation=True, max_length=max_length)
    begins = len(tokenizer.encode(prefix))
    masked = [-100] * min(begins, len(joint)) + joint[begins:]
    return _loss(model, joint, masked), _loss(model, alone, alone)


def _loss(model: Any, ids: list[int], labels: list[int]) -> float:
    if len(ids) < 2:
        return math.nan
    with torch.no_grad():
        out = model(torch.tensor([ids]), labels=torch.tensor([labels]))
    return float(out.loss)
