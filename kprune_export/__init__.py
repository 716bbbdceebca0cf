"""The product: the command line, recipes, the pipeline, bundles, gates and the report.

Imports pruning and exporters, which import neither it nor each other.
"""
