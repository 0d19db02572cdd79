"""The benches: baselines, the sender of pre-built frames, and the harness that puts the figures side by side.

`python -m bench` runs everything; README.md says what each figure means. Nothing here is imported by truetape.
"""
