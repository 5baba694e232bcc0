"""Whole systems: who routes, places and scales in each, as names of compositions.

The first three have Dynamo's router and planner, so that only placement differs. In all
of them a gang starts all at once, for the world knows no other way: what Kubernetes lacks is the
topology, not the gang.

- ``run-ai-dynamo``: Run:ai v2.23 with Dynamo: gangs in the tightest domain that holds them. Source:
  developer.nvidia.com/blog, "Smart Multi-Node Scheduling for Fast and Efficient LLM Inference with
  NVIDIA Run:ai and NVIDIA Dynamo", 2025; KAI Scheduler.
- ``dynamo``: Dynamo on the default scheduler of Kubernetes, which scores nodes by LeastAllocated.
- ``vclos``: every gang gets links of its own. Source: "Isolated Scheduling for Distributed Training
  Tasks in GPU Clusters", arXiv 2308.05692.
- ``llumnix``: Llumnix alone: requests go where there is most room, and running ones move there.
  Source: Sun et al., OSDI 2024, arXiv 2406.03243.
- ``kubernetes``: parts that know nothing of each other: a random backend, as kube-proxy's iptables
  mode draws it (kubernetes.io, Virtual IPs and Service Proxies), the default scheduler, and
  autoscaling of each service to 50 % use, the example of kubernetes.io, HorizontalPodAutoscaler
  Walkthrough.
"""

from __future__ import annotations

SYSTEMS = {
    "run-ai-dynamo": "compose:routing/dynamo+topology/kai+scaling/dynamo",
    "dynamo": "compose:routing/dynamo+topology/kubernetes-spread+scaling/dynamo",
    "vclos": "compose:routing/dynamo+isolation/vclos+scaling/dynamo",
    "llumnix": "compose:routing/llumnix+migration/llumnix",
    "kubernetes": "compose:routing/random+topology/kubernetes-spread+scaling/hpa",
}
"""Compositions by name; docs/baselines_scaling.md has a row for each; that of llumnix stands in
docs/migration.md."""
