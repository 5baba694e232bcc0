"""The compiled engine: records, events and the functions that move them."""
