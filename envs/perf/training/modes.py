"""Whom a rank sends to in one step of a collective; PHASE.mode of the engine."""

CYCLIC = 0  # the rank ``shift`` places on in its group, round the end
XOR = 1  # the rank whose place differs in the bits of ``shift``
CHAIN = 2  # the rank ``shift`` places on, if there is one
