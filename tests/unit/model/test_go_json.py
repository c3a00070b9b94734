"""Keys as containerd reads them; each row was pulled, checked and mounted on containerd 1.6, 1.7 and 2.1."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from auditor.errors import MalformedDocument
from auditor.model import oci
from auditor.model.digest import Digest
from auditor.model.go_json import as_go_reads
from auditor.model.oci import Manifest
from auditor.model.oci_json import fold
from auditor.model.platforms import Platform

CONFIG, LAYER = (Digest.of(name) for name in (b"config", b"layer"))
KIND = f"{oci.OCI_LAYER}+gzip"


def descriptor(kind: str, digest: Digest, size: int) -> dict[str, Any]:
    return {"mediaType": kind, "digest": str(digest), "size": size}


MANIFEST = {
    "schemaVersion": 2,
    "mediaType": oci.OCI_MANIFEST,
    "config": descriptor(oci.OCI_CONFIG, CONFIG, 2),
    "layers": [descriptor(KIND, LAYER, 5)],
}
TEXT = json.dumps(MANIFEST)
RIGHT = oci.parse(TEXT.encode(), oci.OCI_MANIFEST)


def more(members: str) -> str:
    """The manifest with more members behind its own."""
    return f"{TEXT[:-1]}, {members}}}"


SAME = {
    "another case": TEXT.replace("layers", "Layers").replace('"config"', '"CONFIG"'),
    "another case in a descriptor": TEXT.replace('"digest"', '"Digest"').replace("mediaType", "MEDIATYPE"),
    "letters that are an s and a k without case": TEXT.replace("layers", "layer\u017f"),
    "an escaped letter": TEXT.replace('"layers"', '"l\\u0061yers"'),
    "a long s that is escaped": TEXT.replace('"layers"', '"layer\\u017f"'),
    "an earlier one is replaced": TEXT.replace('"layers":', '"layers": [], "layers":'),
    "an earlier one of another case is replaced": TEXT.replace('"layers":', '"LAYERS": [], "layers":'),
    "null changes no object": more('"config": null'),
    "null changes no text": more('"mediaType": null'),
    "an object is merged": more(f'"config": {{"mediaType": "{oci.OCI_CONFIG}"}}'),
    "a list is merged": more('"layers": [{"size": 5}]'),
    "unknown fields": more('"LAYERSS": 5, "x": {"layers": []}'),
    "white space before a colon": TEXT.replace('"layers":', '"layers" : [], "layers":'),
    "a version that is null": TEXT.replace('"schemaVersion": 2', '"schemaVersion": null'),
    "a subject without a digest": more('"subject": {}'),
    "a subject with a wrong digest": more('"subject": {"digest": "nonsense", "size": -1}'),
    "a large one": more(f'"x": "{"a" * (1 << 20)}"').replace("layers", "LAYERS"),
}


@pytest.mark.parametrize("text", SAME.values(), ids=SAME)
def test_these_are_the_manifest(text: str) -> None:
    assert oci.parse(text.encode(), oci.OCI_MANIFEST) == RIGHT


@pytest.mark.parametrize("members", ['"layers": []', '"LAYERS": []', '"layers": null', '"layer\\u017f": []'])
def test_these_have_no_layers(members: str) -> None:
    found = oci.parse(more(members).encode(), oci.OCI_MANIFEST)
    assert isinstance(found, Manifest)
    assert found.layers == ()


WRONG = {
    "a type that a later one replaces": TEXT.replace('"layers":', '"Layers": 5, "layers":'),
    "a version": TEXT.replace('"schemaVersion": 2', '"schemaVersion": "2"'),
    "a version that is no integer": TEXT.replace('"schemaVersion": 2', '"schemaversion": 2.5'),
    "another document": more('"Manifests": []'),
    "another document that is null": more('"manifests": null'),
    "schema 1": more('"fslayers": []'),
    "no number": more('"Size": NaN'),
    "a subject": more('"subject": "x"'),
}


@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG)
def test_these_are_malformed(text: str) -> None:
    with pytest.raises(MalformedDocument):
        oci.parse(text.encode(), oci.OCI_MANIFEST)


RIGHT_CONFIGS: list[dict[str, Any]] = [
    {"created": "2024-02-29T23:59:59.123456789+02:00", "author": None, "history": None, "config": None},
    {"created": None, "history": [None, {}, {"created": "0001-01-01T00:00:00Z", "empty_layer": True}]},
    {"config": {"Env": ["A=b"], "Labels": {"a": None}, "ExposedPorts": {"80/tcp": {}}, "Volumes": None, "User": ""}},
    {"config": {"Healthcheck": 5, "Unknown": [], "OnBuild": None}, "container_config": 5, "docker_version": 7},
    {"moby.buildkit.buildinfo.v1": 5},
]
WRONG_CONFIGS: list[dict[str, Any]] = [
    {"created": "yesterday"},
    {"created": ""},
    {"Created": 5},
    {"author": 5},
    {"history": "x"},
    {"history": [{"created_by": 5}]},
    {"history": [{"created": "yesterday"}]},
    {"history": [{"empty_layer": "yes"}]},
    {"config": []},
    {"config": {"Env": "A=B"}},
    {"config": {"env": "A=B"}},
    {"config": {"ExposedPorts": ["80"]}},
    {"config": {"Labels": {"a": 5}}},
    {"config": {"User": 1000}},
    {"config": {"Cmd": "/bin/true"}},
    {"config": {"ArgsEscaped": "no"}},
    {"rootfs": {"Type": 5}},
]


@pytest.mark.parametrize("fields", RIGHT_CONFIGS, ids=json.dumps)
def test_these_configs_can_be_run(fields: dict[str, Any]) -> None:
    config = {"os": "linux", "rootfs": {"type": "layers", "diff_ids": [str(LAYER)]}, **fields}
    assert oci.parse(json.dumps(config).encode(), oci.OCI_CONFIG) == oci.ImageConfig(Platform("linux"), (LAYER,))


@pytest.mark.parametrize("fields", WRONG_CONFIGS, ids=json.dumps)
def test_these_configs_cannot_be_read(fields: dict[str, Any]) -> None:
    with pytest.raises(MalformedDocument, match="the config is not what its type says"):
        oci.parse(json.dumps(fields).encode(), oci.OCI_CONFIG)


class Inner(msgspec.Struct, rename="camel"):
    media_type: str | None = None
    size: int | None = None


class Kind(msgspec.Struct, rename="camel"):
    """A structure with a field of each type; `inner` is embedded in Go's, `pointer` a pointer."""

    text: str | None = None
    number: int | None = None
    flag: bool | None = None
    data: bytes | None = None
    digest: Digest | None = None
    texts: list[str | None] | None = None
    inner: Inner | None = None
    pointer: Inner | None = None
    notes: dict[str, str | None] | None = None
    items: list[Inner | None] | None = None
    sets: dict[str, Inner | None] | None = None
    free: msgspec.Raw = msgspec.Raw()


#: What json.Unmarshal of Go 1.27 makes of a text; fields that are absent here have their zero values there.
READ: dict[str, dict[str, Any]] = {
    '{"text": "a", "TEXT": "b"}': {"text": "b"},
    '{"TEXT": "a", "text": "b"}': {"text": "b"},
    '{"text": "a", "text": null}': {"text": "a"},
    '{"text": null}': {},
    '{"text": null, "text": "a"}': {"text": "a"},
    '{"number": 1, "number": null}': {"number": 1},
    '{"number": 1, "number": 2}': {"number": 2},
    '{"flag": true, "flag": false}': {"flag": False},
    '{"data": "YQ==", "data": null}': {"data": None},
    '{"digest": "a", "digest": null}': {"digest": "a"},
    '{"texts": ["a"], "texts": null}': {"texts": None},
    '{"texts": ["a"], "texts": []}': {"texts": []},
    '{"texts": ["a"], "texts": [null, "b"]}': {"texts": ["a", "b"]},
    '{"texts": ["a", "b"], "texts": ["c"]}': {"texts": ["c"]},
    '{"texts": null, "texts": ["a"]}': {"texts": ["a"]},
    '{"texts": [null]}': {"texts": [None]},
    '{"notes": {"a": "1"}, "notes": null}': {"notes": None},
    '{"notes": {"a": "1"}, "notes": {"b": "2"}}': {"notes": {"a": "1", "b": "2"}},
    '{"notes": {"a": "1"}, "Notes": {"a": "2"}}': {"notes": {"a": "2"}},
    '{"notes": {"a": "1"}, "notes": {"a": null}}': {"notes": {"a": None}},
    '{"notes": {"A": "1", "a": "2"}}': {"notes": {"A": "1", "a": "2"}},
    '{"sets": {"a": {"size": 1}}, "sets": {"a": {"mediaType": "x"}}}': {"sets": {"a": {"mediaType": "x"}}},
    '{"inner": {"size": 1}, "inner": {"mediaType": "x"}}': {"inner": {"size": 1, "mediaType": "x"}},
    '{"inner": {"size": 1}, "inner": null}': {"inner": {"size": 1}},
    '{"inner": null}': {},
    '{"inner": {"SIZE": 1, "x": [{"size": 2}]}}': {"inner": {"size": 1}},
    '{"pointer": {"size": 1}, "pointer": null}': {"pointer": None},
    '{"pointer": {"size": 1}, "pointer": {"mediaType": "x"}}': {"pointer": {"size": 1, "mediaType": "x"}},
    '{"pointer": null, "pointer": {"size": 1}}': {"pointer": {"size": 1}},
    '{"items": [{"size": 1}, {"size": 2}], "items": [{"mediaType": "x"}]}': {"items": [{"size": 1, "mediaType": "x"}]},
    '{"items": [{"size": 1}], "items": [null, {"size": 3}]}': {"items": [{"size": 1}, {"size": 3}]},
    '{"items": [null]}': {"items": [None]},
    '{"tex\\u0074\u017f": ["a"], "unknown": 5, "": {}}': {"texts": ["a"]},
    '{"unknown": 5, "text": "a"}': {"text": "a"},
    '{"free": {"a": [1, {"b": 2}]}, "Free": {"c": [{"d": [{}]}, null]}}': {"free": {"c": [{"d": [{}]}, None]}},
    '{"free": {"a": 1}, "free": null}': {"free": None},
}


@pytest.mark.parametrize(("text", "found"), READ.items())
def test_each_occurrence_is_read_on_top_of_the_earlier_ones(text: str, found: dict[str, Any]) -> None:
    assert json.loads(as_go_reads(text, Kind, pointers=frozenset({"pointer"}))) == found


#: What json.Unmarshal of Go 1.27 refuses, by the field that it names.
REFUSED = {
    '{"text": 5, "text": "a"}': "text",
    '{"text": 5, "text": null}': "text",
    '{"text": ["a"]}': "text",
    '{"text": {}}': "text",
    '{"text": true}': "text",
    '{"number": true}': "number",
    '{"number": 1.5}': "number",
    '{"number": "1"}': "number",
    '{"flag": 1}': "flag",
    '{"flag": "true"}': "flag",
    '{"data": 5}': "data",
    '{"digest": 5}': "digest",
    '{"texts": 5, "texts": null}': "texts",
    '{"texts": {}}': "texts",
    '{"texts": [5], "texts": ["a"]}': "texts",
    '{"notes": 5, "notes": null}': "notes",
    '{"notes": []}': "notes",
    '{"notes": {"a": 5}, "notes": {"a": "b"}}': "notes",
    '{"notes": {"a": 5}, "notes": null}': "notes",
    '{"sets": {"a": {"size": "x"}}}': "size",
    '{"inner": 5, "inner": null}': "inner",
    '{"inner": [{}]}': "inner",
    '{"inner": {"size": "x"}, "inner": {"size": 5}}': "size",
    '{"pointer": 5, "pointer": null}': "pointer",
    '{"pointer": {"size": "x"}, "pointer": null}': "size",
    '{"items": [5], "items": []}': "items",
    '{"items": [5], "items": null}': "items",
    '{"items": [{}, {"mediaType": 5}]}': "mediaType",
    "[]": "the document",
    "5": "the document",
}


@pytest.mark.parametrize(("text", "name"), REFUSED.items())
def test_a_wrong_type_is_refused_even_where_a_later_value_replaces_it(text: str, name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} has a wrong type$"):
        as_go_reads(text, Kind, pointers=frozenset({"pointer"}))


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_a_constant_of_python_is_refused(constant: str) -> None:
    with pytest.raises(ValueError, match=f"^{constant} is not JSON$"):
        as_go_reads(f'{{"free": {constant}}}', Kind, pointers=frozenset())


def test_nothing_is_null() -> None:
    assert as_go_reads("null", Kind, pointers=frozenset()) == b"null"


@pytest.mark.parametrize(
    ("key", "folded"), [("mediaType", "mediatype"), ("\u212aEY\u017f", "keys"), ("\u00c9", "\u00e9"), ("", "")]
)
def test_keys_are_equal_but_for_case(key: str, folded: str) -> None:
    assert fold(key) == folded
