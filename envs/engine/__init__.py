"""The compiled world: records, parts and the clock that moves them."""
