#!/bin/sh
# The command `runtimed` of the system's installation. In a project's own folder it talks to that project's daemon,
# elsewhere to the system's, unless RUNTIMED_SOCKET or an option says otherwise.
system=/run/runtimed/runtimed.sock
if [ -z "${RUNTIMED_SOCKET:-}" ] && [ ! -e runtimed.toml ] && [ -S "$system" ]; then
    RUNTIMED_SOCKET=$system
    export RUNTIMED_SOCKET
fi
exec @PREFIX@/lib/runtimed/bin/python -P -m runtimed "$@"
