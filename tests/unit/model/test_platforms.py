"""Platforms by containerd's rules: the literal expectations are read off its platforms package."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from auditor.errors import UsageError
from auditor.model.platforms import EVERYTHING, Platform, compatible, host, normalise, only, parse

LINUX_AMD64 = Platform("linux", "amd64")
ARM64_V9_5 = (
    "arm64/v9.5 arm64/v9.4 arm64/v9.3 arm64/v9.2 arm64/v9.1 arm64/v9 arm64/v8.9 arm64/v8.8 arm64/v8.7 arm64/v8.6 "
    "arm64/v8.5 arm64/v8.4 arm64/v8.3 arm64/v8.2 arm64/v8.1 arm64 arm/v8 arm/v7 arm/v6 arm/v5"
)
WORDS = st.one_of(
    st.sampled_from(
        "linux windows macOS darwin amd64 x86_64 x86-64 AArch64 arm64 armhf armel arm 386 i386 riscv64 unknown "
        "v1 v2 v3 v5 v6 v7 v8 v8.0 v8.5 v9 9.0 v9.2 v9.9 8 7 v99 v100 v-1 v8.999999999 İ".split()
    ),
    st.text(max_size=8),
)
PLATFORMS = st.builds(
    Platform,
    os=WORDS,
    architecture=WORDS,
    variant=WORDS | st.just(""),
    os_version=st.sampled_from(["", "10.0.17763.1", "10.0"]),
    os_features=st.lists(st.sampled_from(["win32k", "erofs", ""])).map(tuple),
)


# database.go, normalizeOS and normalizeArch
@pytest.mark.parametrize(
    ("given_os", "arch", "variant", "wanted"),
    [
        ("Linux", "AMD64", "", ("linux", "amd64", "")),
        ("macos", "x86_64", "", ("darwin", "amd64", "")),
        ("linux", "x86-64", "V1", ("linux", "amd64", "")),
        ("linux", "amd64", "v2", ("linux", "amd64", "v2")),
        ("linux", "i386", "v9", ("linux", "386", "")),
        ("linux", "aarch64", "", ("linux", "arm64", "")),
        ("linux", "arm64", "8", ("linux", "arm64", "")),
        ("linux", "arm64", "v8", ("linux", "arm64", "")),
        ("linux", "arm64", "v8.0", ("linux", "arm64", "")),
        ("linux", "arm64", "v8.1", ("linux", "arm64", "v8.1")),
        ("linux", "arm64", "9", ("linux", "arm64", "v9")),
        ("linux", "arm64", "9.0", ("linux", "arm64", "v9")),
        ("linux", "arm64", "v9.0", ("linux", "arm64", "v9")),
        ("linux", "armhf", "", ("linux", "arm", "v7")),
        ("linux", "armel", "v8", ("linux", "arm", "v6")),
        ("linux", "arm", "", ("linux", "arm", "v7")),
        ("linux", "arm", "7", ("linux", "arm", "v7")),
        ("linux", "arm", "5", ("linux", "arm", "v5")),
        ("linux", "arm", "6", ("linux", "arm", "v6")),
        ("linux", "arm", "8", ("linux", "arm", "v8")),
        ("linux", "s390x", "z13", ("linux", "s390x", "z13")),
        ("", "", "", ("", "", "")),
    ],
)
def test_normalising(given_os: str, arch: str, variant: str, wanted: tuple[str, str, str]) -> None:
    found = normalise(Platform(given_os, arch, variant))
    assert (found.os, found.architecture, found.variant) == wanted


# compare.go, platformVector
@pytest.mark.parametrize(
    ("wanted", "runs"),
    [
        ("amd64", "amd64 386"),
        ("amd64/v1", "amd64 386"),
        ("amd64/v2", "amd64/v2 amd64 386"),
        ("amd64/v4", "amd64/v4 amd64/v3 amd64/v2 amd64 386"),
        ("386", "386"),
        ("arm/v8", "arm/v8 arm/v7 arm/v6 arm/v5"),
        ("arm", "arm/v7 arm/v6 arm/v5"),
        ("arm/v6", "arm/v6 arm/v5"),
        ("arm/v5", "arm/v5"),
        ("arm/v4", "arm/v4"),
        ("arm64", "arm64 arm/v8 arm/v7 arm/v6 arm/v5"),
        ("arm64/v8.2", "arm64/v8.2 arm64/v8.1 arm64 arm/v8 arm/v7 arm/v6 arm/v5"),
        (
            "arm64/v9",
            "arm64/v9 arm64/v8.5 arm64/v8.4 arm64/v8.3 arm64/v8.2 arm64/v8.1 arm64 arm/v8 arm/v7 arm/v6 arm/v5",
        ),
        ("arm64/v9.5", ARM64_V9_5),
        ("ppc64le", "ppc64le"),
        ("riscv64/rva23", "riscv64/rva23"),
        # No such variant in containerd's tables: there nothing matches, here the very same.
        ("arm64/v8.10", "arm64/v8.10"),
        ("arm64/v9.8", "arm64/v9.8"),
        ("arm64/v8.999999999", "arm64/v8.999999999"),
        ("amd64/v999999999", "amd64/v999999999 386"),
    ],
)
def test_what_runs_on_what(wanted: str, runs: str) -> None:
    assert [str(p) for p in compatible(parse(f"linux/{wanted}"))] == [f"linux/{name}" for name in runs.split()]


# platforms.go, Parse
@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("linux", Platform("linux", "arm64", "v9")),
        ("macos", Platform("darwin", "arm64", "v9")),
        ("amd64", Platform("plan9", "amd64")),
        ("aarch64", Platform("plan9", "arm64")),
        ("armhf", Platform("plan9", "arm", "v7")),
        ("linux/armel", Platform("linux", "arm", "v6")),
        ("linux/arm64/v8", Platform("linux", "arm64")),
        ("Linux/X86_64", Platform("linux", "amd64")),
        ("windows(10.0.17763)/amd64", Platform("windows", "amd64", "", "10.0.17763")),
        ("windows(10.0.17763+win32k)/amd64", Platform("windows", "amd64", "", "10.0.17763", ("win32k",))),
        ("windows(10.0.17763)", Platform("windows", "arm64", "v9", "10.0.17763")),
        ("linux(+erofs+a)/amd64", Platform("linux", "amd64", "", "", ("a", "erofs"))),
        ("made-up/machine/x", Platform("made-up", "machine", "x")),
    ],
)
def test_parsing(text: str, wanted: Platform) -> None:
    assert parse(text, default=Platform("plan9", "arm64", "v9")) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "linux/",
        "/amd64",
        "linux/amd64/v1/x",
        "*",
        "linux/*",
        "no-such-thing",
        "amd64(1)",
        "linux amd64",
        "linux/amd64\n",
        "linux(1/amd64",
        "linux/\N{ARABIC-INDIC DIGIT THREE}86",
        "a" * 5000,
    ],
)
def test_what_is_no_platform_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse(text)
    assert len(refused.value.message) < 200
    assert "linux/arm64" in refused.value.hint


@given(st.one_of(st.text(), st.from_regex(r"[a-z(+./v0-9*%]{0,12}(/[a-z0-9.]{0,5}){0,4}")))
@example("linux/arm64/v8." + "9" * 5000)
@example("linux/amd64/v" + "9" * 5000)
def test_any_text_is_a_platform_or_refused_and_its_vector_is_short(text: str) -> None:
    try:
        found = parse(text)
    except UsageError:
        return
    assert parse(str(found)) == found
    assert len(compatible(found)) < 120


@given(PLATFORMS)
def test_normalising_twice_changes_nothing(platform: Platform) -> None:
    once = normalise(platform)
    assert normalise(once) == once


@given(PLATFORMS)
def test_a_platform_runs_itself_first_and_all_in_its_vector(platform: Platform) -> None:
    vector = compatible(platform)
    assert vector[0] == normalise(platform)
    assert len(set(vector)) == len(vector)
    assert all(normalise(member) == member for member in vector)
    matcher = only([platform])
    assert [matcher.rank(member) for member in vector] == list(range(len(vector)))


@given(PLATFORMS)
def test_a_platform_prints_as_it_is_read_or_is_refused(platform: Platform) -> None:
    try:
        read = parse(str(platform))
    except UsageError:
        return
    assert parse(str(read)) == read


@given(st.lists(PLATFORMS, max_size=6), st.lists(PLATFORMS, min_size=1, max_size=3))
def test_what_a_pull_takes_matches_and_is_one_for_each_wanted_at_most(
    offered: list[Platform], wanted: list[Platform]
) -> None:
    matcher = only(wanted)
    chosen = matcher.choose(offered)
    assert chosen == sorted(set(chosen))
    assert len(chosen) <= len(wanted)
    assert all(matcher.rank(offered[i]) is not None for i in chosen)
    assert bool(chosen) == any(matcher.rank(platform) is not None for platform in offered)
    assert EVERYTHING.choose(offered) == list(range(len(offered)))


@pytest.mark.parametrize(
    ("wanted", "offered", "chosen"),
    [
        ("linux/amd64", "linux/386 linux/amd64 linux/arm64", [1]),
        ("linux/amd64", "linux/386 linux/arm64", [0]),
        ("linux/amd64/v3", "linux/amd64 linux/amd64/v2 linux/amd64/v4", [1]),
        ("linux/amd64", "linux/amd64/v2 linux/amd64/v3", []),
        ("linux/amd64", "linux/amd64 linux/amd64", [0]),
        ("linux/arm64", "linux/arm/v7 linux/arm64/v8", [1]),
        ("linux/arm64", "linux/arm/v5 linux/arm/v7", [1]),
        ("linux/arm64", "linux/arm64/v9", []),
        ("linux/arm/v7", "linux/arm/v6 linux/arm/v8 linux/arm64", [0]),
        ("linux/amd64", "windows/amd64 darwin/amd64 unknown/unknown", []),
        ("linux/s390x", "linux/s390x", [0]),
    ],
)
def test_which_of_an_index_a_pull_takes(wanted: str, offered: str, chosen: list[int]) -> None:
    assert only([parse(wanted)]).choose([parse(text) for text in offered.split()]) == chosen


def test_two_wanted_platforms_take_one_each() -> None:
    matcher = only([parse("linux/amd64"), parse("linux/arm64")])
    offered = [parse(text) for text in ("linux/arm/v7", "linux/arm64", "linux/386", "linux/amd64")]
    assert matcher.choose(offered) == [1, 3]


def test_a_platform_without_a_system_is_the_nodes_own() -> None:
    matcher = only([LINUX_AMD64])
    assert matcher.rank(Platform("", "amd64")) == 0
    assert matcher.rank(Platform("", "")) is None
    assert matcher.rank(Platform("", "arm64")) is None


def test_features_must_be_offered_and_the_most_of_them_win() -> None:
    node = Platform("linux", "amd64", os_features=("erofs", "x"))
    plain, erofs, other = (msgspec.structs.replace(LINUX_AMD64, os_features=f) for f in ((), ("erofs",), ("y",)))
    assert only([node]).choose([other, plain, erofs]) == [2]
    assert only([LINUX_AMD64]).choose([other, erofs, plain]) == [2]
    assert only([LINUX_AMD64]).rank(erofs) is None


# platform_windows_compat.go, and what `ctr images mount --platform` of 2.1.9 takes
@pytest.mark.parametrize(
    ("node", "image", "matches"),
    [
        ("10.0.17763.1", "10.0.17763.9", True),
        ("10.0.17763.1", "10.0.20348.2", False),
        ("10.0.17763", "6.3.9600", False),
        ("10.0.17763", "6.3.17763", False),
        ("10.0.17763", "", True),
        ("", "10.0.17763", True),
        ("10.0", "10.0.17763.2", True),
        ("10.0.17763", "10.0", False),
        ("10.0.20348", "10.0.17763.2", False),
        ("10.0.20348", "10.0.20348.9", True),
        ("10.0.25398", "10.0.20348.1", True),
        ("10.0.26100", "10.0.20348.2", True),
        ("10.0.26100", "10.0.17763.2", False),
        ("10.0.26100", "10.0.26200.1", False),
        ("10.0.26200", "10.0.26100.1", True),
        ("10.0.26200", "10.0.20348.1", False),
        ("10.1.20348", "10.0.20348", False),
    ],
)
def test_windows_runs_its_own_build_and_what_later_ones_are_stable_for(node: str, image: str, matches: bool) -> None:
    found = only([Platform("windows", "amd64", "", node)]).rank(Platform("windows", "amd64", "", image, ("win32k",)))
    assert (found is not None) is matches


# What `ctr images mount --platform` of 1.6.20 and 1.7.24 takes
def test_containerd_1_compares_no_features_and_no_versions_and_knows_no_arm64_v9() -> None:
    erofs = msgspec.structs.replace(LINUX_AMD64, os_features=("erofs",))
    assert only([LINUX_AMD64], legacy=True).choose([erofs, LINUX_AMD64]) == [0]
    assert only([LINUX_AMD64], legacy=True).choose([LINUX_AMD64, erofs]) == [0]
    host_version, image_version = (Platform("windows", "amd64", "", version) for version in ("10.0.1", "6.3.9600"))
    assert only([host_version], legacy=True).rank(image_version) == 0
    names = [str(each) for each in compatible(parse("linux/arm64/v9"), legacy=True)]
    assert names == ["linux/arm64/v9", "linux/arm/v8", "linux/arm/v7", "linux/arm/v6", "linux/arm/v5"]
    assert compatible(parse("linux/arm64"), legacy=True) == compatible(parse("linux/arm64"))
    assert only([parse("linux/arm64/v9")], legacy=True).rank(parse("linux/arm64/v8")) is None
    assert only([parse("linux/arm64/v9")]).rank(parse("linux/arm64/v8")) is not None


def test_the_host_is_a_platform_in_its_one_spelling() -> None:
    assert normalise(host()) == host()
    assert parse(str(host())) == host()
    assert str(Platform()) == "unknown/unknown"
    assert Platform("unknown", "unknown").unknown
    assert not LINUX_AMD64.unknown
