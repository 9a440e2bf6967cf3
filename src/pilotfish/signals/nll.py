"""Negative log-likelihood: how many nats a row's scored tokens cost the model."""

import numpy as np
import torch

from pilotfish.records import Floats, Ints


class Nll:
    """Sum and count of -log p(token) per row.

    The log-sum-exp over the vocabulary runs in fp32 whatever the model's dtype; the sum over
    tokens is taken in float64 on the CPU, token after token, so its bits do not depend on blocks.
    """

    def start(self, n: int) -> None:
        """Make room for n rows, each at 0 nats over 0 tokens."""
        self._total: Floats = np.zeros(n, dtype=np.float64)
        self._count: Ints = np.zeros(n, dtype=np.int64)

    def block(self, logits: torch.Tensor, targets: torch.Tensor, rows: Ints) -> None:
        """Add m tokens: logits [m, v], targets [m] token ids, rows [m] in [0, n)."""
        wide = logits.float()
        chosen = wide.gather(1, targets[:, None])[:, 0]
        nats = torch.logsumexp(wide, dim=1) - chosen  # [m]
        np.add.at(self._total, rows, nats.double().cpu().numpy())
        np.add.at(self._count, rows, 1)

    def finish(self) -> dict[str, Floats | Ints]:
        """{"total": [n] nats, "count": [n] tokens}; nan or inf in a total is the model's own."""
        return {"total": self._total, "count": self._count}
