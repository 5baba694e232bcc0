"""GPUs and models: data tables with a source per row, and the cluster built of them."""
