"""What a run shows of itself: a table or lines, and gauges."""
