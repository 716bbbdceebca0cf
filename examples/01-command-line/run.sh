#!/usr/bin/env bash
# Build a bundle as the recipe and the gates say, look at it, and check that its files are those of the manifest.
# Run it where recipe.yaml's paths lead to a model and to texts. It ends with the exit code of the build: 3 if a gate
# failed.
set -euo pipefail

kprune-export doctor
code=0
kprune-export prune-and-build --recipe recipe.yaml --gates gates.yaml --output bundle || code=$?
kprune-export inspect bundle
kprune-export verify bundle
exit "$code"
