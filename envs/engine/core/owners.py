"""Who holds a GPU or an uplink, where it is no gang."""

FREE = -1  # nobody
DOWN = -2  # there is no such GPU, or its node has failed
