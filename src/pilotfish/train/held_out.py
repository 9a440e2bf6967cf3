"""The response loss on held-out rows: what tuning and learning rates are judged by."""

from collections.abc import Sequence

import torch

from pilotfish.losses import LM
from pilotfish.train.collate import collate
from pilotfish.train.learner import Learner
from pilotfish.train.order import micro_batches
from pilotfish.train.rows import Rows
from pilotfish.train.setup import Student, accelerator

BATCH = 16


@torch.no_grad()
def held_out_loss(student: Student, rows: Rows) -> float:
    """Mean nats per supervised token of `rows` under plain LM loss, dropout off."""
    learner = Learner(student.causal, LM()).eval()
    device = accelerator().device
    total = torch.zeros((), device=device)
    everything: Sequence[int] = range(len(rows))
    for part in micro_batches(everything, rows.lengths, BATCH):
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=student.bf16):
            total += learner(collate(rows.take(part).encoded).to(device))
    student.causal.train()
    return float(total) / sum(rows.tokens)
