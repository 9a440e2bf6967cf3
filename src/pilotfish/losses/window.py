"""The last rows seen, and the bias that makes hardened classes as frequent as the teacher's."""

import torch
from torch import Tensor

SHARPER = (1.0, 0.3, 0.1, 0.03, 0.01)  # temperatures of the assignment, from soft to nearly hard
ROUNDS = 20  # at each of them


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
    """Log-probabilities and targets of the last rows, at least `rows` once as many were seen.

    With one row alone a quantile *is* that row, and the answer always the same: nothing is fitted
    below two rows. Owned state: `state` and `load_state` carry it through a resume.
    """

    def __init__(self, classes: int, *, rows: int = 256) -> None:
        if rows < 64:
            raise ValueError(f"a window of {rows} rows is too short to match shares; take 64")
        self.rows = rows
        self._log_p = torch.zeros(0, classes)
        self._q = torch.zeros(0, classes)

    def __len__(self) -> int:
        return len(self._log_p)

    @torch.no_grad()
    def add(self, log_p: Tensor, q: Tensor) -> None:
        """Take in rows [b, v] of the student's log p and the teacher's q; the oldest go."""
        self._log_p = torch.cat([self._log_p, log_p.detach().float().cpu()])[-self.rows :]
        self._q = torch.cat([self._q, q.detach().float().cpu()])[-self.rows :]

    def bias(self) -> Tensor | None:
        """[v] fitted to the rows held; None below two rows."""
        return fit_bias(self._log_p, self._q.mean(0)).float() if len(self) > 1 else None

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must hold."""
        return {"window_log_p": self._log_p, "window_q": self._q}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from a checkpoint."""
        self._log_p, self._q = state["window_log_p"], state["window_q"]
