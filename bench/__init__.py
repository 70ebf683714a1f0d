"""The figures of the project, as scripts that anyone can run: `make bench`, or `python -m bench steps intake`."""
