"""What is refused because it is too much, where nothing else is set."""

LONGEST_MINUTES = 120.0  # of a recording: two hours at 16 kHz are 460 MB, some of it twice
