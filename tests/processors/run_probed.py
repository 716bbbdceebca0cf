"""Run a graph in ONNX Runtime on given inputs and keep its outputs: run_probed.py GRAPH.onnx INPUTS.npz OUTPUTS.npz.

Imports nothing of the product, so that an emulator has little to run. Prints the operators that ran, one per line.
"""

import sys

import numpy as np
import onnx
import onnxruntime

graph, inputs, outputs = sys.argv[1:]
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.log_severity_level = 3
options.optimized_model_filepath = f"{outputs}.onnx"
session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
names = [output.name for output in session.get_outputs()]
np.savez(outputs, **dict(zip(names, session.run(names, dict(np.load(inputs))), strict=True)))
print("\n".join(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node))
