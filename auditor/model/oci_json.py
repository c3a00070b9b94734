"""The JSON structures of OCI and Docker documents, with the field names of the specs and the types of containerd.

Every length that an attacker could choose is bounded. `null` equals an absent field, as in Go.
"""
# Annotations are no texts here: msgspec would take milliseconds of each start to evaluate the texts.

import re
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from types import UnionType
from typing import Annotated, Any, Final, TypeVar

import msgspec

from auditor.errors import InvalidDigest, MalformedDocument
from auditor.model.digest import Digest

#: Largest text that is decoded to objects that no structure bounds, in bytes: a small text can become a great many.
_MAX_FREE: Final = 1 << 20
#: Largest config of which the types of all fields are checked, in bytes.
_MAX_CHECKED: Final = 8 << 20

Text = Annotated[str, msgspec.Meta(max_length=4096)] | None
_AnyText = str | None
_Url = Annotated[str, msgspec.Meta(max_length=1 << 16)]
_Int64 = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
_Size = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
Annotations = dict[str, _AnyText]
#: A field whose presence alone matters, or that is checked apart.
_Raw = msgspec.Raw
NOTHING: Final = msgspec.Raw()
#: RFC 3339; a decoded time may still lack the letters that Go wants, see `_SHORTENED_TIME`.
_Time = Annotated[datetime, msgspec.Meta(tz=True)] | None


class PlatformFields(msgspec.Struct, forbid_unknown_fields=True):
    """`platform` of a descriptor; OCI image-spec, image-index.md."""

    os: Text = None
    architecture: Text = None
    variant: Text = None
    os_version: Text = msgspec.field(name="os.version", default=None)
    os_features: list[Text] | None = msgspec.field(name="os.features", default=None)
    #: Docker's manifest lists have it; of no meaning.
    features: _Raw = NOTHING


class _AnyDescriptor(msgspec.Struct, rename="camel", forbid_unknown_fields=True, kw_only=True):
    media_type: Text = None
    platform: PlatformFields | None = None
    annotations: Annotations | None = None
    urls: list[_Url] | None = None
    artifact_type: Text = None
    data: bytes | None = None


class DescriptorFields(_AnyDescriptor, kw_only=True):
    """A descriptor; descriptor.md."""

    digest: Digest
    size: _Size


class LooseDescriptorFields(_AnyDescriptor, kw_only=True):
    """The descriptor of a subject or of an index's child, of which containerd checks the types alone at first."""

    digest: _AnyText = None
    size: _Int64 | None = None


class IndexFields(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """An index; image-index.md."""

    manifests: list[LooseDescriptorFields | None] | None = None
    schema_version: int | None = None
    media_type: Text = None
    artifact_type: Text = None
    subject: LooseDescriptorFields | None = None
    annotations: Annotations | None = None
    config: _Raw = NOTHING
    layers: _Raw = NOTHING
    fs_layers: _Raw = NOTHING


class ManifestFields(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """A manifest; manifest.md."""

    config: DescriptorFields | None = None
    layers: list[DescriptorFields] | None = None
    schema_version: int | None = None
    media_type: Text = None
    artifact_type: Text = None
    subject: LooseDescriptorFields | None = None
    annotations: Annotations | None = None
    manifests: _Raw = NOTHING
    fs_layers: _Raw = NOTHING


class _RootFS(msgspec.Struct, forbid_unknown_fields=True):
    type: Text = None
    diff_ids: list[Digest] | None = None


class _Nothing(msgspec.Struct):
    """Go's `struct{}`: any object."""


_Set = dict[str, _Nothing | None]
_Texts = list[_AnyText]


class _Execution(msgspec.Struct, rename="pascal", forbid_unknown_fields=True):
    """`config` of a config: what containers are started with. The last fields are Docker's."""

    user: _AnyText = None
    exposed_ports: _Set | None = None
    env: _Texts | None = None
    entrypoint: _Texts | None = None
    cmd: _Texts | None = None
    volumes: _Set | None = None
    working_dir: _AnyText = None
    labels: Annotations | None = None
    stop_signal: _AnyText = None
    args_escaped: bool | None = None
    hostname: _Raw = NOTHING
    domainname: _Raw = NOTHING
    attach_stdin: _Raw = NOTHING
    attach_stdout: _Raw = NOTHING
    attach_stderr: _Raw = NOTHING
    tty: _Raw = NOTHING
    open_stdin: _Raw = NOTHING
    stdin_once: _Raw = NOTHING
    image: _Raw = NOTHING
    on_build: _Raw = NOTHING
    healthcheck: _Raw = NOTHING
    shell: _Raw = NOTHING


class _Step(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """An entry of a config's `history`."""

    created: _Time = None
    author: _AnyText = None
    created_by: _AnyText = None
    comment: _AnyText = None
    empty_layer: bool | None = None


class _AnyConfig(PlatformFields):
    """What configs of any size have. The last fields are Docker's, of no meaning here."""

    rootfs: _RootFS | None = None
    created: _Time = None
    author: _AnyText = None
    container: _Raw = NOTHING
    container_config: _Raw = NOTHING
    docker_version: _Raw = NOTHING
    id: _Raw = NOTHING
    parent: _Raw = NOTHING
    comment: _Raw = NOTHING


class ConfigFields(_AnyConfig):
    """A config; config.md. containerd reads all its fields, of which most are of no use here."""

    config: _Execution | None = None
    history: list[_Step | None] | None = None


class LargeConfigFields(_AnyConfig):
    """A config that may have more objects than there is memory for."""

    config: _Raw = NOTHING
    history: _Raw = NOTHING


class _AnyExecution(_Execution, forbid_unknown_fields=False):
    pass


class _AnyStep(_Step, forbid_unknown_fields=False):
    pass


def _decode_digest(_kind: type, value: object) -> Digest:
    """Decode a digest; Digest is the only custom type in these structures."""
    if not isinstance(value, str):
        raise ValueError("a digest is not a string")  # noqa: TRY004 - msgspec adds where it is to a ValueError
    try:
        return Digest.parse(value)
    except InvalidDigest as error:
        raise ValueError(error.message) from None


Fields = TypeVar("Fields", IndexFields, ManifestFields, ConfigFields, LargeConfigFields)


@cache
def _decoder(kind: type[Any] | UnionType) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind, dec_hook=_decode_digest)


#: The objects that are pointers in containerd's structures: `null` removes them.
_POINTERS: Final = frozenset({"platform", "subject"})


def decode(raw: bytes, kind: type[Fields], what: str) -> Fields:
    """Decode a document as containerd does.

    Args:
        raw: The document.
        kind: Its structure.
        what: The word for it in messages.

    Raises:
        MalformedDocument: It is no JSON, or a field has a wrong type.

    """
    try:
        return _as_containerd(_valid_unicode(raw), kind)
    except UnicodeDecodeError:
        return decode(raw.decode(errors="replace").encode(), kind, what)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise MalformedDocument(f"the {what} is not what its type says: {_words(error)}") from None


def decode_config(raw: bytes) -> ConfigFields | LargeConfigFields:
    """Decode a config.

    Of one over 1 MiB, known fields are checked only under their exact names in the objects that are of no use here; of
    one over 8 MiB, those objects are not checked.

    Raises:
        MalformedDocument: It is no JSON, or a field has a wrong type.

    """
    if len(raw) > _MAX_FREE:
        large = decode(raw, LargeConfigFields, "config")
        if len(raw) <= _MAX_CHECKED:
            _check_types(large)
        return large
    fields = decode(raw, ConfigFields, "config")
    if _SHORTENED_TIME.search(raw):
        raise MalformedDocument("the config is not what its type says: a time is not of RFC 3339")
    return fields


def _check_types(large: LargeConfigFields) -> None:
    for part, kind in ((large.config, _AnyExecution | None), (large.history, list[_AnyStep | None] | None)):
        try:
            _decoder(kind).decode(part or b"null")
        except (msgspec.DecodeError, RecursionError, ValueError) as error:
            raise MalformedDocument(f"the config is not what its type says: {_words(error)}") from None


#: Times that are RFC 3339 but for their letters; Go src/time/format_rfc3339.go `parseStrictRFC3339`.
_SHORTENED_TIME: Final = re.compile(rb'"created"\s*:\s*"[^"]{10}(?:[^T]|[^"]*z")')


def _as_containerd(raw: bytes, kind: type[Fields]) -> Fields:
    """Decode directly where each key is a field's own name, once; else by Go's rules."""
    decoder: msgspec.json.Decoder[Fields] = _decoder(kind)
    try:
        fields = decoder.decode(raw)
    except msgspec.ValidationError as error:
        if "field" not in str(error):  # an unknown one, or a required one is missing
            raise
    else:
        if not _repeated(raw, fields):
            return fields
    return decoder.decode(_as_go_reads(raw, kind) if len(raw) <= _MAX_FREE else _first_level(raw, kind))


def _as_go_reads(raw: bytes, kind: type[msgspec.Struct]) -> bytes:
    try:
        from auditor.model.go_json import as_go_reads  # noqa: PLC0415 - imports json; most documents do without
    except ValueError as error:  # from a damaged file, not from the document
        raise ImportError(str(error)) from error
    return as_go_reads(raw.decode(), kind, pointers=_POINTERS)


#: Letters that Go takes for `k` and `s` where case is disregarded: KELVIN SIGN and LATIN SMALL LETTER LONG S.
_LIKE_ASCII: Final = str.maketrans({"\u212a": "k", "\u017f": "s"})


def fold(key: str) -> str:
    """Return the form in which keys are equal but for case; Go src/encoding/json/fold.go `foldName`."""
    return key.translate(_LIKE_ASCII).lower()


def _first_level(raw: bytes, kind: type[msgspec.Struct]) -> bytes:
    """Return a large document without the unknown fields of its first level."""
    names = {fold(name): name for name in kind.__struct_encode_fields__}
    fields = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    return msgspec.json.encode({names[fold(key)]: value for key, value in fields.items() if fold(key) in names})


#: As a number: `in` looks for a byte without an exception of its own.
_BACKSLASH: Final = ord("\\")
#: An escape that stands for a letter.
_ESCAPED_LETTER: Final = rb"\\u00(?:[467][0-9a-fA-F]|5[0-9aA])"


def _repeated(raw: bytes, fields: IndexFields | ManifestFields | _AnyConfig) -> bool:
    """Whether a key may occur more often than it was decoded, of those whose last value is not all that counts."""
    if _BACKSLASH in raw and re.search(_ESCAPED_LETTER, raw):
        return True
    if isinstance(fields, _AnyConfig):
        return raw.count(b'"rootfs"') > 1
    if isinstance(fields, IndexFields):
        below = [each for each in fields.manifests or () if each is not None]
        platforms = sum([each.platform is not None for each in below])
        return (
            raw.count(b'"manifests"') > 1 or raw.count(b'"platform"') > platforms or _repeated_below(raw, fields, below)
        )
    own = [] if fields.config is None else [fields.config]
    return (
        raw.count(b'"layers"') > 1
        or raw.count(b'"config"') > len(own)
        or _repeated_below(raw, fields, [*own, *(fields.layers or ())])
    )


def _repeated_below(
    raw: bytes,
    fields: IndexFields | ManifestFields,
    below: Sequence[DescriptorFields | LooseDescriptorFields],
) -> bool:
    """Whether the subject, or a key of the document or its descriptors, may occur more often than it was decoded."""
    subjects = fields.subject is not None
    digests, sizes = (sum([getattr(each, name) is not None for each in below]) for name in ("digest", "size"))
    if raw.count(b'"digest"') > digests + subjects or raw.count(b'"size"') > sizes + subjects:
        return True
    types = sum([each.media_type is not None for each in below]) + (fields.media_type is not None)
    return raw.count(b'"subject"') > subjects or raw.count(b'"mediaType"') > types + subjects


def _valid_unicode(raw: bytes) -> bytes:
    """Replace invalid Unicode with U+FFFD as Go does: containerd runs images that contain it."""
    if _BACKSLASH in raw and (b"\\ud" in raw or b"\\uD" in raw):
        raw = re.sub(_ESCAPE, lambda found: _whole(found.group()), raw)
    return raw


#: One JSON escape, or a surrogate pair; an escaped backslash is consumed, so that it cannot begin another escape.
_ESCAPE = rb"(?s)\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[dD][89a-fA-F][0-9a-fA-F]{2}|.)"


def _whole(escape: bytes) -> bytes:
    return b"\\ufffd" if len(escape) == 6 else escape  # noqa: PLR2004 - a surrogate alone; a pair has twelve


def _words(error: Exception) -> str:
    text = str(error)
    return text if len(text) <= 200 else text[:197] + "..."  # noqa: PLR2004 - one line of a terminal or two
