"""Messages about the machine and the daemon itself: the disk, the socket, the databases."""

from __future__ import annotations

from auditor.diagnose.messages.message import ARCHIVE, CHECK, DISK, Known, Sure

_STATUS = "systemctl status containerd; journalctl -u containerd -n 100"
_LIVE = "Containers that run already: their shims live on."

MACHINE: tuple[Known, ...] = (
    Known(
        id="disk-full",
        anchors=("no space left on device", "disk quota exceeded"),
        says="The file system is full, or out of inodes.",
        cause="images, snapshots or logs have filled the disk",
        sure=Sure.CERTAIN,
        breaks="Pulls, and writes of containers.",
        fine="What is here and complete.",
        do=(
            "df -h /var/lib/containerd; df -i /var/lib/containerd",
            "du -xsh /var/lib/containerd /var/log; crictl images  # what fills it?",
        ),
        source="errno ENOSPC, EDQUOT",
    ),
    Known(
        id="io-error",
        anchors=("input/output error",),
        says="The disk could not read or write.",
        cause="the disk, its cable or its controller fails",
        sure=Sure.CERTAIN,
        breaks="Whatever lies there; more will follow.",
        do=(DISK, "auditor scrub", "# move the node's work elsewhere and replace the disk"),
        source="errno EIO; siderolabs/talos#13946",
    ),
    Known(
        id="file-system-damaged",
        anchors=("structure needs cleaning", "bad message"),
        pattern=r"structure needs cleaning|: bad message\b",
        says="The file system found itself damaged.",
        cause="a crash or a failing disk damaged the file system",
        sure=Sure.CERTAIN,
        breaks="Whatever lies there.",
        do=(DISK, "# drain the node, unmount the file system and run its fsck, then auditor scrub"),
        source="errno EUCLEAN, EBADMSG",
    ),
    Known(
        id="read-only",
        anchors=("read-only file system",),
        says="The file system takes no writes.",
        cause="the kernel remounted it read-only after an error, or it is mounted so",
        sure=Sure.CERTAIN,
        breaks="Pulls, new containers, repairs.",
        fine="Reading what is there.",
        do=("mount | grep containerd", DISK),
        source="errno EROFS; home-assistant/supervisor#7232",
    ),
    Known(
        id="bolt",
        anchors=(
            "invalid freelist page",
            "already freed",
            "invalid database",
            "unexpected fault address",
            "assertion failed",
            "file size too small",
            "meta.db",
        ),
        pattern=r"invalid freelist page|page \d+ already freed|invalid database|assertion failed: [Pp]age|"
        r"unexpected fault address|meta\.db[\s\S]*(?:file size too small|invalid|checksum)|"
        r"bolt[\s\S]*(?:panic|assertion failed|file size too small)",
        says="A bolt database of containerd is damaged; the daemon cannot start, or not all of it.",
        cause="a crash or a failing disk damaged meta.db or a snapshotter's metadata.db",
        breaks="containerd itself.",
        fine="The blobs on the disk.",
        do=("# stop containerd and copy its root before anything else", DISK),
        source="go.etcd.io/bbolt issues 705 and 883; github.com/containerd/containerd/issues/9929, /issues/10666",
    ),
    Known(
        id="cri-not-loaded",
        anchors=("unknown service runtime.v1",),
        says="containerd answers, and its CRI plugin is not there.",
        cause="the plugin is disabled in config.toml (disabled_plugins), or it or what it needs failed to load, as "
        "when meta.db is damaged",
        breaks="The kubelet and crictl.",
        fine="ctr, and containers that run already.",
        do=("ctr plugins ls | grep -v ok", "journalctl -u containerd | grep 'failed to load plugin'"),
        source="cmd/containerd; github.com/containerd/containerd/issues/4581, /issues/3101",
    ),
    Known(
        id="daemon-down",
        anchors=(
            "failed to dial",
            "dial unix",
            "cannot access socket",
            "connect failed",
            "connection error",
            "Cannot connect to the Docker daemon",
        ),
        pattern=r"(?:failed to dial|dial unix|cannot access socket|connect failed|connection error)[\s\S]*"
        r"(?:refused|no such file|No such file|timeout|deadline exceeded)|Cannot connect to the Docker daemon",
        says="Nobody listens at the socket, or it is not there.",
        cause="containerd is not running, is starting and loading its database, or has its socket elsewhere",
        breaks="Everything that needs containerd.",
        fine=_LIVE,
        do=(_STATUS, "ls -l /run/containerd/containerd.sock /run/k3s/containerd/containerd.sock"),
        source="client/client.go New; cmd/ctr/commands/client.go; github.com/containerd/containerd/issues/4838",
    ),
    Known(
        id="socket-denied",
        anchors=("dial unix", "failed to dial", "cannot access socket"),
        pattern=r"(?:dial unix|\.sock)[\s\S]*permission denied",
        says="The socket is there and this user may not open it.",
        cause="the command was not run as root",
        sure=Sure.CERTAIN,
        breaks="The command.",
        fine="Everything else.",
        do=("# run it as root",),
        source="errno EACCES; client/client.go New",
    ),
    Known(
        id="name-reserved",
        anchors=("failed to reserve container name", "failed to reserve sandbox name"),
        says="An earlier attempt to create the same container is still under way.",
        cause="the disk is so slow, or the image so large, that creating a container takes longer than the kubelet "
        "waits",
        breaks="The new attempt, until the old one ends.",
        fine="The image.",
        do=("iostat -x 1; crictl ps -a", "# wait, or restart containerd when nothing moves"),
        source="internal/cri/server/container_create.go; github.com/containerd/containerd/issues/4604, /issues/13867",
    ),
)

#: What says little by itself; these come last.
GENERAL: tuple[Known, ...] = (
    Known(
        id="export-failed",
        anchors=("failed to export", "failed to get reader", "failed to copy to tar"),
        says="An image cannot be exported, since a blob of it cannot be read.",
        cause="layers discarded by policy (EKS and GKE do), other platforms of the index, or the missing-blobs bug",
        fits=("snapshot-without-blob", "incomplete-image", "missing-manifest", "missing-config", "blob-file-missing"),
        by_design=True,
        breaks="Exporting from this node.",
        fine="Running the image.",
        do=(CHECK, "auditor export {image} -o FILE"),
        source="core/images/archive/exporter.go; github.com/containerd/containerd/issues/9277, /issues/5895",
    ),
    Known(
        id="unexpected-end",
        anchors=("unexpected EOF",),
        says="Something ended in the middle.",
        cause="a blob's file was emptied or cut on the disk, or a download or an archive was cut short",
        sure=Sure.POSSIBLE,
        fits=("size-mismatch", "digest-mismatch", "layer-undecodable", *ARCHIVE),
        breaks="What was being read.",
        do=(CHECK, "auditor verify FILE  # where an archive was read", "# pull again, where it was a download"),
        source="Go's io.ErrUnexpectedEOF; core/content/helpers.go ReadBlob; "
        "github.com/containerd/containerd/issues/7543",
    ),
    Known(
        id="already-exists",
        anchors=("already exists",),
        pattern=r"(?:content|blob) [\\\"']*sha\d+:[0-9a-f]+[\\\"']*: already exists",
        says="A write found its target in place.",
        cause="harmless in itself: another pull was faster. It proves nothing about the bytes that are there",
        sure=Sure.POSSIBLE,
        fits=("size-mismatch", "digest-mismatch", "blob-file-missing"),
        breaks="Nothing.",
        do=("auditor check --verify digests {image}",),
        source="core/metadata/content.go; plugins/content/local/writer.go",
    ),
    Known(
        id="deadline",
        anchors=("context deadline exceeded", "context canceled"),
        says="Somebody stopped waiting.",
        cause="the registry, the disk or the daemon is slower than the caller's patience",
        sure=Sure.POSSIBLE,
        breaks="The call; what was under way may go on.",
        fine="What is here.",
        do=("auditor check", "iostat -x 1", "curl -sSv https://HOST/v2/"),
        source="Go's context; github.com/containerd/containerd/issues/4604",
    ),
)
