#!/bin/sh
# Stops and disables what an operator enabled when the package is removed (deb: "remove", rpm: 0), not when it is
# upgraded.
set -e
case "${1:-remove}" in
    remove | 0)
        if [ -d /run/systemd/system ]; then
            systemctl disable --now containerd-auditor-check.timer containerd-auditor-scrub.timer \
                containerd-auditor-watch.service containerd-auditor-boot.service || true
        else
            rm -f /etc/systemd/system/timers.target.wants/containerd-auditor-check.timer \
                /etc/systemd/system/timers.target.wants/containerd-auditor-scrub.timer \
                /etc/systemd/system/multi-user.target.wants/containerd-auditor-watch.service \
                /etc/systemd/system/multi-user.target.wants/containerd-auditor-boot.service
        fi
        ;;
esac
