"""What a network computes as a list of steps, and bounds on all of them while the picture moves within a box."""
