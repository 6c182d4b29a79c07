"""The benchmark behind ``scripts/bench``; docs/performance.md says what is measured and how to read it."""
