#!/usr/bin/env bash
# Write a model repository from a bundle, compare a server's answers with the pruned model, and serve it.
set -euo pipefail

kprune-export triton bundle --output models --name classifier
kprune-export serve-check models --bundle bundle
exec tritonserver --model-repository=models
