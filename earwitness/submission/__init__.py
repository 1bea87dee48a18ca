"""A challenge team's files, written from a run and checked; docs/challenge.md."""
