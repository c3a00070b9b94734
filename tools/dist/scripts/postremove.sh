#!/bin/sh
# Reports and the scrub's database stay after a removal; `apt purge` removes the files that the services wrote, by name.
set -e
case "${1:-}" in
    purge)
        rm -f /var/lib/containerd-auditor/report.json /var/lib/containerd-auditor/scrub.json \
            /var/lib/containerd-auditor/boot.json /var/lib/containerd-auditor/watch.json \
            /var/lib/containerd-auditor/state.db /var/lib/containerd-auditor/state.db-wal \
            /var/lib/containerd-auditor/state.db-shm /var/lib/containerd-auditor/state.db-journal
        [ ! -d /var/lib/containerd-auditor ] || rmdir --ignore-fail-on-non-empty /var/lib/containerd-auditor
        ;;
esac
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload || true
fi
