"""Keys as containerd reads them; each row was pulled, checked and mounted on containerd 1.6, 1.7 and 2.1."""

from __future__ import annotations

import json
from typing import Any

import pytest

from auditor.errors import MalformedDocument
from auditor.model import oci
from auditor.model.digest import Digest
from auditor.model.oci import Manifest
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
