"""What `runtimed init` writes: a first project, kept as real files so that they are checked and tested as such."""
