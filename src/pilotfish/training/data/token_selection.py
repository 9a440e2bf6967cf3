"""Token selection: learn the tokens that a reference model predicts better than the student does.

The excess of a token is the student's loss minus the reference's. The idea is that of Rho-1
(arXiv:2404.07965), which scores the tokens of every batch with the student at that step. Here the
student scores them once, before the first step. That costs one pass of both models instead of one
per step, and the mask does not depend on batches and is the same after a resume; but it does not
follow what the student has learnt meanwhile.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch

from pilotfish.config import parse_method
from pilotfish.data_order import micro_batches
from pilotfish.errors import UsageError, unknown_name
from pilotfish.losses.lm import lm
from pilotfish.models import Loaded
from pilotfish.records import Floats
from pilotfish.training.data.collate import collate
from pilotfish.training.data.row_weights import weigh_tokens
from pilotfish.training.data.rows import TokenizedRows
from pilotfish.training.lm_module import LMForward
from pilotfish.training.parallel import broadcast, rank
from pilotfish.training.setup import Student, accelerator, check_reach

BATCH = 16


@dataclass(frozen=True)
class Excess:
    """Keep the share `keep` of all supervised tokens, those of the highest excess."""

    keep: float = 0.6

    def __post_init__(self) -> None:
        number = isinstance(self.keep, int | float) and not isinstance(self.keep, bool)
        if not (number and 0 < self.keep <= 1):
            raise UsageError(
                f"keep of excess must be above 0 and at most 1, not {self.keep!r}",
                hint="write --set 'train.focus=excess(keep=0.6)'",
            )

    def masks(self, excess: Mapping[str, Floats]) -> dict[str, Floats]:
        """Map the excess of rows to masks, with one threshold for all rows.

        Of equal tokens the earlier ones by name and place are kept. Tokens with excess nan are left
        out.

        Args:
            excess: [t] nats per row, by name.

        Returns:
            [t] per row: 1.0 where a token is learnt, else 0.0.
        """
        names = sorted(excess)
        flat = np.concatenate([excess[name] for name in names])
        order = np.argsort(-np.nan_to_num(flat, nan=-np.inf), kind="stable")
        chosen = np.zeros(len(flat))
        chosen[order[: math.ceil(self.keep * len(flat))]] = 1.0
        chosen[np.isnan(flat)] = 0.0
        ends = np.cumsum([len(excess[name]) for name in names])[:-1]
        return dict(zip(names, np.split(chosen, ends), strict=True))


FOCI: dict[str, Callable[..., Excess]] = {"excess": Excess}


def make_token_selection(text: str) -> Excess:
    """Build the selection of a text like `excess(keep=0.6)`; raise UsageError if it is unknown."""
    method = parse_method(text)
    if method.name not in FOCI:
        raise unknown_name("focus", method.name, FOCI)
    known = [one.name for one in fields(Excess)]
    for knob in method.args:
        if knob not in known:
            raise unknown_name(f"setting of {method.name}", knob, known)
    return FOCI[method.name](**method.args)


def selected_tokens(
    rows: TokenizedRows, student: Student, reference: Loaded | None, text: str
) -> tuple[TokenizedRows, dict[str, Any]]:
    """Restrict rows to the selected tokens; the student scores them with its present weights.

    Args:
        rows: Rows to learn.
        student: The model to train.
        reference: The model to compare with.
        text: For example `excess(keep=0.6)`.

    Returns:
        The rows, and facts for the manifest.

    Raises:
        UsageError: No reference, another tokenizer, or a window that is too short.
    """
    selection = make_token_selection(text)
    if reference is None:
        raise UsageError(
            "train.focus compares the student with a reference, and none was given",
            hint="name the weak model, or leave train.focus out",
        )
    if reference.tokenizer_digest != student.loaded.tokenizer_digest:
        raise unlike_reference(reference.name, student.loaded.name)
    check_reach(reference, max(rows.lengths))
    masks: dict[str, Floats] = {}
    if rank() == 0:  # on all ranks the same bits, whatever their devices
        reference.model.to(accelerator().device)
        vocabulary = len(student.loaded.tokenizer)
        own = token_nll(student.causal, rows, vocabulary=vocabulary, bf16=student.bf16)
        other = token_nll(reference.model, rows, vocabulary=vocabulary, bf16=student.bf16)
        masks = selection.masks({name: own[name] - other[name] for name in own})
    masks = broadcast(masks)
    learnt = weigh_tokens(rows, [masks[name] for name in rows.names])
    kept = int(sum(mask.sum() for mask in masks.values()))
    return learnt, {
        "focus": text,
        "focus_reference": reference.digest,
        "focus_tokens": kept,
        "focus_share": kept / sum(rows.tokens),
        "focus_rows": len(learnt),
    }


@torch.no_grad()
def token_nll(
    model: Any, rows: TokenizedRows, *, vocabulary: int, bf16: bool, batch: int = BATCH
) -> dict[str, Floats]:
    """Return the negative log-likelihood of supervised tokens, dropout off.

    Args:
        model: A causal language model.
        rows: Rows to read.
        vocabulary: Columns of the head from here on are padding.
        bf16: Whether to autocast to bf16.
        batch: Rows of a micro-batch.

    Returns:
        [t] nats of each row, by name.
    """
    training, device = model.training, accelerator().device
    model.eval()
    forward, found = LMForward(model), dict[str, Floats]()
    by_name = sorted(range(len(rows)), key=rows.names.__getitem__)  # not the order of the file
    for part in micro_batches(by_name, rows.lengths, batch):
        some = rows.take(part)
        at = collate(some.encoded).to(device)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
            logits = forward.logits(forward.rows(at))
        nats = lm(logits[:, :vocabulary], at.targets).double().cpu().numpy()
        ends = np.cumsum(some.tokens)[:-1]
        found.update(zip(some.names, np.split(nats, ends), strict=True))
    model.train(training)
    return found


def unlike_reference(reference: str, student: str) -> UsageError:
    """Return the error for token selection between models with different tokenizers."""
    return UsageError(
        f"train.focus compares losses token by token, but '{reference}' (reference) and "
        f"'{student}' (student) have different tokenizers",
        hint="leave train.focus out, or choose models of one tokenizer",
    )
