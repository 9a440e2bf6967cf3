"""The last rows seen, and the bias that makes hardened classes as frequent as the teacher's."""

import torch
from torch import Tensor

SHARPER = (1.0, 0.3, 0.1, 0.03, 0.01)  # temperatures of the assignment, from soft to nearly hard
ROUNDS = 20  # at each of them
LEVEL = 16  # rows at least of which a mean is taken


@torch.no_grad()
def fit_bias(log_p: Tensor, share: Tensor) -> Tensor:
    """[v] nats b such that argmax(log p + b) falls on each class in about its `share` [v] of rows.

    Two classes: exact, by the quantile of the log-odds. More: Sinkhorn steps on assignments that
    get harder and harder. log_p [r, v]. A class without a share is never chosen.
    """
    log_p, share = log_p.double(), share.double() / share.double().sum()
    if log_p.shape[-1] == 2:
        return _of_two(log_p, share)
    bias = torch.zeros_like(share)
    wanted = share.clamp(min=1e-12).log()
    for temperature in SHARPER:
        for _ in range(ROUNDS):
            given = torch.softmax((log_p + bias) / temperature, -1).mean(0).clamp(min=1e-12)
            bias = bias + temperature * (wanted - given.log())
    return bias - bias.mean()


def _of_two(log_p: Tensor, share: Tensor) -> Tensor:
    """Half-way between the last row that is class 0 and the first that is not, by log-odds."""
    odds = (log_p[:, 0] - log_p[:, 1]).sort(descending=True).values
    first = round(float(share[0]) * len(odds))
    inner = odds[max(first - 1, 0)], odds[min(first, len(odds) - 1)]
    if first in (0, len(odds)):
        cut = inner[0] + (1.0 if first == 0 else -1.0)
    else:
        cut = (inner[0] + inner[1]) / 2
    return torch.stack([-cut / 2, cut / 2])


class Window:
    """Beliefs of the last rows, at least `rows` once as many were seen, and the teacher's.

    With one row alone a quantile *is* that row, and the answer always the same: nothing is fitted
    below two rows. Beliefs are kept as they lay around their level when they were seen, and the
    bias is fitted around the level of now: a student that leans more to one class with every step
    would else find all of its rows on one side of a threshold fitted to how it was, and be told to
    lean there further. Owned state: `state` and `load_state` carry it through a resume.
    """

    def __init__(self, classes: int, *, rows: int = 256) -> None:
        if rows < 64:
            raise ValueError(f"a window of {rows} rows is too short to match shares; take 64")
        self.rows = rows
        self._around = torch.zeros(0, classes)  # log p less the level it was seen at
        self._q = torch.zeros(0, classes)
        self._recent = torch.zeros(0, classes)  # log p of the rows whose mean is the level

    def __len__(self) -> int:
        return len(self._around)

    @torch.no_grad()
    def add(self, log_p: Tensor, q: Tensor) -> None:
        """Take in the rows [b, v] of a step, the student's log p and the teacher's q, before it is
        learnt; the oldest go."""
        now = log_p.detach().float().cpu()
        self._recent = torch.cat([self._recent, now])[-max(len(now), LEVEL) :]
        self._around = torch.cat([self._around, now - self._level()])[-self.rows :]
        self._q = torch.cat([self._q, q.detach().float().cpu()])[-self.rows :]

    def bias(self) -> Tensor | None:
        """[v] fitted to the rows held; None below two rows."""
        if len(self) < 2:
            return None
        return fit_bias(self._around, self._q.mean(0)).float() - self._level()

    def _level(self) -> Tensor:
        """[v] mean log p of the latest rows: those of the last step, or of the last few."""
        return self._recent.mean(0)

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must hold."""
        return {
            "window_around": self._around, "window_q": self._q, "window_recent": self._recent
        }  # fmt: skip

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from a checkpoint."""
        self._around, self._q = state["window_around"], state["window_q"]
        self._recent = state["window_recent"]
