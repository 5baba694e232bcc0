"""The parts of a world: from a scenario to the engine's records, and from those to results."""
