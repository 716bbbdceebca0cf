"""What a sublayer costs at each width on a machine, and what that says of a model's latency."""
