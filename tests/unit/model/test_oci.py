"""Documents are hostile input: whatever the bytes, a document within the limits or MalformedDocument."""

from __future__ import annotations

import base64
import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from auditor.errors import DocumentTooLarge, MalformedDocument
from auditor.model import oci
from auditor.model.digest import HEX_LENGTH, Digest
from auditor.model.oci import Descriptor, Document, ImageConfig, Index, Manifest
from auditor.model.platforms import Platform

ONE, TWO, THREE = (Digest.of(bytes([n])) for n in range(3))
TYPES = sorted(oci.INDEX_TYPES | oci.MANIFEST_TYPES | oci.CONFIG_TYPES | oci.SCHEMA1_TYPES | {"text/plain", ""})
KINDS = {oci.OCI_INDEX: Index, oci.OCI_MANIFEST: Manifest, oci.OCI_CONFIG: ImageConfig}

LAYER = {"mediaType": f"{oci.OCI_LAYER}+gzip", "digest": TWO, "size": 7}
MANIFEST: dict[str, Any] = {
    "schemaVersion": 2,
    "mediaType": oci.OCI_MANIFEST,
    "config": {"mediaType": oci.OCI_CONFIG, "digest": ONE, "size": 9},
    "layers": [LAYER, {**LAYER, "digest": THREE, "urls": ["https://example.com/x"]}],
    "annotations": {"org.opencontainers.image.created": "2024-01-01T00:00:00Z"},
}
INDEX: dict[str, Any] = {
    "schemaVersion": 2,
    "mediaType": oci.OCI_INDEX,
    "manifests": [
        {
            "mediaType": oci.OCI_MANIFEST,
            "digest": ONE,
            "size": 3,
            "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"},
        },
        {
            "mediaType": oci.OCI_MANIFEST,
            "digest": TWO,
            "size": 4,
            "platform": {"os": "unknown", "architecture": "unknown"},
            "annotations": {"vnd.docker.reference.type": "attestation-manifest"},
        },
    ],
}
CONFIG: dict[str, Any] = {
    "os": "linux",
    "architecture": "amd64",
    "config": {"Env": ["A=b"]},
    "rootfs": {"type": "layers", "diff_ids": [ONE, TWO]},
    "history": [{"created_by": "sh"}],
}
REAL = {oci.OCI_INDEX: INDEX, oci.OCI_MANIFEST: MANIFEST, oci.OCI_CONFIG: CONFIG}


def dump(value: object) -> bytes:
    return json.dumps(value).encode()


def walked(document: Document) -> list[Descriptor]:
    match document:
        case Index():
            return list(document.manifests)
        case Manifest():
            return [document.config, *document.layers]
        case _:
            return []


def attempted(raw: bytes, media_type: str) -> Document | MalformedDocument:
    try:
        return oci.parse(raw, media_type)
    except MalformedDocument as error:
        return error


def parsed(raw: bytes, media_type: str) -> Document | None:
    """Parse as an audit does, and check whatever comes back against the limits; None for what is refused in words."""
    document = attempted(raw, media_type)
    if isinstance(document, MalformedDocument):
        assert 0 < len(document.message) < 500
        return None
    for descriptor in walked(document):
        Digest.parse(descriptor.digest)
        assert 0 <= descriptor.size < 1 << 63
        assert isinstance(descriptor.attestation, bool)
    assert len(walked(document)) <= oci.MAX_CHILDREN
    if isinstance(document, ImageConfig):
        assert len(oci.chain_ids(document.diff_ids)) == len(document.diff_ids) <= oci.MAX_LAYERS
    return document


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=10**30)
    | st.floats()
    | st.text()
    | st.sampled_from(["\0", "\ud800", "\U0001f4a9", "a" * 5000, ONE, TYPES[1], -1, 1 << 63, 1.5]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@st.composite
def mutated(draw: st.DrawFn) -> tuple[str, bytes]:
    """A real document with some of its values replaced, dropped or given twice."""
    media_type = draw(st.sampled_from(sorted(REAL)))
    value = json.loads(dump(REAL[media_type]))
    for _ in range(draw(st.integers(1, 3))):
        _mutate(draw, value)
    raw = dump(value)
    if draw(st.booleans()):
        raw = raw.replace(b'"digest"', b'"digest": 5, "digest"', 1)
    return media_type, raw


def _mutate(draw: st.DrawFn, value: Any) -> None:
    while isinstance(value, dict | list) and value:
        at: Any = draw(st.sampled_from(sorted(value) if isinstance(value, dict) else range(len(value))))
        deeper = isinstance(value[at], dict | list) and value[at] and draw(st.booleans())
        if not deeper:
            if draw(st.booleans()):
                value[at] = draw(JUNK)
            else:
                del value[at]
            return
        value = value[at]


@given(st.binary(), st.sampled_from(TYPES))
@example(b"\xef\xbb\xbf{}", oci.OCI_INDEX)
@example(b"", oci.OCI_CONFIG)
@example(b"null", oci.OCI_MANIFEST)
@example(b"[" * 200_000, oci.OCI_MANIFEST)
@example(b'{"config":' * 50_000, oci.OCI_MANIFEST)
@example(b'{"x":' + b"[" * 200_000, oci.OCI_CONFIG)
@example(b'{"layers":' + b"[" * 200_000, oci.OCI_INDEX)
@example(b'{"manifests":[{"size":' + b"9" * 5000 + b"}]}", oci.OCI_INDEX)
@example(b'{"os":"\xed\xa0\x80"}', oci.OCI_CONFIG)
def test_any_bytes_are_a_document_or_malformed(raw: bytes, media_type: str) -> None:
    parsed(raw, media_type)


@given(JUNK, st.sampled_from(TYPES))
def test_any_json_is_a_document_or_malformed(value: object, media_type: str) -> None:
    parsed(dump(value), media_type)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(mutated())
def test_a_mutated_document_is_a_document_or_malformed(case: tuple[str, bytes]) -> None:
    media_type, raw = case
    document = parsed(raw, media_type)
    assert document is None or isinstance(document, KINDS[media_type])


@given(st.sampled_from(sorted(REAL)), st.data())
def test_a_document_cut_short_is_malformed(media_type: str, data: st.DataObject) -> None:
    raw = dump(REAL[media_type])
    cut = data.draw(st.integers(0, len(raw) - 1))
    assert parsed(raw[:cut], media_type) is None


@given(st.sampled_from(sorted(REAL)), st.data())
def test_a_flipped_byte_never_gives_another_exception(media_type: str, data: st.DataObject) -> None:
    raw = bytearray(dump(REAL[media_type]))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    parsed(bytes(raw), media_type)


def test_a_manifest_says_what_it_names() -> None:
    manifest = oci.parse(dump(MANIFEST), oci.OCI_MANIFEST)
    assert isinstance(manifest, Manifest)
    assert manifest.names_image
    assert [layer.digest for layer in manifest.layers] == [TWO, THREE]
    assert manifest.layers[1].urls == ("https://example.com/x",)
    assert (manifest.config.size, manifest.layers[0].size) == (9, 7)


def test_an_index_says_what_it_names() -> None:
    index = oci.parse(dump(INDEX), oci.DOCKER_INDEX)
    assert isinstance(index, Index)
    assert [child.attestation for child in index.manifests] == [False, True]
    assert index.manifests[0].platform == Platform("linux", "arm64")


def test_a_config_says_what_the_auditor_needs() -> None:
    config = oci.parse(dump(CONFIG), oci.DOCKER_CONFIG)
    assert config == ImageConfig(Platform("linux", "amd64"), (ONE, TWO))


@pytest.mark.parametrize(
    ("raw", "media_type"),
    [
        (dump({**MANIFEST, "manifests": []}), oci.OCI_MANIFEST),
        (dump({**MANIFEST, "manifests": None}), oci.OCI_MANIFEST),
        (dump({**MANIFEST, "mediaType": oci.DOCKER_INDEX}), oci.OCI_MANIFEST),
        (dump({**MANIFEST, "fsLayers": [{"blobSum": ONE}]}), oci.OCI_MANIFEST),
        (dump({**MANIFEST, "config": None}), oci.OCI_MANIFEST),
        (dump({**INDEX, "config": {}}), oci.OCI_INDEX),
        (dump({**INDEX, "layers": []}), oci.OCI_INDEX),
        (dump({**INDEX, "mediaType": oci.OCI_MANIFEST}), oci.DOCKER_INDEX),
        (dump({**INDEX, "fsLayers": []}), oci.DOCKER_INDEX),
        (dump(MANIFEST), oci.OCI_INDEX),
        (dump(INDEX), oci.OCI_MANIFEST),
        (dump({**MANIFEST, "layers": [{**LAYER, "size": -1}]}), oci.OCI_MANIFEST),
        (dump({**MANIFEST, "layers": [{**LAYER, "size": 1 << 63}]}), oci.OCI_MANIFEST),
        (dump({**MANIFEST, "layers": [{**LAYER, "digest": "sha256:../../x"}]}), oci.OCI_MANIFEST),
        (dump({**MANIFEST, "layers": [{**LAYER, "digest": f"sha256:{'A' * 64}"}]}), oci.OCI_MANIFEST),
        (dump({**CONFIG, "rootfs": {"diff_ids": [ONE, "sha256:1"]}}), oci.OCI_CONFIG),
        (dump(MANIFEST), min(oci.SCHEMA1_TYPES)),
        (dump(MANIFEST), "text/plain"),
        (dump(MANIFEST) + b"x", oci.OCI_MANIFEST),
    ],
)
def test_what_containerd_would_refuse_is_malformed(raw: bytes, media_type: str) -> None:
    assert parsed(raw, media_type) is None


@pytest.mark.parametrize(
    ("value", "media_type"),
    [
        ({**MANIFEST, "mediaType": None, "annotations": None, "layers": [{**LAYER, "urls": None}]}, oci.OCI_MANIFEST),
        ({**MANIFEST, "annotations": {"a": None}, "subject": None}, oci.OCI_MANIFEST),
        ({"manifests": None}, oci.OCI_INDEX),
        ({"rootfs": None, "variant": None, "os.features": None}, oci.OCI_CONFIG),
        ({"rootfs": {"type": None, "diff_ids": None}}, oci.OCI_CONFIG),
        ({}, oci.OCI_CONFIG),
        ({**CONFIG, "unknown": {"deep": [[[]]]}}, oci.OCI_CONFIG),
    ],
)
def test_null_and_unknown_fields_are_as_absent_as_they_are_to_containerd(value: object, media_type: str) -> None:
    assert parsed(dump(value), media_type) is not None


@pytest.mark.parametrize("text", [r'"\ud83d"', r'"\udc00\ud800 x"', r'"\uD800\\udc00"', r'"a\\ud800"', '"\xff\xfe"'])
def test_text_that_is_no_unicode_does_not_make_an_image_malformed(text: str) -> None:
    body = dump(CONFIG)[:-1] + b', "os.version": ' + text.encode("latin-1") + b', "author": ' + text.encode("latin-1")
    config = oci.parse(body + b"}", oci.OCI_CONFIG)
    assert isinstance(config, ImageConfig)
    assert config.diff_ids == (ONE, TWO)
    config.platform.os_version.encode()


def test_a_pair_of_surrogates_and_an_escaped_backslash_stay_what_they_are() -> None:
    config = oci.parse(rb'{"os.version": "\ud83d\udca9 \\ud800 \ud800"}', oci.OCI_CONFIG)
    assert isinstance(config, ImageConfig)
    assert config.platform.os_version == "\U0001f4a9 \\ud800 \ufffd"


def test_of_a_key_given_twice_the_last_counts_as_in_containerd() -> None:
    config = oci.parse(b'{"os": "plan9", "os": "linux"}', oci.OCI_CONFIG)
    assert isinstance(config, ImageConfig)
    assert config.platform.os == "linux"


@pytest.mark.parametrize(
    ("limit", "value", "media_type"),
    [
        (oci.MAX_CHILDREN, lambda n: {"manifests": [LAYER] * n}, oci.OCI_INDEX),
        (oci.MAX_LAYERS, lambda n: {**MANIFEST, "layers": [LAYER] * n}, oci.OCI_MANIFEST),
        (oci.MAX_LAYERS, lambda n: {"rootfs": {"diff_ids": [ONE] * n}}, oci.OCI_CONFIG),
    ],
)
def test_lists_end_at_their_limit(limit: int, value: Any, media_type: str) -> None:
    assert parsed(dump(value(limit)), media_type) is not None
    assert parsed(dump(value(limit + 1)), media_type) is None


@pytest.mark.parametrize(("limit", "media_type"), [(oci.MAX_DOCUMENT, oci.OCI_INDEX), (oci.MAX_CONFIG, oci.OCI_CONFIG)])
def test_a_document_ends_at_its_limit(limit: int, media_type: str) -> None:
    room = limit - len('{"x":""}')
    assert parsed(b'{"x":"%b"}' % (b"a" * room), media_type) is not None
    with pytest.raises(DocumentTooLarge):
        oci.parse(b'{"x":"%b"}' % (b"a" * (room + 1)), media_type)


@pytest.mark.parametrize(
    ("part", "right"),
    [
        ('"config":{"Env":["a=b"],"Future":{}}', True),
        ('"config":{"Env":["a=b",1]}', False),
        ('"config":null', True),
        ('"history":[{"created_by":"x","future":1},null]', True),
        ('"history":[{"created_by":1}]', False),
        ('"history":[{"created":"yesterday"}]', False),
    ],
)
def test_the_types_of_large_configs_are_checked_too(part: str, right: bool) -> None:
    raw = '{"architecture":"amd64","os":"linux","author":"' + "a" * (1 << 20) + f'",{part}}}'
    assert (parsed(raw.encode(), oci.OCI_CONFIG) is not None) is right


@pytest.mark.parametrize(
    ("head", "tail", "media_type"),
    [
        (b'{"config":{"digest":"%b","size":1,"data":' % ONE.encode(), b"}}", oci.OCI_MANIFEST),
        (b'{"layers":', b"}", oci.OCI_INDEX),
        (b'{"history":', b"}", oci.OCI_CONFIG),
        (b'{"manifests":', b"}", oci.OCI_MANIFEST),
        (b'{"unknown":', b"}", oci.OCI_MANIFEST),
    ],
)
def test_a_small_text_cannot_become_many_objects(head: bytes, tail: bytes, media_type: str) -> None:
    raw = head + b"[" + b"[]," * 2_000_000 + b"[]]" + tail
    tracemalloc.start()
    try:
        parsed(raw, media_type)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 5 * len(raw)


def described(**fields: object) -> Descriptor:
    manifest = oci.parse(dump({**MANIFEST, "config": {**MANIFEST["config"], **fields}}), oci.OCI_MANIFEST)
    assert isinstance(manifest, Manifest)
    return manifest.config


def test_a_descriptor_carries_its_content_only_where_the_data_is_what_it_names() -> None:
    data = b"{}"
    text = base64.b64encode(data).decode()
    right = Digest.of(data)
    assert described(digest=right, size=2, data=text).embedded
    assert described(digest=Digest.of(data, algorithm="sha512"), size=2, data=text).embedded
    assert not described(digest=right, size=3, data=text).embedded
    assert not described(digest=ONE, size=2, data=text).embedded
    assert not described(digest=right, size=2, data=None).embedded
    assert not described(digest=right, size=2).embedded
    assert parsed(dump({**MANIFEST, "config": {**MANIFEST["config"], "data": "no base64!"}}), oci.OCI_MANIFEST) is None


# OCI image-spec, config.md: ChainID(L0) = DiffID(L0); ChainID(L0|…|Ln) = Digest(ChainID(L0|…|Ln-1) + " " + DiffID(Ln))
def test_chain_ids_of_the_specification() -> None:
    second = Digest.of(f"{ONE} {TWO}".encode())
    assert oci.chain_ids([]) == ()
    assert oci.chain_ids([ONE]) == (ONE,)
    assert oci.chain_ids([ONE, TWO, THREE]) == (ONE, second, Digest.of(f"{second} {THREE}".encode()))


@given(st.lists(st.builds(Digest.of, st.binary(max_size=3), algorithm=st.sampled_from(sorted(HEX_LENGTH)))))
def test_a_chain_does_not_depend_on_what_lies_above(diff_ids: list[Digest]) -> None:
    chain = oci.chain_ids(diff_ids)
    assume(chain)
    assert oci.chain_ids(diff_ids[:-1]) == chain[:-1]
    assert all(Digest.parse(chain_id) for chain_id in chain)


@pytest.mark.parametrize(
    ("media_type", "layer", "foreign", "encrypted"),
    [
        ("application/vnd.oci.image.layer.v1.tar", True, False, False),
        ("application/vnd.oci.image.layer.v1.tar+gzip", True, False, False),
        ("application/vnd.oci.image.layer.v1.tar+zstd", True, False, False),
        ("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", True, False, True),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", True, True, False),
        ("application/vnd.docker.image.rootfs.diff.tar", True, False, False),
        ("application/vnd.docker.image.rootfs.diff.tar.gzip", True, False, False),
        ("application/vnd.docker.image.rootfs.diff.tar.zstd", True, False, False),
        ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", True, True, False),
        ("application/vnd.docker.image.rootfs.diff.tar.gzip+encrypted", True, False, True),
        ("application/vnd.wasm.content.layer.v1+wasm", False, False, False),
        ("application/vnd.in-toto+json", False, False, False),
        ("application/vnd.docker.image.rootfs.diff.tarball", False, False, False),
        ("", False, False, False),
    ],
)
def test_layers_are_what_containerd_unpacks(media_type: str, layer: bool, foreign: bool, encrypted: bool) -> None:
    assert (oci.is_layer(media_type), oci.is_foreign(media_type), oci.is_encrypted(media_type)) == (
        layer,
        foreign,
        encrypted,
    )
