"""Ray's processes: the cluster, where work goes, and what workers share."""
