"""Messages about what comes over the network: downloads that are wrong, registries that refuse or are not there."""

from __future__ import annotations

from auditor.diagnose.messages.message import CHECK, HERE, NOTHING_STORED, PAST_PROXY, Known, Sure

_STALE = "auditor check  # lists uploads that do not move any more"
_AGAIN = "# pull again; the broken download is not kept"
_OTHER = "auditor repair {image} --from namespace --from archive:PATH --dry-run  # needs no registry"
_LOOK = "skopeo inspect docker://{image}"
_PULL = "The pull, and repairing from this registry."

TRANSFER: tuple[Known, ...] = (
    Known(
        id="empty-download",
        anchors=("unexpected commit digest sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",),
        says="Nothing at all arrived: the digest computed is that of no bytes.",
        cause="a registry, proxy or mirror answered with an empty body",
        breaks=NOTHING_STORED,
        fine=HERE,
        do=(PAST_PROXY, _STALE, _AGAIN),
        source="plugins/content/local/writer.go Commit; github.com/containerd/containerd/issues/3974, /issues/1893",
    ),
    Known(
        id="commit-digest",
        anchors=("unexpected commit digest",),
        says="The bytes that arrived do not hash to the digest that was asked for.",
        cause="a registry, proxy or mirror changed the download or cut it short, or a damaged upload was resumed",
        fits=("stale-ingest",),
        breaks=NOTHING_STORED,
        fine=HERE,
        do=(
            _STALE,
            PAST_PROXY,
            "ctr -n {namespace} content abort layer-{digest}  # drops what was resumed; then pull again",
        ),
        source="plugins/content/local/writer.go Commit; github.com/containerd/containerd/issues/1893, "
        "Azure/k8s-gitops#373",
    ),
    Known(
        id="commit-size",
        anchors=("failed size validation", "unexpected commit size"),
        pattern=r"failed size validation: \d+ != \d+|unexpected commit size",
        says="The download has another length than the descriptor says.",
        cause="a registry, proxy or mirror sent more or less than the blob: an error page, or another blob; or an "
        "upload that holds such bytes was resumed",
        breaks=NOTHING_STORED,
        fine=HERE,
        do=(
            _STALE,
            PAST_PROXY,
            "ctr -n {namespace} content abort layer-{digest}  # drops what was resumed; then pull again",
        ),
        source="core/metadata/content.go namespacedWriter.commit; plugins/content/local/writer.go Commit",
    ),
    Known(
        id="range-refused",
        anchors=("416 Requested Range",),
        says="A download was broken off, and the registry has nothing behind the place where it broke.",
        cause="the registry's copy of the blob is shorter than its descriptor says, or a cache cut it",
        breaks=_PULL,
        fine=HERE,
        do=(PAST_PROXY, _STALE, _OTHER),
        source="core/remotes/docker/fetcher.go; core/remotes/docker/httpreadseeker.go",
    ),
    Known(
        id="short-download",
        anchors=("failed to read expected number of bytes", "short read: expected", "failed to discard to offset"),
        pattern=r"failed to read expected number of bytes: unexpected EOF|short read: expected \d+ bytes but got \d+|"
        r"failed to discard to offset",
        says="A download or a copy ended before the size that its descriptor says.",
        cause="a registry, proxy or mirror cut the transfer, or has only a part of the blob itself",
        fits=("size-mismatch",),
        breaks="The copy that was under way. Nothing wrong was stored.",
        fine=HERE,
        do=(PAST_PROXY, _AGAIN, CHECK),
        source="core/content/helpers.go Copy; github.com/containerd/containerd/issues/7543",
    ),
    Known(
        id="blob-gone-from-registry",
        anchors=("could not fetch content descriptor",),
        pattern=r"could not fetch content descriptor sha\d+:[0-9a-f]+ \([^)]*\) from remote",
        says="The registry has the manifest and not the blob that it names.",
        cause="the registry lost or collected the blob; or a peer-to-peer mirror lists an image whose layers its nodes "
        "have discarded",
        breaks=_PULL,
        fine=HERE,
        do=(_LOOK, "# pull past the mirror", _OTHER),
        source="core/remotes/docker/fetcher.go; spegel-org/spegel#237, /issues/1513",
    ),
    Known(
        id="rate-limited",
        anchors=("429 Too Many Requests", "toomanyrequests", "TOOMANYREQUESTS"),
        says="The registry answers no more requests for now.",
        cause="its rate limit is reached",
        sure=Sure.CERTAIN,
        breaks=_PULL,
        fine=HERE,
        do=("# wait, or pull with credentials or through a mirror", _OTHER),
        source="core/remotes/errors/errors.go; docker/docs#21908",
    ),
    Known(
        id="unauthorized",
        anchors=(
            "401 Unauthorized",
            "403 Forbidden",
            "no basic auth credentials",
            "authorization failed",
            "insufficient_scope",
            "pull access denied",
            "failed to authorize",
            "requested access to the resource is denied",
        ),
        says="The registry wants other credentials, or there is no such repository.",
        cause="credentials are absent, expired or for another host; many registries say so for unknown repositories "
        "too",
        breaks=_PULL,
        fine=HERE,
        do=(_LOOK, "crictl pull --creds USER {image}", _OTHER),
        source="core/remotes/docker/authorizer.go; core/remotes/docker/resolver.go; core/remotes/errors/errors.go",
    ),
    Known(
        id="certificate",
        anchors=("x509:", "failed to verify certificate"),
        says="The registry's certificate is not one that the node trusts.",
        cause="the registry has a certificate of its own authority, which the node was not told of, or an expired one",
        breaks=_PULL,
        fine=HERE,
        do=(
            "openssl s_client -connect HOST:443 -showcerts </dev/null",
            "# put the authority under /etc/containerd/certs.d/HOST/ and name it as ca in hosts.toml",
        ),
        source="Go's crypto/x509; github.com/containerd/containerd/issues/1568, /issues/13246",
    ),
    Known(
        id="http-to-https",
        anchors=(
            "server gave HTTP response to HTTPS client",
            "first record does not look like a TLS handshake",
            "malformed HTTP response",
        ),
        says="The registry speaks plain HTTP, and the client HTTPS, or the reverse.",
        cause="an insecure registry that is not configured as one",
        breaks=_PULL,
        fine=HERE,
        do=(
            "curl -sS http://HOST/v2/; curl -sS https://HOST/v2/  # which of the two does it speak?",
            '# write server = "http://HOST" into /etc/containerd/certs.d/HOST/hosts.toml; for ctr, --plain-http',
        ),
        source="Go's net/http and crypto/tls; github.com/containerd/containerd/issues/2994, /issues/2758",
    ),
    Known(
        id="name-resolution",
        anchors=("no such host", "server misbehaving", "Temporary failure in name resolution"),
        says="The registry's name cannot be looked up.",
        cause="the name is misspelt, or the node's name service does not work",
        sure=Sure.CERTAIN,
        breaks="Everything that needs this registry.",
        fine=HERE,
        do=("getent hosts HOST", "cat /etc/resolv.conf", _OTHER),
        source="Go's net ErrNoSuchHost; core/remotes/docker/resolver.go do",
    ),
    Known(
        id="registry-unreachable",
        anchors=("failed to do request", "i/o timeout", "dial tcp", "TLS handshake timeout", "Client.Timeout"),
        pattern=r"failed to do request: [\s\S]*(?:connection refused|i/o timeout|no route to host|EOF|reset by peer|"
        r"deadline exceeded|handshake timeout)|dial tcp [\s\S]*(?:refused|timeout|no route|unreachable)|"
        r"Client\.Timeout",
        says="The registry does not answer at its address.",
        cause="it is down, or a firewall or a proxy is between; or the port is wrong",
        breaks="Everything that needs this registry.",
        fine=HERE,
        do=("curl -sSv https://HOST/v2/", _OTHER),
        source="core/remotes/docker/resolver.go do",
    ),
    Known(
        id="registry-broken",
        anchors=("500 Internal Server Error", "502 Bad Gateway", "503 Service Unavailable", "504 Gateway"),
        says="The registry, or a proxy before it, failed itself.",
        cause="a fault of the registry: its storage lost something, or what is behind the proxy is down",
        breaks=_PULL,
        fine=HERE,
        do=("# wait and pull again", "# look at the registry's log", _OTHER),
        source="core/remotes/errors/errors.go; core/remotes/docker/fetcher.go",
    ),
    Known(
        id="not-in-registry",
        anchors=("failed to resolve reference", "failed to resolve image", "manifest unknown"),
        pattern=r"failed to resolve (?:reference|image)[\s\S]*: not found|manifest unknown|manifest for \S+ not found",
        says="The registry does not have this name.",
        cause="the tag was deleted or never pushed, or the name is misspelt",
        breaks=_PULL,
        fine=HERE,
        do=(_LOOK, CHECK),
        source="client/pull.go fetch; core/transfer/local/pull.go; core/remotes/docker/resolver.go",
    ),
    Known(
        id="ref-locked",
        anchors=("locked for",),
        pattern=r"ref \S+ locked for \S+ \(since|locked for [\d.]+\S*s",
        says="Two clients download the same blob; one waits for the other.",
        cause="a pull is under way, or one that hangs still holds the upload",
        fits=("stale-ingest",),
        breaks="The second pull, until the first ends.",
        fine="Everything that is here.",
        do=("# wait for the other pull", _STALE, "ctr -n {namespace} content active"),
        source="plugins/content/local/locks.go tryLock; github.com/containerd/containerd/issues/4604",
    ),
)
