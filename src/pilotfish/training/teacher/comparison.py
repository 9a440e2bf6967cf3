"""Whether the student already does better than its teacher, on the tokens both were given."""

import torch
from torch import Tensor

from pilotfish.losses import Dense, LossInputs, Sampled, TopK, lm

DECAY = 0.9  # of the means, per step: about the last ten steps count
PATIENCE = 10  # steps before which nothing is said
_STORED_LEAST = 2.0**-24


def teacher_nll(given: LossInputs) -> Tensor:
    """[m] nats the teacher pays for the targets.

    A token that a top-k teacher did not store costs what all of its rest together would: too
    little, so the student is never said to be ahead too early. ValueError for draws.
    """
    if given.targets is None or given.teacher is None or isinstance(given.teacher, Sampled):
        raise ValueError("until_surpass needs targets, and a teacher that says what they cost it")
    if isinstance(given.teacher, Dense):
        return lm(given.teacher.logits[:, : given.vocabulary], given.targets)
    return _stored_nll(given.teacher, given.targets)


def _stored_nll(teacher: TopK, targets: Tensor) -> Tensor:
    hit = teacher.ids == targets[:, None]
    stored = torch.where(hit, teacher.logs.float(), 0.0).sum(-1)
    rest = teacher.rest.float().clamp(min=_STORED_LEAST).log()
    return -torch.where(hit.any(-1), stored, rest)


class TeacherComparison:
    """Exponential means of both losses over steps; won once, and for good.

    Owned state: `state` and `load_state` carry it through a resume. Under several processes the
    sums of all of them count, so that no two decide otherwise.
    """

    def __init__(self) -> None:
        self._step = torch.zeros(3, dtype=torch.float64)  # student, teacher, tokens of this step
        self._means = torch.zeros(3, dtype=torch.float64)  # decayed sums of the same
        self._steps = 0
        self.won_at = 0  # the step after which it was won; 0: not yet

    @property
    def won(self) -> bool:
        """Whether the student is ahead."""
        return self.won_at > 0

    @torch.no_grad()
    def add(self, logits: Tensor, given: LossInputs) -> None:
        """Take in m tokens of the step."""
        assert given.targets is not None
        own = lm(logits[:, : given.vocabulary], given.targets).double().sum()
        other = teacher_nll(given).double().sum()
        self._step += torch.stack([own, other, torch.tensor(float(len(logits)))]).cpu()

    def after_step(self) -> None:
        """Close the step; means of sums weigh tokens and need no correction for their start."""
        from pilotfish.training.setup import accelerator

        step: Tensor = accelerator().reduce(self._step.to(accelerator().device), "sum")
        self._means = DECAY * self._means + step.cpu()
        self._step = torch.zeros(3, dtype=torch.float64)
        self._steps += 1
        ahead = bool(self._means[0] < self._means[1])
        if ahead and not self.won and self._steps >= PATIENCE:
            self.won_at = self._steps

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must hold."""
        return {"race_means": self._means, "race_steps": torch.tensor([self._steps, self.won_at])}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from a checkpoint."""
        self._means = state["race_means"]
        self._steps, self.won_at = (int(each) for each in state["race_steps"])
