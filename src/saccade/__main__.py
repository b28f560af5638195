"""`python -m saccade`, and `torchrun -m saccade train ...`."""

from saccade.cli import main

main()
