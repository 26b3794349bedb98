"""What the network answers: three masks to a single click, one to everything that says more."""

PART = 0
THING = 1
GROUP = 2
"""The thing with what touches it, which moves with it."""
REFINED = 3
"""The one answer where the prompt is more than a single click."""
ANSWERS = 4
