"""A bias that makes hardened classes as frequent as the teacher's classes, over the last rows."""

import torch
from torch import Tensor

SHARPER = (1.0, 0.3, 0.1, 0.03, 0.01)  # temperatures of the assignment, from soft to nearly hard
ROUNDS = 20  # at each of them
LEVEL = 16  # least number of rows of which a mean is taken


@torch.no_grad()
def fit_bias(log_p: Tensor, share: Tensor) -> Tensor:
    """Fit b such that argmax(log p + b) is each class in about its share of rows.

    Two classes: exact, by the quantile of the log-odds. More: Sinkhorn steps on assignments that
    get harder and harder.

    Args:
        log_p: [r, v] nats of r rows.
        share: [v] >= 0 wanted share of each class; a class without a share is never chosen.

    Returns:
        [v] nats.
    """
    log_p, share = log_p.double(), share.double() / share.double().sum()
    if log_p.shape[-1] == 2:
        return _fit_two(log_p, share)
    bias = torch.zeros_like(share)
    wanted = share.clamp(min=1e-12).log()
    for temperature in SHARPER:
        for _ in range(ROUNDS):
            found = torch.softmax((log_p + bias) / temperature, -1).mean(0).clamp(min=1e-12)
            bias = bias + temperature * (wanted - found.log())
    return bias - bias.mean()


def _fit_two(log_p: Tensor, share: Tensor) -> Tensor:
    """Cut half-way between the last row of class 0 and the first row of class 1, by log-odds."""
    odds = (log_p[:, 0] - log_p[:, 1]).sort(descending=True).values
    first = round(float(share[0]) * len(odds))
    inner = odds[max(first - 1, 0)], odds[min(first, len(odds) - 1)]
    if first in (0, len(odds)):
        cut = inner[0] + (1.0 if first == 0 else -1.0)
    else:
        cut = (inner[0] + inner[1]) / 2
    return torch.stack([-cut / 2, cut / 2])


class Window:
    """The beliefs of student and teacher about the last rows, from which the bias is fitted.

    With one row alone a quantile *is* that row, so nothing is fitted below two rows.

    Beliefs are stored relative to their mean (the level) at the time, and the bias is fitted around
    the level of now. Otherwise a student that leans more to one class with every step would find
    all of its rows on one side of an old threshold, and be pushed there further.

    The window is state of a training: `state` and `load_state` carry it through a resume.
    """

    def __init__(self, classes: int, *, rows: int = 256) -> None:
        if rows < 64:
            raise ValueError(f"a window of {rows} rows is too short to match shares; take 64")
        self.rows = rows
        self._around = torch.zeros(0, classes)  # log p less the level at the time
        self._q = torch.zeros(0, classes)
        self._recent = torch.zeros(0, classes)  # log p of the rows whose mean is the level

    def __len__(self) -> int:
        return len(self._around)

    @torch.no_grad()
    def add(self, log_p: Tensor, q: Tensor) -> None:
        """Add the rows of a step before it is learnt; the oldest rows drop out.

        Args:
            log_p: [b, v] nats of the student.
            q: [b, v] probabilities of the teacher.
        """
        now = log_p.detach().float().cpu()
        self._recent = torch.cat([self._recent, now])[-max(len(now), LEVEL) :]
        self._around = torch.cat([self._around, now - self._level()])[-self.rows :]
        self._q = torch.cat([self._q, q.detach().float().cpu()])[-self.rows :]

    def bias(self) -> Tensor | None:
        """Return [v] nats fitted to the rows held; None below two rows."""
        if len(self) < 2:
            return None
        return fit_bias(self._around, self._q.mean(0)).float() - self._level()

    def _level(self) -> Tensor:
        return self._recent.mean(0)

    def state(self) -> dict[str, Tensor]:
        """Return what a checkpoint must hold."""
        return {
            "window_around": self._around,
            "window_q": self._q,
            "window_recent": self._recent,
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore the state of a checkpoint."""
        self._around, self._q = state["window_around"], state["window_q"]
        self._recent = state["window_recent"]
