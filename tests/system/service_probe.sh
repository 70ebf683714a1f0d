#!/bin/bash
# Run inside the machine that test_service_manager.py boots: each file in /opt/results is one thing that was seen.
cd /opt/results || exit 1
exec >log 2>&1
trap 'systemctl poweroff' EXIT
touch began
property() { systemctl show runtimed --property "$1" --value; }
until_true() { for _ in $(seq 120); do eval "$1" && return; sleep 0.25; done; echo "never: $1"; return 1; }

systemd-sysusers && systemd-tmpfiles --create && systemctl daemon-reload
systemctl start runtimed || { journalctl -u runtimed --no-pager | tail -30; exit 1; }
echo "$(property ActiveState) $(property StatusText)" >started

pid=$(property MainPID)
folder=$(tr '\0' '\n' <"/proc/$pid/environ" | sed -n 's/^CREDENTIALS_DIRECTORY=//p')
echo "$(stat -c %U "$folder") $(cat "$folder/runtimed_master_key")" >credential
stat -c '%a %U %n' /var/lib/runtimed /run/runtimed /run/runtimed/runtimed.sock >modes

# A person of the group, who is neither root nor the daemon.
setpriv --reuid 65000 --regid 65000 --groups "$(id -g runtimed)" \
    /usr/local/lib/runtimed/bin/python -P -c '
import asyncio, json
from runtimed.client import Client
async def main():
    async with Client(socket="/run/runtimed/runtimed.sock") as client:
        print((await client.link.get("/v1/whoami")).decode())
asyncio.run(main())' >member

runtimed runs start ending '"completed"' --id one
runtimed runs wait one
runtimed runs show one -o json >acknowledged

systemctl reload runtimed
echo $? >reloaded
cp /etc/runtimed/runtimed.toml good.toml
echo 'nonsense = 1' >/etc/runtimed/runtimed.toml
systemctl reload runtimed
until_true 'property StatusText | grep -q refused'
property StatusText >refused
property ActiveState >after_refusal
cp good.toml /etc/runtimed/runtimed.toml

# Two seconds for this one daemon alone: elsewhere a machine that stands still for a moment is no daemon that is stuck.
quick=/etc/systemd/system/runtimed.service.d/quick.conf
mkdir -p "${quick%/*}" && printf '[Service]\nWatchdogSec=2\n' >"$quick"
systemctl daemon-reload && systemctl restart runtimed
kill -STOP "$(property MainPID)"
rm "$quick" && systemctl daemon-reload
until_true '[ "$(property NRestarts)" = 1 ] && [ "$(property ActiveState)" = active ]'
echo "$(property NRestarts) $(property ActiveState)" >watchdog
runtimed runs show one -o json >survived

systemctl stop runtimed
echo "$(property Result) $(property ExecMainStatus) $(property ActiveState)" >stopped
journalctl -u runtimed --no-pager --output cat >journal
touch ended
