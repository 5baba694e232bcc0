"""Many small tasks, policies x worlds x seeds, through one executor: see :mod:`.run`."""
