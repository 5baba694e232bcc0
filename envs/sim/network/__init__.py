"""The fabric's traffic: paths of collectives, and the rates at which jobs share links."""
