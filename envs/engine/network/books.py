"""What links count of one-shot senders in FLUID, and that it never exceeds their capacity.

Rates are found sender by sender (:mod:`.shares`), so one that rises may crowd others on links that
had nothing to do with it. Such a link cuts its fastest flows to one rate, with which it is just
full: water-filling on one link, the step that max-min fairness consists of (Bertsekas and Gallager,
"Data Networks", 1992, 6.5.2). Cuts free other links and crowd none.
"""

from __future__ import annotations

from ..core.compile import kernel
from .events import rekey
from .progress import catch_up

_FULL = 1.0 + 1e-9  # of a capacity, up to rounding


@kernel
def take(w, e, sender, rate, bottleneck):
    """Note the rate of a one-shot sender on its links; 0: it goes."""
    for slot in range(sender.usage_begin, sender.usage_begin + sender.usage_count):
        usage = w.usages[e, slot]
        link, weight = w.links[e, usage.link], float(usage.weight)
        if sender.bottleneck == usage.link:
            link.held -= weight
        else:
            link.other = max(link.other - weight * sender.rate, 0.0)
        if bottleneck == usage.link:
            link.held += weight
        else:
            link.other += weight * rate
        link.used = max(link.used + weight * (rate - sender.rate), 0.0)
        w.link_rate[e, usage.link] = min(link.demand + link.used, w.capacity[usage.link])
    sender.rate, sender.bottleneck = rate, bottleneck


@kernel
def count_flows(w, e, sender, sign):
    """Add a sender's flows to its links, or take them off."""
    for slot in range(sender.usage_begin, sender.usage_begin + sender.usage_count):
        usage = w.usages[e, slot]
        w.links[e, usage.link].flows += sign * usage.weight


@kernel
def plan(w, e, j):
    """Let the next event of a one-shot sender be its end, or a look that comes before."""
    sender = w.senders[e, j]
    sender.event_s = min(sender.since_s + sender.left / sender.rate, sender.look_s)
    rekey(w, e, j)


@kernel
def keep_within(w, e, j, now_s):
    """Let no link of a one-shot sender be used beyond its capacity."""
    sender = w.senders[e, j]
    for slot in range(sender.usage_begin, sender.usage_begin + sender.usage_count):
        link = int(w.usages[e, slot].link)
        if w.links[e, link].used > w.capacity[link] * _FULL:
            cut(w, e, link, now_s)


@kernel(inline=False)
def cut(w, e, link, now_s):
    """Cut the fastest flows of a link to one rate."""
    rate = rate_within(w, e, link)
    at = int(w.once_head[e, link])
    while at >= 0:
        j = int(w.usages[e, at].sender)
        sender = w.senders[e, j]
        if sender.rate > rate:
            catch_up(sender, now_s)
            take(w, e, sender, rate, link)
            plan(w, e, j)
        at = int(w.usages[e, at].next)


@kernel
def rate_within(w, e, link):
    """Return the rate at which flows of a link fill it, those that are slower as they are."""
    rate, higher = 0.0, w.capacity[link] / w.links[e, link].flows
    while higher > rate:
        rate, rest, flows = higher, w.capacity[link], 0.0
        at = int(w.once_head[e, link])
        while at >= 0:
            usage = w.usages[e, at]
            if w.senders[e, usage.sender].rate > rate:
                flows += usage.weight
            else:
                rest -= usage.weight * w.senders[e, usage.sender].rate
            at = int(usage.next)
        higher = rest / flows if flows > 0.0 else rate
    return rate
