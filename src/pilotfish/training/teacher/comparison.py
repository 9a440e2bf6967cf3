"""Compare student and teacher on the same tokens, to find out when the student is ahead."""

import torch
from torch import Tensor

from pilotfish.losses import Dense, LossInputs, Sampled, lm

DECAY = 0.9  # of the means, per step: about the last ten steps count
PATIENCE = 10  # steps before the student can be ahead
_STORED_LEAST = 2.0**-24


def teacher_nll(inputs: LossInputs) -> Tensor:
    """Return [m] the negative log-likelihood, in nats, of the targets under the teacher.

    A token that a top-k teacher did not store gets the probability of all its rest. That is too
    much, so the student is never found to be ahead too early. Raises ValueError for draws.
    """
    teacher = inputs.teacher
    if inputs.targets is None or teacher is None or isinstance(teacher, Sampled):
        raise ValueError("until_surpass needs targets and a teacher with probabilities, not draws")
    if isinstance(teacher, Dense):
        return lm(teacher.logits[:, : inputs.vocabulary], inputs.targets)
    hit = teacher.ids == inputs.targets[:, None]
    stored = torch.where(hit, teacher.logs.float(), 0.0).sum(-1)
    rest = teacher.rest.float().clamp(min=_STORED_LEAST).log()
    return -torch.where(hit.any(-1), stored, rest)


class TeacherComparison:
    """Exponential means over steps of both losses; once the student is ahead, it stays so.

    State of a training: `state` and `load_state` carry it through a resume. Under several processes
    the sums of all of them count, so that all decide alike.
    """

    def __init__(self) -> None:
        self._step = torch.zeros(3, dtype=torch.float64)  # student, teacher, tokens of this step
        self._means = torch.zeros(3, dtype=torch.float64)  # decayed sums of the same
        self._steps = 0
        self.surpassed_at = 0  # the step after which the student was ahead; 0: not yet

    @property
    def surpassed(self) -> bool:
        """Whether the student is ahead."""
        return self.surpassed_at > 0

    @torch.no_grad()
    def add(self, logits: Tensor, inputs: LossInputs) -> None:
        """Add m tokens of the step: logits [m, v] of the student, targets and teacher."""
        assert inputs.targets is not None
        student = lm(logits[:, : inputs.vocabulary], inputs.targets).double().sum()
        teacher = teacher_nll(inputs).double().sum()
        self._step += torch.stack([student, teacher, torch.tensor(float(len(logits)))]).cpu()

    def after_step(self) -> None:
        """Close the step; means of sums weigh tokens and need no correction for their start."""
        from pilotfish.training.setup import accelerator

        step: Tensor = accelerator().reduce(self._step.to(accelerator().device), "sum")
        self._means = DECAY * self._means + step.cpu()
        self._step = torch.zeros(3, dtype=torch.float64)
        self._steps += 1
        ahead = bool(self._means[0] < self._means[1])
        if ahead and not self.surpassed and self._steps >= PATIENCE:
            self.surpassed_at = self._steps

    def state(self) -> dict[str, Tensor]:
        """Return what a checkpoint must hold; the names are those of earlier checkpoints."""
        steps = torch.tensor([self._steps, self.surpassed_at])
        return {"race_means": self._means, "race_steps": steps}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore the state of a checkpoint."""
        self._means = state["race_means"]
        self._steps, self.surpassed_at = (int(each) for each in state["race_steps"])
