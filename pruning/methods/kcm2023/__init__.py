"""Kernelised convex masking (Nova, Dai and Schuurmans, ICML 2023)."""
