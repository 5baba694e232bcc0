"""The fabric's traffic: paths of collectives, and the rates at which senders share links."""
