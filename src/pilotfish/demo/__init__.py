"""The tiny offline world: tasks with known truth, named noise, models built from configs."""
