"""ONNX graphs: exported from torch, rewritten for each runtime, written."""
