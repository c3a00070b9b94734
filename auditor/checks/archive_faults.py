"""Rules about an archive as a container: its tar, its compression, its index."""

from __future__ import annotations

from auditor.checks.rule import Rule
from auditor.model.findings import Severity

TRUNCATED = Rule(
    code="archive-truncated",
    severity=Severity.CRITICAL,
    means="The file ends before the end-of-archive marker is complete, or its compressed stream ends early.",
    impact="The rest of the archive is lost; many importers load what is there and report success.",
    remedy="Write the archive again; `ctr images export` of 2.x can truncate its own output, `--local` avoids it.",
)
MALFORMED = Rule(
    code="archive-malformed",
    severity=Severity.CRITICAL,
    means="The file is not a tar archive, its compression is damaged, one of its documents cannot be read, it has more "
    "members than are read, or one of many empty files is a blob. Names and paths in manifest.json that importers "
    "refuse are an error, beside index.json a warning.",
    impact="Members behind the damage may not be found.",
    remedy="Write or download the archive again.",
)
TRAILING = Rule(
    code="archive-trailing-garbage",
    severity=Severity.ERROR,
    means="There are non-zero bytes after the end of the archive; behind the data of a member they are a warning.",
    impact="The file holds two archives, or a longer file was overwritten: readers disagree on what is inside.",
    remedy="Write the archive again to a new file.",
)
UNSAFE = Rule(
    code="archive-unsafe-member",
    severity=Severity.ERROR,
    means="A member is not a plain file or folder below the archive's root: a name that leads out, a link whose "
    "target is absent, outside or (hard links) further down, a sparse, contiguous or special file, a name that is not "
    "UTF-8. A name that is absolute, has `..` in it, or has a part of more than 255 bytes is a warning, and so are a "
    "symbolic link to nothing inside an OCI archive, and a blob that is a link.",
    impact="Importers skip such members, fail on them, or write outside their folder.",
    remedy="Do not unpack the archive; find out where it came from, and write it again.",
)
DUPLICATE = Rule(
    code="archive-duplicate-member",
    severity=Severity.ERROR,
    means="Two members have the same name, or index.json gives one name to several images. Members with equal bytes "
    "are a warning.",
    impact="Some readers take the first and some the last, so the verified bytes may not be the loaded ones.",
    remedy="Write the archive again.",
)
INCOMPLETE = Rule(
    code="archive-incomplete",
    severity=Severity.CRITICAL,
    means="A part that makes it an image archive is missing: oci-layout, index.json, an image in it, what "
    "manifest.json names, a blob whose descriptor has inline data, or a part of an attestation. An absent oci-layout "
    "is a warning where manifest.json has the names of index.json.",
    impact="Importers refuse the archive, or load an image without its layers.",
    remedy="Write the archive again from a store that has the complete image.",
)
DISAGREE = Rule(
    code="archive-manifests-disagree",
    severity=Severity.ERROR,
    means="manifest.json and index.json describe different images.",
    impact="`docker load` and `ctr images import` would load different images from the same file.",
    remedy="Write the archive again with one tool.",
)
MISNAMED = Rule(
    code="archive-misnamed",
    severity=Severity.INFO,
    means="The file's name ends as that of another compression than it has.",
    impact="No fault: importers look at the content. Scripts and `tar` options that go by the name fail.",
    remedy="Rename the file.",
)
COMPRESSION = Rule(
    code="archive-compression",
    severity=Severity.WARNING,
    means="The archive is compressed with xz or bzip2, or with zstd behind a skippable frame, as pzstd writes it.",
    impact="docker, podman and skopeo load xz and bzip2; `ctr images import` fails with `invalid tar header` on every "
    "release. podman and skopeo refuse the skippable frame.",
    remedy="Unpack it on the way: `xz -dc FILE | ctr images import -`, `bzip2 -dc FILE | ctr images import -`, "
    "`zstd -dc FILE | podman load`.",
)
PLATFORM = Rule(
    code="archive-platform-mismatch",
    severity=Severity.WARNING,
    means="An index gives a manifest another operating system or architecture than its config has, or writes it in "
    "another way than Go does, such as `x86_64`, or without a system. Without an architecture it is an error.",
    impact="`ctr images import`, podman and skopeo go by the index: nodes of the config's platform refuse the image, "
    "those of the index's platform run programs of another one. `docker load` with its own store goes by the config. "
    "podman and skopeo do not find `x86_64`, containerd and docker do. Without an architecture `ctr images import` "
    "finds nothing to load; only 2.x without `--local` loads it, below a nested index.",
    remedy="Build the image again with the right `--platform`.",
)
UNNAMED = Rule(
    code="archive-unnamed",
    severity=Severity.INFO,
    means="index.json gives none of its images a name, or manifest.json where there is no index.json.",
    impact="`ctr images import` ends with 0 and has loaded no image. Loaders that take the only image load it.",
    remedy="`ctr images import --digests --base-name REPOSITORY FILE` names the images by their digests.",
)
RULES = (
    MISNAMED,
    UNNAMED,
    COMPRESSION,
    PLATFORM,
    TRUNCATED,
    MALFORMED,
    TRAILING,
    UNSAFE,
    DUPLICATE,
    INCOMPLETE,
    DISAGREE,
)
