"""OpenVINO: intermediate representations of graphs, and the conditions to run them."""
