"""A torch module in, deployable artefacts and measurements out.

Exporters are functions named for what they make; runners run what they made; parity, fidelity and
latency validate it. This package knows nothing of pruning. Import its modules directly.

Importing it switches off ONNX Runtime's telemetry, which from version 1.29 on identifies the machine in a file of the
home folder, and reports over the network what is run: https://github.com/microsoft/onnxruntime/blob/main/docs/Privacy.md.
"""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when onnxruntime is loaded, here and in child processes
