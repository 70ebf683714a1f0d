"""The version of this runtimed; a test holds it against the packaging's."""

VERSION = "0.1.0"
