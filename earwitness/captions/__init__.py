"""Captions of files, folders and long recordings, and what is written of them."""
