"""Looking at a model while it learns, a few times on the way to its last step."""

from collections.abc import Callable
from dataclasses import dataclass

from pilotfish.models import Loaded
from pilotfish.training.step_log import LOOK_EVERY

OnStep = Callable[[int, int, float], None]


@dataclass(frozen=True)
class StepCallback:
    """`look(step, model)` at about `count` points, evenly spread; the last step is one of them.

    The model is the one being trained, in evaluation mode; it must be left as it was found.
    """

    count: int
    look: Callable[[int, Loaded], None]

    def at(self, step: int, steps: int) -> bool:
        """Whether a step is looked at: the first tenth step at or behind every point."""
        if not self.count:
            return False
        points = (-(-part * steps // self.count) for part in range(1, self.count + 1))
        return step in {min(steps, -(-point // LOOK_EVERY) * LOOK_EVERY) for point in points}

    def beside(self, on_step: OnStep | None, loaded: Loaded) -> OnStep:
        """`on_step` with the looks after it; it is called every tenth step and after the last."""

        def both(step: int, steps: int, loss: float) -> None:
            if on_step:
                on_step(step, steps, loss)
            if self.at(step, steps):
                training = loaded.model.training
                loaded.model.eval()
                self.look(step, loaded)
                loaded.model.train(training)

        return both
