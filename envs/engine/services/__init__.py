"""Services: deployments whose replicas are gangs on the cluster, from their start to their end."""
