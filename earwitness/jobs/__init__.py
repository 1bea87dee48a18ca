"""``dvc repro``, jobs that do not wait for each other side by side."""
