"""A torch module in, deployable artefacts and measurements out.

Exporters are functions named for what they make; runners run what they made; parity, fidelity and
latency prove it. This package knows nothing of pruning. Import its modules directly.
"""
