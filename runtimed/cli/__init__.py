"""The command line: `runtimed NOUN VERB`, a file per noun; each command imports only what it needs."""
