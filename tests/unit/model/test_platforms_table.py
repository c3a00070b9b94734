"""Platforms, one row a branch: whole platforms, vectors, ranks and positions are compared."""

from __future__ import annotations

import os

import msgspec
import pytest

from auditor.errors import UsageError
from auditor.model.platforms import EVERYTHING, Matcher, Platform, compatible, host, is_usual, normalise, only, parse

HOST = Platform("plan9", "arm64", "v9")
HINT = "write os/arch or os/arch/variant, such as linux/arm64"


def of(text: str) -> Platform:
    """A platform from `os/arch/variant` as it is written, not normalised."""
    system, architecture, *variant = text.split("/")
    return Platform(system, architecture, "".join(variant))


@pytest.mark.parametrize(
    ("platform", "text", "unknown"),
    [
        pytest.param(Platform(), "unknown/unknown", False, id="nothing"),
        pytest.param(Platform("linux"), "linux/unknown", False, id="a system"),
        pytest.param(Platform("", "arm64"), "unknown/arm64", False, id="an architecture"),
        pytest.param(Platform("", "", "v8"), "unknown/unknown/v8", False, id="a variant"),
        pytest.param(Platform("linux", "arm", "v7"), "linux/arm/v7", False, id="all"),
        pytest.param(Platform("windows", "amd64", "", "10.0"), "windows(10.0)/amd64", False, id="a version"),
        pytest.param(
            Platform("windows", "amd64", "", "10.0", ("a", "b")), "windows(10.0+a+b)/amd64", False, id="features"
        ),
        pytest.param(Platform("linux", "amd64", "", "", ("a",)), "linux(+a)/amd64", False, id="features, no version"),
        pytest.param(Platform("unknown", "unknown"), "unknown/unknown", True, id="BuildKit's unknown"),
        pytest.param(Platform("unknown", "amd64"), "unknown/amd64", False, id="unknown system alone"),
        pytest.param(Platform("linux", "unknown"), "linux/unknown", False, id="unknown architecture alone"),
    ],
)
def test_text_and_unknown(platform: Platform, text: str, unknown: bool) -> None:
    assert (str(platform), platform.unknown) == (text, unknown)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        pytest.param("LINUX/AMD64/V3", "linux/amd64/v3", id="lower case"),
        pytest.param("macos/x86_64/", "darwin/amd64/", id="macos, x86_64"),
        pytest.param("darwin/x86-64/", "darwin/amd64/", id="x86-64"),
        pytest.param("linux/i386/v9", "linux/386/", id="i386 has no variant"),
        pytest.param("linux/386/v9", "linux/386/v9", id="386 keeps its variant"),
        pytest.param("linux/amd64/v1", "linux/amd64/", id="amd64 v1"),
        pytest.param("linux/amd64/v2", "linux/amd64/v2", id="amd64 v2"),
        pytest.param("linux/amd64/1", "linux/amd64/1", id="amd64 1"),
        pytest.param("linux/aarch64/v8", "linux/arm64/", id="aarch64"),
        pytest.param("linux/arm64/", "linux/arm64/", id="arm64"),
        pytest.param("linux/arm64/8", "linux/arm64/", id="arm64 8"),
        pytest.param("linux/arm64/v8", "linux/arm64/", id="arm64 v8"),
        pytest.param("linux/arm64/v8.0", "linux/arm64/", id="arm64 v8.0"),
        pytest.param("linux/arm64/8.0", "linux/arm64/8.0", id="arm64 8.0"),
        pytest.param("linux/arm64/v8.1", "linux/arm64/v8.1", id="arm64 v8.1"),
        pytest.param("linux/arm64/9", "linux/arm64/v9", id="arm64 9"),
        pytest.param("linux/arm64/v9", "linux/arm64/v9", id="arm64 v9"),
        pytest.param("linux/arm64/9.0", "linux/arm64/v9", id="arm64 9.0"),
        pytest.param("linux/arm64/v9.0", "linux/arm64/v9", id="arm64 v9.0"),
        pytest.param("linux/arm64/v9.1", "linux/arm64/v9.1", id="arm64 v9.1"),
        pytest.param("linux/armhf/v5", "linux/arm/v7", id="armhf"),
        pytest.param("linux/armel/v5", "linux/arm/v6", id="armel"),
        pytest.param("linux/arm/", "linux/arm/v7", id="arm"),
        pytest.param("linux/arm/7", "linux/arm/v7", id="arm 7"),
        pytest.param("linux/arm/5", "linux/arm/v5", id="arm 5"),
        pytest.param("linux/arm/6", "linux/arm/v6", id="arm 6"),
        pytest.param("linux/arm/8", "linux/arm/v8", id="arm 8"),
        pytest.param("linux/arm/v6", "linux/arm/v6", id="arm v6"),
        pytest.param("linux/arm/4", "linux/arm/4", id="arm 4"),
        pytest.param("linux/s390x/z13", "linux/s390x/z13", id="another"),
    ],
)
def test_one_spelling(given: str, wanted: str) -> None:
    assert normalise(of(given)) == of(wanted)


@pytest.mark.parametrize(
    ("written", "usual"),
    [
        ("linux/amd64/", True),
        ("linux/x86_64/", False),
        ("Linux/amd64/", False),
        ("macos/arm64/", False),
        ("linux/amd64/v2", True),
        ("linux/arm64/v8", True),
        ("linux/arm64/8", False),
        ("linux/arm64/9", False),
        ("linux/aarch64/v8", False),
        ("linux/arm/v7", True),
        ("linux/arm/", True),
        ("linux/amd64/v1", False),
        ("linux/arm/7", False),
        ("linux/armhf/v7", False),
    ],
)
def test_usual_spellings(written: str, usual: bool) -> None:
    assert is_usual(of(written)) is usual


def test_version_is_kept_and_features_are_sorted_once_each() -> None:
    given = Platform("Windows", "AMD64", "V2", "10.0.A", ("b", "a", "b"))
    assert normalise(given) == Platform("windows", "amd64", "v2", "10.0.A", ("a", "b"))


@pytest.mark.parametrize(
    ("system", "machine", "wanted"),
    [
        pytest.param("Linux", "x86_64", "linux/amd64/", id="amd64"),
        pytest.param("Linux", "aarch64", "linux/arm64/", id="arm64"),
        pytest.param("Linux", "armv5tel", "linux/arm/v5", id="armv5tel"),
        pytest.param("Linux", "armv6l", "linux/arm/v6", id="armv6l"),
        pytest.param("Linux", "ARMV7L", "linux/arm/v7", id="armv7l"),
        pytest.param("Linux", "armv8l", "linux/arm/v8", id="armv8l"),
        pytest.param("FreeBSD", "riscv64", "freebsd/riscv64/", id="another"),
    ],
)
def test_host(system: str, machine: str, wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "uname", lambda: os.uname_result((system, "node", "6", "1", machine)))
    assert host() == of(wanted)
    assert parse("linux") == normalise(Platform("linux", of(wanted).architecture, of(wanted).variant))


SYSTEMS = (
    "aix android darwin dragonfly freebsd hurd illumos ios js linux nacl netbsd openbsd plan9 solaris windows zos"
).split()
ARCHITECTURES = (
    "386 amd64 amd64p32 arm64 arm64be armbe loong64 mips mips64 mips64le mips64p32 mips64p32le mipsle ppc ppc64 "
    "ppc64le riscv riscv64 s390 s390x sparc sparc64 wasm"
).split()


@pytest.mark.parametrize("name", SYSTEMS)
def test_each_known_system_alone(name: str) -> None:
    assert parse(name, default=HOST) == Platform(name, "arm64", "v9")


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_each_known_architecture_alone(name: str) -> None:
    assert parse(name, default=HOST) == Platform("plan9", name)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        pytest.param("linux", Platform("linux", "arm64", "v9"), id="a system"),
        pytest.param("MacOS", Platform("darwin", "arm64", "v9"), id="a system by another name"),
        pytest.param("windows(10.0)", Platform("windows", "arm64", "v9", "10.0"), id="a system with a version"),
        pytest.param("arm", Platform("plan9", "arm", "v7"), id="an architecture"),
        pytest.param("x86_64", Platform("plan9", "amd64"), id="an architecture by another name"),
        pytest.param("linux/AMD64", Platform("linux", "amd64"), id="two parts"),
        pytest.param("linux/arm/6", Platform("linux", "arm", "v6"), id="three parts"),
        pytest.param("x/y/z", Platform("x", "y", "z"), id="parts that nobody knows"),
        pytest.param("a_b-c9/y.z_-9/v.1", Platform("a_b-c9", "y.z_-9", "v.1"), id="every character allowed"),
        pytest.param("windows(10.0_a-b)/y", Platform("windows", "y", "", "10.0_a-b"), id="a version"),
        pytest.param("windows()/y", Platform("windows", "y"), id="an empty version"),
        pytest.param("windows(+b+a+b)/y", Platform("windows", "y", "", "", ("a", "b")), id="features"),
        pytest.param("windows(1+b.c_d-e)/y", Platform("windows", "y", "", "1", ("b.c_d-e",)), id="both"),
    ],
)
def test_parsing(text: str, wanted: Platform) -> None:
    assert parse(text, default=HOST) == wanted


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("/amd64", id="no system"),
        pytest.param("linux/", id="no architecture"),
        pytest.param("linux/arm/", id="no variant"),
        pytest.param("linux/arm/v7/x", id="four parts"),
        pytest.param("linux/a b", id="a space in an architecture"),
        pytest.param("linux/arm/v 7", id="a space in a variant"),
        pytest.param("li nux/arm", id="a space in a system"),
        pytest.param("li.nux/arm", id="a dot in a system"),
        pytest.param("linux/arm\n", id="a newline"),
        pytest.param("linux/ärm", id="another alphabet"),
        pytest.param("linux(1/arm", id="a parenthesis that is not closed"),
        pytest.param("linux(1)x/arm", id="something behind the parenthesis"),
        pytest.param("linux(1+)/arm", id="an empty feature"),
        pytest.param("linux(1", id="a system alone, not closed"),
        pytest.param("nonesuch", id="neither a system nor an architecture"),
        pytest.param("amd64(1)", id="an architecture with a version"),
        pytest.param("unknown", id="unknown alone"),
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse(text, default=HOST)
    assert (refused.value.message, refused.value.hint) == (f"{text!r} is not a platform", HINT)


def test_a_refused_text_is_shown_in_part() -> None:
    with pytest.raises(UsageError) as refused:
        parse("/" * 200, default=HOST)
    assert refused.value.message == f"{'/' * 100!r} is not a platform"


ARM = "arm/v8 arm/v7 arm/v6 arm/v5"


@pytest.mark.parametrize(
    ("wanted", "runs"),
    [
        pytest.param("amd64", "amd64 386", id="amd64"),
        pytest.param("amd64/v2", "amd64/v2 amd64 386", id="amd64 v2"),
        pytest.param("amd64/v3", "amd64/v3 amd64/v2 amd64 386", id="amd64 v3"),
        pytest.param("amd64/v11", " ".join(f"amd64/v{n}" for n in range(11, 1, -1)) + " amd64 386", id="amd64 v11"),
        pytest.param("amd64/v100", "amd64/v100 386", id="amd64 of three digits"),
        pytest.param("amd64/x", "amd64/x 386", id="amd64 of no number"),
        pytest.param("amd64/3", "amd64/3 amd64/v2 amd64 386", id="amd64 without the v"),
        pytest.param("386", "386", id="386"),
        pytest.param("arm/v8", ARM, id="arm v8"),
        pytest.param("arm/v7", "arm/v7 arm/v6 arm/v5", id="arm v7"),
        pytest.param("arm/v6", "arm/v6 arm/v5", id="arm v6"),
        pytest.param("arm/v5", "arm/v5", id="arm v5"),
        pytest.param("arm/v4", "arm/v4", id="arm v4"),
        pytest.param("arm/x", "arm/x", id="arm of no number"),
        pytest.param("arm64", f"arm64 {ARM}", id="arm64"),
        pytest.param("arm64/v8.1", f"arm64/v8.1 arm64 {ARM}", id="arm64 v8.1"),
        pytest.param(
            "arm64/v8.9", f"{' '.join(f'arm64/v8.{n}' for n in range(9, 0, -1))} arm64 {ARM}", id="arm64 v8.9"
        ),
        pytest.param("arm64/v8.10", "arm64/v8.10", id="arm64 v8.10"),
        pytest.param(
            "arm64/v9", f"arm64/v9 {' '.join(f'arm64/v8.{n}' for n in range(5, 0, -1))} arm64 {ARM}", id="arm64 v9"
        ),
        pytest.param(
            "arm64/v9.2",
            f"arm64/v9.2 arm64/v9.1 arm64/v9 {' '.join(f'arm64/v8.{n}' for n in range(7, 0, -1))} arm64 {ARM}",
            id="arm64 v9.2",
        ),
        pytest.param(
            "arm64/v9.7",
            f"{' '.join(f'arm64/v9.{n}' for n in range(7, 0, -1))} arm64/v9 "
            f"{' '.join(f'arm64/v8.{n}' for n in range(9, 0, -1))} arm64 {ARM}",
            id="arm64 v9.7, where v8 ends at v8.9",
        ),
        pytest.param("arm64/v9.8", "arm64/v9.8", id="arm64 v9.8"),
        pytest.param("arm64/v9.9", "arm64/v9.9", id="arm64 v9.9"),
        pytest.param("arm64/v7", "arm64/v7", id="arm64 v7"),
        pytest.param("riscv64/x", "riscv64/x", id="another"),
    ],
)
def test_vectors(wanted: str, runs: str) -> None:
    found = compatible(versioned(f"Linux/{wanted}"))
    assert found == tuple(versioned(f"linux/{name}") for name in runs.split())


def versioned(text: str) -> Platform:
    """A platform with a version and a feature, which each member of a vector keeps."""
    return msgspec.structs.replace(of(text), os_version="1", os_features=("a",))


LINUX = Platform("linux", "amd64")
WINDOWS = Platform("windows", "amd64", "", "10.0.17763.1")


def windows(version: str, *features: str) -> Platform:
    return Platform("windows", "amd64", "", version, features)


def featured(*features: str) -> Platform:
    return Platform("linux", "amd64", "", "", features)


@pytest.mark.parametrize(
    ("wanted", "found", "rank"),
    [
        pytest.param((LINUX,), LINUX, 0, id="the same"),
        pytest.param((LINUX,), of("Linux/x86_64"), 0, id="the same in another spelling"),
        pytest.param((LINUX,), of("linux/386"), 1, id="the next best"),
        pytest.param((of("linux/arm64"),), of("linux/arm/v5"), 4, id="the last of a vector"),
        pytest.param((LINUX,), of("darwin/amd64"), None, id="another system"),
        pytest.param((LINUX,), of("linux/arm64"), None, id="another architecture"),
        pytest.param((LINUX,), of("linux/amd64/v2"), None, id="another variant"),
        pytest.param((LINUX,), Platform("", "amd64"), 0, id="no system"),
        pytest.param((LINUX,), Platform("", "386"), 1, id="no system, the next best"),
        pytest.param((LINUX,), Platform("", ""), None, id="nothing"),
        pytest.param((of("linux/arm64"), of("linux/arm/v6")), of("linux/arm/v6"), 0, id="the better of two"),
        pytest.param((of("linux/arm/v6"), of("linux/arm64")), of("linux/arm/v7"), 2, id="the only one of two"),
        pytest.param((), of("linux/amd64"), 0, id="everything"),
        pytest.param((featured("a", "b"),), featured("a"), 0, id="a feature that is offered"),
        pytest.param((featured("a"),), featured("a", "b"), None, id="a feature that is not offered"),
        pytest.param((featured("a"),), of("linux/arm64"), None, id="features of another architecture"),
        pytest.param((WINDOWS,), windows("10.0.20348.9"), None, id="windows, another build"),
        pytest.param((WINDOWS,), windows("10.1.17763.1"), None, id="windows, another minor"),
        pytest.param((WINDOWS,), windows("11.0.17763.1"), None, id="windows, another major"),
        pytest.param((WINDOWS,), windows(""), 0, id="windows, no version in the image"),
        pytest.param((windows(""),), windows("11.0"), 0, id="windows, no version of the node"),
        pytest.param((WINDOWS,), windows("10.0.17763.9", "win32k"), 0, id="windows asks for no features"),
        pytest.param((WINDOWS,), of("linux/amd64"), None, id="linux on windows"),
        pytest.param((WINDOWS,), Platform("windows", "arm64"), None, id="windows, another architecture"),
        pytest.param((LINUX,), Platform("linux", "amd64", "", "5.4"), 0, id="linux asks for no version"),
    ],
)
def test_ranks(wanted: tuple[Platform, ...], found: Platform, rank: int | None) -> None:
    matcher = only(wanted)
    assert (matcher.rank(found), matcher.everything) == (rank, not wanted)


@pytest.mark.parametrize(
    ("wanted", "offered", "chosen"),
    [
        pytest.param("linux/amd64", "linux/386 linux/amd64 linux/arm64", [1], id="the best match"),
        pytest.param("linux/amd64", "linux/arm64 linux/386", [1], id="the next best"),
        pytest.param("linux/amd64", "linux/amd64 linux/amd64", [0], id="the first of equals"),
        pytest.param("linux/amd64", "linux/arm64", [], id="none"),
        pytest.param("linux/amd64", "", [], id="none offered"),
        pytest.param("linux/arm64 linux/amd64", "linux/amd64 linux/386 linux/arm64", [0, 2], id="one for each wanted"),
        pytest.param("linux/amd64 linux/386", "linux/386", [0], id="one for two"),
        pytest.param("linux/amd64 linux/arm64", "linux/386", [0], id="one of two is absent"),
        pytest.param("linux/amd64", "Linux/X86-64", [0], id="another spelling"),
        pytest.param("", "linux/amd64 linux/arm64 linux/386", [0, 1, 2], id="everything"),
    ],
)
def test_what_a_pull_takes(wanted: str, offered: str, chosen: list[int]) -> None:
    assert only([of(text) for text in wanted.split()]).choose([of(text) for text in offered.split()]) == chosen


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        pytest.param([featured(), featured("a")], [1], id="one feature before none"),
        pytest.param([featured("b", "a"), featured("a"), featured()], [0], id="two before one"),
        pytest.param([featured("a"), featured("b")], [0], id="the first of equals"),
        pytest.param([featured("c"), featured()], [1], id="what is not offered is passed over"),
        pytest.param([Platform("linux", "386", os_features=("a",)), featured()], [1], id="the architecture first"),
    ],
)
def test_features_decide_among_equals(offered: list[Platform], chosen: list[int]) -> None:
    assert only([featured("a", "b")]).choose(offered) == chosen


def test_ranks_of_one_matcher_do_not_depend_on_what_it_was_asked_before() -> None:
    matcher = only([LINUX])
    asked = [of("Linux/x86_64"), LINUX, of("linux/386"), of("linux/arm64"), LINUX, of("linux/arm64"), of("linux/386")]
    assert [matcher.rank(each) for each in asked] == [0, 0, 1, None, 0, None, 1]


def test_each_wanted_platform_by_itself() -> None:
    both = only([LINUX, of("linux/arm64")], legacy=True)
    assert both.each == (only([LINUX], legacy=True), only([of("linux/arm64")], legacy=True))
    assert EVERYTHING.each == ()


def test_repeated_features_count_once() -> None:
    offered = [featured("a", "a"), featured("b", "a")]
    assert only([featured("a", "b")]).choose(offered) == [1]


def test_the_matcher_of_some_platforms_and_of_all() -> None:
    assert only([LINUX]) == Matcher(wanted=((LINUX, of("linux/386")),))
    assert EVERYTHING == Matcher(wanted=()) == only([])
