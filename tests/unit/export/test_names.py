"""The names of an exported image: those that were asked for, all, or others."""

from __future__ import annotations

import pytest

from auditor.export.names import names_for
from auditor.model.digest import Digest
from auditor.model.image_graph import group
from auditor.model.oci import OCI_INDEX, Descriptor
from auditor.model.store import Image

TARGET = Digest.of(b"target")
TAG, OTHER = "docker.io/library/nginx:1.27", "registry.corp.example/nginx:1.27"
PINNED, ID = f"docker.io/library/nginx@{TARGET}", f"{Digest.of(b'config')}"
[NGINX] = group(Image(namespace="n", name=x, target=Descriptor(OCI_INDEX, TARGET, 9)) for x in (TAG, OTHER, PINNED, ID))


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ([TAG], (TAG,)),
        (["nginx:1.27"], (TAG,)),
        (["nginx:1.27", TAG], (TAG,)),
        ([OTHER, "docker.io/library/other:1"], (OTHER,)),
        ([TAG, OTHER], (TAG, OTHER)),
        ([PINNED], (PINNED,)),
        ([str(TARGET)], (TAG,)),
        ([ID], (TAG,)),
        ([ID[7:20]], (TAG,)),
    ],
)
def test_only_the_names_that_were_asked_for_go_in(asked: list[str], names: tuple[str, ...]) -> None:
    assert names_for(NGINX, asked=asked) == names


def test_all_names_and_new_names() -> None:
    assert names_for(NGINX, asked=[TAG], all_names=True) == NGINX.names
    assert names_for(NGINX, asked=[TAG], names=["web:2", "example.org/web:2"]) == (
        "docker.io/library/web:2",
        "example.org/web:2",
    )
