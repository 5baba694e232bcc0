"""The network's records.

A sender is whoever puts flows on links for a while: a gang while it runs, which is periodic, or a
transfer, which sends once. The network knows what a sender sends (its pattern, the GPUs of its
ranks; or its bytes and their ends) and how far it is, not what it is for. One-shot senders are the
last ones; each has room of its own for its path.

GPU ``slot`` of a node has the number ``node * gpus_per_node + slot``.
"""

from __future__ import annotations

import numpy as np

from .names import (
    BALANCED,
    ECMP,
    FLOW,
    FLUID,
    OCCUPANCY,
    SOURCE,
    UNCONTENDED,
)

__all__ = [
    "BALANCED", "ECMP", "FLOW", "FLUID", "LEVELS", "LINK", "NETWORK", "OCCUPANCY", "ONCE", "PAIR",
    "PATTERN", "PHASE", "SENDER", "SOURCE", "STEP", "UNCONTENDED", "USAGE",
]  # fmt: skip

LEVELS = 64
"""Levels of how much one-shot senders slow a phase on a link, eight to a factor of two."""

PATTERN = np.dtype(  # what a sender does in an iteration
    [
        ("ranks", "i4"),
        ("first_phase", "i4"),
        ("num_phases", "i4"),
        ("compute_s", "f8"),  # at speed 1, communication apart
        ("hidden_s", "f8"),  # its last part, beside which the communication runs
    ]
)

PHASE = np.dtype(
    # One step of a pattern's communication: every rank sends one flow at most. The
    # ranks of a group stand ``stride`` apart; a rank's place q in its group of ``ranks`` sends to
    # (q + shift) mod ranks (CYCLIC), q ^ shift (XOR), or q + shift if there is such a rank (CHAIN).
    [
        ("ranks", "i4"),
        ("stride", "i4"),
        ("shift", "i4"),
        ("mode", "i4"),
        ("bytes", "f8"),  # of each flow, per iteration
    ]
)

SENDER = np.dtype(
    [
        # what it is: set by whoever lets it enter
        ("pattern", "i4"),
        ("ranks", "i4"),
        ("scale", "f8"),  # multiplies the pattern's compute_s and hidden_s
        ("comm_scale", "f8"),  # multiplies the bytes of its phases
        ("first_gpu", "i4"),  # its GPUs in rank order, linked by ``gpu_next``
        ("reserved", "i4"),  # 1: its flows use its own uplinks, ``gpu_uplink``
        ("speed", "f8"),  # of its slowest GPU
        # its progress: ``left`` at ``since_s``, shrinking by ``rate`` a second
        ("iterations_left", "f8"),
        # fluid: iterations; flow: of the part of an iteration under way; of a one-shot sender:
        # seconds until it sends, then bytes of each of its flows
        ("left", "f8"),
        ("rate", "f8"),
        ("since_s", "f8"),
        ("event_s", "f8"),  # when ``left`` is used up
        ("begun_s", "f8"),  # flow: when the iteration under way began; fluid: the phase
        ("part", "f8"),  # flow: share of an iteration that the one under way does
        ("computed_s", "f8"),  # when the hidden part of its compute ends
        ("rest_s", "f8"),  # fluid: seconds alone that are left of what it does
        ("told_s", "f8"),  # at this moment
        ("due", "f8"),  # iterations to do when the one that is followed began
        ("look_s", "f8"),  # fluid, one-shot: when a phase on its way begins or ends
        ("heap_at", "i4"),  # place in the heap of events, -1: none
        # its communication
        ("usage_begin", "i4"),
        ("usage_count", "i4"),
        ("step_begin", "i4"),
        ("step_count", "i4"),
        ("phase", "i4"),  # the phase under way; -1 computing alone, -2 its last hidden part
        ("compute_s", "f8"),  # seconds of compute in an iteration here
        ("hidden_s", "f8"),  # its last part, beside which it communicates
        ("comm_alone_s", "f8"),  # seconds of communication with its own flows only
        ("comm_s", "f8"),  # seconds of communication as things are
        ("among_s", "f8"),  # fluid: of these, without one-shot senders
        ("once_s", "f8"),  # fluid: of these, what one-shot senders cost
        ("ideal_s", "f8"),  # seconds of an iteration here if no two flows ever met
        ("alone_s", "f8"),  # seconds of an iteration here with its own flows only
        ("iteration_s", "f8"),  # seconds of an iteration as things are (long-run rate)
        ("duty", "f8"),  # share of the time in which it communicates
        ("bottleneck", "i4"),  # link that limits it, -1: its NIC or scale-up link
        ("shown_rate", "f8"),  # fluid: iterations a second that the load of its links counts
        ("first_pair", "i4"),
        ("mark", "i8"),  # scratch of the solver, up to the end
        ("seen", "i8"),
        ("chain", "i4"),
        ("mine", "f8"),
        ("theirs", "f8"),
        ("my_links", "u8"),
        ("their_links", "u8"),
        ("my_most", "f8"),
        ("their_most", "f8"),
    ]
)

ONCE = np.dtype(  # what a one-shot sender sends: set by whoever lets it go
    [
        ("client", "i4"),  # whose bytes, in numbers of their own; -1: nobody's any more
        ("from_gpu", "i4"),  # first GPU that sends; those behind it as linked by ``gpu_next``
        ("to_gpu", "i4"),
        ("from_ranks", "i4"),  # GPUs that send, each over its own NIC
        ("to_ranks", "i4"),
        ("from_port", "i4"),  # link that stands for all of them together
        ("to_port", "i4"),
        ("inside", "i4"),  # 1: over no link of the fabric
        ("bytes", "f8"),  # of all flows
        ("most_bytes_per_s", "f8"),  # of all flows, whatever the links do
        ("early_bytes_per_s", "f8"),  # the same until it may hurry; 0: it may from the start
        ("limit", "f8"),  # bytes/s of a flow that ports and NICs give it then
        ("next", "i4"),  # among free ones, or those that have ended
    ]
)

USAGE = np.dtype(  # flows of one sender on one link in one phase
    [
        ("sender", "i4"),
        ("link", "i4"),
        ("phase", "i4"),
        ("weight", "f4"),  # flows, a part of a flow counting 1/queue_pairs
        ("level", "i4"),  # fluid: how much one-shot senders slow the phase here
        ("next", "i4"),  # on the same link
        ("before", "i4"),
    ]
)

STEP = np.dtype(  # one phase of a sender that uses links
    [
        ("sender", "i4"),
        ("begin", "i4"),  # its usage entries, counted from the sender's first one
        ("count", "i4"),
        ("next", "i4"),  # scratch
        ("bytes", "f8"),  # of each flow, per iteration
        ("limit", "f8"),  # bytes/s that NIC or scale-up link give a flow
        ("rate", "f8"),  # bytes/s of a flow if no other sender were there
        # fluid, of periodic senders: what one-shot senders cost
        ("level", "i4"),  # the highest of its entries
        ("rounds", "f8"),  # iterations in which it was seen, old ones forgotten
        ("longer_s", "f8"),  # sum over them: seconds more than beside periodic ones
        ("mark", "i8"),  # scratch, up to the end
        ("mine", "f8"),
        ("theirs", "f8"),
        ("my_links", "u8"),
        ("their_links", "u8"),
    ]
)

PAIR = np.dtype(  # how one sender slows another, in the list of the one that is slowed
    [
        ("other", "i4"),  # who slows it
        ("twin", "i4"),  # the reverse
        ("next", "i4"),
        ("before", "i4"),
        ("effect_s", "f8"),  # longer communication per iteration if the other always communicated
        ("delay_s", "f8"),  # longer communication per iteration as things are
        ("duty", "f8"),  # share of the time in which the other communicates, without this one
        ("links", "u8"),  # a bit for each link where the other hurts most, by hash
    ]
)

LINK = np.dtype(
    [
        ("demand", "f8"),  # fluid: bytes/s that its periodic senders send in the long run
        # fluid, of one-shot senders
        ("flows", "f8"),
        ("held", "f8"),  # flows that this link limits
        ("other", "f8"),  # bytes/s of the others
        ("used", "f8"),  # bytes/s of all
        ("slot", "i4"),  # scratch, up to the end: usage entry under construction
        ("members", "i4"),
        ("mark", "i8"),
        ("room", "f8"),
        ("weight", "f8"),
    ]
)

NETWORK = np.dtype(  # one record per environment
    [
        ("events", "i4"),  # size of the heap
        ("usages", "i4"),  # used part of the usage array, dead entries included
        ("steps", "i4"),  # likewise of ``steps``
        ("pairs", "i4"),
        ("free_pair", "i4"),
        ("touched", "i4"),  # senders whose rate must be found anew
        ("most_links", "i4"),  # on the way of a one-shot sender
        ("free_once", "i4"),  # first one-shot sender that is free, -1: none
        ("ended_head", "i4"),  # one-shot senders that have ended and nobody has taken, by client
        ("once_running", "i4"),  # one-shot senders under way, those that do not send yet too
        ("mark", "i8"),
        ("hash_seed", "u8"),
    ]
)
