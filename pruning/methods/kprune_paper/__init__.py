"""K-prune as published (Park, Choi and Kang, ICLR 2024)."""
