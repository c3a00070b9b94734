"""Messages about snapshots: their folders, their records, their parents."""

from __future__ import annotations

from auditor.diagnose.messages.message import CHECK, Known, Sure

_AGAIN = "# cordon the node; remove the images that share the layer with their containers, and pull them again"
_BLOBS = "The blobs: they are not touched by this."

SNAPSHOTS: tuple[Known, ...] = (
    Known(
        id="stat-parent",
        anchors=("failed to stat parent", "failed to mount"),
        pattern=r"failed to stat parent: (?:l?stat )?\S+/snapshots/\d+/fs: no such file|"
        r"failed to mount [\s\S]*(?:snapshots/\d+/fs[\s\S]*)?no such file or directory",
        says="A snapshot's folder is gone, though the snapshotter's database has the snapshot.",
        cause="somebody cleaned up below the snapshotter's root, or a crash lost the folder",
        breaks="New containers of every image above that layer, and pulls that build on it.",
        fine="Containers that are mounted already; the blobs.",
        do=("# is the folder that the message names there?", CHECK, _AGAIN),
        source="plugins/snapshots/overlay/overlay.go createSnapshot; github.com/containerd/containerd/issues/3369, "
        "/issues/7834",
    ),
    Known(
        id="snapshot-folder-in-the-way",
        anchors=("failed to rename",),
        pattern=r"failed to rename: rename \S+/snapshots/new-\S+ \S+/snapshots/\d+: "
        r"(?:file exists|directory not empty)",
        says="The snapshotter wants to make a folder under a number that is taken.",
        cause="the snapshotter's database is younger than its folders: it was lost or restored, and counts anew",
        breaks="Every new snapshot: pulls, unpacking and new containers.",
        fine="The blobs; containers that run.",
        do=(CHECK, "# cordon and drain the node, stop containerd, and set its snapshotter's folder aside"),
        source="plugins/snapshots/overlay/overlay.go createSnapshot; "
        "github.com/containerd/accelerated-container-image/issues/102",
    ),
    Known(
        id="missing-parent-bucket",
        anchors=("missing parent",),
        pattern=r"missing parent [\\\"']*[^\\\"']*[\\\"']* ?(?:bucket|of snapshot)|missing parent: not found",
        says="The snapshotter's own database lacks the parent of a snapshot that containerd's database has.",
        cause="meta.db and the snapshotter's metadata.db disagree: a crash between their writes, or one was lost or "
        "restored without the other",
        breaks="New containers of the image, unpacking it, and often garbage collection.",
        fine=_BLOBS,
        do=(CHECK, "# cordon the node, remove the image and its containers, pull it again"),
        source="core/snapshots/storage/bolt.go CreateSnapshot; github.com/containerd/containerd/issues/3671, "
        "/issues/2382",
    ),
    Known(
        id="parent-snapshot",
        anchors=("parent snapshot",),
        pattern=r"parent snapshot \S+ does not exist",
        says="A snapshot is to be made on a parent that the database does not have.",
        cause="garbage collection took the parent during a pull, or somebody removed a snapshot of the chain, or the "
        "databases disagree after a crash",
        fits=("broken-snapshot-chain", "snapshot-missing"),
        breaks="New containers of the image, and unpacking it.",
        fine=_BLOBS,
        do=(CHECK, "crictl rmi {image} && crictl pull {image}  # when no container needs it"),
        source="core/metadata/snapshot.go createSnapshot; github.com/containerd/containerd/issues/3787, /issues/10835",
    ),
    Known(
        id="snapshotter-not-loaded",
        anchors=("snapshotter not loaded", "no unpack platforms defined", "unable to initialize unpacker"),
        says="The daemon has no snapshotter of the name that was asked for.",
        cause="the snapshotter's plugin is not configured, failed to start, or its name is misspelt",
        sure=Sure.LIKELY,
        breaks="Pulls and containers that ask for this snapshotter.",
        fine="Those of other snapshotters.",
        do=("ctr plugins ls | grep snapshotter", "journalctl -u containerd | grep -i snapshotter"),
        source="plugins/services/snapshots/service.go getSnapshotter; core/unpack/unpacker.go NewUnpacker",
    ),
    Known(
        id="snapshot-gone",
        anchors=("failed to stat snapshot", "does not exist: not found", "target snapshot"),
        pattern=r"failed to stat snapshot sha\d+:[0-9a-f]+|snapshot [\\\"']*\S+ does not exist|"
        r"target snapshot [\s\S]*not found",
        says="A snapshot that an image or a container should have is not in the database.",
        cause="the snapshot was removed or collected while something still counted on it",
        fits=("snapshot-missing", "broken-snapshot-chain"),
        breaks="Starting containers of the image until it is unpacked again.",
        fine=_BLOBS,
        do=(CHECK, "ctr -n {namespace} images mount {image} /mnt && umount /mnt  # unpacks what is not unpacked"),
        source="core/metadata/snapshot.go Stat; core/unpack/unpacker.go; pkg/rootfs/apply.go",
    ),
    Known(
        id="snapshot-in-use",
        anchors=("cannot remove snapshot with child",),
        says="A snapshot is to be removed on which others are made.",
        cause="another image or a container uses the layer",
        breaks="Nothing: the refusal keeps them alive.",
        fine="Everything.",
        do=("auditor diagnose SNAPSHOT  # names those who hold it",),
        source="core/metadata/snapshot.go Remove; core/snapshots/storage/bolt.go Remove",
    ),
    Known(
        id="snapshot-exists",
        anchors=("already exists",),
        pattern=r"target snapshot [\\\"']*\S+: already exists|snapshot [\\\"']*\S+: already exists",
        says="A snapshot is to be made under a name that is taken.",
        cause="another pull made it meanwhile; or the chain below is broken, so that what is there cannot be built on",
        sure=Sure.POSSIBLE,
        fits=("broken-snapshot-chain", "snapshot-missing"),
        breaks="The pull or the container that was to use it.",
        fine=_BLOBS,
        do=(CHECK, "# pull again"),
        source="core/metadata/snapshot.go createSnapshot; core/unpack/unpacker.go; siderolabs/talos#3701",
    ),
)
