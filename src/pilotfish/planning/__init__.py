"""What a run will cost: its numbered steps with rows, tokens, FLOPs, memory and time, before it."""

from pilotfish.planning.plan import plan

__all__ = ["plan"]
