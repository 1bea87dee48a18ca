"""What ``earwitness serve`` is made of: a page and a small JSON API over trained systems."""
