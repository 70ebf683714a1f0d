#!/bin/sh
# The command `runtimed` of the system's installation. In a project's folder, or with a folder or an address named, it is
# about that; else about the system's daemon, whose places it names as the unit does. To serve is the unit's alone.
about=system
value=
for word in "$@"; do # the noun is the first word that is neither an option nor an option's value
    if [ -n "$value" ]; then value= && continue; fi
    case "$word" in
    -o | --output | --timeout | --token-file | --data-dir) value=yes ;;
    -*) ;;
    serve | init | demo) about=other && break ;;
    *) break ;;
    esac
done
case " $* " in
*" --data-dir /var/lib/runtimed "* | *" --data-dir=/var/lib/runtimed "*) ;; # its socket is not in there, but in /run
*" --data-dir"* | *" --socket"* | *" --url"* | *" --config"*) about=other ;;
esac
if [ -e runtimed.toml ] && [ "$(pwd -P)" != /etc/runtimed ]; then about=other; fi
if [ $about = system ] && [ -z "${STATE_DIRECTORY:-}${RUNTIMED_SOCKET:-}${RUNTIMED_URL:-}" ]; then
    STATE_DIRECTORY=/var/lib/runtimed RUNTIME_DIRECTORY=/run/runtimed CONFIGURATION_DIRECTORY=/etc/runtimed
    export STATE_DIRECTORY RUNTIME_DIRECTORY CONFIGURATION_DIRECTORY
fi
exec @PREFIX@/lib/runtimed/bin/python -P -m runtimed "$@"
