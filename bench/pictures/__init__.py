"""The pictures of the docs: a shop's day on virtual time, the real daemon on it, the real dashboard on that."""
