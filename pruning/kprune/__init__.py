"""K-prune: knowledge measurement, mask search and weight tuning, one sublayer at a time."""
