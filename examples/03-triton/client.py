"""Ask the server of serve.sh for the labels of two texts: python client.py [HOST:PORT]."""

import sys

import numpy as np
import tritonclient.http

MODEL = "classifier-onnxruntime-fp32-text"
TEXTS = ["a good film", "a dull one"]

client = tritonclient.http.InferenceServerClient(sys.argv[1] if len(sys.argv) > 1 else "localhost:8000")
text = tritonclient.http.InferInput("text", [len(TEXTS), 1], "BYTES")
text.set_data_from_numpy(np.array([[x] for x in TEXTS], dtype=np.object_))
answer = client.infer(MODEL, [text])
for name, labels, scores in zip(TEXTS, answer.as_numpy("labels"), answer.as_numpy("scores"), strict=True):
    print(f"{name}: {labels[0].decode()} ({scores[0]:.2f})")
