"""Ordinary documents are read as all others are; whatever is not ordinary is left to the rules of Go's decoder."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.errors import MalformedDocument
from auditor.model import oci
from auditor.model.digest import Digest
from auditor.model.oci import Descriptor, Document, Index, Manifest
from auditor.model.ordinary_json import read_index, read_manifest
from auditor.model.platforms import Platform

ONE, TWO = (Digest.of(bytes([n])) for n in range(2))
GZIP = f"{oci.OCI_LAYER}+gzip"


def members(**values: str) -> list[str]:
    return [f'"{name}":{value}' for name, value in values.items()]


def together(*parts: str) -> str:
    return f"{{{','.join(parts)}}}"


def described(kind: str, *more: str, digest: str = ONE) -> str:
    return together(*members(mediaType=f'"{kind}"', digest=f'"{digest}"', size="3"), *more)


def manifest(*more: str, config: str | None = None, layers: str | None = None) -> str:
    config = config or described(oci.OCI_CONFIG)
    layers = f"[{described(GZIP, digest=TWO)}]" if layers is None else layers
    return together(*members(schemaVersion="2", config=config, layers=layers), *more)


def index(*more: str, manifests: str) -> str:
    return together(*members(schemaVersion="2", manifests=f"[{manifests}]"), *more)


ARM = '"platform":{"os":"linux","architecture":"aarch64"}'
V8 = '"platform":{"architecture":"arm","variant":"v7","os":"linux"}'
NOTED = '"annotations":{"a:b":"c::d","e":""}'
NOTES = {"a:b": "c::d", "e": ""}
CONFIG, LAYER = Descriptor(oci.OCI_CONFIG, ONE, 3), Descriptor(GZIP, TWO, 3)

ORDINARY: dict[str, tuple[str, Document]] = {
    "a manifest": (manifest(), Manifest(CONFIG, (LAYER,))),
    "a manifest without layers": (manifest(layers="[]"), Manifest(CONFIG, ())),
    "a manifest with a type": (
        manifest(f'"mediaType" : "{oci.OCI_MANIFEST}"'),
        Manifest(CONFIG, (LAYER,), media_type=oci.OCI_MANIFEST),
    ),
    "a manifest with annotations": (
        manifest(NOTED, config=described(oci.OCI_CONFIG, NOTED)),
        Manifest(Descriptor(oci.OCI_CONFIG, ONE, 3, annotations=NOTES), (LAYER,), annotations=NOTES),
    ),
    "an index": (index(manifests=described(oci.OCI_MANIFEST)), Index((Descriptor(oci.OCI_MANIFEST, ONE, 3),))),
    "an index with a type": (
        index(f'"mediaType":"{oci.OCI_INDEX}"', NOTED, manifests=""),
        Index((), media_type=oci.OCI_INDEX, annotations=NOTES),
    ),
    "an index of platforms": (
        index(manifests=f"{described(oci.OCI_MANIFEST, ARM, NOTED)},{described(oci.OCI_MANIFEST, V8)}"),
        Index(
            (
                Descriptor(
                    oci.OCI_MANIFEST,
                    ONE,
                    3,
                    Platform("linux", "arm64"),
                    annotations=NOTES,
                    written_platform="linux/aarch64",
                ),
                Descriptor(oci.OCI_MANIFEST, ONE, 3, Platform("linux", "arm", "v7")),
            )
        ),
    ),
}
TYPES = {Index: oci.OCI_INDEX, Manifest: oci.OCI_MANIFEST}


@pytest.mark.parametrize(("text", "found"), ORDINARY.values(), ids=ORDINARY)
def test_ordinary_documents_are_read_at_once(text: str, found: Document, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(oci, "decode", None)
        assert oci.parse(text.encode(), TYPES[type(found)]) == found
    assert by_the_rules(text.encode(), TYPES[type(found)]) == found


ESCAPED = ONE.replace(":", "\\u003a")
OTHERS = {
    "a key of the manifest, twice": manifest('"layers":[]'),
    "a type, twice": manifest('"mediaType":""', '"mediaType":""'),
    "a type that is empty": manifest('"mediaType":""'),
    "a key of a descriptor, twice": manifest(config=described(oci.OCI_CONFIG, '"size":5')),
    "a key in place of an escaped colon": manifest(config=described(oci.OCI_CONFIG, '"size":5', digest=ESCAPED)),
    "annotations, twice": manifest(NOTED, '"annotations":{"x":"y"}'),
    "an annotation, twice": manifest('"annotations":{"a":"b","a":"c"}'),
    "annotations that are empty": manifest('"annotations":{}'),
    "an annotation that is null": manifest('"annotations":{"a":null}'),
    "a platform of a layer, twice": manifest(layers=f"[{described(GZIP, V8, ARM)}]"),
    "a variant that is empty": manifest(config=described(oci.OCI_CONFIG, V8.replace("v7", ""))),
    "a colon in a type": manifest(config=described("a:b")),
    "another case": manifest().replace("layers", "Layers"),
    "a subject": manifest('"subject":null'),
    "no version": manifest().replace('"schemaVersion":2,', ""),
    "a size that is negative": manifest().replace(":3", ":-3"),
    "a size beyond 64 bits": manifest().replace(":3", f":{1 << 63}"),
    "a long type": manifest(config=described("a" * 4097)),
    "no JSON": manifest() + "x",
    "a list": "[]",
    "a mark of byte order": "\ufeff" + manifest(),
    "other bytes than UTF-8": manifest(config=described("\udcff")),
}


@pytest.mark.parametrize("text", OTHERS.values(), ids=OTHERS)
def test_others_are_not(text: str) -> None:
    assert read_manifest(text.encode(errors="surrogateescape")) is None


@pytest.mark.parametrize(
    "more", ['"manifests":[]', '"mediaType":null', '"annotations":null', '"layers":[]', '"config":null']
)
def test_other_indexes_are_not(more: str) -> None:
    assert read_index(index(manifests=described(oci.OCI_MANIFEST)).encode()) is not None
    assert read_index(index(more, manifests=described(oci.OCI_MANIFEST)).encode()) is None


def as_read(raw: bytes, media_type: str) -> Document | str:
    try:
        return oci.parse(raw, media_type, malformed_children=True)
    except MalformedDocument as error:
        return error.message


def by_the_rules(raw: bytes, media_type: str) -> Document | str:
    """What is read without the short way."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("read_index", "read_manifest"):
            patch.setattr(oci, name, lambda _raw: None)
        return as_read(raw, media_type)


# Documents of which some parts are as they should not be.


def mostly(usual: list[str], odd: list[str]) -> st.SearchStrategy[str]:
    """One of the usual texts; in one of ten cases, an odd one."""
    return st.integers(0, 9).flatmap(lambda n: st.sampled_from(odd if n == 9 else usual))


DIGESTS = mostly([ONE, TWO], [ESCAPED, "sha256:a", "", "a:b:c", ONE.upper(), ONE + "\\n"])
KINDS = mostly(
    [oci.OCI_MANIFEST, oci.OCI_CONFIG, GZIP, oci.DOCKER_INDEX],
    [
        "",
        "a:b",
        "digest",
        "layers",
        "\\u0022",
        "\\ud800",
        "\x00",
        "\x7f\u0085",
        "\u017f",
        "a" * 4097,
        '","size":5,"x":"',
    ],
)
SIZES = mostly(["0", "3", "2"], ["-1", "null", "1.0", "1e2", str((1 << 63) - 1), str(1 << 63), "9" * 40, '"3"', "-0"])
ODD = ["null", "{}", "[]", "5", '"x"', "[" * 600 + "]" * 600, '{"a":{"digest":"b"}}', '"\\ud800\\u003a"', '"\\u0000"']
NOTE_VALUES = mostly(
    ['{"a":"b"}', '{"a:b":"c:d","e":"f"}'], ['{"a":"1","a":"2"}', '{"a":null}', '{"\\u0061":":"}', *ODD]
)
PLATFORMS = mostly(
    ['{"os":"linux","architecture":"amd64"}', '{"architecture":"arm","os":"linux","variant":"v7"}'],
    [
        '{"os":"linux","os":"windows","architecture":"amd64"}',
        '{"os":"windows","architecture":"amd64","os.version":"10.0.1:2"}',
        '{"OS":"linux","architecture":"amd64","variant":""}',
        '{"os":"linux","architecture":null}',
        *ODD,
    ],
)


def key(name: str) -> st.SearchStrategy[str]:
    escaped = f"\\u{ord(name[0]):04x}{name[1:]}"
    return mostly([name], [name.upper(), escaped, name.replace("s", "\u017f"), name + "\\u0000", f"{name} "])


def object_of(
    always: dict[str, st.SearchStrategy[str]], more: dict[str, st.SearchStrategy[str]]
) -> st.SearchStrategy[str]:
    """An object with some keys, and some of others or of the same."""

    def member(name: str, value: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        between = mostly([":", ": "], [" :\n", "", "::", ":\ufeff"])
        return st.builds('"{}"{}{}'.format, key(name), between, value)

    own = st.tuples(*[member(name, value) for name, value in always.items()])
    others = st.lists(st.one_of(*[member(name, value) for name, value in {**more, **always}.items()]), max_size=1)
    joined = st.builds(lambda a, b: [*a, *b], own, others).flatmap(st.permutations)
    return joined.map(lambda found: together(*found))


def list_of(items: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    written = st.lists(items, max_size=3).map(lambda found: f"[{','.join(found)}]")
    return st.integers(0, 9).flatmap(lambda n: st.sampled_from(ODD) if n == 9 else written)


def quoted(texts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return texts.map('"{}"'.format)


RARE = {"annotations": NOTE_VALUES, "platform": PLATFORMS, "urls": st.sampled_from(ODD), "data": st.sampled_from(ODD)}
DESCRIPTORS = object_of({"mediaType": quoted(KINDS), "digest": quoted(DIGESTS), "size": SIZES}, RARE)
TOP = {"schemaVersion": mostly(["2"], ODD), "mediaType": quoted(KINDS)}
RARE_ABOVE = {name: st.sampled_from(ODD) for name in ("subject", "fsLayers", "artifactType", "x")}
DOCUMENTS = {
    oci.OCI_INDEX: object_of(
        {**TOP, "manifests": list_of(DESCRIPTORS)}, {"annotations": NOTE_VALUES, "config": DESCRIPTORS, **RARE_ABOVE}
    ),
    oci.OCI_MANIFEST: object_of(
        {**TOP, "config": DESCRIPTORS, "layers": list_of(DESCRIPTORS)},
        {"annotations": NOTE_VALUES, "manifests": list_of(DESCRIPTORS), **RARE_ABOVE},
    ),
}


@pytest.mark.parametrize("media_type", DOCUMENTS)
def test_both_ways_agree(media_type: str) -> None:
    @given(DOCUMENTS[media_type], mostly([""], ["\ufeff", " ", "\x00"]), mostly(["", "\n"], ["x", "\x00", "{}", ","]))
    def agree(text: str, before: str, after: str) -> None:
        raw = (before + text + after).encode()
        assert as_read(raw, media_type) == by_the_rules(raw, media_type)

    agree()
