#!/bin/sh
# Run by test_container.py in a mount namespace of its own: the image's entry point as 65532, on a read-only root.
set -u
mount --make-rprivate / || exit 77
mount -t tmpfs -o mode=0755 tmpfs /mnt || exit 77
mkdir /mnt/image /mnt/data /mnt/python /mnt/packages
mount --bind "$IMAGE" /mnt/image && mount --bind "$DATA" /mnt/data || exit 77
mount --bind "$PYTHON" /mnt/python && mount --bind "$PACKAGES" /mnt/packages || exit 77
mount -o remount,bind,ro / || exit 77
for folder in /mnt /mnt/image /mnt/python /mnt/packages; do mount -o remount,bind,ro "$folder" || exit 77; done

export LD_LIBRARY_PATH=/mnt/python/lib PYTHONPATH=/mnt/image:/mnt/packages STATE_DIRECTORY=/mnt/data HOME=/nonexistent
python=/mnt/python/bin/python$VERSION
as_service="setpriv --reuid 65532 --regid 65532 --clear-groups --no-new-privs $python /mnt/image/bin/runtimed"

if touch /mnt/image/x /x 2>/dev/null; then echo root=writable; else echo root=read-only; fi
cd /
$as_service serve 1>&2 &
daemon=$!
tries=0
until $as_service status -q 1>&2; do
    tries=$((tries + 1))
    if [ "$tries" -gt 60 ] || ! kill -0 "$daemon" 2>/dev/null; then echo "healthy=never"; exit 1; fi
    sleep 0.25
done
echo healthy=0
echo "uid=$(stat -c %u /mnt/data/runtimed.sock)"
kill -TERM "$daemon"
wait "$daemon"
echo "ended=$?"
