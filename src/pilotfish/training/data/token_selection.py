"""Token-selective loss: learn the tokens of which a reference knows more than the student does.

The excess of a token is the student's loss minus the reference's. The idea is that of Rho-1
(arXiv:2404.07965), which scores tokens anew in every batch with the student as it then is; here the
student is asked once, as it stands before the first step. That costs one pass of both models in
place of one per step, and makes the mask a plain fact about the rows: it does not depend on batches
and is the same after a resume, but it does not follow what the student has learnt meanwhile.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch

from pilotfish.config import parse_method
from pilotfish.errors import UsageError, unknown_name
from pilotfish.losses.lm import lm
from pilotfish.models import Loaded
from pilotfish.records import Floats
from pilotfish.training.data.collate import collate
from pilotfish.training.data.order import micro_batches
from pilotfish.training.data.row_weights import weigh_tokens
from pilotfish.training.data.rows import TokenizedRows
from pilotfish.training.lm_module import LMForward
from pilotfish.training.parallel import broadcast, rank
from pilotfish.training.setup import Student, accelerator, check_reach

BATCH = 16


@dataclass(frozen=True)
class Excess:
    """keep: the share of all supervised tokens that is learnt, those of the highest excess."""

    keep: float = 0.6

    def __post_init__(self) -> None:
        number = isinstance(self.keep, int | float) and not isinstance(self.keep, bool)
        if not (number and 0 < self.keep <= 1):
            raise UsageError(
                f"keep of excess must be above 0 and at most 1, not {self.keep!r}",
                hint="write --set 'train.focus=excess(keep=0.6)'",
            )

    def masks(self, excess: Mapping[str, Floats]) -> dict[str, Floats]:
        """[t] nats per row, by name -> [t] 1.0 where a token is learnt, else 0.0.

        One threshold for all rows; of equal tokens the earlier ones by name and place are kept.
        Tokens whose excess is no number are left out.
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
    """The focus of a text: `excess(keep=0.6)`. UsageError for what is unknown."""
    method = parse_method(text)
    if method.name not in FOCI:
        raise unknown_name("focus", method.name, FOCI)
    known = [one.name for one in fields(Excess)]
    for knob in method.args:
        if knob not in known:
            raise unknown_name(f"knob of {method.name}", knob, known)
    return FOCI[method.name](**method.args)


def selected_tokens(
    rows: TokenizedRows, student: Student, reference: Loaded | None, text: str
) -> tuple[TokenizedRows, dict[str, Any]]:
    """(rows that learn only the tokens in focus, facts). The student is asked as it stands.

    UsageError without a reference, or where it cuts text differently or cannot read as far.
    """
    focus = make_token_selection(text)
    weak = _check(student.loaded, reference, max(rows.lengths))
    masks: dict[str, Floats] | None = None
    if rank() == 0:  # on all ranks the same bits, whatever their devices
        weak.model.to(accelerator().device)
        vocabulary = len(student.loaded.tokenizer)
        own = token_nll(student.causal, rows, vocabulary=vocabulary, bf16=student.bf16)
        theirs = token_nll(weak.model, rows, vocabulary=vocabulary, bf16=student.bf16)
        masks = focus.masks({name: own[name] - theirs[name] for name in own})
    masks = broadcast(masks)
    assert masks is not None
    learnt = weigh_tokens(rows, [masks[name] for name in rows.names])
    total, kept = sum(rows.tokens), int(sum(mask.sum() for mask in masks.values()))
    facts = {"focus": text, "focus_reference": weak.digest, "focus_tokens": kept}
    return learnt, {**facts, "focus_share": kept / total, "focus_rows": len(learnt)}


@torch.no_grad()
def token_nll(
    model: Any, rows: TokenizedRows, *, vocabulary: int, bf16: bool, batch: int = BATCH
) -> dict[str, Floats]:
    """{name of a row: [t] nats of its supervised tokens}, dropout off."""
    training, device = model.training, accelerator().device
    model.eval()
    reader, found = LMForward(model), dict[str, Floats]()
    by_name = sorted(range(len(rows)), key=rows.names.__getitem__)  # not the order of the file
    for part in micro_batches(by_name, rows.lengths, batch):
        some = rows.take(part)
        at = collate(some.encoded).to(device)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
            logits = reader.logits(reader.rows(at))
        nats = lm(logits[:, :vocabulary], at.targets).double().cpu().numpy()
        ends = np.cumsum(some.tokens)[:-1]
        found.update(zip(some.names, np.split(nats, ends), strict=True))
    model.train(training)
    return found


def unlike_reference(reference: str, student: str) -> UsageError:
    """The refusal of a focus between models that cut text differently."""
    return UsageError(
        f"train.focus compares losses token by token, but '{reference}' (reference) and "
        f"'{student}' (student) have different tokenizers",
        hint="leave train.focus out, or choose models of one tokenizer",
    )


def _check(student: Loaded, reference: Loaded | None, longest: int) -> Loaded:
    if reference is None:
        raise UsageError(
            "train.focus compares the student with a reference, and none was given",
            hint="name the weak model, or leave train.focus out",
        )
    if reference.tokenizer_digest != student.tokenizer_digest:
        raise unlike_reference(reference.name, student.name)
    check_reach(reference, longest)
    return reference
