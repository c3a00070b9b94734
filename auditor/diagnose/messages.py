"""The messages that people bring, as containerd and its clients print them, with their causes and our sources.

The most telling comes first: a message that matches several entries is explained by the first. `anchor` is a piece of
the message without anything variable in it, so that a log can be searched at the speed of a substring.
"""

from __future__ import annotations

import enum
import re
from functools import cached_property

import msgspec


class Sure(enum.StrEnum):
    """How sure a cause is."""

    CERTAIN = "certain"
    LIKELY = "likely"
    POSSIBLE = "possible"


class Known(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """One message.

    `cause` is the most likely one where nothing else is known, `sure` how sure it is on the message alone. `do` are
    commands or steps, the safe one first; `{digest}`, `{image}` and `{namespace}` stand for what the message names.
    """

    id: str
    anchor: str
    pattern: str = ""
    says: str
    cause: str
    sure: Sure = Sure.LIKELY
    breaks: str
    fine: str = ""
    do: tuple[str, ...]
    source: str

    @cached_property
    def regex(self) -> re.Pattern[str]:
        """The whole pattern; the anchor where there is no other."""
        return re.compile(self.pattern or re.escape(self.anchor), re.IGNORECASE)


_CHECK = "auditor check -n {namespace} {image}"
_REPAIR = "auditor repair -n {namespace} {image} --dry-run"
_DISK = "dmesg -T | grep -iE 'i/o error|nvme|ata|ext4|xfs|btrfs' (read-only): what the kernel says of the disk"

MESSAGES: tuple[Known, ...] = (
    Known(
        id="empty-download",
        anchor="e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        says="Somewhere the digest of nothing at all was computed: a blob or a download with no bytes.",
        cause="a registry, proxy or mirror answered with an empty body, or a file was emptied by a power cut",
        breaks="The pull, and each later one that resumes from the same ingest.",
        fine="Images that are here already.",
        do=(
            "auditor check -n {namespace} finds stale ingests and emptied files",
            "pull past the proxy: curl -sSI the blob's address and look at Content-Length",
            "ctr -n {namespace} content ls; ctr -n {namespace} content abort REF drops a stale ingest",
        ),
        source="github.com/containerd/containerd/issues/3974, /issues/1893",
    ),
    Known(
        id="commit-digest",
        anchor="unexpected commit digest",
        says="The bytes that arrived do not hash to the digest that was asked for.",
        cause="a registry, proxy or mirror cut the download short or changed it, or a damaged ingest was resumed",
        breaks="The pull. Nothing wrong was stored: containerd refused the commit.",
        fine="Images that are here already.",
        do=(
            "auditor check -n {namespace} lists ingests that do not move",
            "ctr -n {namespace} content abort layer-{digest} drops what was resumed, then pull again",
            "pull past the proxy or mirror to see whether it is the one that cuts",
        ),
        source="plugins/content/local/writer.go Commit; github.com/containerd/containerd/issues/1893",
    ),
    Known(
        id="commit-size",
        anchor="failed size validation",
        pattern=r"failed size validation: \d+ != \d+|unexpected commit size",
        says="The download has another length than the descriptor says.",
        cause="the transfer was cut, by a proxy or a registry that ends the body early, or answers an error page",
        breaks="The pull. Nothing wrong was stored.",
        do=("pull again", "pull past the proxy or mirror to see whether it is the one that cuts"),
        source="core/metadata/content.go namespacedWriter.commit; github.com/containerd/containerd/issues/3974",
    ),
    Known(
        id="commit-size-writer",
        anchor="unexpected commit size",
        says="The download has another length than the descriptor says.",
        cause="the transfer was cut, by a proxy or a registry that ends the body early, or answers an error page",
        breaks="The pull. Nothing wrong was stored.",
        do=("pull again", "pull past the proxy or mirror to see whether it is the one that cuts"),
        source="plugins/content/local/writer.go Commit",
    ),
    Known(
        id="ghost-record",
        anchor="blob not found",
        pattern=r"blob (?:sha\d+:[0-9a-f]+ expected at \S+: blob )?not found",
        says="The database has a record of the blob, the disk has no file for it.",
        cause="a power cut (before containerd 2.2 the record was made durable, the rename of the blob was not), or "
        "the file was deleted by hand",
        sure=Sure.CERTAIN,
        breaks="Unpacking, exporting and pushing every image that uses the blob. Pulling again reports success and "
        "changes nothing.",
        fine="Containers that run, and images whose snapshots exist.",
        do=(_CHECK, _REPAIR, _DISK),
        source="plugins/content/local/store.go ReaderAt; github.com/containerd/containerd/issues/10457, /issues/12302",
    ),
    Known(
        id="missing-blob",
        anchor="content digest",
        pattern=r"content digest (?:\"|')?sha\d+:[0-9a-f]+(?:\"|')?: not found",
        says="This namespace has no record of a blob that is needed.",
        cause="the missing-blobs bug: the layer's snapshot existed already, so the pull skipped the download; or layers "
        "discarded by policy; or a platform that was never pulled",
        sure=Sure.LIKELY,
        breaks="Exporting, pushing, converting, committing, and unpacking for another snapshotter.",
        fine="Running the image from the snapshots that are here.",
        do=(_CHECK, "auditor tree -n {namespace} {image}", _REPAIR),
        source="core/metadata/content.go; github.com/containerd/containerd/issues/8973, moby/moby#49473",
    ),
    Known(
        id="blob-unknown-to-docker",
        anchor="unable to create manifests file",
        pattern=r"unable to create manifests file: NotFound|NotFound: content digest",
        says="docker save or push with the containerd image store needs a blob that namespace moby has no record of.",
        cause="the missing-blobs bug in docker's containerd store",
        breaks="docker save, docker push. docker save may even exit 0 with layers missing.",
        fine="Running containers of the image.",
        do=("auditor check -n moby", "auditor repair -n moby {image} --dry-run"),
        source="github.com/moby/moby/issues/49473, /issues/51665",
    ),
    Known(
        id="stat-parent",
        anchor="failed to stat parent",
        pattern=r"failed to stat parent: (?:l?stat )?\S+/snapshots/\d+/fs: no such file",
        says="A snapshot's folder is gone, though the snapshotter's database has the snapshot.",
        cause="somebody cleaned up below the snapshotter's root, or a crash lost the folder",
        sure=Sure.CERTAIN,
        breaks="New containers of every image above that layer, and pulls that build on it.",
        fine="Containers that are mounted already; the blobs.",
        do=(
            "auditor check -n {namespace} tells which images share the layer",
            "cordon the node; remove the images that share the layer with their containers, and pull them again",
        ),
        source="plugins/snapshots/overlay/overlay.go createSnapshot; github.com/containerd/containerd/issues/3369, "
        "/issues/7834",
    ),
    Known(
        id="parent-snapshot",
        anchor="parent snapshot",
        pattern=r"parent snapshot \S+ does not exist",
        says="A snapshot is to be made on a parent that the database does not have.",
        cause="garbage collection took the parent during a pull, or the two databases disagree after a crash",
        breaks="New containers of the image, and unpacking it.",
        fine="The blobs.",
        do=(_CHECK, "remove the image and pull it again; if that fails too, restart containerd and try once more"),
        source="core/metadata/snapshot.go createSnapshot; github.com/containerd/containerd/issues/3787, /issues/10835",
    ),
    Known(
        id="missing-parent-bucket",
        anchor="missing parent",
        pattern=r"missing parent \"?[^\"]*\"? (?:bucket|of snapshot)|missing parent: not found",
        says="The snapshotter's own database lacks the parent of a snapshot that containerd's database has.",
        cause="meta.db and the snapshotter's metadata.db disagree: a crash between their writes, or one restored "
        "without the other",
        breaks="New containers of the image, unpacking it, and often garbage collection.",
        fine="The blobs.",
        do=(_CHECK, "cordon the node, remove the image and its containers, pull it again"),
        source="core/snapshots/storage/bolt.go CreateSnapshot; github.com/containerd/containerd/issues/3671, "
        "/issues/2382",
    ),
    Known(
        id="rootfs-mismatch",
        anchor="mismatched image rootfs and manifest layers",
        says="The manifest has another number of layers than the config has diff_ids.",
        cause="the image is an artifact, an attestation or a cache and no container image; or it was published wrong",
        sure=Sure.LIKELY,
        breaks="Unpacking and running this image.",
        fine="All other images.",
        do=("auditor tree -n {namespace} {image} shows what it is made of", "ask the publisher for a container image"),
        source="client/image.go getLayers; github.com/containerd/containerd/issues/10196, kubernetes-sigs/kind#3479",
    ),
    Known(
        id="layer-count",
        anchor="number of layers and diffIDs don't match",
        says="The manifest has another number of layers than the config has diff_ids.",
        cause="the image is an artifact and no container image, or it was published wrong",
        breaks="Unpacking and running this image.",
        fine="All other images.",
        do=("auditor tree -n {namespace} {image} shows what it is made of", "ask the publisher for a container image"),
        source="core/unpack/unpacker.go unpack",
    ),
    Known(
        id="wrong-diff-id",
        anchor="wrong diff id",
        pattern=r"wrong diff id (?:\S+ )?calculated on extraction|unexpected layer digest",
        says="The layer decompressed to other bytes than the config's diffID.",
        cause="the image was built or published wrong, or the memory or the decompressor (unpigz) spoils bytes",
        breaks="Unpacking the image.",
        do=(
            "auditor check -n {namespace} --verify layers {image} says whether the blob or the machine is wrong",
            "if the blob is right here: test the memory; set CONTAINERD_DISABLE_PIGZ=1 and pull again",
        ),
        source="core/unpack/unpacker.go; pkg/rootfs/apply.go; github.com/containerd/containerd/issues/14084",
    ),
    Known(
        id="schema-1",
        anchor="schema 1",
        pattern=r"schema 1 (?:image manifests are no longer supported|not supported)|media-type: schema 1",
        says="The registry has the image only as a Docker schema 1 manifest.",
        cause="a very old image, or a registry or mirror that converts to schema 1",
        sure=Sure.CERTAIN,
        breaks="Pulling this image with containerd 2.1 and later.",
        fine="Images that are here already.",
        do=("pull it with an older client, or skopeo copy --format v2s2, and push it again as schema 2 or OCI",),
        source="core/transfer/local/pull.go; core/images/image.go validateMediaType",
    ),
    Known(
        id="schema-1-media-type",
        anchor="is no longer supported since containerd v2",
        says="The registry has the image only as a Docker schema 1 manifest.",
        cause="a very old image, or a registry or mirror that converts to schema 1",
        sure=Sure.CERTAIN,
        breaks="Pulling this image with containerd 2.0 and later.",
        fine="Images that are here already.",
        do=("pull it with an older client, or skopeo copy --format v2s2, and push it again as schema 2 or OCI",),
        source="client/pull.go fetch; core/remotes/docker/resolver.go",
    ),
    Known(
        id="media-type-confusion",
        anchor="media-type: expected",
        pattern=r"media-type: expected (?:manifest but found index|index but found manifest)",
        says="A document is an index under a manifest's type, or the reverse.",
        cause="the image was published so, by mistake or to deceive scanners",
        sure=Sure.CERTAIN,
        breaks="Every use of this image.",
        fine="All other images.",
        do=("auditor check -n {namespace} {image}", "ask the publisher"),
        source="core/images/image.go validateMediaType; advisory GHSA-5j5w-g665-5m35",
    ),
    Known(
        id="no-platform",
        anchor="no match for platform in manifest",
        says="The image has no manifest for the platform that was asked for, or that manifest is not here.",
        cause="the image is not published for this platform; or another platform of it was pulled",
        breaks="Pulling, running or exporting it for this platform.",
        fine="The platforms that are here.",
        do=(
            "auditor tree -n {namespace} {image} shows its platforms and which are here",
            "ctr -n {namespace} images pull --platform OS/ARCH {image}",
        ),
        source="core/images/image.go Manifest; core/images/handlers.go LimitManifests",
    ),
    Known(
        id="no-platform-shim",
        anchor="exec format error",
        says="A program in the image is for another architecture, or is an empty file.",
        cause="the image of another platform was pulled; or the snapshot's files were emptied by a power cut, which "
        "survives removing and pulling the image while anything shares the layer",
        sure=Sure.POSSIBLE,
        breaks="Containers of the image on this node.",
        fine="The same image on other nodes.",
        do=(
            "auditor tree -n {namespace} {image} shows which platform is here",
            "auditor check -n {namespace} --verify layers {image}: if the blobs are right, the snapshot is not",
            "remove every image that shares the layer, then pull again",
        ),
        source="github.com/containerd/containerd/issues/5854, home-assistant/supervisor#6555",
    ),
    Known(
        id="snapshot-not-found",
        anchor="failed to stat snapshot",
        pattern=r"failed to stat snapshot sha\d+:[0-9a-f]+|snapshot sha\d+:[0-9a-f]+ does not exist|"
        r"target snapshot .* not found",
        says="A snapshot that an image or a container should have is not in the database.",
        cause="the snapshot was removed or collected while something still counted on it",
        breaks="Starting containers of the image until it is unpacked again.",
        fine="The blobs.",
        do=(_CHECK, "ctr -n {namespace} images unpack {image}"),
        source="core/unpack/unpacker.go; pkg/rootfs/apply.go",
    ),
    Known(
        id="snapshot-does-not-exist",
        anchor="does not exist: not found",
        pattern=r"snapshot \S+ does not exist: not found",
        says="A snapshot that an image or a container should have is not in the database.",
        cause="the snapshot was removed or collected while something still counted on it",
        breaks="Starting containers of the image until it is unpacked again.",
        fine="The blobs.",
        do=(_CHECK, "ctr -n {namespace} images unpack {image}"),
        source="core/metadata/snapshot.go Stat",
    ),
    Known(
        id="layer-undecodable",
        anchor="failed to extract layer",
        pattern=r"failed to extract layer .*(?:gzip|zstd|magic number|flate|archive/tar|unexpected EOF|unpigz)",
        says="A layer could not be decompressed or is no tar.",
        cause="the blob is damaged on the disk, or was published so",
        breaks="Unpacking every image with this layer.",
        do=(
            "auditor check -n {namespace} --verify layers {image} says which of the two",
            _REPAIR,
            _DISK,
        ),
        source="core/unpack/unpacker.go; pkg/rootfs/apply.go applyLayers",
    ),
    Known(
        id="reader-from-content-store",
        anchor="failed to get reader from content store",
        says="A layer is to be unpacked and its blob cannot be opened.",
        cause="the blob has no record or no file: the missing-blobs bug, discarded layers, or a power cut",
        breaks="Unpacking the image, typically for another snapshotter or runtime class.",
        fine="Running it from snapshots that exist.",
        do=(_CHECK, _REPAIR),
        source="core/diff/apply/apply.go Apply; github.com/containerd/containerd/issues/13658",
    ),
    Known(
        id="short-read",
        anchor="failed to read expected number of bytes",
        pattern=r"failed to read expected number of bytes: unexpected EOF",
        says="A blob or a download ended before the size that its descriptor says.",
        cause="a transfer was cut; or the blob's file is shorter than its record",
        breaks="The copy that was under way.",
        do=(_CHECK, "pull again"),
        source="core/content/helpers.go Copy",
    ),
    Known(
        id="ref-locked",
        anchor="locked for",
        pattern=r"ref \S+ locked for \S+ \(since",
        says="Two clients download the same blob; one waits for the other.",
        cause="a pull is under way, or one that hangs still holds the ingest",
        breaks="The second pull, until the first ends.",
        fine="Everything that is here.",
        do=("wait for the other pull", "auditor check -n {namespace} -v shows the ingests and whether they move"),
        source="plugins/content/local/locks.go tryLock",
    ),
    Known(
        id="unauthorized",
        anchor="401 Unauthorized",
        pattern=r"401 Unauthorized|no basic auth credentials|authorization failed|insufficient_scope|"
        r"pull access denied",
        says="The registry wants other credentials, or there is no such repository.",
        cause="credentials are absent, expired or for another host; many registries say so for unknown repositories too",
        sure=Sure.CERTAIN,
        breaks="The pull, and repairing from this registry.",
        fine="Images that are here already.",
        do=(
            "try the credentials: skopeo inspect docker://{image}",
            "auditor repair --from namespace --from archive:PATH",
        ),
        source="core/remotes/docker/authorizer.go; core/remotes/docker/fetcher.go",
    ),
    Known(
        id="no-credentials",
        anchor="no basic auth credentials",
        says="The registry wants credentials, and none were given.",
        cause="no credentials are configured for this registry",
        sure=Sure.CERTAIN,
        breaks="The pull, and repairing from this registry.",
        fine="Images that are here already.",
        do=(
            "try the credentials: skopeo inspect docker://{image}",
            "auditor repair --from namespace --from archive:PATH",
        ),
        source="core/remotes/docker/authorizer.go",
    ),
    Known(
        id="access-denied",
        anchor="insufficient_scope",
        says="The registry does not let these credentials, or nobody's, see the repository.",
        cause="the repository does not exist, or is private",
        breaks="The pull, and repairing from this registry.",
        fine="Images that are here already.",
        do=("check the name", "try the credentials: skopeo inspect docker://{image}"),
        source="core/remotes/docker/authorizer.go",
    ),
    Known(
        id="not-in-registry",
        anchor="failed to resolve reference",
        pattern=r"failed to resolve reference .*: not found|failed to resolve reference",
        says="The registry does not have this name, or cannot be reached.",
        cause="the tag was deleted or never pushed, the name is misspelt, or the registry cannot be reached",
        breaks="The pull.",
        fine="Images that are here already.",
        do=("check the name and the network", "auditor check -n {namespace} tells whether what is here is whole"),
        source="client/pull.go fetch",
    ),
    Known(
        id="discarded-export",
        anchor="failed to export",
        pattern=r"failed to export.*not found|ctr: failed to get reader.*not found",
        says="An image cannot be exported, since blobs of it are not here.",
        cause="layers discarded by policy (EKS and GKE do), other platforms of the index, or the missing-blobs bug",
        breaks="Exporting from this node.",
        fine="Running the image.",
        do=(_CHECK, "ctr -n {namespace} images export --platform OS/ARCH FILE {image}", _REPAIR),
        source="core/images/archive/exporter.go; github.com/containerd/containerd/issues/9277, /issues/5895",
    ),
    Known(
        id="import-incomplete",
        anchor="unrecognized image format",
        says="The archive has neither index.json nor manifest.json.",
        cause="the file is no image archive, or its end, where they lie, was cut off",
        breaks="Importing the archive.",
        fine="The store: nothing was changed.",
        do=("auditor verify FILE says what the archive lacks",),
        source="core/images/archive/importer.go ImportIndex",
    ),
    Known(
        id="import-cut",
        anchor="unexpected EOF",
        says="A stream ended in the middle.",
        cause="a download, an archive or a blob was cut short",
        sure=Sure.POSSIBLE,
        breaks="What was being read.",
        do=("auditor verify FILE for an archive", _CHECK),
        source="github.com/containerd/containerd/issues/7543; Go's io.ErrUnexpectedEOF",
    ),
    Known(
        id="tar-header",
        anchor="archive/tar: invalid tar header",
        says="What should be a tar is something else.",
        cause="an archive was cut or compressed in another way, or a layer is damaged",
        breaks="Importing or unpacking it.",
        do=("auditor verify FILE for an archive", "auditor check -n {namespace} --verify layers {image}"),
        source="Go's archive/tar; github.com/containerd/containerd/issues/4634",
    ),
    Known(
        id="gzip-header",
        anchor="gzip: invalid header",
        says="What should be gzip is something else.",
        cause="a layer is damaged, or a proxy sent an error page in its place",
        breaks="Unpacking every image with this layer.",
        do=("auditor check -n {namespace} --verify layers {image}", _REPAIR),
        source="Go's compress/gzip; github.com/containerd/containerd/issues/13946",
    ),
    Known(
        id="zstd-magic",
        anchor="magic number mismatch",
        says="What should be zstd is something else.",
        cause="a layer is damaged, or its media type is wrong",
        breaks="Unpacking every image with this layer.",
        do=("auditor check -n {namespace} --verify layers {image}", _REPAIR),
        source="klauspost/compress zstd ErrMagicMismatch",
    ),
    Known(
        id="io-error",
        anchor="input/output error",
        says="The disk could not read or write.",
        cause="the disk, its cable or its controller fails",
        sure=Sure.CERTAIN,
        breaks="Whatever lies there; more will follow.",
        do=(_DISK, "auditor scrub finds what is lost already", "move the node's work elsewhere, replace the disk"),
        source="errno EIO; siderolabs/talos#13946",
    ),
    Known(
        id="structure-needs-cleaning",
        anchor="structure needs cleaning",
        says="The file system found itself damaged.",
        cause="a crash or a failing disk damaged the file system",
        sure=Sure.CERTAIN,
        breaks="Whatever lies there.",
        do=(_DISK, "drain the node, unmount the file system and run its fsck, then auditor scrub"),
        source="errno EUCLEAN",
    ),
    Known(
        id="disk-full",
        anchor="no space left on device",
        says="The file system is full.",
        cause="images, snapshots or logs have filled the disk",
        sure=Sure.CERTAIN,
        breaks="Pulls, and writes of containers.",
        fine="What is here and complete.",
        do=("df -h and df -i of containerd's root", "crictl rmi --prune removes images that no container uses"),
        source="errno ENOSPC",
    ),
    Known(
        id="socket-refused",
        anchor="connect: connection refused",
        pattern=r"(?:dial unix|containerd\.sock).*connection refused",
        says="The socket is there and no daemon listens.",
        cause="containerd is not running, or is starting and loading its database",
        sure=Sure.CERTAIN,
        breaks="Everything that needs containerd.",
        fine="Containers that run already: their shims live on.",
        do=("systemctl status containerd; journalctl -u containerd -n 100",),
        source="client/client.go New; github.com/containerd/containerd/issues/4838",
    ),
    Known(
        id="bolt",
        anchor="invalid freelist page",
        pattern=r"invalid freelist page|page \d+ already freed|invalid database|bolt.*(?:panic|assertion failed)|"
        r"unexpected fault address",
        says="A bolt database of containerd is damaged; the daemon cannot start.",
        cause="a crash or a failing disk damaged meta.db or a snapshotter's metadata.db",
        breaks="containerd itself.",
        fine="The blobs on the disk.",
        do=("stop containerd and copy its root before anything else", _DISK),
        source="go.etcd.io/bbolt issues 705 and 883; github.com/containerd/containerd/issues/9929",
    ),
    Known(
        id="already-exists-image",
        anchor="already exists",
        pattern=r"content sha\d+:[0-9a-f]+: already exists|snapshot \S+: already exists",
        says="A write found its target in place.",
        cause="harmless in itself: another pull was faster. It proves nothing about the bytes that are there",
        sure=Sure.POSSIBLE,
        breaks="Nothing.",
        do=("auditor check -n {namespace} --verify digests {image} proves the bytes",),
        source="core/metadata/content.go; plugins/content/local/writer.go",
    ),
    Known(
        id="image-not-found",
        anchor="not found",
        pattern=r"image \"?[^\"\s]+\"?: not found|No such image|failed to find image",
        says="The namespace has no image of this name.",
        cause="the image is in another namespace (CRI uses k8s.io, docker moby, ctr default), or was removed",
        sure=Sure.LIKELY,
        breaks="What was asked of this name.",
        do=("auditor check {image} looks in all namespaces", "crictl images; ctr -n k8s.io images ls"),
        source="core/metadata/images.go Get",
    ),
)


def recognise(text: str) -> tuple[Known, ...]:
    """The known messages in a text, the most telling first."""
    return tuple(known for known in MESSAGES if known.anchor.lower() in text.lower() and known.regex.search(text))
