"""Each known message has a source, real words that it is known by, and no other entry that takes them away."""

from __future__ import annotations

import re

import pytest

from auditor import checks
from auditor.archive.problems import FAULTS
from auditor.diagnose.extract import asked, search
from auditor.diagnose.messages import MESSAGES, RANK, Known, Sure, recognise

A, B = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"
NOTHING = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
ROOT = "/var/lib/containerd"
FILE = f"{ROOT}/io.containerd.content.v1.content/blobs/sha256/{'a' * 64}"
SNAP = f"{ROOT}/io.containerd.snapshotter.v1.overlayfs/snapshots"
PULL = 'rpc error: code = Unknown desc = failed to pull and unpack image "docker.io/library/x:1": '

# As programs print them; digests and names are shortened to what is constant.
SAMPLES = {
    "disk-full": [f"{PULL}failed to copy: failed to send write: write {ROOT}/ingest/data: no space left on device"],
    "io-error": [f"ctr: failed to copy to tar: rpc error: code = Unknown desc = read {FILE}: input/output error"],
    "file-system-damaged": [f"open {FILE}: structure needs cleaning", f"read {FILE}: bad message"],
    "read-only": [f"{PULL}open {ROOT}/ingest/data: read-only file system"],
    "bolt": [
        "panic: invalid freelist page: 0, page type is unknown<00>",
        "panic: page 47 already freed",
        'level=fatal msg="failed to open /var/lib/containerd/io.containerd.metadata.v1.bolt/meta.db: invalid database"',
        "panic: assertion failed: Page expected to be: 128, but self identifies as 0",
    ],
    "cri-not-loaded": [
        "rpc error: code = Unimplemented desc = unknown service runtime.v1.ImageService",
        "getting status of runtime: rpc error: code = Unimplemented desc = unknown service runtime.v1alpha2.RuntimeService",
    ],
    "daemon-down": [
        "ctr: cannot access socket /run/containerd/containerd.sock: stat: no such file or directory",
        'ctr: failed to dial "/run/containerd/containerd.sock": context deadline exceeded: connection error: desc = '
        '"transport: error while dialing: dial unix:///run/containerd/containerd.sock: timeout"',
        'validate service connection: rpc error: code = Unavailable desc = connection error: desc = "transport: Error '
        'while dialing: dial unix /run/containerd/containerd.sock: connect: connection refused"',
        "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
    ],
    "socket-denied": [
        'ctr: failed to dial "/run/containerd/containerd.sock": connection error: desc = "transport: error while '
        'dialing: dial unix /run/containerd/containerd.sock: connect: permission denied"'
    ],
    "name-reserved": ['Error: failed to reserve container name "web_web-0_default_1_0": name is reserved for "6a37"'],
    "archive-blob-cut": [
        f'ctr: failed to ingest "blobs/sha256/{"a" * 64}": short read: expected 9 bytes but got 0: unexpected EOF',
        f'ctr: failed to ingest "blobs/sha256/{"a" * 64}": failed to read expected number of bytes: unexpected EOF',
    ],
    "archive-unknown": ["ctr: unrecognized image format", "ctr: missing index.json in OCI layout 1.0.0"],
    "archive-not-tar": ["ctr: archive/tar: invalid tar header"],
    "ghost-record": [f"ctr: failed to get reader: blob {A} expected at {FILE}: blob not found: not found"],
    "copied-empty": [f"ctr: unexpected digest {NOTHING} copied"],
    "copied-wrong": [f"ctr: unexpected digest {A} copied"],
    "missing-for-unpack": [
        f"{PULL}failed to extract layer {B}: failed to get reader from content store: content digest {A}: not found"
    ],
    "missing-to-docker": [f"Error response from daemon: unable to create manifests file: NotFound: content digest {A}: x"],
    "missing-blob": [
        f"ctr: failed to get reader: content digest {A}: not found",
        f"ctr: content digest {A}: not found",
        f'level=error msg="content digest \\"{A}\\": not found"',
    ],
    "wrong-diff-id": [
        f'ctr: wrong diff id calculated on extraction "{A}"',
        f'{PULL}wrong diff id "{A}" calculated on extraction "{B}", desc "{A}"',
    ],
    "layer-not-tar": [
        f"ctr: failed to extract layer {A}: mount callback failed on /tmp/x: archive/tar: invalid tar header: unknown"
    ],
    "layer-undecodable": [
        f"ctr: failed to extract layer {A}: gzip: invalid checksum: unknown",
        f'ctr: failed to extract layer (application/vnd.oci.image.layer.v1.tar+gzip {A}) to overlayfs as "extract-1 '
        f'{B}": unexpected EOF',
    ],
    "gzip-damaged": ["ctr: gzip: invalid header", "error: flate: corrupt input before offset 61"],
    "zstd-damaged": ["invalid input: magic number mismatch"],
    "empty-download": [
        f'{PULL}failed commit on ref "layer-{A}": unexpected commit digest {NOTHING}, expected {A}: failed precondition'
    ],
    "commit-digest": [f'ctr: failed commit on ref "layer-{A}": unexpected commit digest {B}, expected {A}: failed'],
    "commit-size": [f'{PULL}failed commit on ref "layer-{A}": "layer-{A}" failed size validation: 12 != 7: failed'],
    "range-refused": [
        "ctr: failed to copy: httpReadSeeker: failed open: unexpected status code "
        f"http://registry/v2/x/blobs/{A}: 416 Requested Range Not Satisfiable"
    ],
    "short-download": [
        f"{PULL}failed to read expected number of bytes: unexpected EOF",
        "ctr: short read: expected 285 bytes but got 0: unexpected EOF",
        "ctr: failed to copy: httpReadSeeker: failed open: failed to discard to offset: unexpected EOF",
    ],
    "blob-gone-from-registry": [
        "ctr: failed to copy: httpReadSeeker: failed open: could not fetch content descriptor "
        f"{A} (application/vnd.oci.image.layer.v1.tar+gzip) from remote: not found"
    ],
    "rate-limited": [
        f"{PULL}failed to copy: httpReadSeeker: failed open: unexpected status code https://registry-1.docker.io/v2/x: "
        "429 Too Many Requests - Server message: toomanyrequests: You have reached your pull rate limit"
    ],
    "unauthorized": [
        f"{PULL}failed to resolve reference: pull access denied, repository does not exist or may require "
        "authorization: authorization failed: no basic auth credentials",
        'ctr: failed to resolve reference "r/x:1": pulling from host r failed with status code [manifests 1]: 401 '
        "Unauthorized",
        "ctr: failed to resolve image: unexpected status from HEAD request to http://r/v2/x/manifests/1: 403 Forbidden",
        f"{PULL}failed to authorize: failed to fetch anonymous token: unexpected status: 403 Forbidden",
    ],
    "certificate": [
        f'{PULL}failed to do request: Head "https://r/v2/x/manifests/1": tls: failed to verify certificate: x509: '
        "certificate signed by unknown authority"
    ],
    "http-to-https": [
        f'{PULL}failed to do request: Head "https://r/v2/x/manifests/1": http: server gave HTTP response to HTTPS client',
        f'{PULL}failed to do request: Head "https://r/x": tls: first record does not look like a TLS handshake',
    ],
    "name-resolution": [f'{PULL}failed to do request: Head "https://r/x": dial tcp: lookup r on 10.0.0.1:53: no such host'],
    "registry-unreachable": [
        f'{PULL}failed to do request: Head "https://r/x": dial tcp 10.0.0.1:443: connect: connection refused',
        f'{PULL}failed to do request: Get "https://r/x": dial tcp 10.0.0.1:443: i/o timeout',
        'ctr: failed to copy: httpReadSeeker: failed open: failed to do request: Get "http://r/v2/x": EOF',
    ],
    "registry-broken": [
        'ctr: failed to resolve reference "r/x:1": unexpected status from HEAD request to http://r/x: 500 Internal '
        "Server Error",
        "ctr: failed to copy: httpReadSeeker: failed open: unexpected status code http://r/x: 502 Bad Gateway",
    ],
    "not-in-registry": [
        'ctr: failed to resolve reference "r/x:1": r/x:1: not found',
        "ctr: failed to resolve image: r/x:1: not found",
        "Error response from daemon: manifest for x:nope not found: manifest unknown: manifest unknown",
    ],
    "ref-locked": [f"{PULL}ref k8s.io/1/layer-{A} locked for 35.2s (since 2026-01-01 10:00:00 +0000 UTC): unavailable"],
    "stat-parent": [
        f'{PULL}failed to prepare extraction snapshot "extract-1 {A}": failed to stat parent: stat {SNAP}/2/fs: no such '
        "file or directory",
        "ctr: failed to mount /tmp/containerd-mount1: no such file or directory",
    ],
    "snapshot-folder-in-the-way": [
        f'ctr: failed to prepare extraction snapshot "extract-1 {A}": failed to rename: rename {SNAP}/new-1 {SNAP}/1: '
        "file exists: unknown"
    ],
    "missing-parent-bucket": [
        f'ctr: failed to create snapshot: missing parent "k8s.io/2/{A}" bucket: not found',
    ],
    "parent-snapshot": [f"ctr: parent snapshot {A} does not exist: not found"],
    "snapshotter-not-loaded": [
        f"ctr: failed to stat snapshot {A}: snapshotter not loaded: nydus: invalid argument",
        "ctr: unable to initialize unpacker: no unpack platforms defined: invalid argument",
    ],
    "snapshot-gone": [f"ctr: snapshot {A} does not exist: not found", f"failed to stat snapshot {A}: not found"],
    "snapshot-in-use": [f'ctr: failed to remove "{A}": cannot remove snapshot with child: failed precondition'],
    "snapshot-exists": [
        f'{PULL}unable to prepare extraction snapshot: target snapshot "{A}": already exists',
        f'ctr: snapshot "{A}": already exists',
    ],
    "document-unusable": [
        f"ctr: children: invalid desc {A}: unexpected end of JSON input",
        f"{PULL}unmarshal image config: invalid character '|' after object key:value pair",
        "ctr: error unpacking image: failed to resolve rootfs: unexpected EOF",
    ],
    "rootfs-mismatch": ["ctr: mismatched image rootfs and manifest layers"],
    "layer-count": [f"{PULL}number of layers and diffIDs don't match: 2 != 1"],
    "schema-1": [
        "ctr: schema 1 image manifests are no longer supported: invalid argument",
        'ctr: not implemented: media type "application/vnd.docker.distribution.manifest.v1+prettyjws" is no longer '
        "supported since containerd v2.1, please rebuild the image",
        "ctr: no signatures",
    ],
    "media-type-confusion": [f"ctr: manifest: invalid desc {A}: media-type: expected manifest but found index (x)"],
    "no-platform": [
        f"ctr: no match for platform in manifest {A}: not found",
        "ctr: no manifest found for platform: not found",
        "Error response from daemon: no matching manifest for linux/arm64/v8 in the manifest list entries",
    ],
    "exec-format": ["exec /bin/true: exec format error"],
    "program-not-found": [
        "ctr: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container "
        'process: exec: "/bin/true": stat /bin/true: no such file or directory: unknown'
    ],
    "json-damaged": [
        "ctr: unexpected end of JSON input",
        "ctr: invalid character '#' looking for beginning of value",
    ],
    "image-not-found": ['ctr: image "docker.io/library/x:1": not found', "Error: No such image: x:1"],
    "export-failed": ["ctr: failed to export: something else went wrong"],
    "unexpected-end": ["ctr: unexpected EOF"],
    "already-exists": [f"content {A}: already exists"],
    "deadline": ["rpc error: code = DeadlineExceeded desc = context deadline exceeded"],
}  # fmt: skip


def test_at_least_twenty_five_messages_are_known_and_each_has_its_words_here() -> None:
    assert len(MESSAGES) >= 25
    assert set(SAMPLES) == {known.id for known in MESSAGES}
    assert len(RANK) == len(MESSAGES)


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in SAMPLES.items() for text in texts])
def test_real_words_are_known_by_their_own_entry(name: str, text: str) -> None:
    found = recognise(text)
    assert found, text
    assert found[0].id == name, [known.id for known in found]


@pytest.mark.parametrize("entry", MESSAGES, ids=lambda known: known.id)
def test_each_entry_is_whole(entry: Known) -> None:
    assert entry.source
    assert re.search(r"\.go\b|github\.com|#\d|errno|bbolt|Go's|runc|klauspost|cmd/containerd", entry.source)
    assert entry.says.endswith(".")
    assert not entry.cause.endswith(".")
    assert entry.do
    assert entry.breaks
    codes = {rule.code for rule in checks.RULES} | {fault.code for fault in FAULTS}
    assert set(entry.fits) <= codes


def test_a_log_finds_each_message_too() -> None:
    """The anchors that a log is searched by must be in whatever the pattern knows."""
    for name, texts in SAMPLES.items():
        for text in texts:
            found = search([b"nothing here\n" * 3 + text.encode() + b"\nnor here\n"])
            if name in {"image-not-found", "already-exists", "snapshot-exists"}:
                continue  # made of words that every log is full of
            assert found.known, text
            assert found.known[0].id == name, text


def test_only_what_is_its_own_proof_is_certain() -> None:
    certain = {known.id for known in MESSAGES if known.sure is Sure.CERTAIN}
    assert certain == {
        "disk-full", "io-error", "file-system-damaged", "read-only", "socket-denied", "rate-limited", "name-resolution",
    }  # fmt: skip


def test_case_and_wrapping_do_not_matter() -> None:
    assert recognise("CONTENT DIGEST " + A + ": NOT FOUND")
    wrapped = f'E0101 kubelet[7]: "Failed" err="failed to get reader: content digest {A}: not found" pod="x/y"'
    assert asked(wrapped).known[0].id == "missing-blob"
