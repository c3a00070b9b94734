"""Platforms: parsing, normalising and matching by the rules of containerd's `platforms` package; no I/O."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from functools import cached_property, lru_cache

import msgspec

from auditor.errors import UsageError

# Patterns are compiled at their first use: most audits do without these.
_PART = r"[A-Za-z0-9_.-]+\Z"
_OS_PART = r"([A-Za-z0-9_-]+)(?:\(([A-Za-z0-9_.-]*)((?:\+[A-Za-z0-9_.-]+)*)\))?\Z"
_ARM64 = r"v(8|9(?!\.[89]))(?:\.([0-9]))?\Z"
#: No variant has three digits; the bound keeps `compatible` from building a huge list.
_NUMBER = r"[0-9]{1,2}\Z"
_BUILD = r"[0-9]{1,5}\Z"
_KNOWN_OS = frozenset(
    "aix android darwin dragonfly freebsd hurd illumos ios js linux nacl netbsd openbsd plan9 solaris windows "
    "zos".split()
)
_KNOWN_ARCH = frozenset(
    "386 amd64 amd64p32 arm armbe arm64 arm64be loong64 mips mipsle mips64 mips64le mips64p32 mips64p32le ppc ppc64 "
    "ppc64le riscv riscv64 s390 s390x sparc sparc64 wasm".split()
)

#: Variants that are usually written, or left out, although the normal form is another.
_DEFAULTS = frozenset({("arm64", "v8"), ("arm", "")})


class Platform(msgspec.Struct, frozen=True, order=True):
    """A platform; the fields of `platform` in OCI image-spec, image-index.md."""

    os: str = ""
    architecture: str = ""
    variant: str = ""
    os_version: str = ""
    os_features: tuple[str, ...] = ()

    @property
    def unknown(self) -> bool:
        """Whether this is the `unknown/unknown` that BuildKit gives attestations."""
        return self.os == "unknown" and self.architecture == "unknown"

    def __str__(self) -> str:
        options = "+".join((self.os_version, *self.os_features))
        os = f"{self.os}({options})" if options else self.os
        return "/".join(part for part in (os or "unknown", self.architecture or "unknown", self.variant) if part)


def _normalise(platform: Platform) -> Platform:
    """Return the normalised form of a platform; containerd platforms/database.go `normalizeOS`, `normalizeArch`."""
    os = platform.os.lower()
    os = "darwin" if os == "macos" else os
    arch, variant = _normalise_arch(platform.architecture.lower(), platform.variant.lower())
    features = tuple(sorted(set(platform.os_features)))
    return Platform(os=os, architecture=arch, variant=variant, os_version=platform.os_version, os_features=features)


#: The images of a node are for a handful of platforms.
normalise = lru_cache(maxsize=256)(_normalise)


def is_usual(platform: Platform) -> bool:
    """Whether a platform is written as Go names it, or with a default variant; containers/image finds no other.

    containers/image internal/pkg/platform/platform_matcher.go `WantedPlatforms`, `MatchesPlatform`.
    """
    known = normalise(platform)
    same = (platform.os, platform.architecture) == (known.os, known.architecture)
    return same and (platform.variant == known.variant or (platform.architecture, platform.variant) in _DEFAULTS)


def _normalise_arch(arch: str, variant: str) -> tuple[str, str]:
    match arch:
        case "i386":
            return "386", ""
        case "x86_64" | "x86-64" | "amd64":
            return "amd64", "" if variant == "v1" else variant
        case "aarch64" | "arm64":
            return "arm64", "" if variant in ("8", "v8", "v8.0") else "v9" if variant in (
                "9",
                "v9",
                "9.0",
                "v9.0",
            ) else variant
        case "armhf":
            return "arm", "v7"
        case "armel":
            return "arm", "v6"
        case "arm":
            return "arm", "v7" if variant in ("", "7") else f"v{variant}" if variant in ("5", "6", "8") else variant
        case _:
            return arch, variant


def host() -> Platform:
    """Return this machine's platform; ARM variants are taken from the kernel's machine name."""
    machine = os.uname().machine.lower()
    variant = {"armv5tel": "v5", "armv6l": "v6", "armv7l": "v7", "armv8l": "v8"}.get(machine, "")
    return normalise(
        Platform(os=os.uname().sysname.lower(), architecture="arm" if variant else machine, variant=variant)
    )


def parse(text: str, *, default: Platform | None = None) -> Platform:
    """Parse `os`, `arch`, `os/arch` or `os/arch/variant`, with `os(version)` for Windows; platforms.go `Parse`.

    Args:
        text: The platform as the user wrote it.
        default: The source of absent parts; the host by default.

    Raises:
        UsageError: The text is not a platform.

    """
    base = default or host()
    parts = text.split("/")
    if not 1 <= len(parts) <= 3 or not all(re.match(_PART, part) for part in parts[1:]):  # noqa: PLR2004 - os/arch/variant
        raise _bad(text)
    match = re.match(_OS_PART, parts[0])
    if match is None:
        raise _bad(text)
    os = Platform(os=match[1], os_version=match[2] or "", os_features=_features(match[3] or ""))
    if len(parts) > 1:
        return normalise(_with(os, parts[1], "".join(parts[2:])))
    as_os = normalise(_with(os, base.architecture, base.variant))
    if as_os.os in _KNOWN_OS:
        return as_os
    as_arch = normalise(Platform(os=base.os, architecture=os.os))
    if as_arch.architecture in _KNOWN_ARCH and "(" not in text:
        return as_arch
    raise _bad(text)


def _features(text: str) -> tuple[str, ...]:
    return tuple(feature for feature in text.split("+") if feature)


def _bad(text: str) -> UsageError:
    return UsageError(f"{text[:100]!r} is not a platform", hint="write os/arch or os/arch/variant, such as linux/arm64")


def compatible(wanted: Platform, *, legacy: bool = False) -> tuple[Platform, ...]:
    """Return the platforms that run on `wanted`, best first; containerd platforms/compare.go `platformVector`.

    Args:
        wanted: The platform.
        legacy: By the rules of containerd 1.x, for which arm64/v9 does not run arm64/v8.

    """
    wanted = normalise(wanted)
    match wanted.architecture:
        case "amd64":
            lower = [_with(wanted, "amd64", f"v{v}") for v in range(_level(wanted.variant) - 1, 0, -1)]
            vector = [wanted, *lower, _with(wanted, "386", "")]
        case "arm":
            vector = [wanted, *_arm(wanted, _level(wanted.variant) - 1)]
        case "arm64":
            vector = [wanted, *_arm(wanted, 8)] if legacy and wanted.variant else _arm64(wanted)
        case _:
            vector = [wanted]
    return tuple(normalise(p) for p in vector)


def _arm64(wanted: Platform) -> list[Platform]:
    """v9.N runs v9.M for M <= N and v8.M for M <= N+5; v8.N runs v8.M for M <= N; both run 32-bit v8 to v5.

    compare.go `arm64variantToVersion` ends at v8.9 and v9.7. A later variant matches nothing there, and itself here.
    """
    known = re.match(_ARM64, wanted.variant or "v8")
    if known is None:
        return [wanted]
    level = int(known[2] or "0")
    vector = [_with(wanted, "arm64", f"v9.{m}") for m in range(level, -1, -1)] if known[1] == "9" else []
    top = min(level + 5, 9) if known[1] == "9" else level
    vector += [_with(wanted, "arm64", f"v8.{m}") for m in range(top, -1, -1)]
    return vector + _arm(wanted, 8)


def _arm(wanted: Platform, level: int) -> list[Platform]:
    return [_with(wanted, "arm", f"v{v}") for v in range(level, 4, -1)]


def _level(variant: str) -> int:
    digits = variant.removeprefix("v")
    return int(digits) if re.match(_NUMBER, digits) else 1


def _with(platform: Platform, arch: str, variant: str) -> Platform:
    return msgspec.structs.replace(platform, architecture=arch, variant=variant)


class Matcher(msgspec.Struct, frozen=True, dict=True):
    """The wanted platforms, each with the platforms that run on it, best first; an empty tuple means all platforms.

    `legacy`: by the rules of containerd 1.x, which compares neither `os.features` nor, on Linux, versions of Windows.
    """

    wanted: tuple[tuple[Platform, ...], ...] = ()
    legacy: bool = False

    @property
    def everything(self) -> bool:
        """Whether every platform is wanted."""
        return not self.wanted

    def rank(self, platform: Platform) -> int | None:
        """Return the rank of `platform` among the wanted ones, 0 being the best; None where it does not match."""
        if self.everything:
            return 0
        if platform not in self._ranks:
            self._ranks[platform] = self._rank(normalise(platform))
        return self._ranks[platform]

    @cached_property
    def _ranks(self) -> dict[Platform, int | None]:
        """The ranks of the platforms that were asked for: a handful, for thousands of manifests."""
        return {}

    def _rank(self, found: Platform) -> int | None:
        ranks = [i for vector in self.wanted for i, p in enumerate(vector) if self._same(p, found)]
        return min(ranks, default=None)

    @cached_property
    def each(self) -> tuple[Matcher, ...]:
        """A matcher of each wanted platform by itself."""
        return tuple(Matcher((vector,), self.legacy) for vector in self.wanted)

    def choose(self, platforms: Sequence[Platform]) -> list[int]:
        """Return the indexes that a pull selects: the best match of each wanted platform.

        core/images/handlers.go `LimitManifests`, with a limit of 1.
        """
        if self.everything:
            return list(range(len(platforms)))
        chosen = {one.best(platforms) for one in self.each}
        return sorted(i for i in chosen if i is not None)

    def best(self, platforms: Sequence[Platform]) -> int | None:
        """Return the index of the platform of the lowest rank; among equals, of the one with the most OS features."""
        ranks = [self.rank(platform) for platform in platforms]
        known = [rank for rank in ranks if rank is not None]
        if not known:
            return None
        lowest = min(known)
        if self.legacy or known.count(lowest) == 1:
            return ranks.index(lowest)
        same = [i for i, rank in enumerate(ranks) if rank == lowest]
        return max(same, key=lambda i: len(normalise(platforms[i]).os_features))

    def _same(self, wanted: Platform, found: Platform) -> bool:
        """Whether `found` equals `wanted`; platforms.go `Match`. An empty OS is the daemon's, which is Linux."""
        os = (wanted.os or "linux", found.os or "linux")
        same = os[0] == os[1] and (wanted.architecture, wanted.variant) == (found.architecture, found.variant)
        if self.legacy or not same:
            return same
        if wanted.os == "windows":
            return _runs_windows(wanted.os_version, found.os_version)
        return set(found.os_features) <= set(wanted.os_features)


#: Builds of Windows from which on a release runs the containers of the long-term release before it.
_STABLE_BUILDS = (20348, 26100)


def _runs_windows(host: str, image: str) -> bool:
    """Whether a Windows runs an image; platform_windows_compat.go `checkWindowsHostAndContainerCompat`."""
    own, its = _windows_version(host), _windows_version(image)
    if own == (0, 0, 0) or not image:
        return True
    if own[:2] != its[:2] or own[2] < _STABLE_BUILDS[0]:
        return own == its
    oldest = max((build for build in _STABLE_BUILDS if build < own[2]), default=_STABLE_BUILDS[0])
    return oldest <= its[2] <= own[2]


def _windows_version(text: str) -> tuple[int, int, int]:
    """Return major, minor and build; zeros where the text has not all three, which match any host's."""
    parts = [int(part) for part in text.split(".")[:3] if re.match(_BUILD, part)]
    return (parts[0], parts[1], parts[2]) if len(parts) == 3 else (0, 0, 0)  # noqa: PLR2004 - major.minor.build


def only(platforms: Iterable[Platform], *, legacy: bool = False) -> Matcher:
    """Return a matcher of `platforms` and the platforms that run on them; containerd platforms.Only.

    Args:
        platforms: The wanted platforms.
        legacy: By the rules of containerd 1.x.

    """
    return Matcher(wanted=tuple(compatible(p, legacy=legacy) for p in platforms), legacy=legacy)


EVERYTHING = Matcher()
