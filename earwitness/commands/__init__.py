"""What ``earwitness`` does on the command line: one command a file."""
