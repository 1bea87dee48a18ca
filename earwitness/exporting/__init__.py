"""A trained system as one folder: written, read on another machine, and shared on a hub."""
