"""Documents as containerd decodes them: keys given twice, large documents, times, and what a refusal says."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from auditor.errors import MalformedDocument
from auditor.model import go_json, oci, oci_json
from auditor.model.digest import Digest
from auditor.model.oci import Descriptor, Document, ImageConfig, Index, Manifest
from auditor.model.platforms import Platform

ONE, TWO, THREE = (Digest.of(bytes([n])) for n in range(3))
GZIP = f"{oci.OCI_LAYER}+gzip"
CONFIG = f'"config": {{"mediaType": "{oci.OCI_CONFIG}", "digest": "{ONE}", "size": 2}}'
LAYER = f'{{"mediaType": "{GZIP}", "digest": "{TWO}", "size": 5}}'
OF_LISTED = f'"mediaType": "{oci.OCI_MANIFEST}", "digest": "{ONE}", "size": 3'
READ_CONFIG, READ_LAYER = Descriptor(oci.OCI_CONFIG, ONE, 2), Descriptor(GZIP, TWO, 5)


def manifest(*members: str) -> str:
    return f"{{{', '.join((CONFIG, *members))}}}"


def listed(*members: str) -> str:
    """An index of one manifest."""
    return f'{{"manifests": [{{{", ".join((OF_LISTED, *members))}}}]}}'


NOTED = f'"digest": "{ONE}", "size": 3, "annotations": {{"a": "b"}}'
LISTED = Descriptor(oci.OCI_MANIFEST, ONE, 3)
ARM = Descriptor(oci.OCI_MANIFEST, ONE, 3, Platform("linux", "arm64"))


# Keys that are given twice.

TWICE: dict[str, tuple[str, Document]] = {
    "manifests": (
        f'{{"manifests": [{{{OF_LISTED}}}], "manifests": [{{"digest": "{TWO}", "size": 4}}]}}',
        Index((Descriptor(oci.OCI_MANIFEST, TWO, 4),)),
    ),
    "manifests without types": (
        f'{{"manifests": [{{{NOTED}}}], "manifests": [{{"digest": "{TWO}", "size": 4}}]}}',
        Index((Descriptor("", TWO, 4, annotations={"a": "b"}),)),
    ),
    "layers without types": (
        manifest(f'"layers": [{{{NOTED}}}]', f'"layers": [{{"digest": "{TWO}", "size": 4}}]'),
        Manifest(READ_CONFIG, (Descriptor("", TWO, 4, annotations={"a": "b"}),)),
    ),
    "a config without a type": (
        f'{{"config": {{{NOTED}}}, "config": {{"digest": "{TWO}", "size": 4}}}}',
        Manifest(Descriptor("", TWO, 4, annotations={"a": "b"}), ()),
    ),
    "a platform by a key with an escaped letter": (
        listed('"platform": {"os": "linux"}', '"pl\\u0061tform": {"architecture": "arm64"}'),
        Index((ARM,)),
    ),
    "a platform": (
        listed('"platform": {"os": "linux"}', '"platform": {"architecture": "arm64"}'),
        Index((ARM,)),
    ),
    "a platform, and null": (
        listed('"platform": {"os": "linux"}', '"platform": null'),
        Index((LISTED,)),
    ),
    "the type of a manifest, and null": (listed('"mediaType": null'), Index((LISTED,))),
    "the type of an index, and null": (
        f'{{"mediaType": "{oci.OCI_INDEX}", "mediaType": null, "manifests": []}}',
        Index((), media_type=oci.OCI_INDEX),
    ),
    "layers": (
        manifest(f'"layers": [{LAYER}]', f'"layers": [{{"digest": "{THREE}", "size": 6}}]'),
        Manifest(READ_CONFIG, (Descriptor(GZIP, THREE, 6),)),
    ),
    "a config": (
        manifest(f'"config": {{"digest": "{TWO}", "size": 4}}'),
        Manifest(Descriptor(oci.OCI_CONFIG, TWO, 4), ()),
    ),
    "the type of a layer, and null": (
        manifest(f'"layers": [{LAYER[:-1]}, "mediaType": null}}]'),
        Manifest(READ_CONFIG, (READ_LAYER,)),
    ),
    "a subject's digest": (
        manifest(f'"subject": {{"digest": "{TWO}"}}', '"subject": {"mediaType": "x"}', f'"layers": [{LAYER}]'),
        Manifest(READ_CONFIG, (READ_LAYER,), subject=Descriptor("x", TWO, 0)),
    ),
    "a subject's size, and null": (
        manifest('"subject": {"size": 7}', f'"subject": {{"digest": "{TWO}", "size": null}}'),
        Manifest(READ_CONFIG, (), subject=Descriptor("", TWO, 7)),
    ),
    "a subject's type, and null": (
        manifest(f'"subject": {{"mediaType": "x", "mediaType": null, "digest": "{TWO}", "size": 7}}'),
        Manifest(READ_CONFIG, (), subject=Descriptor("x", TWO, 7)),
    ),
    "a root file system": (
        f'{{"rootfs": {{"diff_ids": ["{ONE}"]}}, "rootfs": {{"type": "layers"}}}}',
        ImageConfig(Platform(), (ONE,)),
    ),
    "a key with an escaped letter": (
        manifest(f'"layers": [{LAYER}]', f'"layer\\u0073": [{{"digest": "{THREE}", "size": 6}}]'),
        Manifest(READ_CONFIG, (Descriptor(GZIP, THREE, 6),)),
    ),
    "a key with an escaped capital": (
        manifest(f'"layers": [{LAYER}]', f'"la\\u0059ers": [{{"digest": "{THREE}", "size": 6}}]'),
        Manifest(READ_CONFIG, (Descriptor(GZIP, THREE, 6),)),
    ),
}
TYPES = {Index: oci.OCI_INDEX, Manifest: oci.OCI_MANIFEST, ImageConfig: oci.OCI_CONFIG}


@pytest.mark.parametrize(("text", "found"), TWICE.values(), ids=TWICE)
def test_keys_that_are_given_twice_are_merged(text: str, found: Document) -> None:
    assert oci.parse(text.encode(), TYPES[type(found)]) == found


ONCE = {
    "an index": (listed('"platform": {"os": "linux", "architecture": "arm64"}', '"urls": ["\\u00e9\\u0020"]'), Index),
    "an index with a type and a subject": (
        listed()[:-1] + f', "mediaType": "{oci.OCI_INDEX}", "subject": {LAYER}}}',
        Index,
    ),
    "a manifest": (manifest(f'"layers": [{LAYER}, {LAYER}]', f'"mediaType": "{oci.OCI_MANIFEST}"'), Manifest),
    "a manifest with a subject": (manifest(f'"layers": [{LAYER}]', f'"subject": {LAYER}'), Manifest),
    "a config": (
        f'{{"os": "linux", "rootfs": {{"type": "layers", "diff_ids": ["{ONE}"]}}, "id": "\\u003c"}}',
        ImageConfig,
    ),
}


@pytest.mark.parametrize(("text", "kind"), ONCE.values(), ids=ONCE)
def test_keys_that_are_given_once_are_read_once(
    text: str, kind: type[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second reading takes ten times as long."""
    monkeypatch.setattr(oci_json, "_as_go_reads", None)
    assert isinstance(oci.parse(text.encode(), TYPES[kind]), kind)


class Damaged:
    """Finds a module as Python 3.11.2 does whose file is full of NUL."""

    @staticmethod
    def find_spec(name: str, *_: object) -> None:
        if name == go_json.__name__:
            raise ValueError("source code string cannot contain null bytes")


def test_a_damaged_program_is_no_malformed_document(monkeypatch: pytest.MonkeyPatch) -> None:
    text = listed().replace('"size"', '"SIZE"')
    assert oci.parse(text.encode(), TYPES[Index])
    monkeypatch.delitem(sys.modules, go_json.__name__)
    monkeypatch.setattr(sys, "meta_path", [Damaged, *sys.meta_path])
    with pytest.raises(ImportError, match="null bytes"):
        oci.parse(text.encode(), TYPES[Index])


# Documents of more than a mebibyte.

FREE = 1 << 20
CHECKED = 8 << 20


def sized(text: str, size: int) -> bytes:
    """The document with white space at its end."""
    return text.encode().ljust(size)


NESTED_CASE = manifest(f'"Layers": [{LAYER.replace("size", "SIZE")}]')
WRONG_HISTORY = '{"history": [5], "os": "linux"}'


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        pytest.param(NESTED_CASE, oci.OCI_MANIFEST, id="another case below the first level"),
        pytest.param('{"os": "linux", "rootfs": {"Diff_ids": []}}', oci.OCI_CONFIG, id="another case in a config"),
    ],
)
def test_keys_below_the_first_level_are_read_as_they_are_in_large_documents(text: str, kind: str) -> None:
    assert oci.parse(sized(text, FREE), kind) == oci.parse(text.encode(), kind)
    with pytest.raises(MalformedDocument, match="unknown field"):
        oci.parse(sized(text, FREE + 1), kind)


def test_the_first_level_of_a_large_document_is_read_without_case_and_unknown_keys() -> None:
    text = manifest(f'"LAYER\\u017f": [{LAYER}]', '"unknown": {"layers": []}')
    assert oci.parse(sized(text, FREE + 1), oci.OCI_MANIFEST) == Manifest(READ_CONFIG, (READ_LAYER,))


def test_of_a_large_config_only_the_fields_in_use_are_checked() -> None:
    with pytest.raises(MalformedDocument):
        oci.parse(sized(WRONG_HISTORY, CHECKED), oci.OCI_CONFIG)
    assert oci.parse(sized(WRONG_HISTORY, CHECKED + 1), oci.OCI_CONFIG) == ImageConfig(Platform("linux"), ())


# Times.


@pytest.mark.parametrize(
    "time", ["2024-02-29T23:59:59Z", "2024-02-29T23:59:59.5+02:00", "0001-01-01T00:00:00Z", "2024-02-29T23:59:59-00:00"]
)
def test_times_of_rfc_3339(time: str) -> None:
    text = json.dumps({"created": time, "history": [{"created": time}]})
    assert oci.parse(text.encode(), oci.OCI_CONFIG) == ImageConfig(Platform(), ())


@pytest.mark.parametrize("time", ["2024-02-29 23:59:59Z", "2024-02-29t23:59:59Z", "2024-02-29T23:59:59z"])
@pytest.mark.parametrize("at", [(",", ":"), (", ", " :\n ")])
def test_times_that_go_refuses_for_their_letters(time: str, at: tuple[str, str]) -> None:
    text = json.dumps({"history": [{}, {"created": time}]}, separators=at)
    with pytest.raises(MalformedDocument) as refused:
        oci.parse(text.encode(), oci.OCI_CONFIG)
    assert refused.value.message == "the config is not what its type says: a time is not of RFC 3339"


# Invalid Unicode.


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param(rb"\ud800", "\ufffd", id="a surrogate in lower case"),
        pytest.param(rb"\uD800", "\ufffd", id="a surrogate in upper case"),
        pytest.param(rb"\uDFFF\ud800x", "\ufffd\ufffdx", id="two in the wrong order"),
        pytest.param(rb"\ud83d\uDCA9", "\U0001f4a9", id="a pair"),
        pytest.param(rb"\\ud800", "\\ud800", id="an escaped backslash"),
        pytest.param(rb"\ud7ff\ue000", "\ud7ff\ue000", id="neighbours of surrogates"),
        pytest.param(b"\xff\xe9x", "\ufffd\ufffdx", id="bytes that are not UTF-8"),
        pytest.param(b"\xff\\ud800", "\ufffd\ufffd", id="both"),
    ],
)
def test_invalid_unicode_is_replaced_as_go_does(text: bytes, found: str) -> None:
    assert oci.parse(b'{"os.version": "%b"}' % text, oci.OCI_CONFIG) == ImageConfig(Platform(os_version=found), ())


# What a refusal says.

LONG = "\\u0001" * 90
REFUSED: dict[str, tuple[str, str, str]] = {
    "a digest that is no string": (
        manifest('"layers": [{"digest": 5, "size": 1}]'),
        oci.OCI_MANIFEST,
        "the manifest is not what its type says: a digest is not a string - at `$.layers[0].digest`",
    ),
    "a digest that is none": (
        '{"rootfs": {"diff_ids": ["x"]}}',
        oci.OCI_CONFIG,
        "the config is not what its type says: 'x' is not a digest - at `$.rootfs.diff_ids[0]`",
    ),
    "a wrong type": (
        '{"manifests": 5}',
        oci.OCI_INDEX,
        "the index is not what its type says: Expected `array | null`, got `int` - at `$.manifests`",
    ),
    "a wrong type that a later value replaces": (
        '{"Manifests": 5, "manifests": []}',
        oci.OCI_INDEX,
        "the index is not what its type says: manifests has a wrong type",
    ),
    "a digest that is absent": (
        '{"manifests": [{"size": 5}]}',
        oci.OCI_INDEX,
        "descriptor 1 of the index: '' is not a digest",
    ),
    "a long text, shown in part": (
        f'{{"rootfs": {{"diff_ids": ["{LONG}"]}}}}',
        oci.OCI_CONFIG,
        "the config is not what its type says: " + f"'{LONG.replace('u00', 'x')}"[:197] + "...",
    ),
}


@pytest.mark.parametrize(("text", "kind", "message"), REFUSED.values(), ids=REFUSED)
def test_a_refusal_says(text: str, kind: str, message: str) -> None:
    with pytest.raises(MalformedDocument) as refused:
        oci.parse(text.encode(), kind)
    assert refused.value.message == message


@pytest.mark.parametrize(("length", "shown"), [(200, 200), (201, 200)])
def test_words_of_more_than_200_characters_are_cut(length: int, shown: int) -> None:
    words = "'{}' is not a digest - at `$.rootfs.diff_ids[0]`"
    rest = length - len(words) + 2 - 4 * 35
    with pytest.raises(MalformedDocument) as refused:
        oci.parse(json.dumps({"rootfs": {"diff_ids": ["\x01" * 35 + "a" * rest]}}).encode(), oci.OCI_CONFIG)
    text = refused.value.message.removeprefix("the config is not what its type says: ")
    assert len(text) == shown
    assert text.endswith("...") is (length > shown)


def test_a_document_that_is_not_utf_8_is_refused_by_its_name() -> None:
    with pytest.raises(MalformedDocument, match=r"^the index is not what its type says: "):
        oci.parse(b'{"manifests": "\xff"}', oci.OCI_INDEX)


def test_a_large_config_is_refused_by_its_name() -> None:
    with pytest.raises(MalformedDocument, match=r"^the config is not what its type says: "):
        oci.parse(sized("[]", FREE + 1), oci.OCI_CONFIG)


def test_the_nesting_of_brackets_is_refused_in_words() -> None:
    text: Any = b'{"X":' + b"[" * 100_000
    with pytest.raises(MalformedDocument) as refused:
        oci.parse(text, oci.OCI_MANIFEST)
    assert refused.value.message.startswith("the manifest is not what its type says: ")


# A key that is given twice is noticed by itself, whatever else the document has: the first value counts as well.

NOTE = '"annotations": {"a": "b"}'
ENTRY = f'"mediaType": "{oci.OCI_MANIFEST}", "digest": "{ONE}", "size": 3'


@pytest.mark.parametrize(
    ("text", "kind", "part"),
    [
        (f'{{"manifests": [{{{NOTE}}}], "manifests": [{{{ENTRY}}}]}}', oci_json.IndexFields, "manifests"),
        (f'{{"layers": [{{{NOTE}}}], "layers": [{{{ENTRY}}}]}}', oci_json.ManifestFields, "layers"),
        (f'{{"config": {{{NOTE}}}, "config": {{{ENTRY}}}}}', oci_json.ManifestFields, "config"),
    ],
    ids=["manifests", "layers", "config"],
)
def test_a_list_that_is_given_twice_is_merged(text: str, kind: Any, part: str) -> None:
    found = getattr(oci_json.decode(text.encode(), kind, "document"), part)
    (entry,) = found if isinstance(found, list) else (found,)
    assert (entry.digest, entry.size, entry.annotations) == (ONE, 3, {"a": "b"})


@pytest.mark.parametrize("name", ["digest", "size"])
def test_a_null_after_a_value_leaves_the_value(name: str) -> None:
    text = f'{{"manifests": [{{{ENTRY}, "{name}": null}}]}}'
    found = oci_json.decode(text.encode(), oci_json.IndexFields, "document").manifests
    assert [entry and (entry.digest, entry.size) for entry in found or ()] == [(ONE, 3)]


def test_a_config_of_the_largest_free_size_is_decoded_whole() -> None:
    text = b'{"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}'
    exact = text + b" " * (oci_json._MAX_FREE - len(text))
    assert isinstance(oci_json.decode_config(exact), oci_json.ConfigFields)
    assert isinstance(oci_json.decode_config(exact + b" "), oci_json.LargeConfigFields)


def test_a_large_config_that_is_refused_says_where() -> None:
    text = b'{"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers"}, "config": {"Env": 7}}'
    with pytest.raises(MalformedDocument, match=r"the config is not what its type says: .*\$"):
        oci_json.decode_config(text + b" " * oci_json._MAX_FREE)


def test_a_refusal_of_invalid_unicode_names_the_document() -> None:
    with pytest.raises(MalformedDocument, match="the index is not what"):
        oci_json.decode(b'{"mediaType": "\xff", "manifests": 7}', oci_json.IndexFields, "index")
