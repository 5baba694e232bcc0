"""An episode recorded, as a page to look at, a trace for Perfetto and a picture."""
